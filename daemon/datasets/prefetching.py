"""Fetching what a query finds into the cache, many files at once.

One request's files are fetched by `AT_ONCE` tasks of its own, so that ten thousand small files are not ten
thousand round trips one after the other; how many of them occupy threads is for `Admission` to say. What is
complete is leased until the request ends: fetching the last files never evicts the first ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import trio

from pantry.daemon.cache.account import charged
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.datasets.selecting import SelectedFile
from pantry.errors import CacheFullError, PantryError
from pantry.wire.operations import PrefetchFailure, PrefetchProgress

AT_ONCE = 32
"""Files of one request under way."""

TELL_EVERY_S = 0.1
"""Progress is told at most so often, in seconds."""

MOST_FAILURES = 100
"""Failures that are told one by one."""


class LeasingCache(Protocol):
    """The cache, as far as prefetching goes."""

    def __contains__(self, object_id: ObjectId) -> bool: ...

    def leased(self, object_id: ObjectId) -> AbstractContextManager[Any]:
        """Keep an object from being evicted."""
        ...


Fetch = Callable[[SelectedFile], Awaitable[bool]]
"""Makes a file complete in the cache; True if it was fetched now."""

Emit = Callable[[PrefetchProgress], Awaitable[None]]


def choose(
    cache: LeasingCache, files: Iterable[SelectedFile], *, room_bytes: int, partial: bool
) -> tuple[list[SelectedFile], list[SelectedFile]]:
    """Choose what fits: all or, with ``partial``, first what is there already, then the others in their order.

    Parameters
    ----------
    cache : LeasingCache
        Knows what is there.
    files : iterable of SelectedFile
        Distinct contents.
    room_bytes : int
        Most that they may take in the cache, with what is there already.
    partial : bool
        Leave out what does not fit.

    Returns
    -------
    list of SelectedFile, list of SelectedFile
        Those chosen and those left out.

    Raises
    ------
    CacheFullError
        They do not fit, and ``partial`` is False.
    """
    wanted = list(files)
    needed = sum(charged(one.file.size_bytes) for one in wanted)
    if needed <= room_bytes:
        return wanted, []
    if not partial:
        raise CacheFullError(
            f"these {len(wanted)} files need {needed} bytes; the cache has room for {max(room_bytes, 0)}",
            hint="ask for less, raise cache.quota_bytes, or take what fits (--partial)",
            needed_bytes=needed,
            room_bytes=max(room_bytes, 0),
        )
    chosen: list[SelectedFile] = []
    left_out: list[SelectedFile] = []
    for one in sorted(wanted, key=lambda one: one.object_id not in cache):
        if (taken := charged(one.file.size_bytes)) <= room_bytes:
            room_bytes -= taken
            chosen.append(one)
        else:
            left_out.append(one)
    return chosen, left_out


class PrefetchRun:
    """One request's files, and how far they are.

    Parameters
    ----------
    cache : LeasingCache
        Where they go.
    chosen, left_out : sequence of SelectedFile
        What `choose` said.
    gone : Mapping of str to PantryError
        Files that cannot be had, by name.
    """

    def __init__(
        self,
        cache: LeasingCache,
        chosen: Sequence[SelectedFile],
        left_out: Sequence[SelectedFile],
        gone: Mapping[str, PantryError] | None = None,
    ) -> None:
        self._cache = cache
        self._chosen = chosen
        self._left_out = left_out
        self._files_done = self._bytes_done = self._fetched_files = self._fetched_bytes = self._failed = 0
        self._failures: list[PrefetchFailure] = []
        for name, exc in (gone or {}).items():
            self._fail(name, exc)
        self._files_total = len(chosen) + self._failed
        self._files_done = self._failed
        self._bytes_total = sum(one.file.size_bytes for one in chosen)
        self._left_out_bytes = sum(one.file.size_bytes for one in left_out)
        self._changed = False
        self._ended = trio.Event()

    async def run(self, fetch: Fetch, emit: Emit) -> None:
        """Fetch everything; a file that fails does not stop the others."""
        try:
            await self._run(fetch, emit)
        except ExceptionGroup as group:
            # The peer that went away, or a defect: told as what it is, not as a group of one.
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise first from group

    async def _run(self, fetch: Fetch, emit: Emit) -> None:
        await emit(self._progress())
        with contextlib.ExitStack() as leases:
            async with trio.open_nursery() as telling:
                telling.start_soon(self._tell, emit)
                async with trio.open_nursery() as working:
                    left = iter(self._chosen)
                    for _ in range(min(AT_ONCE, len(self._chosen))):
                        working.start_soon(self._work, left, fetch, leases)
                self._ended.set()
        await emit(self._progress())

    async def _work(self, left: Iterator[SelectedFile], fetch: Fetch, leases: contextlib.ExitStack) -> None:
        # All workers take from one iterator; there is no await between two of its steps.
        for one in left:
            try:
                leases.enter_context(self._cache.leased(one.object_id))
                fetched = await fetch(one)
            except PantryError as exc:
                self._fail(one.name, exc)
            else:
                self._bytes_done += one.file.size_bytes
                self._fetched_files += fetched
                self._fetched_bytes += one.file.size_bytes if fetched else 0
            self._files_done += 1
            self._changed = True

    def _fail(self, name: str, exc: PantryError) -> None:
        self._failed += 1
        if self._failed <= MOST_FAILURES:
            self._failures.append(PrefetchFailure(name, exc.code, exc.message))

    async def _tell(self, emit: Emit) -> None:
        while not self._ended.is_set():
            with trio.move_on_after(TELL_EVERY_S):
                await self._ended.wait()
                return
            if self._changed:
                self._changed = False
                # Cancelled only with the whole request, so that no failure is lost on the way.
                await emit(self._progress())

    def _progress(self) -> PrefetchProgress:
        failures, self._failures = self._failures, []
        return PrefetchProgress(
            files_done=self._files_done,
            files_total=self._files_total,
            bytes_done=self._bytes_done,
            bytes_total=self._bytes_total,
            fetched_files=self._fetched_files,
            fetched_bytes=self._fetched_bytes,
            left_out_files=len(self._left_out),
            left_out_bytes=self._left_out_bytes,
            failed_files=self._failed,
            failures=tuple(failures),
        )
