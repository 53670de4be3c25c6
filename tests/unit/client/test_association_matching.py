"""Which row goes with which instant: every answer compared with a brute-force search."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.client.association.matching import NO_ROW, match, match_groups

INSTANT = st.integers(-12, 12)
FAR = 1_760_000_000_000_000_000


def spans(min_size: int = 0) -> st.SearchStrategy[list[tuple[int, int]]]:
    return st.lists(st.tuples(INSTANT, st.integers(0, 8)), min_size=min_size, max_size=12)


def arrays(given_spans: list[tuple[int, int]], at: int) -> tuple[Any, Any]:
    begin = np.array([b for b, _ in given_spans], dtype=np.int64) + at
    return begin, begin + np.array([length for _, length in given_spans], dtype=np.int64)


def slow_within(t: int, begin: Any, end: Any, overlaps: str) -> tuple[int, bool]:
    held = [i for i in range(len(begin)) if begin[i] <= t < end[i]]
    if not held:
        return NO_ROW, False
    # Of spans that begin together, the first or the last of the source.
    best = min(held, key=lambda i: (begin[i], i)) if overlaps == "first" else max(held, key=lambda i: (begin[i], i))
    return best, len(held) > 1


def distance(t: int, begin: int, end: int) -> int:
    return max(begin - t, t - end, 0)


@pytest.mark.parametrize("at", [0, FAR])
@given(spans(), st.lists(INSTANT, max_size=20), st.sampled_from(["first", "last", "error"]))
def test_within_spans_of_any_depth(at: int, source: list[tuple[int, int]], times: list[int], overlaps: Any) -> None:
    begin, end = arrays(source, at)
    instants = np.array(times, dtype=np.int64) + at
    found = match(instants, begin, end, "within", overlaps=overlaps)
    expected = [slow_within(t, begin, end, overlaps) for t in instants]
    assert found.row.tolist() == [row for row, _ in expected]
    ambiguous = [i for i, (_, many) in enumerate(expected) if many]
    assert found.ambiguous.tolist() == (ambiguous if overlaps == "error" else [])


@given(spans(1), st.lists(INSTANT, max_size=20), st.none() | st.integers(0, 6))
def test_nearest_span(source: list[tuple[int, int]], times: list[int], tolerance: int | None) -> None:
    begin, end = arrays(source, FAR)
    instants = np.array(times, dtype=np.int64) + FAR
    found = match(instants, begin, end, "nearest", tolerance_ns=tolerance, overlaps="last")
    for t, row in zip(instants, found.row, strict=True):
        holder, _ = slow_within(t, begin, end, "last")
        least = min(distance(t, *one) for one in zip(begin, end, strict=True))
        if holder != NO_ROW:
            assert row == holder
        elif tolerance is not None and least > tolerance:
            assert row == NO_ROW
        else:
            assert distance(t, begin[row], end[row]) == least
            earlier = [i for i in range(len(begin)) if begin[i] <= t and distance(t, begin[i], end[i]) == least]
            assert (begin[row] <= t) == bool(earlier), "of two as near, the earlier"


@given(st.lists(INSTANT, min_size=1, max_size=12), st.lists(INSTANT, max_size=20), st.none() | st.integers(0, 6))
def test_instants(source: list[int], times: list[int], tolerance: int | None) -> None:
    begin = np.array(source, dtype=np.int64)
    instants = np.array(times, dtype=np.int64)
    # Of equal instants the last of the source counts.
    nearest = match(instants, begin, None, "nearest", tolerance_ns=tolerance).row
    previous = match(instants, begin, None, "previous", tolerance_ns=tolerance).row
    linear = match(instants, begin, None, "linear", tolerance_ns=tolerance)
    for i, t in enumerate(instants):
        order = sorted(range(len(begin)), key=lambda j: (begin[j], j))
        near = min(abs(begin - t))
        side = t - near if t - near in begin else t + near
        expected = [j for j in order if begin[j] == side][-1]
        assert nearest[i] == (expected if tolerance is None or near <= tolerance else NO_ROW)
        earlier = [j for j in order if begin[j] <= t]
        within_reach = earlier and (tolerance is None or t - begin[earlier[-1]] <= tolerance)
        assert previous[i] == (earlier[-1] if within_reach else NO_ROW)
        later = [j for j in order if begin[j] >= t]
        if within_reach and later and (tolerance is None or begin[later[0]] - t <= tolerance):
            upper = [j for j in order if begin[j] == begin[later[0]]][-1]
            assert (linear.row[i], linear.other[i]) == (earlier[-1], upper)
            gap = begin[upper] - begin[earlier[-1]]
            assert linear.weight[i] == (0 if gap == 0 else (t - begin[earlier[-1]]) / gap)
        else:
            assert (linear.row[i], linear.other[i], linear.weight[i]) == (NO_ROW, NO_ROW, 0)


@given(spans(), st.lists(st.tuples(INSTANT, st.integers(-1, 3)), max_size=20), st.data())
@settings(max_examples=60)
def test_groups_are_matched_apart(source: list[tuple[int, int]], rows: list[tuple[int, int]], data: Any) -> None:
    begin, end = arrays(source, 0)
    theirs = np.array(data.draw(st.lists(st.integers(-1, 3), min_size=len(source), max_size=len(source))), dtype=int)
    instants = np.array([t for t, _ in rows], dtype=np.int64)
    ours = np.array([group for _, group in rows], dtype=int)
    found = match_groups(instants, ours, begin, end, theirs, "within", overlaps="first")
    for t, group, row in zip(instants, ours, found.row, strict=True):
        members = [i for i in range(len(begin)) if theirs[i] == group and group >= 0 and begin[i] <= t < end[i]]
        assert row == (min(members, key=lambda i: (begin[i], i)) if members else NO_ROW)


def test_nothing_to_match() -> None:
    empty = np.array([], dtype=np.int64)
    for method in ("within", "nearest", "previous", "linear"):
        assert match(np.array([1, 2]), empty, None, method).row.tolist() == [NO_ROW, NO_ROW]  # type: ignore[arg-type]
        assert match(empty, np.array([1]), None, method).row.tolist() == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "direction"), [("nearest", "nearest"), ("previous", "backward")])
def test_a_million_rows_as_pandas_does_it(method: Any, direction: Any) -> None:
    random = np.random.default_rng(45)
    instants = random.integers(0, 10**15, 1_000_000)
    begin = np.unique(random.integers(0, 10**15, 100_000))
    random.shuffle(begin)
    found = match(instants, begin, None, method, tolerance_ns=10**10).row
    left = pandas.DataFrame({"t": instants, "i": np.arange(len(instants))}).sort_values("t")
    right = pandas.DataFrame({"t": begin, "row": np.arange(len(begin))}).sort_values("t")
    merged = pandas.merge_asof(left, right, on="t", direction=direction, tolerance=10**10).sort_values("i")
    expected = merged["row"].fillna(NO_ROW).to_numpy().astype(int)
    # Of two as near pandas takes either.
    differ = found != expected
    assert (abs(begin[found[differ]] - instants[differ]) == abs(begin[expected[differ]] - instants[differ])).all()
    assert differ.sum() < 100
