"""Objects in the making: a sparse file, the map of its chunks, and who waits for which.

All state is the trio thread's; between two awaits nobody else sees or changes it. Claiming chunks
and starting their transfer is one such step, so that no byte is asked for twice however many users
wait. Transfers are tasks of `PartialObjects.nursery`, not of a waiter: a waiter that leaves does not
take the others' bytes with it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pantry.backends.contract import ByteRange, ObjectBackend, SinkError
from pantry.daemon.cache.chunks import ChunkMap, chunk_size
from pantry.daemon.cache.eviction import Candidate, ObjectId
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.objects import ObjectCache
from pantry.errors import CacheFullError, IntegrityError, InvalidRequestError, PantryError

LARGEST_REQUEST_BYTES = 16 * 1024 * 1024
"""Longest range asked of a backend at once, in bytes; longer files are fetched by parallel ranges."""

log = logging.getLogger(__name__)


class Source:
    """Where an object can be fetched from.

    Parameters
    ----------
    backend : ObjectBackend
        The storage.
    key : str
        Of the object there.
    """

    def __init__(self, backend: ObjectBackend, key: str) -> None:
        self.backend = backend
        self.key = key


class PartialObject:
    """One object in the making; made by `PartialObjects` only."""

    def __init__(self, owner: PartialObjects, object_id: ObjectId, size_bytes: int, source: Source, name: str) -> None:
        self._owner = owner
        self.object_id = object_id
        self.size_bytes = size_bytes
        self.source = source
        self.name = name
        self.path = os.path.join(owner.cache.incoming, f"{object_id.realm}-{object_id.hash}.partial")
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
        os.ftruncate(self.fd, size_bytes)
        self.map = ChunkMap(size_bytes, chunk_size(size_bytes, owner.cache.config.chunk_bytes))
        self.users = 0
        self.read_ns = time.time_ns()
        self.in_flight = 0
        self.published = False
        self._broken: PantryError | None = None
        self._changed = trio.Event()
        self._finishing = trio.Lock()
        self._version: str | None = None
        self._version_lock = trio.Lock()

    async def ensure(self, start: int, stop: int) -> None:
        """Return when the bytes ``[start, stop)`` are in the file.

        Raises
        ------
        BackendError
            The transfer of one of them failed; the next call tries again.
        IntegrityError
            The whole file turned out not to be what was registered.
        """
        if not 0 <= start <= stop <= self.size_bytes:
            raise InvalidRequestError(f"the range {start} to {stop} is not inside the file's {self.size_bytes} bytes")
        whole = stop - start == self.size_bytes
        if not whole and not self.map.has(start, stop) and self._version is None:
            # Parts can only be checked by the version that they are parts of; the whole, by its hash.
            async with self._version_lock:
                if self._version is None:
                    await self._pin_version()
        failures: list[PantryError] = []
        while not self.map.has(start, stop):
            if self._broken is not None:
                raise self._broken
            if failures:
                raise failures[0]
            for span in self.map.claim(start, stop, LARGEST_REQUEST_BYTES):
                self._start(ByteRange(*span), failures)
            await self._changed.wait()
        if self._broken is not None:
            raise self._broken

    async def _pin_version(self) -> None:
        found = await self.source.backend.stat(self.source.key)
        self._owner.stats += 1
        if found.size_bytes != self.size_bytes:
            raise IntegrityError(
                f"{self.name}: the origin has {found.size_bytes} bytes, {self.size_bytes} were registered",
                hint="the file was changed at the origin; restore it there, or ingest it anew",
            )
        self._version = found.version

    def _start(self, span: ByteRange, failures: list[PantryError]) -> None:
        self.in_flight += 1
        try:
            reservation = self._owner.cache.reserve(span.size_bytes)
        except PantryError:
            self.in_flight -= 1
            self.map.failed(*span)
            raise

        async def fetch() -> None:
            try:
                await self.source.backend.read_into(self.source.key, span, self.fd, if_version=self._version)
                self._owner.fetches += 1
                self._owner.fetched_bytes += span.size_bytes
                reservation.use(span.size_bytes)
                self.map.arrived(*span)
            except PantryError as exc:
                self.map.failed(*span)
                failures.append(exc)
            except SinkError as exc:
                # The disk, not the origin: full or failing.
                self.map.failed(*span)
                failures.append(
                    CacheFullError(
                        f"the cache's file system cannot take {span.size_bytes} bytes: {exc.strerror}",
                        hint=f"make room on the file system of {self._owner.cache.directory}",
                    )
                )
            except BaseException:
                self.map.failed(*span)
                raise
            finally:
                reservation.release()
                if not self.map.complete:
                    self.in_flight -= 1
                self._wake()
            if self.map.complete:
                # Still counted as in flight, so that nobody discards the file while it is hashed.
                try:
                    await self._finish()
                finally:
                    self.in_flight -= 1
            self._owner.discard_if_empty(self)

        self._owner.nursery.start_soon(fetch)

    def _wake(self) -> None:
        event, self._changed = self._changed, trio.Event()
        event.set()

    async def wait_published(self) -> None:
        """Return when the complete object was verified and published; raise if it is not what it should be."""
        while not self.published:
            if self._broken is not None:
                raise self._broken
            await self._changed.wait()

    async def _finish(self) -> None:
        async with self._finishing:
            if self.published or self._broken is not None:
                return
            digest = await trio.to_thread.run_sync(hash_file, self.fd, self.size_bytes)
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
    """All objects in the making, and the counters of what was fetched.

    Attributes
    ----------
    fetches, stats : int
        Requests made upstream for bytes, and for versions.
    fetched_bytes : int
        Bytes that came.
    """

    def __init__(self, cache: ObjectCache, nursery: trio.Nursery) -> None:
        self.cache = cache
        self.nursery = nursery
        self.fetches = self.stats = self.fetched_bytes = 0
        self._objects: dict[ObjectId, PartialObject] = {}
        cache.partials = self

    def __len__(self) -> int:
        return len(self._objects)

    def items(self) -> list[PartialObject]:
        """Return all objects in the making."""
        return list(self._objects.values())

    def acquire(self, object_id: ObjectId, size_bytes: int, source: Source, name: str) -> PartialObject:
        """Join the object's making, or begin it; to be given back by `release`."""
        # No await between the look and the insert: one flight, however many come at once.
        partial = self._objects.get(object_id)
        if partial is None:
            partial = self._objects[object_id] = PartialObject(self, object_id, size_bytes, source, name)
            if not size_bytes:
                self.nursery.start_soon(partial._finish)
        partial.users += 1
        return partial

    def release(self, partial: PartialObject) -> None:
        """Give back what `acquire` gave."""
        partial.users -= 1
        partial.read_ns = time.time_ns()
        self.discard_if_empty(partial)

    def discard_if_empty(self, partial: PartialObject) -> None:
        """Drop an object that nobody has open and of which nothing came."""
        if partial.users == 0 and partial.in_flight == 0 and not partial.map.present_bytes:
            self.discard(partial)

    def candidates(self) -> list[Candidate]:
        """Return the objects in the making that may be evicted: nobody has them open."""
        return [
            Candidate(one.object_id, one.map.present_bytes, one.read_ns)
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

    def discard(self, partial: PartialObject) -> None:
        """Drop an object in the making."""
        if self._objects.get(partial.object_id) is partial:
            del self._objects[partial.object_id]
            os.unlink(partial.path)
            os.close(partial.fd)
            self.cache.used_bytes -= partial.map.present_bytes

    def publish(self, partial: PartialObject) -> None:
        """Make a complete and verified object part of the cache; descriptors stay valid."""
        del self._objects[partial.object_id]
        self.cache.publish(partial.path, partial.object_id, partial.size_bytes, name=partial.name)
        partial.published = True
        os.close(partial.fd)


@asynccontextmanager
async def running_partials(cache: ObjectCache) -> AsyncIterator[PartialObjects]:
    """Own the tasks of all transfers."""
    async with trio.open_nursery() as nursery:
        yield PartialObjects(cache, nursery)
        nursery.cancel_scope.cancel()
