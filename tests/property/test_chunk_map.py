"""The chunk map against a set of bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantry.daemon.cache.chunks import IN_FLIGHT, MISSING, PRESENT, RECORDED, SMALLEST_CHUNK_BYTES, ChunkMap, chunk_size


@st.composite
def maps_and_steps(draw: st.DrawFn) -> tuple[int, int, list[tuple[int, int, bool]]]:
    size = draw(st.integers(0, 400))
    chunk = draw(st.sampled_from([1, 3, 8, 64]))
    steps = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(st.integers(0, size))
        stop = draw(st.integers(start, size))
        steps.append((start, stop, draw(st.booleans())))
    return size, chunk, steps


@given(maps_and_steps())
def test_missing_spans_cover_exactly_what_is_missing(case: tuple[int, int, list[tuple[int, int, bool]]]) -> None:
    size, chunk, steps = case
    chunks = ChunkMap(size, chunk)
    present: set[int] = set()
    for start, stop, succeeds in steps:
        taken: set[int] = set()
        spans = list(chunks.missing_spans([(start, stop)]))
        for first, last in spans:
            chunks.take_off(first, last)
            span = set(range(*chunks.span(first, last)))
            assert not span & taken, "a byte is taken twice"
            assert not span & present, "a byte that is there is taken again"
            taken |= span
        assert set(range(start, stop)) <= taken | present
        assert not list(chunks.missing_spans([(start, stop)])), "what is in flight is taken again"
        for first, last in spans:
            if succeeds:
                for number in range(first, last):
                    chunks.arrived(number)
            chunks.landed(first, last)
        if succeeds:
            present |= taken
        assert chunks.present_bytes == len(present)
        assert chunks.has(start, stop) == (set(range(start, stop)) <= present)
        assert chunks.first(IN_FLIGHT, 0, size) is None
    assert chunks.complete == (len(present) == size)


@given(st.integers(1, 400), st.sampled_from([1, 3, 8, 64]), st.data())
def test_the_account_of_states_is_right(size: int, chunk: int, data: st.DataObject) -> None:
    chunks = ChunkMap(size, chunk)
    model = [MISSING] * len(chunks)
    for _ in range(data.draw(st.integers(0, 20))):
        number = data.draw(st.integers(0, len(chunks) - 1))
        model[number] = data.draw(st.sampled_from([MISSING, RECORDED, PRESENT]))
        before = chunks.stored_bytes
        if model[number] == MISSING:
            lost = chunks.lost(number)
            assert before - chunks.stored_bytes == lost
        elif model[number] == RECORDED:
            chunks.recorded(number)
        else:
            chunks.arrived(number)

    def length(state: int) -> int:
        return sum(min(size, (i + 1) * chunk) - i * chunk for i, one in enumerate(model) if one == state)

    assert [chunks.state(number) for number in range(len(chunks))] == model
    assert chunks.present_bytes == length(PRESENT)
    assert chunks.recorded_bytes == length(RECORDED)


@given(st.integers(0, 2**45), st.sampled_from([2**18, 2**22, 2**24]))
def test_chunk_size_is_a_power_of_two_within_its_bounds(size: int, largest: int) -> None:
    chosen = chunk_size(size, largest)
    assert chosen & (chosen - 1) == 0
    assert SMALLEST_CHUNK_BYTES <= chosen <= largest
