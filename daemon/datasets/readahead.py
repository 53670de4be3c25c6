"""How far to fetch ahead of one reader of an incomplete file: as far as it has read without a jump."""

from __future__ import annotations

MIB = 1 << 20


class ReadAhead:
    """The window ahead of one reader; sizes in bytes.

    It opens when `first_reads` requests of together `first_bytes` followed one another without a gap. So headers,
    tiles, and whatever is read by one large request (a column, an array) never open it: who asks for so much
    at once knows what he wants. It is as long as what was read since the last jump, and closes with the next one.

    Parameters
    ----------
    size_bytes : int
        Length of the file.
    first_bytes, first_reads, most_bytes : int
        When it opens, and how long it gets.
    """

    def __init__(
        self, size_bytes: int, *, first_bytes: int = 2 * MIB, first_reads: int = 4, most_bytes: int = 32 * MIB
    ) -> None:
        self._size = size_bytes
        self._first = first_bytes
        self._first_reads = first_reads
        self._reads = 0
        self._most = most_bytes
        self._begun = 0
        self._next = 0
        self._until = 0

    def jumps(self, start: int) -> bool:
        """Whether a read at ``start`` does not go on where the last one ended."""
        return start != self._next

    def note(self, start: int, stop: int) -> tuple[int, int]:
        """Take note of a read of ``[start, stop)``; return what to fetch ahead now, an empty range for nothing.

        The next window is asked for when half of the last one was read.
        """
        if self.jumps(start):
            self._begun, self._until, self._reads = start, stop, 0
        self._next = stop
        self._reads += 1
        self._until = max(self._until, stop)
        window = min(stop - self._begun, self._most)
        if self._reads < self._first_reads or stop - self._begun < self._first or self._until - stop > window // 2:
            return (stop, stop)
        begin, self._until = self._until, min(stop + window, self._size)
        return (begin, max(begin, self._until))
