"""All objects in the making: who joins which, what an earlier run left, and the care for the disk."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio

from pantry.daemon.cache.backing import RECORD_SUFFIX, Backing, DiskBacking, MemoryBacking
from pantry.daemon.cache.chunks import chunk_size
from pantry.daemon.cache.disk import DiskState
from pantry.daemon.cache.eviction import Candidate
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.memory import MemoryStore
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partial import PartialObject
from pantry.daemon.cache.record import ChunkRecord, Description
from pantry.errors import CacheFullError, IntegrityError, StaleHandleError

log = logging.getLogger(__name__)


class PartialObjects:
    """All objects in the making, on the disk or in memory.

    Parameters
    ----------
    cache : ObjectCache
        For those on the disk.
    memory : MemoryStore
        For those that the disk cannot take.
    nursery : trio.Nursery
        Owns the transfers.
    """

    def __init__(self, cache: ObjectCache, memory: MemoryStore, nursery: trio.Nursery) -> None:
        self.cache = cache
        self.memory = memory
        self.nursery = nursery
        self._on_disk: dict[ObjectId, PartialObject] = {}
        self._in_memory: dict[ObjectId, PartialObject] = {}
        for path in self._restore():
            os.unlink(path)
        cache.partials = self

    def _restore(self) -> list[str]:
        """Take up what an earlier run left; return the files that are of no use."""
        kept: set[str] = set()
        with os.scandir(self.cache.incoming) as entries:
            paths = [entry.path for entry in entries]
        for path in paths:
            if not path.endswith(RECORD_SUFFIX) or path.removesuffix(RECORD_SUFFIX) not in paths:
                continue
            try:
                found = ChunkRecord.load(path)
                partial = None if found is None else self._restore_one(*found)
            except OSError as exc:
                log.warning("what an earlier run left in %s cannot be read: %s", path, exc.strerror)
                continue
            if partial is None or self._path_of(partial.object_id) != path.removesuffix(RECORD_SUFFIX):
                continue
            if partial.object_id in self.cache or not partial.map.recorded_bytes:
                continue
            self._on_disk[partial.object_id] = partial
            self.cache.used_bytes += partial.map.stored_bytes
            kept |= {path, path.removesuffix(RECORD_SUFFIX)}
        return [path for path in paths if path not in kept]

    def _restore_one(self, record: ChunkRecord, hashes: Iterable[int]) -> PartialObject:
        what = record.description
        object_id = ObjectId(what.realm, what.hash)
        backing = DiskBacking(self.cache, self._path_of(object_id))
        backing.record = record
        made = PartialObject(self, object_id, what.size_bytes, what.chunk_bytes, backing)
        made.name = what.name
        made.version = what.version or None
        made.read_ns = os.stat(backing.path).st_mtime_ns
        for number, digest in enumerate(hashes):
            if digest:
                made.map.recorded(number)
        return made

    def _path_of(self, object_id: ObjectId) -> str:
        return os.path.join(self.cache.incoming, f"{object_id.realm}-{object_id.hash}.partial")

    def __len__(self) -> int:
        return len(self._on_disk) + len(self._in_memory)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._on_disk or object_id in self._in_memory

    def of(self, object_id: ObjectId) -> list[PartialObject]:
        """Return an object that is in the making, on the disk and in memory."""
        found = (self._on_disk.get(object_id), self._in_memory.get(object_id))
        return [one for one in found if one is not None]

    def items(self) -> list[PartialObject]:
        """Return all objects in the making that lie on the disk."""
        return list(self._on_disk.values())

    def close(self) -> None:
        """Close the files of all; the next run takes them up."""
        for partial in self._on_disk.values():
            partial.backing.close()

    def acquire(
        self,
        object_id: ObjectId,
        size_bytes: int,
        source: Source,
        name: str,
        *,
        uncached: bool = False,
        plain_version: str = "",
    ) -> PartialObject:
        """Join the object's making, or begin it; to be given back by `release`.

        Parameters
        ----------
        uncached : bool
            In memory, since the disk could not take it.
        plain_version : str
            Of a plain object: the version that ``object_id`` stands for.

        Raises
        ------
        CacheDiskError
            It cannot be begun on the disk.
        CacheFullError
            It cannot be begun in memory.
        """
        # No await between the look and the insert: one flight, however many come at once.
        objects = self._in_memory if uncached else self._on_disk
        partial = objects.get(object_id)
        if partial is not None and partial.size_bytes != size_bytes:
            raise IntegrityError(f"{name}: registered with {size_bytes} bytes, and elsewhere with {partial.size_bytes}")
        if partial is None:
            partial = self._begin(object_id, size_bytes, name, uncached=uncached, plain_version=plain_version)
            objects[object_id] = partial
        partial.backing.open()
        partial.source = partial.source or source
        partial.users += 1
        return partial

    def _begin(
        self, object_id: ObjectId, size_bytes: int, name: str, *, uncached: bool, plain_version: str
    ) -> PartialObject:
        chunk_bytes = chunk_size(size_bytes, self.cache.config.chunk_bytes)
        backing: Backing
        if uncached:
            try:
                backing = MemoryBacking(self.memory, size_bytes)
            except OSError as exc:
                raise CacheFullError(f"there is no memory for reading uncached: {exc.strerror}") from exc
        else:
            # A file of one chunk is all there or not at all: it needs no record.
            description = Description(
                realm=object_id.realm,
                hash=object_id.hash,
                size_bytes=size_bytes,
                chunk_bytes=chunk_bytes,
                name=name,
                version=plain_version,
            )
            backing = DiskBacking.begin(
                self.cache, self._path_of(object_id), size_bytes, description if size_bytes > chunk_bytes else None
            )
        made = PartialObject(self, object_id, size_bytes, chunk_bytes, backing)
        made.name = name
        made.version = plain_version or None
        return made

    def release(self, partial: PartialObject) -> None:
        """Give back what `acquire` gave."""
        partial.users -= 1
        partial.read_ns = time.time_ns()
        self.tidy(partial)

    def tidy(self, partial: PartialObject) -> None:
        """Close the files of an object that nobody uses; drop it if nothing came, it is broken, or in memory."""
        if partial.users or partial.in_flight:
            return
        partial.backing.close()
        if partial.broken or partial.is_uncached or not partial.map.stored_bytes:
            self.discard(partial)

    def candidates(self) -> list[Candidate]:
        """Return the objects in the making that may be evicted: nobody has them open."""
        return [
            Candidate(one.object_id, one.map.stored_bytes, one.read_ns)
            for one in self._on_disk.values()
            if one.users == 0 and one.in_flight == 0
        ]

    def evict_one(self, object_id: ObjectId) -> bool:
        """Drop an object in the making; False if it is in use."""
        partial = self._on_disk.get(object_id)
        if partial is None or partial.users or partial.in_flight:
            return False
        self.discard(partial)
        return True

    def discard(self, partial: PartialObject) -> None:
        """Forget an object in the making, so that the next who asks begins anew; its readers keep what they have."""
        if not self._forget(partial):
            return
        partial.backing.discard(partial.map.stored_bytes)

    def _forget(self, partial: PartialObject) -> bool:
        objects = self._in_memory if partial.is_uncached else self._on_disk
        if objects.get(partial.object_id) is not partial:
            return False
        del objects[partial.object_id]
        return True

    def publish(self, partial: PartialObject, digest: str) -> None:
        """Make a complete and verified object, whose content has a hash, part of the cache; descriptors stay valid."""
        partial.backing.publish(partial.object_id, partial.size_bytes, partial.name)
        if partial.source is not None:
            self.cache.came_from(partial.object_id, partial.repository, partial.source.key)
        if partial.object_id.is_plain:
            self.cache.is_version(partial.object_id, partial.version or "", content=digest)
        self._forget(partial)
        partial.published = True
        partial.backing.close()

    def recover(self) -> None:
        """Look again at a disk that was away: what was being made there is given up or taken up."""
        for partial in list(self._on_disk.values()):
            partial.give_up(
                StaleHandleError(
                    f"{partial.name}: the disk of the cache was away", hint="open the file anew to read on"
                )
            )
        self.cache.rescan()
        with os.scandir(self.cache.incoming) as entries:
            # Not those of puts, whose clients have them open.
            left = [entry.path for entry in entries if entry.name.endswith((".partial", RECORD_SUFFIX))]
        for path in left:
            os.unlink(path)


@asynccontextmanager
async def running_partials(cache: ObjectCache) -> AsyncIterator[PartialObjects]:
    """Own the tasks of all transfers, and the memory for what the disk cannot take."""
    memory = MemoryStore(cache.config.uncached_bytes)
    async with trio.open_nursery() as nursery:
        partials = PartialObjects(cache, memory, nursery)
        nursery.start_soon(watch_disk, cache, partials)
        yield partials
        nursery.cancel_scope.cancel()
    partials.close()
    memory.close()


async def watch_disk(cache: ObjectCache, partials: PartialObjects) -> None:
    """Look after the cache's disk and memory for ever: floors, files that readers have closed, recovery."""
    while True:
        await trio.sleep(cache.config.probe_interval_s)
        cache.lingering.settle()
        partials.memory.settle()
        was_full = cache.disk.state is DiskState.FULL
        if await cache.disk.probe():
            if not was_full:
                try:
                    partials.recover()
                except OSError as exc:
                    cache.disk.failed(exc)
                    continue
            cache.disk.recover()
        cache.keep_floors()
