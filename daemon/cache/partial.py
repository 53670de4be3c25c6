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
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec
import trio

from pantry.backends.admission import Askers, acting_uid
from pantry.backends.contract import ByteRange, SinkError
from pantry.daemon.cache.chunks import IN_FLIGHT, RECORDED, ChunkMap, chunk_size
from pantry.daemon.cache.eviction import Candidate
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache, Reservation
from pantry.daemon.cache.record import ChunkRecord, Description, hash_chunk
from pantry.daemon.transfers.origin import Origin
from pantry.errors import CacheFullError, IntegrityError, InvalidRequestError, ObjectChangedError, PantryError

LARGEST_REQUEST_BYTES = 16 * 1024 * 1024
"""Longest range asked of a backend at once, in bytes; longer files are fetched by parallel ranges."""

MOST_FLIGHTS = 16
"""Requests for one object that are under way at once."""

RECORD_SUFFIX = ".chunks"

log = logging.getLogger(__name__)


class Source:
    """Where an object can be fetched from.

    Parameters
    ----------
    origin : Origin
        The storage.
    key : str
        Of the object there.
    """

    def __init__(self, origin: Origin, key: str) -> None:
        self.origin = origin
        self.key = key


class Flight:
    """One request upstream, for a run of chunks."""

    def __init__(self, first: int, stop: int, span: ByteRange, reservation: Reservation) -> None:
        self.first = first
        self.stop = stop
        self.span = span
        self.reservation = reservation
        self.next = first
        self.askers = Askers()
        self.scope = trio.CancelScope()


class Demand:
    """A range that somebody waits for."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.uid = acting_uid.get()
        self.failure: PantryError | None = None

    def overlaps(self, start: int, stop: int) -> bool:
        """Whether a byte of ``[start, stop)`` is waited for."""
        return self.start < stop and start < self.stop


class PartialObject:
    """One object in the making; made by `PartialObjects` only."""

    def __init__(
        self, owner: PartialObjects, object_id: ObjectId, size_bytes: int, chunk_bytes: int, source: Source | None
    ) -> None:
        self._owner = owner
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.source = source
        self.name = ""
        self.path = os.path.join(owner.cache.incoming, f"{object_id.realm}-{object_id.hash}.partial")
        self.fd = -1
        self.map = ChunkMap(size_bytes, chunk_bytes)
        # A file of one chunk is all there or not at all.
        self._record: ChunkRecord | None = None
        self._version: str | None = None
        self.users = 0
        self.read_ns = time.time_ns()
        self.in_flight = 0
        self.published = False
        self._broken: PantryError | None = None
        self._demands: list[Demand] = []
        self._flights: list[Flight] = []
        self._changed = trio.Event()
        self._proving = self._parted = False
        self._version_lock = trio.Lock()
        self._checking = trio.Lock()

    @classmethod
    def begin(
        cls, owner: PartialObjects, object_id: ObjectId, size_bytes: int, source: Source, name: str
    ) -> PartialObject:
        """Begin the making with an empty file."""
        made = cls(owner, object_id, size_bytes, chunk_size(size_bytes, owner.cache.config.chunk_bytes), source)
        made.name = name
        made.fd = os.open(made.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        os.ftruncate(made.fd, size_bytes)
        if len(made.map) > 1:
            made._record = ChunkRecord.create(
                made.path + RECORD_SUFFIX,
                Description(
                    realm=object_id.realm,
                    hash=object_id.hash,
                    size_bytes=size_bytes,
                    chunk_bytes=made.map.chunk_bytes,
                    name=name,
                ),
            )
        return made

    @classmethod
    def restore(cls, owner: PartialObjects, record: ChunkRecord, hashes: Iterable[int]) -> PartialObject:
        """Take up what an earlier run of the daemon left."""
        what = record.description
        made = cls(owner, ObjectId(what.realm, what.hash), what.size_bytes, what.chunk_bytes, None)
        made.name = what.name
        made._record = record
        made._version = what.version or None
        made.read_ns = os.stat(made.path).st_mtime_ns
        for number, digest in enumerate(hashes):
            if digest:
                made.map.recorded(number)
        return made

    def open_files(self) -> None:
        """Open the files of an object that an earlier run left."""
        if self.fd < 0:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            if self._record is not None:
                self._record.open()

    def close_files(self) -> None:
        """Close the files; nobody uses them."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._record is not None:
            self._record.close()

    @property
    def broken(self) -> bool:
        """Whether no more bytes of it can be had."""
        return self._broken is not None

    def unlink_files(self) -> None:
        """Remove the files' names; whoever has them open keeps them."""
        for path in (self.path, self.path + RECORD_SUFFIX):
            with suppress(FileNotFoundError):
                os.unlink(path)

    async def ensure(self, start: int, stop: int) -> None:
        """Return when the bytes ``[start, stop)`` are in the file.

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
        self._owner.cache.counters.waits += 1
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
            self._owner.cache.counters.waited_s += trio.current_time() - begun

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
            record, fd = self._record, self.fd
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
                        record.note(number, 0)
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
                    self._owner.cache.used_bytes -= self.map.lost(number)
                else:
                    self.map.arrived(number)
            self._wake()

    async def _pin_version(self) -> None:
        """Learn the version that all chunks have to be of; one chunk alone is proven by the hash of the whole."""
        if self._record is None or self._version is not None or self.source is None:
            return
        async with self._version_lock:
            if self._version is not None:
                return
            found = await self.source.origin.stat(self.source.key)
            if found.size_bytes != self.size_bytes:
                raise IntegrityError(
                    f"{self.name}: the origin has {found.size_bytes} bytes, {self.size_bytes} were registered",
                    hint="the file was changed at the origin; restore it there, or ingest it anew",
                )
            self._record.describe(msgspec.structs.replace(self._record.description, version=found.version))
            self._version = found.version

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
        flight = Flight(first, stop, span, self._owner.cache.reserve(span.size_bytes))
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
                    self.fd,
                    if_version=self._version,
                    askers=flight.askers,
                    on_progress=self._progress(flight),
                )
            if flight.scope.cancelled_caught:
                counters.cancelled_flights += 1
        except ObjectChangedError as exc:
            # Chunks of two versions must not lie in one file, and descriptors of this one are out there.
            self._break(exc)
        except SinkError as exc:
            # The disk, not the origin: full or failing.
            self._fail(
                flight,
                CacheFullError(
                    f"the cache's file system cannot take {flight.span.size_bytes} bytes: {exc.strerror}",
                    hint=f"make room on the file system of {self._owner.cache.directory}",
                ),
            )
        except PantryError as exc:
            self._fail(flight, exc)
        finally:
            self.map.landed(flight.first, flight.stop)
            flight.reservation.release()
            self._flights.remove(flight)
            self.in_flight -= 1
            self._wake()
        # Not while everything is ending: then nothing new is begun.
        self._advance()
        if self.map.complete:
            self._complete()
        else:
            self._owner.tidy(self)

    def _progress(self, flight: Flight) -> Callable[[int], None]:
        """Make what the backend's thread calls as the bytes come."""
        token, record, fd = trio.lowlevel.current_trio_token(), self._record, self.fd

        def progress(position: int) -> None:
            while flight.next < flight.stop:
                begin, end = self.map.span(flight.next, flight.next + 1)
                if end > position:
                    return
                if record is not None:
                    record.note(flight.next, hash_chunk(_read_back(fd, begin, end)))
                token.run_sync_soon(self._arrived, flight, flight.next)
                flight.next += 1

        return progress

    def _arrived(self, flight: Flight, number: int) -> None:
        size = self.map.arrived(number)
        if not self._parted:
            flight.reservation.use(size)
        self._wake()

    def _fail(self, flight: Flight, exc: PantryError) -> None:
        """Tell those who wait for what did not come."""
        start, stop = self.map.span(flight.first, flight.stop)
        for demand in self._demands:
            if demand.overlaps(start, stop) and not self.map.has(max(start, demand.start), min(stop, demand.stop)):
                demand.failure = exc

    def _break(self, exc: PantryError) -> None:
        if self._broken is None and not self.published:
            self._broken = exc
            self._parted = True
            self._owner.part(self)
            for flight in self._flights:
                flight.scope.cancel()

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
        self.in_flight += 1
        self._owner.nursery.start_soon(self._finish)

    async def _finish(self) -> None:
        try:
            digest = await trio.to_thread.run_sync(hash_file, self.fd, self.size_bytes)
        finally:
            self.in_flight -= 1
        if digest != self.object_id.hash:
            log.error("%s: fetched bytes hash to %s, registered is %s", self.name, digest, self.object_id.hash)
            self._broken = IntegrityError(
                f"{self.name}: what the origin sent is not what was registered",
                hint="the file at the origin is damaged or was replaced; `pantry status` names the daemon's log",
                expected=self.object_id.hash,
                found=digest,
            )
            self._owner.discard(self)
        else:
            self._owner.publish(self)
        self._wake()


class PartialObjects:
    """All objects in the making."""

    def __init__(self, cache: ObjectCache, nursery: trio.Nursery) -> None:
        self.cache = cache
        self.nursery = nursery
        self._objects: dict[ObjectId, PartialObject] = {}
        self._restore()
        cache.partials = self

    def _restore(self) -> None:
        """Take up what an earlier run left, and remove what cannot be used."""
        kept: set[str] = set()
        with os.scandir(self.cache.incoming) as entries:
            paths = [entry.path for entry in entries]
        for path in paths:
            if not path.endswith(RECORD_SUFFIX) or path.removesuffix(RECORD_SUFFIX) not in paths:
                continue
            try:
                found = ChunkRecord.load(path)
                partial = None if found is None else PartialObject.restore(self, *found)
            except OSError as exc:
                log.warning("what an earlier run left in %s cannot be read: %s", path, exc.strerror)
                continue
            if partial is None or partial.path != path.removesuffix(RECORD_SUFFIX):
                continue
            if partial.object_id in self.cache or not partial.map.recorded_bytes:
                continue
            self._objects[partial.object_id] = partial
            self.cache.used_bytes += partial.map.stored_bytes
            kept |= {path, partial.path}
        for path in paths:
            if path not in kept:
                os.unlink(path)

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def items(self) -> list[PartialObject]:
        """Return all objects in the making."""
        return list(self._objects.values())

    def close(self) -> None:
        """Close the files of all; the next run takes them up."""
        for partial in self._objects.values():
            partial.close_files()

    def acquire(self, object_id: ObjectId, size_bytes: int, source: Source, name: str) -> PartialObject:
        """Join the object's making, or begin it; to be given back by `release`."""
        # No await between the look and the insert: one flight, however many come at once.
        partial = self._objects.get(object_id)
        if partial is not None and partial.size_bytes != size_bytes:
            raise IntegrityError(f"{name}: registered with {size_bytes} bytes, and elsewhere with {partial.size_bytes}")
        if partial is None:
            partial = self._objects[object_id] = PartialObject.begin(self, object_id, size_bytes, source, name)
        partial.open_files()
        partial.source = partial.source or source
        partial.users += 1
        return partial

    def release(self, partial: PartialObject) -> None:
        """Give back what `acquire` gave."""
        partial.users -= 1
        partial.read_ns = time.time_ns()
        self.tidy(partial)

    def tidy(self, partial: PartialObject) -> None:
        """Close the files of an object that nobody uses; drop it if nothing came or it is broken."""
        if partial.users or partial.in_flight:
            return
        if partial.broken or not partial.map.stored_bytes:
            self.discard(partial)
        partial.close_files()

    def candidates(self) -> list[Candidate]:
        """Return the objects in the making that may be evicted: nobody has them open."""
        return [
            Candidate(one.object_id, one.map.stored_bytes, one.read_ns)
            for one in self._objects.values()
            if one.users == 0 and one.in_flight == 0
        ]

    def evict_one(self, object_id: ObjectId) -> bool:
        """Drop an object in the making; False if it is in use."""
        partial = self._objects.get(object_id)
        if partial is None or partial.users or partial.in_flight:
            return False
        self.discard(partial)
        return True

    def part(self, partial: PartialObject) -> None:
        """Forget an object that cannot go on, so that the next who asks begins anew; its users keep theirs."""
        if self._objects.get(partial.object_id) is partial:
            del self._objects[partial.object_id]
            partial.unlink_files()
            self.cache.used_bytes -= partial.map.stored_bytes

    def discard(self, partial: PartialObject) -> None:
        """Drop an object in the making."""
        if self._objects.get(partial.object_id) is partial:
            del self._objects[partial.object_id]
            partial.unlink_files()
            partial.close_files()
            self.cache.used_bytes -= partial.map.stored_bytes

    def publish(self, partial: PartialObject) -> None:
        """Make a complete and verified object part of the cache; descriptors stay valid."""
        del self._objects[partial.object_id]
        self.cache.publish(partial.path, partial.object_id, partial.size_bytes, name=partial.name)
        partial.published = True
        partial.unlink_files()
        partial.close_files()


def _read_back(fd: int, start: int, stop: int) -> bytes:
    try:
        return os.pread(fd, stop - start, start)
    except OSError as exc:
        raise SinkError(exc.errno, exc.strerror) from exc


@asynccontextmanager
async def running_partials(cache: ObjectCache) -> AsyncIterator[PartialObjects]:
    """Own the tasks of all transfers."""
    async with trio.open_nursery() as nursery:
        partials = PartialObjects(cache, nursery)
        yield partials
        nursery.cancel_scope.cancel()
    partials.close()
