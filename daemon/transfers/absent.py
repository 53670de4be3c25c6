"""Keys of which an origin said, a short while ago, that it has no such object."""

from __future__ import annotations

import trio

MAX_KEYS = 10_000
"""Most keys that are remembered for one origin."""


class AbsentKeys:
    """Negative answers of one origin; the oldest go first.

    Parameters
    ----------
    ttl_s : float
        How long an answer holds, in seconds; 0 for not at all.
    max_keys : int
        Most that are remembered.

    Attributes
    ----------
    writes : int
        Counts the calls of `forget`: an answer that was under way in one is not remembered.
    """

    def __init__(self, ttl_s: float, *, max_keys: int = MAX_KEYS) -> None:
        self.writes = 0
        self._ttl_s = ttl_s
        self._max_keys = max_keys
        self._until: dict[str, float] = {}

    def __contains__(self, key: str) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if trio.current_time() < until:
            return True
        del self._until[key]
        return False

    def __len__(self) -> int:
        return len(self._until)

    def remember(self, key: str, *, asked_at: int) -> None:
        """Note that the origin has no ``key``; ``asked_at`` is what `writes` was when it was asked."""
        if asked_at != self.writes or self._ttl_s <= 0:
            return
        self._until.pop(key, None)
        if len(self._until) >= self._max_keys:
            del self._until[next(iter(self._until))]
        self._until[key] = trio.current_time() + self._ttl_s

    def forget(self, key: str) -> None:
        """Ask for ``key`` again when it is wanted: it was written."""
        self.writes += 1
        self._until.pop(key, None)
