"""Where the bytes of an object in the making lie: on the cache's disk, or in memory if it cannot take them."""

from __future__ import annotations

import contextlib
import os
from typing import Protocol

from pantry.daemon.cache.account import Account, Reservation, charged
from pantry.daemon.cache.memory import MemoryStore
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.record import ChunkRecord, Description
from pantry.errors import CacheDiskError, CacheFullError, PantryError, StaleHandleError

RECORD_SUFFIX = ".chunks"


class Backing(Protocol):
    """A sparse file; calls that fail raise a `PantryError` that the reader may see.

    Attributes
    ----------
    account : Account
        Where its bytes are counted.
    record : ChunkRecord or None
        The durable map of its chunks.
    fd : int
        Open for reading and writing; -1 while nobody uses it.
    """

    account: Account
    record: ChunkRecord | None
    fd: int

    def open(self) -> None:
        """Open the files, if they are not open."""

    def close(self) -> None:
        """Close the files; nobody uses them."""

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise room for bytes to come."""

    def failed(self, exc: OSError) -> PantryError:
        """Return the error for what could not be written or read."""

    def publish(self, object_id: ObjectId, size_bytes: int, name: str) -> None:
        """Make the verified file a complete object; descriptors stay valid."""

    def discard(self, stored_bytes: int) -> None:
        """Remove it; bytes stay counted while a reader has them open."""


class DiskBacking:
    """A file in ``incoming/`` of the cache, with its record if it has more than one chunk."""

    def __init__(self, cache: ObjectCache, path: str) -> None:
        self._cache = cache
        self.account: Account = cache
        self.path = path
        self.record: ChunkRecord | None = None
        self.fd = -1

    @classmethod
    def begin(cls, cache: ObjectCache, path: str, size_bytes: int, description: Description | None) -> DiskBacking:
        """Make the files; with ``description`` a record too.

        Raises
        ------
        CacheDiskError
            The disk does not take them.
        """
        made = cls(cache, path)
        cache.make_room_for_files(2)
        with cache.disk.watched():
            try:
                # Somebody may still have an older file of this name open, that could not be removed then.
                made._unlink()
                made.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
                os.ftruncate(made.fd, size_bytes)
                if description is not None:
                    made.record = ChunkRecord.create(path + RECORD_SUFFIX, description)
            except OSError:
                made.close()
                with contextlib.suppress(OSError):
                    made._unlink()
                raise
        return made

    def open(self) -> None:
        """Open the files of an object that an earlier run left."""
        if self.fd < 0:
            with self._cache.disk.watched():
                self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                if self.record is not None:
                    self.record.open()

    def close(self) -> None:
        """Close the files."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self.record is not None:
            self.record.close()

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise room on the disk."""
        try:
            return self._cache.reserve(size_bytes)
        except (CacheFullError, CacheDiskError) as exc:
            raise _stale(exc) from None

    def failed(self, exc: OSError) -> PantryError:
        """Let the disk's state follow what it did."""
        found = self._cache.disk.failed(exc)
        return _stale(found) if isinstance(found, CacheDiskError) else found

    def publish(self, object_id: ObjectId, size_bytes: int, name: str) -> None:
        """Rename the file into the tree of complete objects."""
        try:
            self._cache.publish(self.path, object_id, size_bytes, name=name)
            self._unlink_record()
        except OSError as exc:
            raise self.failed(exc) from exc

    def discard(self, stored_bytes: int) -> None:
        """Remove the files' names."""
        try:
            self._cache.lingering.unlink(self.path, stored_bytes)
            self._unlink_record()
        except OSError as exc:
            # The state of the disk is known now; what is on it is counted again when it recovers.
            self._cache.disk.failed(exc)
            self.account.used_bytes -= stored_bytes

    def _unlink(self) -> None:
        self._unlink_record()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def _unlink_record(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path + RECORD_SUFFIX)


class MemoryBacking:
    """An anonymous file in memory."""

    def __init__(self, store: MemoryStore, size_bytes: int) -> None:
        self._store = store
        self.account: Account = store
        self.record: ChunkRecord | None = None
        self.fd = os.memfd_create("pantry-uncached", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # So that readers of other users cannot open it again for writing before it is sealed.
        os.fchmod(self.fd, 0o400)
        os.ftruncate(self.fd, size_bytes)
        self._kept = False

    def open(self) -> None:
        """Nothing: it is open as long as it exists."""

    def close(self) -> None:
        """Nothing; `discard` and `publish` close it."""

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise memory."""
        return self._store.reserve(size_bytes)

    def failed(self, exc: OSError) -> PantryError:
        """Return the error for memory that could not be had."""
        return CacheFullError(f"there is no memory for reading uncached: {exc.strerror}")

    def publish(self, object_id: ObjectId, size_bytes: int, name: str) -> None:
        """Seal it, and let later readers find it."""
        self._store.keep(object_id, self.fd, charged(size_bytes))
        self._close()

    def discard(self, stored_bytes: int) -> None:
        """Let it go when its readers do."""
        self._store.leave(self.fd, stored_bytes)
        self._close()
        self._store.settle()

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1


def _stale(exc: PantryError) -> StaleHandleError:
    return StaleHandleError(exc.message, hint=f"open the file anew to read it uncached; {exc.hint}")
