"""What one storage may take of the node's threads, so that one that hangs leaves the rest to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import trio

from pantry.backends.admission import Admission
from pantry.errors import OriginUnavailableError

T = TypeVar("T")

MOST_CALLS = 8
"""Calls to one storage at once, of all users."""

SILENT_S = 30.0
"""If no call ends for so long, nobody waits for one any more, in seconds."""


class Share:
    """Lets at most so many calls to one storage at once into the turns of an `Admission`.

    Parameters
    ----------
    location : str
        Of the storage, for people.
    admission : Admission
        Gives the turns.
    most : int
        Calls at once.
    silent_s : float
        Longest time in which no call ends, in seconds, before further ones are refused.
    """

    def __init__(
        self, location: str, admission: Admission, *, most: int = MOST_CALLS, silent_s: float = SILENT_S
    ) -> None:
        self._location = location
        self._admission = admission
        self._places = trio.CapacityLimiter(most)
        self._silent_s = silent_s
        self._ended_s = 0.0

    async def call(self, func: Callable[[], T]) -> T:
        """Do what `Admission.call` does; who has a turn needs no place.

        Raises
        ------
        OriginUnavailableError
            All places are taken, and no call has ended for too long.
        """
        if self._admission.held is not None:
            return await self._admission.call(func)
        # A call of its own borrows, since one task may make several at once.
        borrower = object()
        await self._enter(borrower)
        try:
            return await self._admission.call(func)
        finally:
            self._ended_s = trio.current_time()
            self._places.release_on_behalf_of(borrower)

    async def _enter(self, borrower: object) -> None:
        if not self._places.borrowed_tokens:
            self._ended_s = trio.current_time()  # nothing was asked: that it was silent says nothing
        while True:
            with trio.move_on_at(self._ended_s + self._silent_s):
                await self._places.acquire_on_behalf_of(borrower)
                return
            if trio.current_time() >= self._ended_s + self._silent_s:
                raise OriginUnavailableError(
                    f"{self._location} does not answer: {int(self._places.total_tokens)} calls to it have been "
                    f"under way for {self._silent_s:.0f} s",
                    hint="the file system hangs, perhaps; what is complete in the cache can be read",
                )
