"""Several pieces of work at once, all or none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")


async def each(func: Callable[[T], Awaitable[None]], work: Sequence[T]) -> None:
    """Run ``func`` for all of ``work`` side by side; the first error ends the rest and is raised bare."""
    failed: list[Exception] = []

    async def one(item: T) -> None:
        try:
            await func(item)
        except Exception as exc:
            failed.append(exc)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for item in work:
            nursery.start_soon(one, item)
    if failed:
        raise failed[0]
