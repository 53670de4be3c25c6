"""Samples in the order of their instants, from rows in the order of a service's own time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pantry.backends.efd.instants import NS_PER_S, IndexScale, index_bounds, index_to_tai_ns, stamps_ns
from pantry.backends.efd.options import EfdOptions
from pantry.backends.efd.source import ARROW, Batch, Checkpoint, Rows, Source
from pantry.backends.efd.topics import Field, Topic
from pantry.errors import BackendError

_WINDOWS_NS = tuple(seconds * NS_PER_S for seconds in (60, 3600, 86_400, 30 * 86_400))
"""How far back the last sample is looked for, before all of the span is: services index by days and shards."""


class Samples(NamedTuple):
    """Some samples, in ascending order of their instants.

    Attributes
    ----------
    ns : array of int64
        TAI nanoseconds since 1970; shape (n,).
    table : pa.Table
        The chosen fields; n rows.
    """

    ns: NDArray[np.int64]
    table: pa.Table


class Chosen(NamedTuple):
    """What is asked of a topic.

    Attributes
    ----------
    topic : Topic
        Which.
    fields : tuple of Field
        Whose values are wanted.
    instance : int or None
        The ``salIndex`` of the component.
    options : EfdOptions
        Of the service.
    """

    topic: Topic
    fields: tuple[Field, ...]
    instance: int | None
    options: EfdOptions

    @property
    def slack_ns(self) -> int:
        """How far the service's time of a sample may be from the sender's."""
        return round(self.options.slack_s * NS_PER_S)

    @property
    def stamp(self) -> Field | None:
        """The field with the sender's time, if the topic has it."""
        found = self.topic.field(self.options.time_field) if self.options.time_field else None
        return found if found is not None and found.type in ("float", "int") else None

    def rows(self, start_tai_ns: int, stop_tai_ns: int, *, descending: bool = False) -> Rows:
        """Return which rows to ask for, so that none of the span is missing."""
        begin, end = index_bounds(start_tai_ns, stop_tai_ns, self.slack_ns, self.options.index_scale)
        fields = self.fields
        if self.stamp is not None and self.stamp not in fields:
            fields = (*fields, self.stamp)
        return Rows(self.topic, fields, begin, end, self.instance, descending)


class _Row(NamedTuple):
    """Rows with their instants, in any order."""

    ns: NDArray[np.int64]
    index_tai_ns: NDArray[np.int64]
    table: pa.Table


def samples_between(
    source: Source, chosen: Chosen, start_tai_ns: int, stop_tai_ns: int, checkpoint: Checkpoint
) -> Iterator[Samples]:
    """Iterate over the samples of a half-open span.

    A row is a sample if one of the chosen fields has a value in it. Memory holds one batch, and what came within
    twice the slack.
    """
    batches = source.batches(chosen.rows(start_tai_ns, stop_tai_ns), checkpoint)
    for one in _ordered((_understood(source, chosen, batch) for batch in batches), chosen.slack_ns):
        kept = (one.ns >= start_tai_ns) & (one.ns < stop_tai_ns) & _has_value(one.table)
        if kept.all():
            yield Samples(one.ns, one.table)
        elif kept.any():
            yield Samples(one.ns[kept], one.table.filter(pa.array(kept)))


def last_sample(
    source: Source, chosen: Chosen, start_tai_ns: int, stop_tai_ns: int, checkpoint: Checkpoint
) -> Samples | None:
    """Return the last sample at or before ``stop_tai_ns`` and not before ``start_tai_ns``, if there is one."""
    for window_ns in (*_WINDOWS_NS, stop_tai_ns - start_tai_ns):
        begin = max(start_tai_ns, stop_tai_ns - window_ns)
        found = _last(source, chosen, begin, stop_tai_ns, checkpoint)
        if found is not None or begin == start_tai_ns:
            return found
    return None


def _last(source: Source, chosen: Chosen, start: int, stop: int, checkpoint: Checkpoint) -> Samples | None:
    best: tuple[int, int, pa.Table] | None = None
    batches = source.batches(chosen.rows(start, stop + 1, descending=True), checkpoint)
    for batch in batches:
        one = _understood(source, chosen, batch)
        kept = (one.ns >= start) & (one.ns <= stop) & _has_value(one.table)
        if kept.any():
            rows = np.flatnonzero(kept)
            # Of rows that came in descending order, the first of equal ones is the last.
            row = rows[np.lexsort((-rows, one.index_tai_ns[rows], one.ns[rows]))[-1]]
            found = (int(one.ns[row]), int(one.index_tai_ns[row]))
            if best is None or found > best[:2]:
                best = (*found, one.table.slice(int(row), 1))
        if best is not None and int(one.index_tai_ns.min()) < best[0] - chosen.slack_ns:
            break  # what follows is of before
    return None if best is None else Samples(np.array([best[0]], dtype=np.int64), best[2])


def _understood(source: Source, chosen: Chosen, batch: Batch) -> _Row:
    """Give the rows of a batch their instants."""
    scale: IndexScale = chosen.options.index_scale
    index_ns: NDArray[np.int64] = batch.index_ns.to_numpy(zero_copy_only=False)
    index_tai_ns = ns = index_to_tai_ns(index_ns, scale)
    stamp = chosen.stamp
    if stamp is not None:
        fields = chosen.rows(0, 0).fields
        column = batch.columns[fields.index(stamp)]
        stamped, known = stamps_ns(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        ns = np.where(known, stamped, index_tai_ns)
        _check_stamps(source, chosen, ns - index_tai_ns)
    schema = pa.schema([pa.field(one.name, ARROW[one.type]) for one in chosen.fields])
    return _Row(ns, index_tai_ns, pa.Table.from_arrays(batch.columns[: len(chosen.fields)], schema=schema))


def _check_stamps(source: Source, chosen: Chosen, off_ns: NDArray[np.int64]) -> None:
    # During a leap second UTC itself is off by one, whatever the slack.
    wrong = np.abs(off_ns) > chosen.slack_ns + NS_PER_S
    if wrong.any():
        by_s = float(off_ns[wrong][0]) / NS_PER_S
        raise BackendError(
            f"{source.location}: in {chosen.topic.name} {chosen.options.time_field} is {by_s:+.3f} s from the time of"
            " the service",
            hint="If that is about 37 s, the service's own time is TAI: index_scale = 'tai'. Else allow more by"
            " slack_s, or go by the service's time alone: time_field = ''.",
        )


def _ordered(batches: Iterable[_Row], slack_ns: int) -> Iterator[_Row]:
    """Sort by instant, then by the service's time, then as they came; only what may still change is held back."""
    held: _Row | None = None
    for batch in batches:
        one = batch if held is None else _joined(held, batch)
        if len(one.ns) > 1 and not (np.diff(one.ns) > 0).all():
            order = np.lexsort((one.index_tai_ns, one.ns))
            one = _Row(one.ns[order], one.index_tai_ns[order], one.table.take(pa.array(order)))
        # No later row has a service's time before the latest of these, nor an instant more than the slack before it.
        sure = int(np.searchsorted(one.ns, int(batch.index_tai_ns[-1]) - slack_ns - NS_PER_S))
        if sure:
            yield _Row(one.ns[:sure], one.index_tai_ns[:sure], one.table.slice(0, sure))
        held = _Row(one.ns[sure:], one.index_tai_ns[sure:], one.table.slice(sure))
    if held is not None and len(held.ns):
        yield held


def _joined(first: _Row, second: _Row) -> _Row:
    if not len(first.ns):
        return second
    table = pa.concat_tables([first.table, second.table]).combine_chunks()
    return _Row(np.concatenate([first.ns, second.ns]), np.concatenate([first.index_tai_ns, second.index_tai_ns]), table)


def _has_value(table: pa.Table) -> NDArray[np.bool_]:
    """Tell the rows in which any column has a value."""
    found: NDArray[np.bool_] = np.zeros(table.num_rows, dtype=bool)
    for column in _by_nulls(table.columns):
        if found.all():
            break
        found |= pc.is_valid(column).to_numpy()
    return found


def _by_nulls(columns: Sequence[pa.ChunkedArray]) -> list[pa.ChunkedArray]:
    return sorted(columns, key=lambda one: one.null_count)
