"""The store of complete objects, and the account of all bytes in the cache.

Everything here runs in the trio thread; file system calls that may take long go to worker threads.
The account: ``used`` (complete objects, the chunks of partial ones, and what lost its name while
somebody had it open) plus ``reserved`` never passes the quota, because a reservation is made,
evicting if need be, before a byte is written. The floors of the file system are kept the same way.
"""

from __future__ import annotations

import contextlib
import copy
import heapq
import logging
import os
import sqlite3
import stat
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import partial

import trio

from pantry.daemon.cache.account import Account, Reservation, charged
from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.disk import CacheDisk
from pantry.daemon.cache.eviction import Candidate, EvictablePartials
from pantry.daemon.cache.floors import Floors
from pantry.daemon.cache.index import CacheIndex, Remembered
from pantry.daemon.cache.leases import LingeringFiles, is_open
from pantry.daemon.cache.namesakes import namesakes
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.quarantine import Quarantine
from pantry.daemon.cache.verifying import Verdict, Verifier
from pantry.daemon.config import CacheConfig
from pantry.errors import CacheDiskError, CacheFullError

log = logging.getLogger(__name__)


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
        self.verifier = Verifier(self)
        self._index = CacheIndex(self.directory)
        self._changed: set[ObjectId] = set()
        self._gone: set[ObjectId] = set()
        self._has_new = False
        # Least recently read first.
        self._objects: OrderedDict[ObjectId, Remembered] = OrderedDict()
        self._take_up(self._index.load())
        self.used_bytes = sum(charged(one.size_bytes) for one in self._objects.values())
        self._drop_unknown()
        self.quarantine = Quarantine(self.disk.quarantine, self, config.quota_bytes)
        self._pins: Counter[ObjectId] = Counter()
        self._leases: Counter[ObjectId] = Counter()
        self._floors = Floors(self)

    def _take_up(self, found: dict[ObjectId, Remembered]) -> None:
        self._objects = OrderedDict(sorted(found.items(), key=lambda one: (one[1].read_ns, one[0])))

    def _drop_unknown(self) -> None:
        """Drop plain objects of which nobody knows any more what they are."""
        for object_id in [key for key, one in self._objects.items() if key.is_plain and not one.content]:
            self.drop(object_id)

    def close(self) -> None:
        """Write the index for the next start."""
        self.lingering.close()
        if self.disk.usable:
            changed, gone = self._take_changes()
            try:
                self._index.write(changed, gone, clean=True)
            except (OSError, sqlite3.Error) as exc:
                log.warning("the cache's index cannot be written, the next start looks at the tree: %s", exc)
        self.disk.close()

    async def write_index(self) -> None:
        """Write what changed since the last time, in a worker thread."""
        changed, gone = self._take_changes()
        if not changed and not gone:
            return
        has_new, self._has_new = self._has_new, False
        written = False
        try:
            await trio.to_thread.run_sync(partial(self._index.write, changed, gone, clean=False, synced=not has_new))
            written = True
        except (OSError, sqlite3.Error) as exc:
            log.warning("the cache's index cannot be written now: %s", exc)
        finally:
            if not written:
                self._changed |= changed.keys()
                self._gone |= gone
                self._has_new |= has_new

    def _take_changes(self) -> tuple[dict[ObjectId, Remembered], set[ObjectId]]:
        changed = {one: copy.copy(self._objects[one]) for one in self._changed if one in self._objects}
        gone = {one for one in self._gone if one not in self._objects}
        self._changed, self._gone = set(), set()
        return changed, gone

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def items(self) -> list[tuple[ObjectId, Remembered]]:
        """Return all complete objects, least recently read first."""
        return list(self._objects.items())

    def entry(self, object_id: ObjectId) -> Remembered | None:
        """Return what is known of a complete object."""
        return self._objects.get(object_id)

    def path_of(self, object_id: ObjectId) -> str:
        """Return where an object lies."""
        return os.path.join(self.disk.objects, object_id.realm, object_id.hash[:2], object_id.hash)

    async def open(self, object_id: ObjectId, *, name: str = "", repository: str = "", key: str = "") -> int | None:
        """Open a complete object read-only; None if it is not cached, or cannot be read at present.

        An object that is not known to be whole (after a crash of the machine) is read first, and
        quarantined if it is not what its name says.

        Parameters
        ----------
        object_id : ObjectId
            Which.
        name, repository, key : str
            By which it is read, and where it can be fetched from; remembered.
        """
        entry = self._objects.get(object_id)
        if entry is None:
            return None
        fd = self.open_file(object_id)
        if fd is None:
            return None
        try:
            if not entry.verified or os.fstat(fd).st_size != entry.size_bytes:
                verdict = await self.verifier.verify(object_id)
                if verdict is not Verdict.WHOLE:
                    os.close(fd)
                    return None
        except OSError as exc:
            os.close(fd)
            self.disk.failed(exc)
            return None
        except trio.Cancelled:
            os.close(fd)
            raise
        entry.read_ns = time.time_ns()
        entry.name = name or entry.name
        entry.repository, entry.key = repository or entry.repository, key or entry.key
        if object_id in self._objects:
            self._objects.move_to_end(object_id)
            self._changed.add(object_id)
        return fd

    def open_file(self, object_id: ObjectId) -> int | None:
        """Open an object's file, whatever is in it; None if that cannot be done."""
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

    def verified(self, object_id: ObjectId, when_ns: int) -> None:
        """Note that an object was read and found whole."""
        entry = self._objects[object_id]
        entry.verified, entry.verified_ns = True, when_ns
        self._changed.add(object_id)

    def came_from(self, object_id: ObjectId, repository: str, key: str) -> None:
        """Note where an object can be fetched from."""
        if (entry := self._objects.get(object_id)) is not None:
            entry.repository, entry.key = repository, key
            self._changed.add(object_id)

    def is_version(self, object_id: ObjectId, version: str, *, content: str) -> None:
        """Note of a plain object which version it is, and the hash of its content."""
        if (entry := self._objects.get(object_id)) is not None:
            entry.version, entry.content, entry.checked_ns = version, content, time.time_ns()
            self._changed.add(object_id)

    def checked(self, object_id: ObjectId, when_ns: int) -> None:
        """Note of a plain object when the origin said that it is the present version."""
        if (entry := self._objects.get(object_id)) is not None:
            entry.checked_ns = when_ns
            self._changed.add(object_id)

    def quarantine_object(self, object_id: ObjectId) -> None:
        """Put a damaged object aside; whoever has it open keeps what he has."""
        entry = self._objects[object_id]
        if object_id.is_users:
            # By other names it may be the same file.
            for other in namesakes(self, object_id):
                self._objects[other].verified = False
        try:
            if self.quarantine.take(self.path_of(object_id), object_id, charged(entry.size_bytes)):
                del self._objects[object_id]
                self._gone.add(object_id)
            else:
                self.drop(object_id)
        except OSError as exc:
            self.disk.failed(exc)
            # Not handed out before it was read again.
            entry.verified = False
        self.counters.quarantined_objects += 1

    # -- room -----------------------------------------------------------------------------------------

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise room for ``size_bytes``, in whole blocks, evicting what was not read for longest.

        Raises
        ------
        CacheFullError
            The quota does not hold them, even with all evicted that is not open.
        CacheDiskError
            The file system cannot take them, or leaves no room above the floors.
        """
        self.disk.require()
        size_bytes = charged(size_bytes)
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
        self._floors.keep(size_bytes, 0)
        return Reservation(self, size_bytes)

    def make_room_for_files(self, count: int) -> None:
        """See that the file system can take ``count`` more files above its floors, evicting if need be.

        Raises
        ------
        CacheDiskError
            It cannot.
        """
        self.disk.require()
        self._floors.keep(0, count)

    def keep_floors(self) -> None:
        """Evict if others filled the file system beyond the floors; what cannot be done shows in the disk's state."""
        if self.disk.usable:
            self._floors.look_again()
            with contextlib.suppress(CacheDiskError):
                self._floors.keep(0, 0)

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
        try:
            freed += self.quarantine.free(free_bytes)
        except OSError as exc:
            self.disk.failed(exc)
        partials = [] if self.partials is None else self.partials.candidates()
        complete = (Candidate(key, charged(one.size_bytes), one.read_ns) for key, one in list(self._objects.items()))
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
            self.lingering.unlink(self.path_of(object_id), charged(entry.size_bytes))
        except OSError as exc:
            self.disk.failed(exc)
            return False
        del self._objects[object_id]
        self._gone.add(object_id)
        return True

    def _forget(self, object_id: ObjectId) -> None:
        if (gone := self._objects.pop(object_id, None)) is not None:
            self.used_bytes -= charged(gone.size_bytes)
            self._gone.add(object_id)

    # -- coming and coming back -----------------------------------------------------------------------

    def publish(self, path: str, object_id: ObjectId, size_bytes: int, *, name: str = "") -> None:
        """Make a verified file of this file system the object; the caller counted its bytes (`charged`) as used.

        One rename: whoever opens the object sees all of it or nothing.

        Raises
        ------
        OSError
            The disk does not do it; the bytes are still the caller's.
        """
        if object_id in self._objects:
            # The same content came twice at once; one copy is enough.
            self.lingering.unlink(path, charged(size_bytes))
            return
        target = self.path_of(object_id)
        os.chmod(path, stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
        try:
            os.rename(path, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
            os.rename(path, target)
        now = time.time_ns()
        self._objects[object_id] = Remembered(size_bytes=size_bytes, read_ns=now, name=name, verified_ns=now)
        self._changed.add(object_id)
        self._has_new = True

    def rescan(self) -> None:
        """Look what the disk holds after it was away: nothing on it is believed unread."""
        known = self._objects
        found = self._index.rebuild(known, believed=False)
        for one in found.values():
            one.verified = False
        self._take_up(found)
        self._changed |= found.keys()
        self._gone |= known.keys() - found.keys()
        self.used_bytes = sum(charged(one.size_bytes) for one in self._objects.values()) + self.lingering.size_bytes
        self._drop_unknown()
        self.quarantine.load()
