"""The chunk map against a set of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantry.daemon.cache.chunks import SMALLEST_CHUNK_BYTES, ChunkMap, chunk_size


@st.composite
def maps_and_steps(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, int, bool]]]:
    size = draw(st.integers(0, 400))
    chunk = draw(st.sampled_from([1, 3, 8, 64]))
    steps = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, size))
        stop = draw(st.integers(start, size))
        steps.append((start, stop, draw(st.integers(1, 100)), draw(st.booleans())))
    return size, chunk, steps


@given(maps_and_steps())
def test_claims_cover_exactly_what_is_missing(case: tuple[int, int, list[tuple[int, int, int, bool]]]) -> None:
    size, chunk, steps = case
    chunks = ChunkMap(size, chunk)
    present: set[int] = set()
    for start, stop, largest, succeeds in steps:
        claimed = chunks.claim(start, stop, largest)
        taken: set[int] = set()
        for begin, end in claimed:
            assert begin % chunk == 0
            assert end - begin <= max(chunk, largest)
            span = set(range(begin, end))
            assert not span & taken, "a byte is claimed twice"
            assert not span & present, "a byte that is there is claimed again"
            taken |= span
        assert set(range(start, stop)) <= taken | present
        assert not chunks.claim(start, stop, largest), "what is in flight is claimed again"
        for begin, end in claimed:
            if succeeds:
                chunks.arrived(begin, end)
            else:
                chunks.failed(begin, end)
        if succeeds:
            present |= taken
        assert chunks.present_bytes == len(present)
        assert chunks.has(start, stop) == (set(range(start, stop)) <= present)
    assert chunks.complete == (len(present) == size)


@given(st.integers(0, 2**45), st.sampled_from([2**18, 2**22, 2**24]))
def test_chunk_size_is_a_power_of_two_within_its_bounds(size: int, largest: int) -> None:
    chosen = chunk_size(size, largest)
    assert chosen & (chosen - 1) == 0
    assert SMALLEST_CHUNK_BYTES <= chosen <= largest
