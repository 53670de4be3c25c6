"""Reading a directory from any position, without holding more of it than two pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import trio

from pantry.fusefs.tree import Entry

Pages = AsyncGenerator[list[Entry], None]


class DirectoryReader:
    """One open directory.

    Positions count entries from the start of the listing. Reading goes forwards; who seeks backwards, beyond
    the page before the current one, causes a new listing.

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
        self._lock = trio.Lock()

    async def entries_from(self, position: int) -> list[Entry]:
        """Return some entries from ``position`` on; none at the end.

        An error ends the listing, so that it is never taken for complete: the next call begins it anew.
        """
        async with self._lock:
            try:
                if self._pages is None or position < self._start or position == 0:
                    await self._restart()
                while True:
                    start = self._start
                    for page in self._kept:
                        if position < start + len(page):
                            return page[position - start :]
                        start += len(page)
                    if self._at_end:
                        return []
                    await self._advance()
            except BaseException:
                await self._drop()
                raise

    async def close(self) -> None:
        """End the listing."""
        await self._drop()

    async def _advance(self) -> None:
        assert self._pages is not None  # noqa: S101 - `entries_from` restarted it
        try:
            page = await anext(self._pages)
        except StopAsyncIteration:
            self._at_end = True
            return
        if len(self._kept) > 1:
            self._start += len(self._kept.pop(0))
        self._kept.append(page)

    async def _restart(self) -> None:
        await self._drop()
        self._pages = self._list_again()

    async def _drop(self) -> None:
        pages, self._pages = self._pages, None
        self._kept, self._start, self._at_end = [], 0, False
        if pages is not None:
            with trio.CancelScope(shield=True):
                await pages.aclose()
