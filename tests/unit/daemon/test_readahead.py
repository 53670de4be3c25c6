"""The window ahead of a reader grows while it goes straight on, and closes with a jump."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pantry.daemon.datasets.readahead import MIB, ReadAhead


def test_a_header_and_a_few_tiles_open_nothing() -> None:
    ahead = ReadAhead(1000 * MIB)
    for start in (0, 1, 50, 51, 100):
        begin, end = ahead.note(start * MIB, (start + 1) * MIB - 1)
        assert begin == end


def test_a_reader_who_goes_straight_on_is_run_ahead_of_further_and_further() -> None:
    ahead = ReadAhead(1000 * MIB)
    asked = [ahead.note(at * MIB, (at + 1) * MIB) for at in range(200)]
    spans = [(begin // MIB, end // MIB) for begin, end in asked if begin < end]
    assert spans[:4] == [(4, 8), (8, 12), (12, 16), (16, 22)]
    # Without a gap, and in the end always 16 to 32 MiB ahead.
    assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))
    for at, (_, end) in enumerate(asked[150:], 150):
        assert end <= (at + 1 + 32) * MIB
    assert max(end for _, end in asked[:150]) >= (150 + 16) * MIB


def test_one_large_read_opens_nothing() -> None:
    ahead = ReadAhead(1000 * MIB)
    for start, stop in ((0, 1), (1, 50), (50, 51)):
        assert ahead.note(start * MIB, stop * MIB) == (stop * MIB, stop * MIB)


def test_a_jump_closes_it() -> None:
    ahead = ReadAhead(1000 * MIB)
    for start in range(4):
        ahead.note(start * MIB, (start + 1) * MIB)
    assert ahead.jumps(500 * MIB)
    assert ahead.note(500 * MIB, 501 * MIB) == (501 * MIB, 501 * MIB)
    assert not ahead.jumps(501 * MIB)


@given(st.integers(1, 100 * MIB), st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(1, 8 * MIB))))
def test_it_is_never_more_than_was_read_nor_beyond_the_end(size: int, reads: list[tuple[bool, float, int]]) -> None:
    ahead = ReadAhead(size)
    at = begun = 0
    for jump, where, length in reads:
        start = int(size * where) if jump else at
        if start >= size:
            continue
        begun = begun if start == at else start
        at = min(start + length, size)
        begin, end = ahead.note(start, at)
        assert at <= begin <= end <= max(size, begin)
        assert end <= min(size, at + min(at - begun, 32 * MIB)) or begin == end
