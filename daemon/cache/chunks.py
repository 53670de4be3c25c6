"""Which parts of a file are there: the map of its chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pantry.daemon.cache.account import charged

MISSING, IN_FLIGHT, RECORDED, PRESENT = range(4)
"""States of a chunk. RECORDED: an earlier run of the daemon noted its hash; it is not yet checked again."""

_STORED = (RECORDED, PRESENT)

SMALLEST_CHUNK_BYTES = 64 * 1024


def chunk_size(size_bytes: int, largest: int) -> int:
    """Choose the chunk size of a file: about 2,048 chunks, a power of two from 64 KiB to ``largest``."""
    wanted = max(1, size_bytes // 2048)
    return min(largest, max(SMALLEST_CHUNK_BYTES, 1 << (wanted - 1).bit_length()))


class ChunkMap:
    """State of each chunk of one file.

    Parameters
    ----------
    size_bytes : int
        Length of the file.
    chunk_bytes : int
        Length of every chunk but the last.

    Attributes
    ----------
    present_bytes, recorded_bytes : int
        Bytes of the chunks in these states.
    stored_bytes : int
        What both take where they lie, in whole blocks.
    """

    def __init__(self, size_bytes: int, chunk_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.chunk_bytes = chunk_bytes
        self._states = bytearray(-(-size_bytes // chunk_bytes))
        self.present_bytes = self.recorded_bytes = self.stored_bytes = 0

    def __len__(self) -> int:
        return len(self._states)

    @property
    def complete(self) -> bool:
        """Whether every chunk is there."""
        return self.present_bytes == self.size_bytes

    @property
    def known_bytes(self) -> int:
        """Bytes of the file that are there, whether they were checked since the start or not."""
        return self.present_bytes + self.recorded_bytes

    def chunks(self, start: int, stop: int) -> range:
        """Return the numbers of the chunks that the bytes ``[start, stop)`` lie in."""
        if stop <= start:
            return range(0)
        return range(start // self.chunk_bytes, -(-min(stop, self.size_bytes) // self.chunk_bytes))

    def span(self, first: int, stop: int) -> tuple[int, int]:
        """Return the bytes ``[start, stop)`` of the chunks ``first`` to ``stop - 1``."""
        return first * self.chunk_bytes, min(stop * self.chunk_bytes, self.size_bytes)

    def has(self, start: int, stop: int) -> bool:
        """Whether the bytes ``[start, stop)`` are all there."""
        chunks = self.chunks(start, stop)
        return self._states.count(PRESENT, chunks.start, chunks.stop) == len(chunks)

    def state(self, number: int) -> int:
        """Return the state of a chunk."""
        return self._states[number]

    def first(self, state: int, start: int, stop: int) -> int | None:
        """Return the first chunk of ``[start, stop)`` that is in a state."""
        chunks = self.chunks(start, stop)
        found = self._states.find(state, chunks.start, chunks.stop) if len(chunks) else -1
        return None if found < 0 else found

    def run(self, first: int, stop: int) -> int:
        """Return where the run of chunks in the state of ``first`` ends, at most ``stop``."""
        state, last = self._states[first], first + 1
        while last < stop and self._states[last] == state:
            last += 1
        return last

    def take_off(self, first: int, stop: int) -> None:
        """Mark missing chunks as in flight."""
        if self._states.count(MISSING, first, stop) != stop - first:
            raise ValueError(f"chunks {first} to {stop} are not all missing")
        self._states[first:stop] = bytes([IN_FLIGHT]) * (stop - first)

    def arrived(self, number: int) -> int:
        """Mark a chunk as present; return what it takes in bytes, 0 if it was."""
        before = self._states[number]
        self._enter(number, PRESENT)
        return 0 if before == PRESENT else self.taken(number, number + 1)

    def taken(self, first: int, stop: int) -> int:
        """Return how many bytes the chunks ``first`` to ``stop - 1`` take where they lie."""
        start, end = self.span(first, stop)
        return charged(end - start)

    def recorded(self, number: int) -> None:
        """Mark a chunk as noted by an earlier run."""
        self._enter(number, RECORDED)

    def lost(self, number: int) -> int:
        """Mark a chunk as missing; return what it took."""
        before = self.stored_bytes
        self._enter(number, MISSING)
        return before - self.stored_bytes

    def _enter(self, number: int, state: int) -> None:
        start, stop = self.span(number, number + 1)
        before = self._states[number]
        if before == state:
            return
        self.present_bytes += (stop - start) * ((state == PRESENT) - (before == PRESENT))
        self.recorded_bytes += (stop - start) * ((state == RECORDED) - (before == RECORDED))
        self.stored_bytes += self.taken(number, number + 1) * ((state in _STORED) - (before in _STORED))
        self._states[number] = state

    def landed(self, first: int, stop: int) -> None:
        """Mark what is still in flight of these chunks as missing: their transfer ended."""
        for number in range(first, stop):
            if self._states[number] == IN_FLIGHT:
                self._states[number] = MISSING

    def missing_spans(self, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Iterate over runs of missing chunks ``(first, stop)`` within byte ranges."""
        for start, stop in ranges:
            end = self.chunks(start, stop).stop
            at = self.first(MISSING, start, stop)
            while at is not None:
                last = self.run(at, end)
                yield at, last
                at = self.first(MISSING, last * self.chunk_bytes, stop) if last < end else None
