"""What ``df`` shows: the cache."""

from __future__ import annotations

import pyfuse3

from pantry.errors import PantryError
from pantry.fusefs.expiring import ExpiringMap
from pantry.fusefs.link import DaemonLink
from pantry.wire.operations import CacheStatus, GetCacheStatus

_BLOCK_BYTES = 4096
_MOST_NAME_BYTES = 255


class Statistics:
    """The size of the cache, how much of it is free, and how many objects it holds."""

    def __init__(self, link: DaemonLink, *, lifetime_s: float = 2.0) -> None:
        self._link = link
        self._kept: ExpiringMap[None, CacheStatus] = ExpiringMap(lifetime_s)

    async def get(self) -> pyfuse3.StatvfsData:
        """Return it; zeros if the daemon does not answer, since ``df`` of other file systems must go on."""
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = _BLOCK_BYTES
        data.f_namemax = _MOST_NAME_BYTES
        try:
            status = await self._kept.get(None, lambda: self._link.call(GetCacheStatus(), None))
        except PantryError:
            return data
        data.f_blocks = status.quota_bytes // _BLOCK_BYTES
        free = max(status.quota_bytes - status.used_bytes - status.reserved_bytes, 0) // _BLOCK_BYTES
        data.f_bfree = data.f_bavail = free
        data.f_files = status.objects + status.partial_objects
        return data
