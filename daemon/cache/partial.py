"""Objects in the making: a sparse file, the map of its chunks, and who waits for which.

All state is the trio thread's; between two awaits nobody else sees or changes it. Claiming chunks
and starting their transfer is one such step, so that no byte is asked for twice however many users
wait. Transfers are tasks of `PartialObjects.nursery`, not of a waiter: one that leaves does not take
the others' bytes with it. A transfer for which nobody waits any more is cancelled; the chunks that
came stay.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import trio

from pantry.backends.contract import ByteRange, SinkError
from pantry.daemon.cache.backing import Backing, MemoryBacking
from pantry.daemon.cache.chunks import IN_FLIGHT, RECORDED, ChunkMap
from pantry.daemon.cache.flights import Demand, Flight, Source
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.memory import reopen
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.record import hash_chunk
from pantry.errors import IntegrityError, InternalError, InvalidRequestError, ObjectChangedError, PantryError

if TYPE_CHECKING:
    from pantry.daemon.cache.partials import PartialObjects

LARGEST_REQUEST_BYTES = 16 * 1024 * 1024
"""Longest range asked of a backend at once, in bytes; longer files are fetched by parallel ranges."""

MOST_FLIGHTS = 16
"""Requests for one object that are under way at once."""

_DEFECT = "a defect in Pantry; `pantry status` names the daemon's log"

log = logging.getLogger(__name__)


class PartialObject:
    """One object in the making; made by `pantry.daemon.cache.partials.PartialObjects` only.

    A *plain* one is not registered: it may change at the origin. Its name in the cache stands for one version;
    that all chunks are of that version, and the whole of its length, is the proof, and its hash is taken then.
    """

    def __init__(
        self, owner: PartialObjects, object_id: ObjectId, size_bytes: int, chunk_bytes: int, backing: Backing
    ) -> None:
        self._owner = owner
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.source: Source | None = None
        self.name = ""
        self.repository = ""
        self.backing = backing
        self.map = ChunkMap(size_bytes, chunk_bytes)
        self.version: str | None = None
        self.users = 0
        self.read_ns = time.time_ns()
        self.in_flight = 0
        self.published = False
        self._broken: PantryError | None = None
        self._demands: list[Demand] = []
        self._flights: list[Flight] = []
        self._changed = trio.Event()
        self._proving = False
        self._digest = ""
        self._version_lock = trio.Lock()
        self._checking = trio.Lock()

    @property
    def is_uncached(self) -> bool:
        """Whether it lies in memory."""
        return isinstance(self.backing, MemoryBacking)

    def open_for_reader(self) -> int:
        """Open the file once more, for reading only."""
        try:
            return reopen(self.backing.fd)
        except OSError as exc:
            raise self.backing.failed(exc) from exc

    @property
    def broken(self) -> bool:
        """Whether no more bytes of it can be had."""
        return self._broken is not None

    async def ensure(self, start: int, stop: int, *, ahead: bool = False) -> None:
        """Return when the bytes ``[start, stop)`` are in the file.

        Parameters
        ----------
        start, stop : int
            The range, in bytes.
        ahead : bool
            Nobody waits for it yet, which is only counted otherwise.

        Raises
        ------
        BackendError
            The transfer of one of them failed; the next call tries again.
        ObjectChangedError
            The origin has another version than the one that the chunks so far are of.
        IntegrityError
            The whole file turned out not to be what was registered.
        """
        if not 0 <= start <= stop <= self.size_bytes:
            raise InvalidRequestError(f"the range {start} to {stop} is not inside the file's {self.size_bytes} bytes")
        if self._ready(start, stop):
            return
        begun = trio.current_time()
        counters = self._owner.cache.counters
        if ahead:
            counters.ahead_bytes += stop - start
        else:
            counters.waits += 1
        demand = Demand(start, stop)
        self._demands.append(demand)
        for flight in self._flights:
            if demand.overlaps(flight.span.start, flight.span.stop):
                flight.askers.add(demand.uid)
        try:
            await self._check_recorded(start, stop)
            await self._pin_version()
            while not self._ready(start, stop):
                if demand.failure is not None:
                    raise demand.failure
                # Taken before the step that may fail at once, so that its wake is not missed.
                changed = self._changed
                self._advance()
                if self.map.complete:
                    self._complete()
                await changed.wait()
        finally:
            self._demands.remove(demand)
            self._cancel_unwanted()
            if not ahead:
                counters.waited_s += trio.current_time() - begun

    def _ready(self, start: int, stop: int) -> bool:
        """Whether a range can be handed out; the last chunk of a file only with the proof of the whole."""
        if self._broken is not None:
            raise self._broken
        if self.published or start == stop < self.size_bytes:
            return True
        return not self.map.complete and self.map.has(start, stop)

    async def _check_recorded(self, start: int, stop: int) -> None:
        """Hash again what an earlier run noted; what is not as noted is missing."""
        async with self._checking:
            record, fd = self.backing.record, self.backing.fd
            noted = [one for one in self.map.chunks(start, stop) if self.map.state(one) == RECORDED]
            if not noted or record is None:
                return

            def check() -> list[int]:
                bad = []
                for number in noted:
                    begin, end = self.map.span(number, number + 1)
                    data = os.pread(fd, end - begin, begin)
                    if len(data) != end - begin or hash_chunk(data) != record.noted(number):
                        bad.append(number)
                return bad

            self.in_flight += 1
            try:
                bad = set(await trio.to_thread.run_sync(check))
            except OSError as exc:
                log.warning("%s: the chunks of an earlier run cannot be read (%s)", self.name, exc.strerror)
                bad = set(noted)
            finally:
                self.in_flight -= 1
            for number in noted:
                if number in bad:
                    self.backing.account.used_bytes -= self.map.lost(number)
                else:
                    self.map.arrived(number)
            self._wake()

    async def _pin_version(self) -> None:
        """Learn the version that all chunks have to be of; one chunk alone is proven by the hash of the whole."""
        if self.version is not None or len(self.map) == 1 or self.source is None:
            return
        async with self._version_lock:
            if self.version is not None:
                return
            found = await self.source.origin.stat(self.source.key)
            if found.size_bytes != self.size_bytes:
                raise IntegrityError(
                    f"{self.name}: the origin has {found.size_bytes} bytes, {self.size_bytes} were registered",
                    hint="the file was changed at the origin; restore it there, or ingest it anew",
                )
            if (record := self.backing.record) is not None:
                try:
                    record.describe(msgspec.structs.replace(record.description, version=found.version))
                except OSError as exc:
                    raise self.backing.failed(exc) from exc
            self.version = found.version

    def _advance(self) -> None:
        """Start transfers for what is waited for and missing, adjacent chunks by one request."""
        most = max(1, LARGEST_REQUEST_BYTES // self.map.chunk_bytes)
        for demand in self._demands:
            if demand.failure is not None or self._broken is not None:
                continue
            for first, stop in list(self.map.missing_spans([(demand.start, demand.stop)])):
                for begin in range(first, stop, most):
                    if len(self._flights) >= MOST_FLIGHTS:
                        return
                    try:
                        self._start(begin, min(stop, begin + most))
                    except PantryError as exc:
                        demand.failure = exc
                        self._wake()
                        return

    def _start(self, first: int, stop: int) -> None:
        span = ByteRange(*self.map.span(first, stop))
        flight = Flight(first, stop, span, self.backing.reserve(self.map.taken(first, stop)))
        for demand in self._demands:
            if demand.overlaps(span.start, span.stop):
                flight.askers.add(demand.uid)
        self.map.take_off(first, stop)
        self._flights.append(flight)
        self.in_flight += 1
        self._owner.cache.counters.coalesced_chunks += stop - first - 1
        self._owner.nursery.start_soon(self._fly, flight)

    async def _fly(self, flight: Flight) -> None:
        """Fetch a run of chunks; each can be read as soon as it came."""
        source, counters = self.source, self._owner.cache.counters
        assert source is not None  # noqa: S101 - set by whoever acquired the object
        try:
            with flight.scope:
                await source.origin.read_into(
                    source.key,
                    flight.span,
                    self.backing.fd,
                    if_version=self.version,
                    askers=flight.askers,
                    on_progress=self._progress(flight),
                )
            if flight.scope.cancelled_caught:
                counters.cancelled_flights += 1
        except ObjectChangedError as exc:
            # Chunks of two versions must not lie in one file, and descriptors of this one are out there.
            self.give_up(exc)
        except SinkError as exc:
            # The disk, not the origin: full or failing.
            self._fail(flight, self.backing.failed(exc))
        except PantryError as exc:
            self._fail(flight, exc)
        except Exception:
            # A defect, in a library perhaps: it fails who waits for these bytes, not the daemon.
            log.exception("%s: a transfer failed in a way that is not foreseen", self.name)
            self._fail(flight, InternalError(f"{self.name}: the transfer failed", hint=_DEFECT))
        finally:
            self.map.landed(flight.first, flight.stop)
            flight.reservation.release()
            self._flights.remove(flight)
            self.in_flight -= 1
            self._wake()
        # Whoever still waits has been woken, and starts what is missing.
        if self.map.complete:
            self._complete()
        else:
            self._owner.tidy(self)

    def _progress(self, flight: Flight) -> Callable[[int], None]:
        """Make what the backend's thread calls as the bytes come."""
        token, record, fd = trio.lowlevel.current_trio_token(), self.backing.record, self.backing.fd
        size, is_single = self.size_bytes, len(self.map) == 1

        def progress(position: int) -> None:
            while flight.next < flight.stop:
                begin, end = self.map.span(flight.next, flight.next + 1)
                if end > position:
                    return
                if record is not None:
                    record.note(flight.next, hash_chunk(_read_back(fd, begin, end)))
                elif is_single:
                    # All there is: proven here, which saves small files a turn in another thread.
                    flight.digest = _hash_whole(fd, size)
                token.run_sync_soon(self._arrived, flight, flight.next)
                flight.next += 1

        return progress

    def _arrived(self, flight: Flight, number: int) -> None:
        if flight not in self._flights:
            # It was cancelled when this was on its way here; the chunk is taken as missing.
            return
        self._digest = flight.digest
        size = self.map.arrived(number)
        if self._broken is None:
            flight.reservation.use(size)
        self._wake()

    def _fail(self, flight: Flight, exc: PantryError) -> None:
        """Tell those who wait for what did not come."""
        start, stop = self.map.span(flight.first, flight.stop)
        for demand in self._demands:
            if demand.overlaps(start, stop) and not self.map.has(max(start, demand.start), min(stop, demand.stop)):
                demand.failure = exc

    def give_up(self, exc: PantryError) -> None:
        """Tell all who use it, now or later, that no more bytes come; the next who asks begins anew."""
        if self._broken is None and not self.published:
            self._broken = exc
            self._owner.discard(self)
            for flight in self._flights:
                flight.scope.cancel()
            self._wake()
            self._owner.tidy(self)

    def _cancel_unwanted(self) -> None:
        for flight in self._flights:
            at, stop = self.map.first(IN_FLIGHT, *flight.span), flight.span.stop
            begin = flight.span.start if at is None else at * self.map.chunk_bytes
            if not any(demand.overlaps(begin, stop) for demand in self._demands):
                flight.scope.cancel()

    def _wake(self) -> None:
        event, self._changed = self._changed, trio.Event()
        event.set()

    async def wait_published(self) -> None:
        """Return when the complete object was verified and published; raise if it is not what it should be."""
        while not self.published:
            if self._broken is not None:
                raise self._broken
            await self._changed.wait()

    def _complete(self) -> None:
        """Begin to prove the complete file; counted as in flight, so that nobody discards it meanwhile."""
        if self._proving or self.published or self._broken is not None:
            return
        self._proving = True
        if self._digest:
            self._proven(self._digest)
            self._wake()
            return
        self.in_flight += 1
        self._owner.nursery.start_soon(self._finish)

    async def _finish(self) -> None:
        try:
            digest = await trio.to_thread.run_sync(hash_file, self.backing.fd, self.size_bytes)
        except OSError as exc:
            self._broken = self.backing.failed(exc)
            self._owner.discard(self)
            self._wake()
            return
        finally:
            self.in_flight -= 1
        if self._broken is not None:
            # Given up meanwhile; the file of this name is another one by now, perhaps.
            self._owner.tidy(self)
        else:
            self._proven(digest)
        self._wake()

    def _proven(self, digest: str) -> None:
        """Publish the complete file if its content is what it should be; else give it up."""
        if not self.object_id.is_plain and digest != self.object_id.hash:
            log.error("%s: fetched bytes hash to %s, registered is %s", self.name, digest, self.object_id.hash)
            self._broken = IntegrityError(
                f"{self.name}: what the origin sent is not what was registered",
                hint="the file at the origin is damaged or was replaced; `pantry status` names the daemon's log",
                expected=self.object_id.hash,
                found=digest,
            )
            self._owner.discard(self)
            return
        try:
            self._owner.publish(self, digest)
        except PantryError as exc:
            self._broken = exc
            self._owner.discard(self)


def _hash_whole(fd: int, size_bytes: int) -> str:
    try:
        return hash_file(fd, size_bytes)
    except OSError as exc:
        raise SinkError(exc.errno, exc.strerror) from exc


def _read_back(fd: int, start: int, stop: int) -> bytes:
    try:
        return os.pread(fd, stop - start, start)
    except OSError as exc:
        raise SinkError(exc.errno, exc.strerror) from exc
