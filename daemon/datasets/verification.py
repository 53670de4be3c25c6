"""Reading cached objects again because somebody asked, and fetching anew what is damaged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence

import trio

from pantry.daemon.cache.index import Remembered
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.verifying import Verdict
from pantry.errors import PantryError
from pantry.wire.operations import DamagedObject, VerifyProgress

AT_ONCE = 2
"""Objects of one request that are read at the same time: hashing is as fast as the disk."""

TELL_EVERY_S = 0.1

Refetch = Callable[[ObjectId, Remembered], Awaitable[None]]
"""Fetches an object again, by what is known of it."""

Emit = Callable[[VerifyProgress], Awaitable[None]]


class VerificationRun:
    """One request's objects, and how far they are.

    Parameters
    ----------
    cache : ObjectCache
        That holds them.
    chosen : sequence of ObjectId
        Which; those that are not complete in the cache when their turn comes are passed over.
    refetch : Refetch or None
        Called for those that are damaged.
    """

    def __init__(self, cache: ObjectCache, chosen: Sequence[ObjectId], refetch: Refetch | None) -> None:
        self._cache = cache
        self._chosen = chosen
        self._refetch = refetch
        entries = [cache.entry(one) for one in chosen]
        self._bytes_total = sum(one.size_bytes for one in entries if one is not None)
        self._objects_done = self._bytes_done = self._damaged_objects = self._fetched_objects = 0
        self._damaged: list[DamagedObject] = []

    async def run(self, emit: Emit) -> None:
        """Read everything; what is damaged does not stop the others."""
        told = trio.current_time()
        await emit(self._progress())
        left = iter(self._chosen)
        send, receive = trio.open_memory_channel[None](0)
        async with trio.open_nursery() as working:
            for _ in range(min(AT_ONCE, len(self._chosen))):
                working.start_soon(self._work, left, send.clone())
            send.close()
            async for _ in receive:
                if trio.current_time() >= told + TELL_EVERY_S:
                    told = trio.current_time()
                    await emit(self._progress())
        await emit(self._progress())

    async def _work(self, left: Iterator[ObjectId], done: trio.MemorySendChannel[None]) -> None:
        async with done:
            for one in left:
                await self._verify(one)
                await done.send(None)

    async def _verify(self, object_id: ObjectId) -> None:
        entry = self._cache.entry(object_id)
        size = entry.size_bytes if entry is not None else 0
        try:
            verdict = await self._cache.verifier.verify(object_id)
        except OSError as exc:
            raise self._cache.disk.failed(exc) from exc
        self._objects_done += 1
        self._bytes_done += size
        if verdict is not Verdict.DAMAGED or entry is None:
            return
        self._damaged_objects += 1
        fetched, problem = False, ""
        if self._refetch is not None:
            if not entry.repository:
                problem = "the cache does not know where it came from; the next read fetches it"
            else:
                try:
                    await self._refetch(object_id, entry)
                    fetched = True
                except PantryError as exc:
                    problem = exc.message
        self._fetched_objects += fetched
        self._damaged.append(DamagedObject(object_id.hash, entry.name, fetched, problem))

    def _progress(self) -> VerifyProgress:
        damaged, self._damaged = self._damaged, []
        return VerifyProgress(
            objects_done=self._objects_done,
            objects_total=len(self._chosen),
            bytes_done=self._bytes_done,
            bytes_total=self._bytes_total,
            damaged_objects=self._damaged_objects,
            fetched_objects=self._fetched_objects,
            damaged=tuple(damaged),
        )
