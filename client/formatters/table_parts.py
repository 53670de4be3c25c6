"""Which rows of a table the read parameters mean: ranges, numbers, and spans of time on one of its columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pantry.client.formatters.contract import ReadSource, column_names
from pantry.errors import FormatterError, InvalidRequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

TABLE_PARAMETERS = ("columns", "rows", "timespan", "time_column", "time_scale")
"""Read parameters of tables."""

TABLE_COMPONENTS = ("columns", "rowcount", "schema")
"""Components of tables."""

_MOST_RUNS = 10_000


class Rows(NamedTuple):
    """Rows of a table, in the order in which they are wanted.

    Attributes
    ----------
    start, stop : int
        The half-open range that they are in.
    numbers : array of int or None
        Their numbers in the whole table; None for all of the range.
    """

    start: int
    stop: int
    numbers: NDArray[np.int64] | None = None

    def cut(self, whole: Any) -> Any:
        """Return these rows of the whole table."""
        return whole[self.start : self.stop] if self.numbers is None else whole[self.numbers]

    def cut_range(self, part: Any) -> Any:
        """Return these rows of a table that is the range."""
        return part if self.numbers is None else part[self.numbers - self.start]

    def runs(self) -> list[tuple[int, int]]:
        """Return the half-open ranges that hold these rows and nothing else, or one with more if they are too many."""
        if self.numbers is None:
            return [(self.start, self.stop)]
        wanted = np.unique(self.numbers)
        ends = np.flatnonzero(np.diff(wanted) > 1)
        if len(ends) >= _MOST_RUNS or not len(wanted):
            return [(self.start, self.stop)]
        starts = wanted[np.concatenate([[0], ends + 1])]
        stops = wanted[np.concatenate([ends, [len(wanted) - 1]])] + 1
        return [(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]

    def cut_runs(self, part: Any, runs: Sequence[tuple[int, int]]) -> Any:
        """Return these rows of a table that is the rows of `runs`, one after the other."""
        if self.numbers is None:
            return part
        starts = np.array([start for start, _ in runs], dtype=np.int64)
        before = np.concatenate([[0], np.cumsum([stop - start for start, stop in runs])])[:-1]
        run = np.searchsorted(starts, self.numbers, side="right") - 1
        return part[before[run] + self.numbers - starts[run]] if len(self.numbers) else part[:0]


class Column(NamedTuple):
    """How the formatter finds the time of each row.

    Attributes
    ----------
    names : sequence of str
        The table's columns.
    times : sequence of str
        Those that are times by their type.
    read : callable
        Gives one column of the whole table.
    """

    names: Sequence[str]
    times: Sequence[str]
    read: Callable[[str], Any]


def chosen_rows(
    source: ReadSource, parameters: Mapping[str, object], length: int, column: Column | None = None
) -> Rows | None:
    """Return the rows that the read parameters ``rows`` and ``timespan`` select; None for all.

    Parameters
    ----------
    source : ReadSource
        For messages.
    parameters : Mapping
        ``rows``: (start, stop), a slice, or a list of numbers. ``timespan``: begin and end, as of `Butler.get`, the end
        excluded, on ``time_column``; ``time_scale`` if neither the column nor its name tells it.
    length : int
        Of the whole table.
    column : Column, optional
        Where times are found; None where there are none.

    Raises
    ------
    FormatterError
        There are no such rows or times.
    """
    rows = _rows(source, parameters.get("rows"), length)
    if parameters.get("timespan") is None:
        extra = [name for name in ("time_column", "time_scale") if parameters.get(name) is not None]
        if extra:
            raise FormatterError(f"{source.name}: {extra[0]} without timespan", hint="give timespan=(begin, end)")
        return rows
    if column is None:
        raise FormatterError(f"{source.name}: only tables have a timespan")
    within = _within(source, parameters, column)
    if rows is None:
        index = np.flatnonzero(within)
    elif rows.numbers is None:
        index = np.flatnonzero(within[rows.start : rows.stop]) + rows.start
    else:
        index = rows.numbers[within[rows.numbers]]
    return _of_index(index)


def part_of_table(source: ReadSource, table: Any, parameters: Mapping[str, object]) -> Any:
    """Return the columns and rows of an astropy table that the read parameters select."""
    from astropy.time import TimeBase

    names = column_names(source, parameters.get("columns"), table.colnames)
    times = [name for name in table.colnames if isinstance(table[name], TimeBase)]
    rows = chosen_rows(source, parameters, len(table), Column(table.colnames, times, lambda name: table[name]))
    table = table if names is None else table[names]
    return table if rows is None else rows.cut(table)


def part_or_component(source: ReadSource, table: Any, component: str | None, parameters: Mapping[str, object]) -> Any:
    """Return one of `TABLE_COMPONENTS` of a whole astropy table, or without one the selected part."""
    if component == "columns":
        return list(table.colnames)
    if component == "rowcount":
        return len(table)
    if component == "schema":
        from pantry.client.formatters.serialized_tables import schema_of

        return schema_of(table)
    return part_of_table(source, table, parameters)


def _rows(source: ReadSource, rows: object, length: int) -> Rows | None:
    if rows is None:
        return None
    if isinstance(rows, slice):
        if rows.step in (None, 1):
            start, stop, _ = rows.indices(length)
            return Rows(start, max(start, stop))
        return _of_index(np.arange(length, dtype=np.int64)[rows])
    if isinstance(rows, tuple) and len(rows) == 2 and all(isinstance(bound, int) for bound in rows):
        start, stop, _ = slice(rows[0], rows[1]).indices(length)
        return Rows(start, max(start, stop))
    if isinstance(rows, list | np.ndarray):
        index = np.asarray(rows) if len(rows) else np.zeros(0, dtype=np.int64)
        if index.dtype.kind in "iu" and index.ndim == 1:
            if len(index) and (index.min() < 0 or index.max() >= length):
                raise FormatterError(f"{source.name} has {length} rows, and not all of those in rows=[...]")
            return _of_index(index.astype(np.int64))
    raise FormatterError(
        f"{source.name}: rows={rows!r} is not rows of a table",
        hint="give rows=(start, stop), a slice, or a list of numbers",
    )


def _of_index(index: NDArray[np.int64]) -> Rows:
    if not len(index):
        return Rows(0, 0)
    start, stop = int(index.min()), int(index.max()) + 1
    whole = len(index) == stop - start and bool((np.diff(index) == 1).all())
    return Rows(start, stop, None if whole else index)


def _within(source: ReadSource, parameters: Mapping[str, object], column: Column) -> NDArray[np.bool_]:
    from pantry.client.association.instants import times_of
    from pantry.client.butler.times import as_timespan
    from pantry.model.timespan import BEGIN_NS, END_NS

    name = parameters.get("time_column")
    if name is None and len(column.times) == 1:
        name = column.times[0]
    if not isinstance(name, str) or name not in column.names:
        what = "which column has the time" if name is None else f"no column {name!r}"
        raise FormatterError(
            f"{source.name}: {what}", hint=f"give time_column, one of {', '.join((column.times or column.names)[:50])}"
        )
    try:
        span = as_timespan(parameters["timespan"])  # type: ignore[arg-type]
        times = times_of(column.read(name), name, scale=parameters.get("time_scale"))  # type: ignore[arg-type]
    except InvalidRequestError as exc:
        hint = exc.hint.replace("scale=", "time_scale=")
        raise FormatterError(f"{source.name}: {exc.message}", hint=hint) from None
    within = times.known
    if span.begin_ns != BEGIN_NS:  # these two stand for open ends
        within = within & (times.ns >= span.begin_ns)
    if span.end_ns != END_NS:
        within = within & (times.ns < span.end_ns)
    return within
