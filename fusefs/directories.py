"""Reading a directory from any position, without holding more of it than two pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import trio

from pantry.errors import DaemonUnavailableError
from pantry.fusefs.tree import Entry

_MOST_BROKEN = 2
"""How often the listing of one request may break before the reader is told."""

Pages = AsyncGenerator[list[Entry], None]


class DirectoryReader:
    """One open directory.

    Positions count entries from the start of the listing. Reading goes forwards; who seeks backwards, beyond
    the page before the current one, causes a new listing, and so does who goes on after `park`.

    Parameters
    ----------
    list_again : callable
        Begins a listing.
    """

    def __init__(self, list_again: Callable[[], Pages]) -> None:
        self._list_again = list_again
        self._pages: Pages | None = None
        self._kept: list[list[Entry]] = []
        self._start = 0
        self._at_end = False
        self._used_at = 0.0
        self._lock = trio.Lock()

    async def entries_from(self, position: int) -> list[Entry]:
        """Return some entries from ``position`` on; none at the end.

        An error ends the listing, so that it is never taken for complete: the next call begins it anew.
        """
        async with self._lock:
            self._used_at = trio.current_time()
            try:
                if position == 0 or position < self._start:
                    await self._drop()
                broken = 0
                while True:
                    if entries := self._kept_from(position):
                        return entries
                    if self._at_end:
                        return []
                    try:
                        await self._advance()
                    except DaemonUnavailableError:
                        # A daemon that was started anew lists anew; whoever reads need not know.
                        broken += 1
                        if broken > _MOST_BROKEN:
                            raise
                        await self._drop()
            except BaseException:
                await self._drop()
                raise

    async def park(self, idle_s: float) -> None:
        """Stop the listing if nobody read for so long: it holds a transaction and a place in the daemon."""
        if not self._lock.locked() and trio.current_time() - self._used_at > idle_s:
            await self._stop()

    async def close(self) -> None:
        """End the listing."""
        await self._drop()

    def _kept_from(self, position: int) -> list[Entry]:
        start = self._start
        for page in self._kept:
            if position < start + len(page):
                return page[position - start :]
            start += len(page)
        return []

    async def _advance(self) -> None:
        if self._pages is None:
            # From the beginning again, past what was read already.
            self._kept, self._start = [], 0
            self._pages = self._list_again()
        try:
            page = await anext(self._pages)
        except StopAsyncIteration:
            self._at_end = True
            return
        if len(self._kept) > 1:
            self._start += len(self._kept.pop(0))
        self._kept.append(page)

    async def _drop(self) -> None:
        self._kept, self._start, self._at_end = [], 0, False
        await self._stop()

    async def _stop(self) -> None:
        pages, self._pages = self._pages, None
        if pages is not None:
            with trio.CancelScope(shield=True):
                await pages.aclose()
