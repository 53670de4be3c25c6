"""Streams of batches from blocking iterators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import trio

from pantry.backends.admission import Admission
from pantry.daemon.server.context import RequestContext


async def stream(context: RequestContext, queries: Admission, begin: Callable[[], Iterator[Any]]) -> None:
    """Emit what a blocking iterator gives, one batch per thread call, and close it however this ends.

    A slow reader holds the iterator's transaction, never a thread.
    """
    batches = await queries.call(begin)
    try:
        while (batch := await queries.call(partial(next, batches, None))) is not None:
            await context.emit(batch)
    finally:
        if (close := getattr(batches, "close", None)) is not None:
            with trio.CancelScope(shield=True):
                await queries.call(close)
