"""What the file system of the cache keeps free for others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pantry.daemon.cache.disk import Room

if TYPE_CHECKING:
    from pantry.daemon.cache.objects import ObjectCache

ROOM_S = 0.25
"""How long the file system's own figures are believed while there is plenty, in seconds."""

PLENTY_BYTES = 256 * 1024 * 1024
PLENTY_INODES = 10_000


class Floors:
    """Keeps the floors of a cache's file system, evicting if need be.

    Parameters
    ----------
    cache : ObjectCache
        Whose disk it is, and which evicts.
    """

    def __init__(self, cache: ObjectCache) -> None:
        self._cache = cache
        self._room = Room(0, 0)
        self._room_until = 0.0

    def look_again(self) -> None:
        """Believe no earlier figures."""
        self._room_until = 0.0

    def keep(self, size_bytes: int, files: int) -> None:
        """See that the file system keeps what it has to keep free, also when all that is promised is written.

        Parameters
        ----------
        size_bytes, files : int
            What shall be written besides.

        Raises
        ------
        CacheDiskError
            It cannot take that.
        """
        cache = self._cache
        now = time.monotonic()
        room = self._room
        if now > self._room_until or room.free_bytes < PLENTY_BYTES or room.free_inodes < PLENTY_INODES:
            room = cache.disk.room()
            room = room._replace(free_bytes=room.free_bytes - cache.reserved_bytes)
            self._room_until = now + ROOM_S
        if room.free_bytes < size_bytes or room.free_inodes < files:
            cache.evict(size_bytes - room.free_bytes, files=files - room.free_inodes)
            room = cache.disk.room()
            room = room._replace(free_bytes=room.free_bytes - cache.reserved_bytes)
            if room.free_inodes < files:
                raise cache.disk.is_full(f"no inodes are left above the floor of {cache.config.keep_free_inodes}")
            if room.free_bytes < size_bytes:
                raise cache.disk.is_full(
                    f"no {size_bytes} bytes are free above the floor of {cache.config.keep_free_bytes}"
                )
        self._room = Room(room.free_bytes - size_bytes, room.free_inodes - files)
