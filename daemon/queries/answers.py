"""Answers of services as files in the cache: one request upstream, however many ask the same.

An answer's name in the cache is a hash of the question, with the service, its options and credentials. What
is fixed is kept as any cached object is, and never asked again while it is there; the rest is asked again after its
time to live. Of an answer that is kept for no time at all nobody gets what another asked for.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import NamedTuple

import trio

from pantry.backends.admission import Admission, Askers, Turn
from pantry.backends.querying import Query, QueryBackend
from pantry.daemon.cache.account import charged
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.queries.growth import Growth
from pantry.daemon.transfers.health import Health
from pantry.errors import LimitExceededError, NotCachedError, OriginUnavailableError, PantryError

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What `Answers.open` gives.

    Attributes
    ----------
    fd : int
        Read-only, of a Parquet file; the caller closes it.
    size_bytes : int
        Its length.
    hash : str
        xxh3-128 of its content.
    answered_ns : int
        When the service gave it, nanoseconds since 1970-01-01 UTC.
    was_cached : bool
        Whether it was there already.
    """

    fd: int
    size_bytes: int
    hash: str
    answered_ns: int
    was_cached: bool


class Question(NamedTuple):
    """What is asked, and how.

    Attributes
    ----------
    object_id : ObjectId
        By which the cache knows the answer.
    query : Query
        Itself.
    name : str
        For people, in messages and listings.
    ttl_s : float
        How long an answer is kept, in seconds; infinite for ever.
    timeout_s, max_bytes : float, int
        How long it may take, and how long its file may become.
    """

    object_id: ObjectId
    query: Query
    name: str
    ttl_s: float
    timeout_s: float
    max_bytes: int


class _Flight:
    """A query under way, and those who wait for it."""

    def __init__(self, uid: int) -> None:
        self.askers = Askers([uid])
        self.waiting = 0
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        self.error: PantryError | None = None
        self.answer: Answer | None = None


class Answers:
    """Asks services, each question once.

    Parameters
    ----------
    cache : ObjectCache
        Keeps the answers.
    nursery : trio.Nursery
        Owns the queries under way: whoever asked first may go while others wait.
    admission : Admission
        A turn for each query under way.
    offline : callable
        Whether no service may be asked.
    """

    def __init__(
        self, cache: ObjectCache, nursery: trio.Nursery, admission: Admission, offline: Callable[[], bool]
    ) -> None:
        self._cache = cache
        self._nursery = nursery
        self._admission = admission
        self._offline = offline
        self._flights: dict[ObjectId, _Flight] = {}

    async def open(
        self,
        backend: QueryBackend,
        health: Health,
        question: Question,
        *,
        uid: int,
        cached_only: bool = False,
        limit: Admission | None = None,
    ) -> Answer:
        """Open the answer to a question; the caller has checked that the user may ask it.

        Parameters
        ----------
        backend, health
            The service's.
        question : Question
            What is asked.
        uid : int
            The user, to whom the query is charged.
        cached_only : bool
            Ask nobody: `NotCachedError` if there is no answer.
        limit : Admission, optional
            The service's own.

        Raises
        ------
        LimitExceededError
            It takes too long, or its answer is too large or has too many rows.
        InvalidQueryError
            The service refuses the query itself.
        BackendError
            The service cannot be asked, or fails.
        """
        found = await self._open_cached(question)
        if found is not None:
            return found
        if cached_only:
            raise NotCachedError(f"there is no answer to {question.name} in the cache")
        if self._offline():
            raise OriginUnavailableError(
                f"{question.name} is not in the cache, and this node works offline",
                hint="`pantry cache online` ends that",
            )
        self._cache.counters.misses += 1
        # No await from here to the flight's entry: look and claim are one step.
        flight = self._flights.get(question.object_id) if question.ttl_s else None
        if flight is None:
            flight = _Flight(uid)
            if question.ttl_s:
                self._flights[question.object_id] = flight
            self._nursery.start_soon(
                self._fly, flight, question, partial(self._ask, flight, backend, health, question, limit)
            )
        else:
            self._cache.counters.joins += 1
            flight.askers.add(uid)
        return await self._wait(flight)

    async def _open_cached(self, question: Question) -> Answer | None:
        entry = self._cache.entry(question.object_id)
        if entry is None or not question.ttl_s or time.time_ns() - entry.checked_ns >= question.ttl_s * 1e9:
            return None
        fd = await self._cache.open(question.object_id, name=question.name)
        if fd is None:
            return None
        self._cache.counters.hits += 1
        self._cache.counters.hit_bytes += entry.size_bytes
        return Answer(fd, entry.size_bytes, entry.content, entry.checked_ns, was_cached=True)

    async def _wait(self, flight: _Flight) -> Answer:
        flight.waiting += 1
        try:
            await flight.done.wait()
            if flight.answer is None:
                assert flight.error is not None  # noqa: S101 - a flight ends with one of both, or cancelled by us
                raise flight.error.with_traceback(None)
            fd = os.open(f"/proc/self/fd/{flight.answer.fd}", os.O_RDONLY | os.O_CLOEXEC)
            return flight.answer._replace(fd=fd)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.scope.cancel()
                if flight.answer is not None:
                    os.close(flight.answer.fd)

    async def _fly(self, flight: _Flight, question: Question, ask: Callable[[], Awaitable[Answer]]) -> None:
        try:
            with flight.scope:
                flight.answer = await ask()
        except PantryError as exc:
            flight.error = exc
        except Exception as exc:
            log.exception("the query %s failed by a defect", question.name)
            flight.error = PantryError(f"{question.name} failed by a defect of Pantry ({type(exc).__name__})")
        finally:
            # On cancellation too: whoever asks next begins anew.
            if self._flights.get(question.object_id) is flight:
                del self._flights[question.object_id]
            if flight.answer is None and flight.error is None:
                flight.error = OriginUnavailableError(f"{question.name} was given up", hint="ask again")
            flight.done.set()
            if not flight.waiting and flight.answer is not None:
                os.close(flight.answer.fd)

    async def _ask(
        self,
        flight: _Flight,
        backend: QueryBackend,
        health: Health,
        question: Question,
        limit: Admission | None,
    ) -> Answer:
        async with (
            limit.turn(flight.askers) if limit is not None else nullcontext(),
            self._admission.turn(flight.askers, leave_behind=True) as turn,
        ):
            with health.admit():
                async with self._new_file(turn) as (path, fd):
                    with Growth(self._cache, fd, question.name, question.max_bytes) as growth:
                        await self._run(backend, question, fd, growth)
                        return await self._publish(question, path, fd, growth)

    @asynccontextmanager
    async def _new_file(self, turn: Turn) -> AsyncIterator[tuple[str, int]]:
        """Make a file for an answer, and remove what is left of it in the end."""
        path = os.path.join(self._cache.incoming, f"{uuid.uuid4()}.answer")
        self._cache.make_room_for_files(1)
        with self._cache.disk.watched():
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield path, fd
        finally:
            # A thread that was left behind may still write there; the number must not become another file's.
            turn.when_idle(lambda: os.close(fd))
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass  # it is in the cache
            except OSError as exc:
                self._cache.disk.failed(exc)

    async def _run(self, backend: QueryBackend, question: Question, fd: int, growth: Growth) -> None:
        try:
            with trio.fail_after(question.timeout_s):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(growth.watch)
                    await backend.run_into(question.query, fd)
                    nursery.cancel_scope.cancel()
            growth.check()
        except trio.TooSlowError:
            raise LimitExceededError(
                f"{question.name} took longer than the {question.timeout_s:g} s that its service may take",
                hint="ask for less, or let the administrator raise timeout_s of the service",
            ) from None
        except BaseExceptionGroup as group:
            raise _first(group, self._cache) from None

    async def _publish(self, question: Question, path: str, fd: int, growth: Growth) -> Answer:
        cache, object_id, size = self._cache, question.object_id, os.fstat(fd).st_size
        # Read-only, and before it is published, so that no eviction can come between.
        with cache.disk.watched():
            readable = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            digest = await trio.to_thread.run_sync(hash_file, readable, size)
            answer = Answer(readable, size, digest, time.time_ns(), was_cached=False)
            with cache.disk.watched():
                # An older answer goes; whoever has it open keeps it.
                if question.ttl_s and (object_id not in cache or cache.drop(object_id)):
                    cache.publish(path, object_id, size, name=question.name)
                    growth.use(size)
                    cache.is_version(object_id, "", content=digest)
                else:
                    growth.use(size)
                    cache.lingering.unlink(path, charged(size))
        except BaseException:
            os.close(readable)
            raise
        return answer


def _first(group: BaseExceptionGroup[BaseException], cache: ObjectCache) -> BaseException:
    """Return what went wrong, as an error of ours where it is one of the cache's disk."""
    _, failures = group.split(trio.Cancelled)
    error: BaseException = failures or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno is not None:
        return cache.disk.failed(error)
    return error
