"""Answers of the daemon, kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

K = TypeVar("K")
V = TypeVar("V")


class ExpiringMap(Generic[K, V]):
    """A mapping whose values are fetched when asked for, and forgotten after a time.

    Only one task fetches a value at a time; the others wait for it. An error is not kept: those who
    waited try for themselves, each in its own right.

    Parameters
    ----------
    lifetime_s : float
        How long a value is kept. One that took long to fetch is kept ten times as long as that took,
        so that a slow daemon is not asked without end.
    most : int
        Values kept; those not used for longest go first.
    """

    def __init__(self, lifetime_s: float, *, most: int = 4096) -> None:
        self._lifetime_s = lifetime_s
        self._most = most
        self._values: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._flights: dict[K, trio.Event] = {}

    def at_once(self, key: K) -> V | None:
        """Return the value of ``key`` if it is there and not too old."""
        kept = self._values.get(key)
        if kept is None or trio.current_time() >= kept[0]:
            return None
        self._values.move_to_end(key)
        return kept[1]

    async def get(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        """Return the value of ``key``, fetched if it is not there or too old."""
        while True:
            # No await between the miss and the claim in `_fetch`: check and claim are one step.
            kept = self.at_once(key)
            if kept is not None:
                return kept
            flight = self._flights.get(key)
            if flight is None:
                return await self._fetch(key, fetch)
            await flight.wait()

    async def _fetch(self, key: K, fetch: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights[key] = trio.Event()
        begun = trio.current_time()
        try:
            value = await fetch()
            now = trio.current_time()
            self._values[key] = (now + max(self._lifetime_s, 10 * (now - begun)), value)
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
            return value
        except BaseException:
            self._values.pop(key, None)
            raise
        finally:
            # On cancellation too: a waiter wakes, looks again, and fetches for itself.
            del self._flights[key]
            flight.set()

    def forget(self, key: K) -> None:
        """Forget one value."""
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
