"""Answers put together of several parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pantry.daemon.registry.seen import Seen, Sorter

KEYS = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 9) | st.text("01", max_size=2)))
VALUES = st.none() | st.integers(-5, 5) | st.floats(-5, 5)


@given(st.lists(KEYS, max_size=4))
def test_only_what_no_earlier_part_gave_is_new(parts: list[list[object]]) -> None:
    seen = Seen()
    earlier: set[object] = set()
    for number, keys in enumerate(parts):
        # Within one part, equal keys are of several rows, and all of them are its own.
        assert seen.new(number, keys) == [place for place, key in enumerate(keys) if key not in earlier]
        earlier.update(keys)
    seen.close()


@given(st.lists(st.tuples(VALUES, st.none() | st.text(max_size=2))), st.booleans(), st.none() | st.integers(0, 9))
def test_sorted_as_asked_with_absent_values_last(
    rows: list[tuple[float | None, str | None]], down: bool, limit: int | None
) -> None:
    sorter = Sorter([down, False])
    half = len(rows) // 2
    for part in (rows[:half], rows[half:]):
        sorter.add(part, part)
    found = [tuple(row) for batch in sorter.batches(3, limit) for row in batch]
    sorter.close()

    def key(row: tuple[float | None, str | None]) -> tuple[object, ...]:
        number, text = row
        first = (number is None, 0.0 if number is None else -number if down else number)
        return (*first, text is None, (text or "").encode("utf-8", "surrogatepass"))

    assert found == sorted(rows, key=key)[:limit]
