"""What the disk cannot take is read through memory: bounded, shared by all readers, given back when they are gone.

The files are anonymous (memfd). A reader gets a descriptor of its own that can only be read, and a
complete file is sealed besides. Bytes stay counted as long as anybody has the file open.
"""

from __future__ import annotations

import fcntl
import os
from typing import NamedTuple

from pantry.daemon.cache.account import Account, Reservation
from pantry.daemon.cache.leases import is_open_elsewhere
from pantry.daemon.cache.object_id import ObjectId
from pantry.errors import CacheFullError

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class _Held(NamedTuple):
    fd: int
    size_bytes: int


class MemoryStore(Account):
    """Complete objects in memory, and the account of those in the making.

    Parameters
    ----------
    limit_bytes : int
        Most that all of them may take (``cache.uncached_bytes``).
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._objects: dict[ObjectId, _Held] = {}
        self._left: list[_Held] = []

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self._objects

    def reserve(self, size_bytes: int) -> Reservation:
        """Promise memory.

        Raises
        ------
        CacheFullError
            There is not so much.
        """
        if self.used_bytes + self.reserved_bytes + size_bytes > self.limit_bytes:
            self.settle()
        if self.used_bytes + self.reserved_bytes + size_bytes > self.limit_bytes:
            raise CacheFullError(
                f"the cache cannot take {size_bytes} bytes, and memory for reading uncached has no room for them",
                hint="make room on the cache's disk or raise cache.quota_bytes (`pantry cache status` tells which);"
                " cache.uncached_bytes is the memory",
                needed_bytes=size_bytes,
                used_bytes=self.used_bytes,
                reserved_bytes=self.reserved_bytes,
            )
        return Reservation(self, size_bytes)

    def keep(self, object_id: ObjectId, fd: int, size_bytes: int) -> None:
        """Take over a verified file, whose bytes are counted as used; ``fd`` stays the caller's."""
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        if object_id in self._objects:
            self.leave(fd, size_bytes)
            return
        self._objects[object_id] = _Held(reopen(fd), size_bytes)

    def leave(self, fd: int, size_bytes: int) -> None:
        """Count the bytes of a file that was given up until its readers are gone; ``fd`` stays the caller's."""
        self._left.append(_Held(reopen(fd), size_bytes))

    def open(self, object_id: ObjectId) -> int | None:
        """Open a complete object; None if it is not there."""
        held = self._objects.get(object_id)
        return None if held is None else reopen(held.fd)

    def forget(self, object_id: ObjectId) -> None:
        """Give a complete object to nobody else; whoever has it open keeps it."""
        if (held := self._objects.pop(object_id, None)) is not None:
            self._left.append(held)

    def settle(self) -> None:
        """Drop what nobody has open."""
        for object_id, held in list(self._objects.items()):
            if not is_open_elsewhere(held.fd):
                del self._objects[object_id]
                self._drop(held)
        for held in list(self._left):
            if not is_open_elsewhere(held.fd):
                self._left.remove(held)
                self._drop(held)

    def _drop(self, held: _Held) -> None:
        os.close(held.fd)
        self.used_bytes -= held.size_bytes

    def close(self) -> None:
        """Give up the daemon's descriptors."""
        for held in [*self._objects.values(), *self._left]:
            self._drop(held)
        self._objects.clear()
        self._left.clear()


def reopen(fd: int) -> int:
    """Open the file of ``fd`` once more, for reading only."""
    return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
