"""The store of complete objects, and the account of all bytes in the cache.

Everything here runs in the trio thread; file system calls that may take long go to worker threads.
The account: ``used`` (complete objects, the chunks of partial ones, and what lost its name while
somebody had it open) plus ``reserved`` never passes the quota, because a reservation is made,
evicting if need be, before a byte is written. The floors of the file system are kept the same way.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import os
import sqlite3
import stat
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Protocol

import trio

from pantry.daemon.cache.account import Account, Reservation
from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.disk import CacheDisk, Room
from pantry.daemon.cache.eviction import Candidate
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.index import CacheIndex, Remembered
from pantry.daemon.cache.leases import LingeringFiles, is_open
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.config import CacheConfig
from pantry.errors import CacheDiskError, CacheFullError

log = logging.getLogger(__name__)

ROOM_S = 0.25
"""How long the file system's own figures are believed while there is plenty, in seconds."""

PLENTY_BYTES = 256 * 1024 * 1024
PLENTY_INODES = 10_000


class EvictablePartials(Protocol):
    """Objects in the making, as far as eviction goes."""

    def candidates(self) -> list[Candidate]:
        """Return those that nobody has open."""
        ...

    def evict_one(self, object_id: ObjectId) -> bool:
        """Drop one unless it is in use."""
        ...


class ObjectCache(Account):
    """Complete objects on disk, by realm and hash.

    Parameters
    ----------
    config : CacheConfig
        Directory, quota and water marks.
    """

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.disk = CacheDisk(config)
        self.directory = self.disk.directory
        self.incoming = self.disk.incoming
        self.partials: EvictablePartials | None = None
        self.lingering = LingeringFiles(self)
        self.counters = Counters()
        self._index = CacheIndex(self.directory)
        # Least recently read first.
        self._objects: OrderedDict[ObjectId, Remembered] = OrderedDict()
        self._take_up(self._index.load())
        self.used_bytes = sum(one.size_bytes for one in self._objects.values())
        self._pins: Counter[ObjectId] = Counter()
        self._leases: Counter[ObjectId] = Counter()
        self._room = Room(0, 0)
        self._room_until = 0.0

    def _take_up(self, found: dict[ObjectId, Remembered]) -> None:
        self._objects = OrderedDict(sorted(found.items(), key=lambda one: (one[1].read_ns, one[0])))

    def close(self) -> None:
        """Write the index for the next start."""
        self.lingering.close()
        if self.disk.usable:
            try:
                self._index.save(self._objects)
            except (OSError, sqlite3.Error) as exc:
                log.warning("the cache's index cannot be written, the next start looks at the tree: %s", exc)
        self.disk.close()

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def items(self) -> list[tuple[ObjectId, Remembered]]:
        """Return all complete objects, least recently read first."""
        return list(self._objects.items())

    def path_of(self, object_id: ObjectId) -> str:
        """Return where an object lies."""
        return os.path.join(self.disk.objects, object_id.realm, object_id.hash[:2], object_id.hash)

    async def open(self, object_id: ObjectId, *, name: str = "") -> int | None:
        """Open a complete object read-only; None if it is not cached, or cannot be read at present.

        An object that is not known to be whole (after a crash of the machine) is read first, and
        dropped if it is not what its name says.
        """
        entry = self._objects.get(object_id)
        if entry is None:
            return None
        fd = self._open_file(object_id)
        if fd is None:
            return None
        try:
            size = os.fstat(fd).st_size
            if size != entry.size_bytes or not entry.verified:
                whole = size == entry.size_bytes and (
                    await trio.to_thread.run_sync(hash_file, fd, size) == object_id.hash
                )
                if not whole:
                    log.error("cached object %s/%s is damaged; it is dropped", *object_id)
                    os.close(fd)
                    self.drop(object_id)
                    return None
                entry.verified = True
        except OSError as exc:
            os.close(fd)
            self.disk.failed(exc)
            return None
        except trio.Cancelled:
            os.close(fd)
            raise
        entry.read_ns = time.time_ns()
        entry.name = name or entry.name
        if object_id in self._objects:
            self._objects.move_to_end(object_id)
        return fd

    def _open_file(self, object_id: ObjectId) -> int | None:
        try:
            return os.open(self.path_of(object_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as exc:
            if self.disk.away() is None:
                log.warning("cached object %s/%s is gone from disk", *object_id)
                self._forget(object_id)
            else:
                # All of them are: what is known of them may be true again when the disk is back.
                self.disk.failed(exc)
        except OSError as exc:
            self.disk.failed(exc)
        return None

    # -- room -----------------------------------------------------------------------------------------

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise room for ``size_bytes``, evicting what was not read for longest.

        Raises
        ------
        CacheFullError
            The quota does not hold them, even with all evicted that is not open.
        CacheDiskError
            The file system cannot take them, or leaves no room above the floors.
        """
        self.disk.require()
        quota = self.config.quota_bytes
        over = self.used_bytes + self.reserved_bytes + size_bytes - int(quota * self.config.high_water)
        if over > 0:
            self.lingering.settle()
            slack = int(quota * (self.config.high_water - self.config.low_water))
            self.evict(over + slack)
        if self.used_bytes + self.reserved_bytes + size_bytes > quota:
            raise CacheFullError(
                f"the cache's quota of {quota} bytes has no room for {size_bytes} more",
                hint="raise cache.quota_bytes, or wait until others close their files",
                needed_bytes=size_bytes,
                used_bytes=self.used_bytes,
                reserved_bytes=self.reserved_bytes,
            )
        self._keep_floors(size_bytes, 0)
        return Reservation(self, size_bytes)

    def make_room_for_files(self, count: int) -> None:
        """See that the file system can take ``count`` more files above its floors, evicting if need be.

        Raises
        ------
        CacheDiskError
            It cannot.
        """
        self.disk.require()
        self._keep_floors(0, count)

    def _keep_floors(self, size_bytes: int, files: int) -> None:
        """See that the file system keeps what it has to keep free, also when all that is promised is written."""
        now = time.monotonic()
        room = self._room
        if now > self._room_until or room.free_bytes < PLENTY_BYTES or room.free_inodes < PLENTY_INODES:
            room = self.disk.room()
            room = room._replace(free_bytes=room.free_bytes - self.reserved_bytes)
            self._room_until = now + ROOM_S
        if room.free_bytes < size_bytes or room.free_inodes < files:
            self.evict(size_bytes - room.free_bytes, files=files - room.free_inodes)
            room = self.disk.room()
            room = room._replace(free_bytes=room.free_bytes - self.reserved_bytes)
            if room.free_inodes < files:
                raise self.disk.is_full(f"no inodes are left above the floor of {self.config.keep_free_inodes}")
            if room.free_bytes < size_bytes:
                raise self.disk.is_full(
                    f"no {size_bytes} bytes are free above the floor of {self.config.keep_free_bytes}"
                )
        self._room = Room(room.free_bytes - size_bytes, room.free_inodes - files)

    def keep_floors(self) -> None:
        """Evict if others filled the file system beyond the floors; what cannot be done shows in the disk's state."""
        if self.disk.usable:
            self._room_until = 0.0
            with contextlib.suppress(CacheDiskError):
                self._keep_floors(0, 0)

    @contextlib.contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Reserve room for a temporary file."""
        reservation = self.reserve(size_bytes)
        try:
            yield
        finally:
            reservation.release()

    # -- eviction -------------------------------------------------------------------------------------

    def evict(self, free_bytes: int, *, files: int = 0) -> int:
        """Evict least recently read objects until ``free_bytes`` and ``files`` are free; return the bytes freed."""
        freed = gone = 0
        partials = [] if self.partials is None else self.partials.candidates()
        complete = (Candidate(key, one.size_bytes, one.read_ns) for key, one in list(self._objects.items()))
        for candidate in heapq.merge(
            complete, sorted(partials, key=lambda one: one.read_ns), key=lambda one: one.read_ns
        ):
            if freed >= free_bytes and gone >= files:
                break
            if self.evict_one(candidate.object_id):
                freed += candidate.size_bytes
                gone += 1
        return freed

    def evict_one(self, object_id: ObjectId) -> bool:
        """Evict one object, complete or in the making, unless it is open, leased or pinned; True if it went."""
        if self._pins[object_id] or self._leases[object_id]:
            return False
        if object_id not in self._objects:
            return self.partials is not None and self.partials.evict_one(object_id)
        size = self._objects[object_id].size_bytes
        try:
            if is_open(self.path_of(object_id)):
                # Its blocks would stay until it is closed, so that nothing would be won.
                return False
        except OSError as exc:
            self.disk.failed(exc)
            return False
        if not self.drop(object_id):
            return False
        self.counters.evicted_objects += 1
        self.counters.evicted_bytes += size
        return True

    def pin(self, object_id: ObjectId) -> None:
        """Keep an object from eviction, also one that comes later; counted."""
        self._pins[object_id] += 1

    def unpin(self, object_id: ObjectId) -> None:
        """Take one `pin` back."""
        self._pins[object_id] -= 1
        if self._pins[object_id] <= 0:
            del self._pins[object_id]

    def is_pinned(self, object_id: ObjectId) -> bool:
        """Whether it is pinned."""
        return object_id in self._pins

    @contextlib.contextmanager
    def leased(self, object_id: ObjectId) -> Iterator[None]:
        """Keep an object from eviction inside the block, also one that comes meanwhile."""
        self._leases[object_id] += 1
        try:
            yield
        finally:
            self._leases[object_id] -= 1
            if not self._leases[object_id]:
                del self._leases[object_id]

    def drop(self, object_id: ObjectId) -> bool:
        """Remove an object at once; open descriptors stay valid. False if the disk does not let it go."""
        entry = self._objects.get(object_id)
        if entry is None:
            return False
        try:
            self.lingering.unlink(self.path_of(object_id), entry.size_bytes)
        except OSError as exc:
            self.disk.failed(exc)
            return False
        del self._objects[object_id]
        return True

    def _forget(self, object_id: ObjectId) -> None:
        if (gone := self._objects.pop(object_id, None)) is not None:
            self.used_bytes -= gone.size_bytes

    # -- coming and coming back -----------------------------------------------------------------------

    def publish(self, path: str, object_id: ObjectId, size_bytes: int, *, name: str = "") -> None:
        """Make a verified file of this file system the object; the caller counted its bytes as used.

        One rename: whoever opens the object sees all of it or nothing.

        Raises
        ------
        OSError
            The disk does not do it; the bytes are still the caller's.
        """
        if object_id in self._objects:
            # The same content came twice at once; one copy is enough.
            self.lingering.unlink(path, size_bytes)
            return
        target = self.path_of(object_id)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.chmod(path, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        os.rename(path, target)
        self._objects[object_id] = Remembered(size_bytes=size_bytes, read_ns=time.time_ns(), name=name)

    def rescan(self) -> None:
        """Look what the disk holds after it was away: nothing on it is believed unread."""
        known = self._objects
        self._take_up(self._index.rebuild(known))
        self.used_bytes = sum(one.size_bytes for one in self._objects.values()) + self.lingering.size_bytes
