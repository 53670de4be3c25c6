"""Which row of a source goes with each instant; arrays in, arrays out.

Instants are integers, nanoseconds since 1970-01-01 TAI, so that nothing is decided by rounding. A source has
instants, or half-open spans ``begin <= t < end``, in any order.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pantry.client.association.request import Method, Overlaps

Instants = NDArray[np.int64]
Rows = NDArray[np.intp]

NO_ROW = -1


class Matches(NamedTuple):
    """What was found for each instant.

    Attributes
    ----------
    row : array of int
        Row of the source; `NO_ROW` where there is none.
    other : array of int
        With ``linear``: the row at or after the instant; else the same as ``row``.
    weight : array of float
        With ``linear``: how far the instant is from ``row`` to ``other``, 0 to 1; else 0.
    ambiguous : array of int
        Instants that several spans hold, by their numbers, if that was to be told.
    """

    row: Rows
    other: Rows
    weight: NDArray[np.float64]
    ambiguous: Rows


def match(
    instants: Instants,
    begin: Instants,
    end: Instants | None,
    method: Method,
    *,
    tolerance_ns: int | None = None,
    overlaps: Overlaps = "error",
) -> Matches:
    """Find the row of a source for each instant.

    Parameters
    ----------
    instants : array of int64
        In any order.
    begin, end : array of int64
        Of the source's rows, in any order; None as ``end`` if they are at instants.
    method : str
        ``within``: the span that holds the instant. ``nearest``: the row with the least distance, of two the
        earlier; of a span that holds the instant that is 0. ``previous``: the last that began no later.
        ``linear``: the rows at both sides.
    tolerance_ns : int, optional
        Longest distance to a row that is taken, in nanoseconds.
    overlaps : str
        What happens where several spans hold an instant: ``first`` and ``last`` take the one that began first
        or last, ``error`` tells in ``Matches.ambiguous``, and takes the last.

    Returns
    -------
    Matches
        Of rows at the same instant, the last in the source's order counts.
    """
    if not len(begin) or not len(instants):
        return _none(len(instants))
    order = np.argsort(begin, kind="stable")
    starts = begin[order]
    # The last row that began no later; -1 if there is none.
    before = np.searchsorted(starts, instants, side="right") - 1
    ambiguous: Rows = np.empty(0, dtype=np.intp)
    if method == "linear":
        return _linear(instants, starts, order, before, tolerance_ns)
    if end is None:
        at = before if method == "previous" else _nearest(instants, starts, starts, before)
        distance = _distance(instants, starts, starts, at)
        if method == "within":
            at = np.where(distance == 0, at, NO_ROW)
    else:
        stops = end[order]
        if method == "previous":
            at, distance = before, _distance(instants, starts, starts, before)
        else:
            at, ambiguous = _holding(instants, starts, stops, before, overlaps)
            if method == "nearest":
                at = np.where(at == NO_ROW, _nearest(instants, starts, stops, before), at)
            distance = _distance(instants, starts, stops, at)
    if tolerance_ns is not None:
        at = np.where(distance > tolerance_ns, NO_ROW, at)
    row = _original(order, at)
    return Matches(row, row, np.zeros(len(instants)), ambiguous)


def _none(count: int) -> Matches:
    row = np.full(count, NO_ROW, dtype=np.intp)
    return Matches(row, row, np.zeros(count), np.empty(0, dtype=np.intp))


def _original(order: Rows, at: Rows) -> Rows:
    rows: Rows = np.where(at == NO_ROW, NO_ROW, order[at])
    return rows


def _distance(instants: Instants, starts: Instants, stops: Instants, at: Rows) -> Instants:
    """How far instants are from these rows, 0 inside; of no meaning where there is no row."""
    distance: Instants = np.maximum(np.maximum(starts[at] - instants, instants - stops[at]), 0)
    return distance


def _nearest(instants: Instants, starts: Instants, stops: Instants, before: Rows) -> Rows:
    """Of rows that do not hold the instant, the one with the least distance."""
    # Of all that began before, that which ends last; of equal ones the last.
    last = np.maximum.accumulate(stops)
    latest = np.maximum.accumulate(np.where(stops == last, np.arange(len(stops)), 0))
    earlier = np.where(before < 0, NO_ROW, latest[before])
    after = before + 1
    # Equal instants: the last of the source counts here too.
    later = np.searchsorted(starts, starts[np.minimum(after, len(starts) - 1)], side="right") - 1
    far = np.iinfo(np.int64).max
    to_earlier = np.where(before < 0, far, instants - stops[earlier])
    to_later = np.where(after >= len(starts), far, starts[later] - instants)
    nearest: Rows = np.where(to_later < to_earlier, later, earlier)
    return nearest


def _holding(
    instants: Instants, starts: Instants, stops: Instants, before: Rows, overlaps: Overlaps
) -> tuple[Rows, Rows]:
    """Find the span that holds each instant, and the instants that several hold."""
    nobody: Rows = np.empty(0, dtype=np.intp)
    if np.all(stops[:-1] <= starts[1:]):
        return np.where((before >= 0) & (instants < stops[before]), before, NO_ROW), nobody
    bounds, holders, counts = _segments(starts, stops, overlaps)
    segment = np.searchsorted(bounds, instants, side="right") - 1
    at = np.where(segment < 0, NO_ROW, holders[segment])
    if overlaps != "error":
        return at, nobody
    return at, np.flatnonzero((segment >= 0) & (counts[segment] > 1))


def _segments(starts: Instants, stops: Instants, overlaps: Overlaps) -> tuple[Instants, Rows, NDArray[np.int64]]:
    """Cut time where spans begin and end: for each piece the span that counts, and how many hold it.

    One sweep over the spans, however many instants ask: spans may lie in one another to any depth.
    """
    bounds = np.unique(np.concatenate([starts, stops]))
    holders = np.full(len(bounds), NO_ROW, dtype=np.intp)
    opened = np.searchsorted(starts, bounds, side="right")
    counts = opened - np.searchsorted(np.sort(stops), bounds, side="right")
    sign = 1 if overlaps == "first" else -1
    open_spans: list[int] = []  # the number of a span tells when it began
    ends = stops.tolist()
    next_span = 0
    for piece, (instant, until) in enumerate(zip(bounds.tolist(), opened.tolist(), strict=True)):
        for span in range(next_span, until):
            heapq.heappush(open_spans, sign * span)
        next_span = until
        while open_spans and ends[sign * open_spans[0]] <= instant:
            heapq.heappop(open_spans)
        if open_spans:
            holders[piece] = sign * open_spans[0]
    return bounds, holders, counts


def _linear(instants: Instants, starts: Instants, order: Rows, before: Rows, tolerance_ns: int | None) -> Matches:
    after = np.minimum(before + 1, len(starts) - 1)
    after = np.searchsorted(starts, starts[after], side="right") - 1
    at = np.maximum(before, 0)
    exact = (before >= 0) & (starts[at] == instants)
    after = np.where(exact, before, after)
    found = (before >= 0) & (exact | (before + 1 < len(starts)))
    if tolerance_ns is not None:
        found &= (instants - starts[at] <= tolerance_ns) & (starts[after] - instants <= tolerance_ns)
    width = np.where(exact, 1, starts[after] - starts[at])
    weight = np.where(found & ~exact, (instants - starts[at]) / np.where(width == 0, 1, width), 0.0)
    row = _original(order, np.where(found, before, NO_ROW))
    return Matches(row, _original(order, np.where(found, after, NO_ROW)), weight, np.empty(0, dtype=np.intp))


def match_groups(
    instants: Instants,
    groups: NDArray[Any],
    begin: Instants,
    end: Instants | None,
    source_groups: NDArray[Any],
    method: Method,
    *,
    tolerance_ns: int | None = None,
    overlaps: Overlaps = "error",
) -> Matches:
    """Match as `match` does, each instant with the source's rows of its own group only.

    Parameters
    ----------
    groups, source_groups : array of int
        Of the instants and of the source's rows; negative for none.
    """
    found = _none(len(instants))
    row, other = found.row.copy(), found.other.copy()
    weight = found.weight.copy()
    ambiguous = []
    for members, rows in _pairs(groups, source_groups):
        part = match(
            instants[members],
            begin[rows],
            None if end is None else end[rows],
            method,
            tolerance_ns=tolerance_ns,
            overlaps=overlaps,
        )
        row[members] = _original(rows, part.row)
        other[members] = _original(rows, part.other)
        weight[members] = part.weight
        ambiguous.append(members[part.ambiguous])
    return Matches(row, other, weight, np.concatenate([np.empty(0, dtype=np.intp), *ambiguous]))


def _pairs(groups: NDArray[Any], source_groups: NDArray[Any]) -> list[tuple[Rows, Rows]]:
    """Numbers of instants and of rows for each group that both have."""
    members, rows = _by_group(groups), _by_group(source_groups)
    return [(members[group], rows[group]) for group in members.keys() & rows.keys() if group >= 0]


def _by_group(groups: NDArray[Any]) -> dict[int, Rows]:
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    cuts = np.flatnonzero(np.diff(sorted_groups)) + 1
    parts = np.split(order, cuts) if len(order) else []
    return {int(groups[part[0]]): part for part in parts}
