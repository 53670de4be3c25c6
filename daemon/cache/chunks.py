"""Which parts of a file are there: the map of its chunks."""

from __future__ import annotations

from collections.abc import Iterator

MISSING, IN_FLIGHT, PRESENT = range(3)

SMALLEST_CHUNK_BYTES = 64 * 1024


def chunk_size(size_bytes: int, largest: int) -> int:
    """Choose the chunk size of a file: about 512 chunks, a power of two from 64 KiB to ``largest``."""
    wanted = max(1, size_bytes // 512)
    return min(largest, max(SMALLEST_CHUNK_BYTES, 1 << (wanted - 1).bit_length()))


class ChunkMap:
    """State of each chunk of one file.

    Parameters
    ----------
    size_bytes : int
        Length of the file.
    chunk_bytes : int
        Length of every chunk but the last.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.chunk_bytes = chunk_bytes
        self._states = bytearray(-(-size_bytes // chunk_bytes))
        self.present_bytes = 0

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return self.present_bytes == self.size_bytes

    def _chunks(self, start: int, stop: int) -> range:
        if stop <= start:
            return range(0)
        return range(start // self.chunk_bytes, -(-min(stop, self.size_bytes) // self.chunk_bytes))

    def has(self, start: int, stop: int) -> bool:
        """Whether the bytes ``[start, stop)`` are all there."""
        chunks = self._chunks(start, stop)
        return self._states.count(PRESENT, chunks.start, chunks.stop) == len(chunks)

    def claim(self, start: int, stop: int, largest_bytes: int) -> list[tuple[int, int]]:
        """Mark the missing chunks of ``[start, stop)`` as in flight.

        Returns
        -------
        list of (int, int)
            Byte ranges to fetch, adjacent chunks coalesced, none longer than ``largest_bytes``
            unless one chunk is.
        """
        most = max(1, largest_bytes // self.chunk_bytes)
        claimed: list[tuple[int, int]] = []
        for first, last in self._runs(start, stop, most):
            self._states[first:last] = bytes([IN_FLIGHT]) * (last - first)
            claimed.append((first * self.chunk_bytes, min(last * self.chunk_bytes, self.size_bytes)))
        return claimed

    def _runs(self, start: int, stop: int, most: int) -> Iterator[tuple[int, int]]:
        first: int | None = None
        chunks = self._chunks(start, stop)
        for number in chunks:
            if self._states[number] == MISSING and first is None:
                first = number
            if first is not None and (self._states[number] != MISSING or number - first >= most):
                yield first, number
                first = number if self._states[number] == MISSING else None
        if first is not None:
            yield first, chunks.stop

    def arrived(self, start: int, stop: int) -> None:
        """Mark a claimed range as present."""
        self._set(start, stop, PRESENT)
        self.present_bytes += stop - start

    def failed(self, start: int, stop: int) -> None:
        """Mark a claimed range as missing again."""
        self._set(start, stop, MISSING)

    def _set(self, start: int, stop: int, state: int) -> None:
        chunks = self._chunks(start, stop)
        self._states[chunks.start : chunks.stop] = bytes([state]) * len(chunks)
