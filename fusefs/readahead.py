"""Which part of an incomplete file is there, and how much to fetch ahead of a reader."""

from __future__ import annotations

import bisect

MIB = 1 << 20


class RangeSet:
    """A set of positions as disjoint ranges ``[start, stop)``, in bytes."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def add(self, start: int, stop: int) -> None:
        """Add one range; it may overlap others."""
        if start >= stop:
            return
        first = bisect.bisect_left(self._stops, start)
        last = bisect.bisect_right(self._starts, stop)
        if first < last:
            start = min(start, self._starts[first])
            stop = max(stop, self._stops[last - 1])
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]

    def stop_from(self, position: int) -> int:
        """Return where the range that holds ``position`` stops; ``position`` itself if none does."""
        index = bisect.bisect_right(self._starts, position) - 1
        return max(position, self._stops[index]) if index >= 0 else position

    def covers(self, start: int, stop: int) -> bool:
        """Whether all of ``[start, stop)`` is there."""
        return self.stop_from(start) >= stop

    def clear(self) -> None:
        """Remove everything."""
        self._starts.clear()
        self._stops.clear()


class ReadAhead:
    """Decides how far to fetch ahead: nothing for random readers, more and more for sequential ones.

    Parameters
    ----------
    first_bytes, most_bytes : int
        Where the window begins, and how far it grows.
    slack_bytes : int
        The kernel sends the reads of one reader out of order, at most so far apart.
    """

    def __init__(self, *, first_bytes: int = MIB, most_bytes: int = 32 * MIB, slack_bytes: int = 2 * MIB) -> None:
        self._first = first_bytes
        self._most = most_bytes
        self._slack = slack_bytes
        self._next: int | None = None
        self.window_bytes = 0

    def note(self, start: int, stop: int) -> None:
        """Take note of a read of ``[start, stop)``."""
        if self._next is None:
            self._next = stop
            return
        if abs(start - self._next) <= self._slack:
            self._next = max(self._next, stop)
            if not self.window_bytes:
                self.window_bytes = self._first
        else:
            self._next = stop
            self.window_bytes = 0

    def grow(self) -> None:
        """Take note that a window was fetched and the reader came on."""
        self.window_bytes = min(2 * self.window_bytes, self._most)
