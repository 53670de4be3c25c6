"""The background scrub: every object is read again once in a while, slowly, before anybody needs it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable

import trio

from pantry.daemon.cache.index import Remembered
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.verifying import Verdict

LOOK_S = 60.0
"""How long to wait for the next look when nothing is due, in seconds, at most."""

log = logging.getLogger(__name__)

Refetch = Callable[[ObjectId, Remembered], Awaitable[None]]
"""Fetches a damaged object again, by what is known of it, if that is worth it."""


class Scrub:
    """Goes over all objects, those that were not verified for longest first.

    Parameters
    ----------
    cache : ObjectCache
        With the rate and the interval in its configuration.
    refetch : Refetch
        Called for each object that was damaged and whose origin is known.

    Attributes
    ----------
    due : int
        Objects that were not verified within the interval, when that was last looked at.
    """

    def __init__(self, cache: ObjectCache, refetch: Refetch) -> None:
        self._cache = cache
        self._refetch = refetch
        self.due = 0

    async def run(self) -> None:
        """Scrub for ever; returns at once if the configuration turns it off."""
        rate = self._cache.config.scrub_bytes_per_s
        if not rate:
            return
        while True:
            for object_id in self.find_due():
                await self.scrub_one(object_id, rate)
            await trio.sleep(min(LOOK_S, self._cache.config.scrub_interval_s))

    def find_due(self) -> list[ObjectId]:
        """Return what was not verified within the interval, longest first."""
        before = time.time_ns() - int(self._cache.config.scrub_interval_s * 1e9)
        due = sorted((one.verified_ns, key) for key, one in self._cache.items() if one.verified_ns <= before)
        self.due = len(due)
        return [key for _, key in due]

    async def scrub_one(self, object_id: ObjectId, bytes_per_s: int) -> None:
        """Verify one object, and have it fetched again if it is damaged."""
        entry = self._cache.entry(object_id)
        if entry is None or not self._cache.disk.usable:
            return
        try:
            verdict = await self._cache.verifier.verify(object_id, bytes_per_s=bytes_per_s)
        except OSError as exc:
            self._cache.disk.failed(exc)
            return
        finally:
            self.due -= 1
        if verdict is Verdict.DAMAGED and entry.repository:
            await self._refetch(object_id, entry)
