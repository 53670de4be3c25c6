"""One storage root with its copies: which is asked, for whom, and for how long."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

from pantry.backends.admission import Admission, Askers, Turn
from pantry.backends.contract import BatchWriting, ByteRange, LocalPlacement, ObjectBackend, ObjectStat
from pantry.backends.progress import Progress
from pantry.daemon.cache.counters import Counters
from pantry.daemon.credentials.held import Rights
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.health import Health
from pantry.daemon.transfers.landing import Deadline, Landing
from pantry.daemon.transfers.metered import MeteredBackend, place_in
from pantry.errors import (
    BackendError,
    ObjectChangedError,
    ObjectNotFoundError,
    OriginUnavailableError,
    TransientBackendError,
)

T = TypeVar("T")

STALL_S = 90.0
"""Of a read, longest time without progress, in seconds, if the configuration says nothing else."""

PROBE_STALL_S = 10.0
"""The same for an origin that failed before, if there is another replica."""

WHOLE_S = 30.0
MIN_BYTES_PER_S = 10_000
"""A read of n bytes is given up after ``WHOLE_S + n / MIN_BYTES_PER_S`` seconds, moving or not."""

MAX_HANGING = 16
"""So many threads may hang in one replica; with more it is not asked until some have ended."""


class _Replica:
    def __init__(self, backend: ObjectBackend, jitter: random.Random | None, limit: Admission | None = None) -> None:
        self.backend = backend
        self.location = backend.location
        self.health = Health(backend.location, jitter=jitter)
        # For what does not go through `Origin`; what local files can do besides is asked of the backend itself.
        is_local = isinstance(backend, LocalPlacement | BatchWriting)
        self.metered: ObjectBackend = backend if is_local else MeteredBackend(backend, self.health.traffic, limit)
        self.hanging = 0

    def left_behind(self, turn: Turn) -> None:
        """Count a thread of ``turn`` that hangs, until it ends."""
        self.hanging += 1

        def ended() -> None:
            self.hanging -= 1

        turn.when_idle(ended)

    @contextmanager
    def watching(self, turn: Turn) -> Iterator[None]:
        """Count what a call leaves running: after it, or while it goes on without its turn."""
        hung_before = turn.hanging
        turn.when_over = partial(self.left_behind, turn)
        try:
            yield
        finally:
            turn.when_over = None
            if turn.hanging > hung_before and not turn.over:
                self.left_behind(turn)


class _Failures:
    """What the replicas said, and which of it the caller hears in the end."""

    def __init__(self) -> None:
        self._changed: ObjectChangedError | None = None
        self._transient: TransientBackendError | None = None
        self._other: BackendError | None = None
        self._absent: ObjectNotFoundError | None = None

    def add(self, error: BackendError) -> None:
        """Note one replica's error; the first of each kind is kept."""
        match error:
            case ObjectChangedError():
                self._changed = self._changed or error
            case TransientBackendError():
                # That it is left alone says less than how it failed just now.
                if self._transient is None or isinstance(self._transient, OriginUnavailableError):
                    self._transient = error
            case ObjectNotFoundError():
                self._absent = self._absent or error
            case _:
                self._other = self._other or error

    def worst(self) -> BackendError:
        """Return the error that matters most; absence only if all replicas agree on it."""
        error = self._changed or self._transient or self._other or self._absent
        assert error is not None  # noqa: S101 - there is at least one replica
        return error


class ReplicaState(NamedTuple):
    """How a root or a copy is.

    Attributes
    ----------
    location : str
        Its URI, without any secret.
    health : Health
        Whether it is asked, and how it answered.
    hanging : int
        Threads that hang in it.
    """

    location: str
    health: Health
    hanging: int


class Origin:
    """Reads objects of one root from whichever replica can give them.

    Parameters
    ----------
    replicas : Sequence[ObjectBackend]
        The root itself, then its copies in order of preference.
    admission : Admission
        Gives the turns; the one that the backends have.
    absent : AbsentKeys
        What is known not to be there.
    counters : Counters
        Where requests, bytes and failures are counted.
    offline : Callable[[], bool]
        Whether no origin may be asked at all.
    jitter : random.Random, optional
        Spreads the back-off.
    stall_s : float
        A read of which nothing came for so long is given up, in seconds; backends' own time-outs are shorter.
    direct : bool
        Whether readers get the files themselves, if the root has files, and no copies in the cache.
    limit : Admission, optional
        Requests that may be under way to the origin, of all users together; others may share it.
    rights : Callable[[], Rights], optional
        Tells with which credentials it is asked at present, of an origin that is one user's own.
    """

    def __init__(
        self,
        replicas: Sequence[ObjectBackend],
        admission: Admission,
        *,
        absent: AbsentKeys,
        counters: Counters,
        offline: Callable[[], bool],
        jitter: random.Random | None = None,
        stall_s: float = STALL_S,
        direct: bool = False,
        limit: Admission | None = None,
        rights: Callable[[], Rights] = tuple,
    ) -> None:
        self.limit = limit
        self.rights = rights
        self.direct = direct and isinstance(replicas[0], LocalPlacement)
        self._stall_s = stall_s
        self.absent = absent
        self._replicas = [_Replica(backend, jitter, limit) for backend in replicas]
        self._admission = admission
        self._counters = counters
        self._offline = offline

    @property
    def location(self) -> str:
        """URI of the root, for messages and counters."""
        return self._replicas[0].location

    @property
    def primary(self) -> ObjectBackend:
        """The root itself, for writes and listings."""
        return self._replicas[0].metered

    @property
    def backends(self) -> list[ObjectBackend]:
        """The root and its copies."""
        return [replica.metered for replica in self._replicas]

    def states(self) -> list[ReplicaState]:
        """Return how the root and its copies are, in this order."""
        return [ReplicaState(one.location, one.health, one.hanging) for one in self._replicas]

    async def aclose(self) -> None:
        """Close all backends."""
        for backend in self.backends:
            await backend.aclose()

    async def stat(self, key: str, *, askers: Askers | None = None) -> ObjectStat:
        """Describe an object, by the first replica that has it; waits for a turn, and raises, as `read_into`."""

        async def attempt(replica: _Replica, _turn: Turn, _deadline: Deadline) -> ObjectStat:
            return await replica.backend.stat(key)

        return await self._first(key, 0, askers, attempt)

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        askers: Askers | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Read as `ObjectBackend.read_into` does, from the first replica that can.

        With ``if_version`` the next replica goes on where the one before failed; without it, it begins
        again, so that the bytes are never of two versions. Waits for a turn, for whichever of
        ``askers`` comes first. When this has returned or raised, nothing more is written to ``fd``, even
        if a thread still hangs. ``on_progress`` must not wait for the trio thread.

        Raises
        ------
        ObjectChangedError
            A replica has another version, and none gave the right one.
        TransientBackendError
            A replica failed, or gave nothing for `STALL_S` seconds; none gave the object.
        OriginUnavailableError
            All replicas are left alone at present, or this node works offline.
        ObjectNotFoundError
            No replica has it.
        """
        reading = _Reading(key, span, fd, if_version, on_progress, self._counters)
        await self._first(key, span.size_bytes, askers, reading.attempt)

    async def call(self, key: str, func: Callable[[Callable[[], None]], T], *, size_bytes: int) -> T:
        """Run blocking ``func`` in a thread, for what the root itself does with ``key``, and with no copy of it.

        ``func`` is given what it calls from time to time to tell that it goes on; it takes about as long as
        a read of ``size_bytes``. Waits for a turn, and raises, as `read_into`. When it has raised, the
        thread may still run.
        """

        async def attempt(_replica: _Replica, _turn: Turn, deadline: Deadline) -> T:
            return await self._admission.call(partial(func, deadline.moved))

        return await self._first(key, size_bytes, None, attempt, self._replicas[:1])

    async def _first(
        self,
        key: str,
        size_bytes: int,
        askers: Askers | None,
        attempt: Callable[[_Replica, Turn, Deadline], Awaitable[T]],
        replicas: Sequence[_Replica] = (),
    ) -> T:
        self._refuse(key)
        async with place_in(self.limit, askers), self._admission.turn(askers, leave_behind=True) as turn:
            # Only now, and again: of thousands that waited for a turn, most need not ask any more.
            self._refuse(key)
            asked_at = self.absent.writes
            failures = _Failures()
            for replica in replicas or self._replicas:
                try:
                    if not turn.over:
                        return await self._ask(replica, turn, key, size_bytes, attempt)
                    # It was taken back while the replica before was silent.
                    async with self._admission.turn(askers, leave_behind=True) as another:
                        return await self._ask(replica, another, key, size_bytes, attempt)
                except BackendError as exc:
                    failures.add(exc)
        error = failures.worst()
        if isinstance(error, ObjectNotFoundError):
            self.absent.remember(key, asked_at=asked_at)
        raise error

    def require_online(self, key: str) -> None:
        """Raise `OriginUnavailableError` if this node works offline."""
        if self._offline():
            raise OriginUnavailableError(
                f"{self.location} is not asked for {key!r}: this node works offline",
                hint="what is complete in the cache can be read; `pantry cache offline off` ends it",
            )

    def _refuse(self, key: str) -> None:
        self.require_online(key)
        if key in self.absent:
            raise ObjectNotFoundError(f"no object {key!r}: {self.location} said so a moment ago", key=key)

    async def _ask(
        self,
        replica: _Replica,
        turn: Turn,
        key: str,
        size_bytes: int,
        attempt: Callable[[_Replica, Turn, Deadline], Awaitable[T]],
    ) -> T:
        if replica.hanging >= MAX_HANGING:
            raise OriginUnavailableError(
                f"{replica.location} is not asked: {replica.hanging} requests to it hang",
                hint="a mounted file system that does not answer, perhaps",
            )
        is_probe = not replica.health.is_well and len(self._replicas) > 1
        stall_s = min(PROBE_STALL_S, self._stall_s) if is_probe else self._stall_s
        whole_s = WHOLE_S + size_bytes / MIN_BYTES_PER_S
        with replica.health.admit() as asked, replica.watching(turn):
            deadline = Deadline(turn, stall_s=stall_s, whole_s=whole_s, on_moved=asked.answered)
            try:
                with deadline.scope:
                    return await attempt(replica, turn, deadline)
                raise OriginUnavailableError(
                    f"{replica.location} took too long to give {key!r}",
                    hint="what is complete in the cache can be read; a mounted file system hangs, perhaps",
                )
            except (ObjectChangedError, ObjectNotFoundError):
                raise
            except BackendError:
                self._counters.failures[replica.location] += 1
                raise


class _Reading:
    """One read, and how far it has come, over all replicas."""

    def __init__(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        if_version: str | None,
        on_progress: Progress | None,
        counters: Counters,
    ) -> None:
        self._key = key
        self._span = span
        self._fd = fd
        self._if_version = if_version
        self._on_progress = on_progress
        self._counters = counters
        self._good = span.start
        self._told = span.start

    async def attempt(self, replica: _Replica, turn: Turn, deadline: Deadline) -> None:
        """Read from one replica what is still missing."""
        start = reached = self._good
        self._counters.fetches[replica.location, turn.uid] += 1

        def moved(position: int) -> None:
            nonlocal reached
            reached = position
            deadline.moved()
            if position > self._told:
                self._told = position
                if self._on_progress is not None:
                    self._on_progress(position)

        landing = Landing(self._fd, moved)
        try:
            await replica.backend.read_into(
                self._key,
                ByteRange(start, self._span.stop),
                landing.fd,
                if_version=self._if_version,
                on_progress=landing.tell,
            )
        except ObjectChangedError:
            raise  # and what came is of no version that anybody knows
        except BaseException:
            if self._if_version is not None:
                self._good = reached
            raise
        finally:
            landing.close(turn)
            self._counters.fetched_bytes[replica.location, turn.uid] += reached - start
