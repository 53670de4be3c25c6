from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantry.fusefs.readahead import MIB, RangeSet, ReadAhead


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_a_set_of_positions(ranges: list[tuple[int, int]], start: int, stop: int) -> None:
    found, model = RangeSet(), set[int]()
    for begin, end in ranges:
        found.add(begin, end)
        model |= set(range(begin, end))
    assert found.covers(start, stop) == (set(range(start, stop)) <= model)
    expected = start
    while expected in model:
        expected += 1
    assert found.stop_from(start) == expected
    found.clear()
    assert not found.covers(0, 1)


def test_a_sequential_reader_is_run_ahead_of_further_and_further() -> None:
    ahead = ReadAhead()
    ahead.note(0, MIB)
    assert ahead.window_bytes == 0
    windows = []
    for step in range(1, 9):
        ahead.note(step * MIB, (step + 1) * MIB)
        windows.append(ahead.window_bytes)
        ahead.grow()
    assert windows == [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB, 32 * MIB, 32 * MIB]


def test_a_jump_ends_it_and_disorder_does_not() -> None:
    ahead = ReadAhead()
    for start in (0, 2, 1, 3):
        ahead.note(start * MIB, (start + 1) * MIB)
    assert ahead.window_bytes == MIB
    ahead.note(500 * MIB, 500 * MIB + 4096)
    assert ahead.window_bytes == 0
    ahead.note(10 * MIB, 10 * MIB + 4096)
    assert ahead.window_bytes == 0
