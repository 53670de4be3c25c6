"""Streams of batches from blocking iterators."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from pantry.backends.admission import Admission
from pantry.daemon.server.context import RequestContext
from pantry.errors import LimitExceededError

PLACE_TIMEOUT_S = 30.0
"""How long a stream waits for its user's other ones to end."""
VISIT_S = 0.002
"""How long a thread goes on to take batches of a stream, in seconds, before they are sent."""


class StreamPlaces:
    """Places for streams under way, so many for each user: a stream holds a registry's connection.

    Parameters
    ----------
    per_user : int
        Streams of one Unix user under way; further ones wait for their own user's to end.
    """

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._users: dict[int, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def place(self, uid: int) -> AsyncIterator[None]:
        """Hold a place; `LimitExceededError` if none becomes free in `PLACE_TIMEOUT_S`."""
        places = self._users.setdefault(uid, trio.CapacityLimiter(self._per_user))
        borrower = object()
        with trio.move_on_after(PLACE_TIMEOUT_S) as waiting:
            await places.acquire_on_behalf_of(borrower)
        if waiting.cancelled_caught:
            raise LimitExceededError(
                f"uid {uid} has {self._per_user} query results under way that nobody reads",
                hint="read them to the end, or end the programs that do not",
            )
        try:
            yield
        finally:
            places.release_on_behalf_of(borrower)
            if not places.borrowed_tokens and not places.statistics().tasks_waiting:
                self._users.pop(uid, None)


async def stream(
    context: RequestContext, places: StreamPlaces, queries: Admission, begin: Callable[[], Iterator[Any]]
) -> None:
    """Emit what a blocking iterator gives, some batches per thread call, and close it however this ends.

    A slow reader holds a place of its user's and the iterator's transaction, never a thread.
    """
    async with places.place(context.caller.uid):
        await _emit_all(context, queries, begin)


async def _emit_all(context: RequestContext, queries: Admission, begin: Callable[[], Iterator[Any]]) -> None:
    visits = _Visits(begin)
    try:
        while not visits.ended:
            for batch in await queries.call(visits.take):
                await context.emit(batch)
    finally:
        if not visits.ended:
            with trio.CancelScope(shield=True):
                await queries.call(visits.close)


class _Visits:
    """A blocking iterator, taken on by visits to worker threads, one at a time."""

    def __init__(self, begin: Callable[[], Iterator[Any]]) -> None:
        self.ended = False
        self._begin = begin
        self._batches: Iterator[Any] | None = None

    def take(self) -> list[Any]:
        """Give the next batch, and more if they come at once: a short answer needs one visit in all."""
        if self._batches is None:
            self._batches = self._begin()
        taken: list[Any] = []
        until = time.monotonic() + VISIT_S
        while not taken or time.monotonic() < until:
            batch = next(self._batches, None)
            if batch is None:
                self.ended = True
                break
            taken.append(batch)
        return taken

    def close(self) -> None:
        """Give up what was begun."""
        self.ended = True
        if (close := getattr(self._batches, "close", None)) is not None:
            close()
