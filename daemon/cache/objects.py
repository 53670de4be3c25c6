"""The store of complete objects, and the account of all bytes in the cache.

Everything here runs in the trio thread; file system calls that may take long go to worker threads.
The account: ``used`` (complete objects and the chunks of partial ones) plus ``reserved`` never
passes the quota, because a reservation is made, evicting if need be, before a byte is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

import trio

from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.eviction import Candidate, plan_eviction
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.index import CacheIndex, Remembered
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.config import CacheConfig
from pantry.errors import CacheFullError, ConfigError

log = logging.getLogger(__name__)


class EvictablePartials(Protocol):
    """Objects in the making, as far as eviction goes."""

    def candidates(self) -> list[Candidate]:
        """Return those that nobody has open."""
        ...

    def evict_one(self, object_id: ObjectId) -> bool:
        """Drop one unless it is in use."""
        ...


class Reservation:
    """Bytes that are promised; become used as they are written, or are given back."""

    def __init__(self, cache: ObjectCache, size_bytes: int) -> None:
        self._cache = cache
        self.left_bytes = size_bytes

    def use(self, size_bytes: int) -> None:
        """Turn reserved bytes into used ones."""
        if size_bytes > self.left_bytes:
            raise ValueError(f"{size_bytes} bytes used of {self.left_bytes} reserved")
        self.left_bytes -= size_bytes
        self._cache.reserved_bytes -= size_bytes
        self._cache.used_bytes += size_bytes

    def release(self) -> None:
        """Give back what was not used."""
        self._cache.reserved_bytes -= self.left_bytes
        self.left_bytes = 0


class ObjectCache:
    """Complete objects on disk, by realm and hash.

    Parameters
    ----------
    config : CacheConfig
        Directory, quota and water marks.
    """

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.directory = config.directory
        self.incoming = os.path.join(self.directory, "incoming")
        self._objects_directory = os.path.join(self.directory, "objects")
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if os.stat(self.directory).st_uid != os.geteuid():
            raise ConfigError(f"the cache directory {self.directory} belongs to another user")
        os.chmod(self.directory, 0o700)
        # One daemon per cache: two would count, evict and publish against each other.
        self._lock = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"another daemon uses the cache directory {self.directory}") from None
        os.makedirs(self._objects_directory, mode=0o700, exist_ok=True)
        os.makedirs(self.incoming, mode=0o700, exist_ok=True)
        self.partials: EvictablePartials | None = None
        self._index = CacheIndex(self.directory)
        self._objects = self._index.load()
        self.used_bytes = sum(one.size_bytes for one in self._objects.values())
        self.reserved_bytes = 0
        self.counters = Counters()
        self._pins: Counter[ObjectId] = Counter()
        self._leases: Counter[ObjectId] = Counter()

    def close(self) -> None:
        """Write the index for the next start."""
        self._index.save(self._objects)
        os.close(self._lock)

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def items(self) -> list[tuple[ObjectId, Remembered]]:
        """Return all complete objects."""
        return list(self._objects.items())

    def path_of(self, object_id: ObjectId) -> str:
        """Return where an object lies."""
        return os.path.join(self._objects_directory, object_id.realm, object_id.hash[:2], object_id.hash)

    async def open(self, object_id: ObjectId, *, name: str = "") -> int | None:
        """Open a complete object read-only; None if it is not cached.

        An object that is not known to be whole (after a crash of the machine) is read first, and
        dropped if it is not what its name says.
        """
        entry = self._objects.get(object_id)
        if entry is None:
            return None
        try:
            fd = os.open(self.path_of(object_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            log.warning("cached object %s/%s is gone from disk", *object_id)
            self._forget(object_id)
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
        except trio.Cancelled:
            os.close(fd)
            raise
        entry.read_ns = time.time_ns()
        entry.name = name or entry.name
        return fd

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise room for ``size_bytes``, evicting what was not read for longest.

        Raises
        ------
        CacheFullError
            The quota does not hold them, even with all evicted that is not open.
        """
        over = (
            self.used_bytes + self.reserved_bytes + size_bytes - int(self.config.quota_bytes * self.config.high_water)
        )
        if over > 0:
            slack = int(self.config.quota_bytes * (self.config.high_water - self.config.low_water))
            self.evict(over + slack)
        if self.used_bytes + self.reserved_bytes + size_bytes > self.config.quota_bytes:
            raise CacheFullError(
                f"the cache's quota of {self.config.quota_bytes} bytes has no room for {size_bytes} more",
                hint="raise cache.quota_bytes, or wait until others close their files",
                needed_bytes=size_bytes,
                used_bytes=self.used_bytes,
                reserved_bytes=self.reserved_bytes,
            )
        self.reserved_bytes += size_bytes
        return Reservation(self, size_bytes)

    @contextlib.contextmanager
    def reserved(self, size_bytes: int) -> Iterator[None]:
        """Reserve room for a temporary file."""
        reservation = self.reserve(size_bytes)
        try:
            yield
        finally:
            reservation.release()

    def evict(self, free_bytes: int) -> int:
        """Evict least recently read objects until ``free_bytes`` are free; return how many were freed."""
        freed = 0
        remaining = {
            key: Candidate(key, one.size_bytes, one.read_ns)
            for key, one in self._objects.items()
            if not self._pins[key] and not self._leases[key]
        }
        if self.partials is not None:
            remaining.update(
                {one.object_id: one for one in self.partials.candidates() if not self._pins[one.object_id]}
            )
        while freed < free_bytes and remaining:
            for candidate in plan_eviction(remaining.values(), free_bytes=free_bytes - freed):
                del remaining[candidate.object_id]
                if self.evict_one(candidate.object_id):
                    freed += candidate.size_bytes
        return freed

    def evict_one(self, object_id: ObjectId) -> bool:
        """Evict one object, complete or in the making, unless it is open, leased or pinned; True if it went."""
        if self._pins[object_id] or self._leases[object_id]:
            return False
        if object_id not in self._objects:
            return self.partials is not None and self.partials.evict_one(object_id)
        size = self._objects[object_id].size_bytes
        if is_open(self.path_of(object_id)):
            # Its blocks would stay until it is closed, so that nothing would be won.
            return False
        self.drop(object_id)
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

    def drop(self, object_id: ObjectId) -> None:
        """Remove an object at once; open descriptors stay valid."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path_of(object_id))
        self._forget(object_id)

    def _forget(self, object_id: ObjectId) -> None:
        if (gone := self._objects.pop(object_id, None)) is not None:
            self.used_bytes -= gone.size_bytes

    def publish(self, path: str, object_id: ObjectId, size_bytes: int, *, name: str = "") -> None:
        """Make a verified file of this file system the object; the caller counted its bytes as used.

        One rename: whoever opens the object sees all of it or nothing.
        """
        if object_id in self._objects:
            # The same content came twice at once; one copy is enough.
            os.unlink(path)
            self.used_bytes -= size_bytes
            return
        target = self.path_of(object_id)
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        os.chmod(path, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        os.rename(path, target)
        self._objects[object_id] = Remembered(size_bytes=size_bytes, read_ns=time.time_ns(), name=name)


def is_open(path: str) -> bool:
    """Whether any process has the file open or mapped; the kernel grants a write lease only if none has."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        # Anything else is a file system without leases: unlinking is always safe for those who read.
        return exc.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(fd)
    return False


def is_written(fd: int) -> bool:
    """Whether anybody still has the file open or mapped for writing; ``fd`` is open read-only.

    The kernel grants a read lease only if nobody has. Where leases do not work the answer is True.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False
