"""What ``df`` shows: the cache."""

from __future__ import annotations

import trio

from pantry.errors import PantryError
from pantry.fusefs.expiring import ExpiringMap
from pantry.fusefs.kernel.filesystem import Space
from pantry.fusefs.link import DaemonLink
from pantry.wire.operations import CacheStatus, GetCacheStatus

_BLOCK_BYTES = 4096
_PATIENT_S = 1.0
"""``df`` shows all file systems, and none should wait for this one's daemon."""


class Statistics:
    """The size of the cache, how much of it is free, and how many objects it holds."""

    def __init__(self, link: DaemonLink, *, lifetime_s: float = 2.0) -> None:
        self._link = link
        self._kept: ExpiringMap[None, CacheStatus] = ExpiringMap(lifetime_s)

    async def get(self) -> Space:
        """Return it; zeros if the daemon does not answer, since ``df`` of other file systems must go on."""
        try:
            with trio.fail_after(_PATIENT_S):
                status = await self._kept.get(None, lambda: self._link.call(GetCacheStatus(), None))
        except (PantryError, trio.TooSlowError):
            return Space(_BLOCK_BYTES, 0, 0, 0)
        free = max(status.quota_bytes - status.used_bytes - status.reserved_bytes, 0) // _BLOCK_BYTES
        files = status.objects + status.partial_objects
        return Space(_BLOCK_BYTES, status.quota_bytes // _BLOCK_BYTES, free, files)
