"""A table with the columns of what was known at the instants of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Column, MaskedColumn, QTable, Table
from astropy.time import Time
from astropy.units import Quantity
from astropy.utils.masked import Masked
from numpy.typing import NDArray

from pantry.client.association.instants import Form, Scale, Times, times_of
from pantry.client.association.matching import NO_ROW, Matches, match, match_groups
from pantry.client.association.request import Method, TimeJoin
from pantry.client.association.sources import Source, Wanted, as_table, gather
from pantry.errors import InvalidRequestError
from pantry.model.timespan import Timespan

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler

META_KEY = "joined_by_time"
"""Where a joined table's metadata says what was joined."""

OFFSET = "offset"


def join_by_time(
    butler: Butler, given: Any, joins: Sequence[TimeJoin], *, time: str, scale: Scale | None, form: Form | None
) -> Table:
    """Join; see `pantry.client.Butler.join_by_time`."""
    table = as_table(given)
    if time not in table.colnames:
        raise InvalidRequestError(f"the table has no column {time!r}", hint=f"it has {', '.join(table.colnames)}")
    times = times_of(table[time], time, scale=scale, form=form)
    result = table.copy()
    told = []
    for join in joins:
        source = gather(butler, join, Wanted(_span(times), time))
        method: Method = join.method or ("nearest" if source.end is None else "within")
        _check(join, method, source)
        found = _match(table, times, join, source, method)
        _refuse_ambiguous(found, times, join)
        told.append(_add(result, times, join, source, method, found))
    known = list(result.meta.get(META_KEY, []))
    result.meta[META_KEY] = [*known, *({"time_column": time, "times_read_as": times.described, **one} for one in told)]
    return result


def _span(times: Times) -> tuple[int, int] | None:
    known = times.ns[times.known]
    return (int(known.min()), int(known.max())) if len(known) else None


def _check(join: TimeJoin, method: Method, source: Source) -> None:
    if method == "linear" and source.end is not None:
        raise InvalidRequestError(
            f"{join.label} has time spans, between which nothing is interpolated", hint="within, nearest or previous"
        )
    if method == "within" and join.tolerance is not None:
        raise InvalidRequestError("what is within a time span has no tolerance", hint="nearest and previous have one")
    if method != "linear" and join.periodic:
        raise InvalidRequestError("periodic is for what is interpolated", hint="method='linear'")


# -- which rows ------------------------------------------------------------------------------------


def _match(table: Table, times: Times, join: TimeJoin, source: Source, method: Method) -> Matches:
    found = np.flatnonzero(times.known)
    options: dict[str, Any] = {"tolerance_ns": join.tolerance_ns(), "overlaps": join.overlaps}
    if join.equal and len(source.begin):
        groups, source_groups = _groups(table, join, source)
        part = match_groups(times.ns[found], groups[found], source.begin, source.end, source_groups, method, **options)
    else:
        part = match(times.ns[found], source.begin, source.end, method, **options)
    if len(found) == len(times.ns):
        return part
    row = np.full(len(times.ns), NO_ROW, dtype=np.intp)
    other, weight = row.copy(), np.zeros(len(row))
    row[found], other[found], weight[found] = part.row, part.other, part.weight
    return Matches(row, other, weight, found[part.ambiguous])


def _groups(table: Table, join: TimeJoin, source: Source) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give rows whose columns are equal the same number; -1 where a value is masked."""
    codes = np.zeros(len(table) + len(source.begin), dtype=np.int64)
    unknown = np.zeros(len(codes), dtype=bool)
    for ours, theirs in join.equal.items():
        for name, columns, whose in ((ours, table, "the table"), (theirs, source.table, join.label)):
            if name not in columns.colnames:
                raise InvalidRequestError(f"{whose} has no column {name!r}, which is to be equal")
        pair = [table[ours], source.table[theirs]]
        kinds = {"number" if np.asarray(one).dtype.kind in "iufb" else "text" for one in pair}
        if len(kinds) > 1:
            raise InvalidRequestError(f"{ours!r} and {join.label}.{theirs} are text and numbers, and never equal")
        both = np.concatenate([np.asarray(getattr(one, "filled", lambda one=one: one)()) for one in pair])
        numbers = np.unique(both, return_inverse=True)[1]
        codes = np.unique(codes * (len(both) + 1) + numbers, return_inverse=True)[1]
        unknown |= np.concatenate([np.broadcast_to(getattr(one, "mask", False), len(one)) for one in pair])
    codes[unknown] = NO_ROW
    return codes[: len(table)], codes[len(table) :]


def _refuse_ambiguous(found: Matches, times: Times, join: TimeJoin) -> None:
    if not len(found.ambiguous):
        return
    first = int(found.ambiguous.min())
    instant = str(Timespan(int(times.ns[first]), int(times.ns[first]))).partition(",")[0].strip("[")
    raise InvalidRequestError(
        f"{len(found.ambiguous)} rows are in several time spans of {join.label}, the first of them row {first}"
        f" at {instant} TAI",
        hint="narrow it with data_id, where or by (one instrument, one detector), or say overlaps='last' or 'first'",
    )


# -- their columns ---------------------------------------------------------------------------------


def _add(result: Table, times: Times, join: TimeJoin, source: Source, method: Method, found: Matches) -> dict[str, Any]:
    """Add the columns of a source; return what the provenance says of it."""
    matched = found.row != NO_ROW
    names = _columns(join, source, method)
    added = [f"{join.label}_{one}" for one in [*names, OFFSET]]
    if clash := [one for one in added if one in result.colnames]:
        raise InvalidRequestError(
            f"the table has a column {clash[0]!r} already", hint="TimeJoin(..., name=...) gives others another name"
        )
    for name, new in zip(names, added, strict=False):
        result[new] = _taken(source.table[name], f"{join.label}.{name}", join.periodic.get(name), found, method)
        _describe(result[new], join, name, method)
    result[added[-1]] = _offset(times, source, found, matched, isinstance(result, QTable))
    _describe(result[added[-1]], join, OFFSET, method)
    result[added[-1]].info.description = f"time since the beginning of the row of {join.label} that was joined"
    tolerance = join.tolerance_ns()
    told = {"name": join.label, **source.about, "method": method, "columns": added}
    told |= {"tolerance_s": tolerance / 1e9} if tolerance is not None else {}
    told |= {"by": join.equal} if join.equal else {}
    told |= {"overlaps": join.overlaps} if source.end is not None else {}
    return told | {"source_rows": len(source.begin), "matched": int(matched.sum()), "unmatched": int((~matched).sum())}


def _columns(join: TimeJoin, source: Source, method: Method) -> list[str]:
    known = source.table.colnames
    if not known:
        return list(join.columns or ())
    if join.columns is None:
        # Of columns that are not asked for, those that cannot be interpolated are left out.
        return [one for one in known if method != "linear" or _is_numeric(source.table[one])]
    wanted = list(join.columns)
    if unknown := [one for one in wanted if one not in known]:
        raise InvalidRequestError(f"{join.label} has no {', '.join(unknown)}", hint=f"it has {', '.join(known)}")
    return wanted


def _is_numeric(column: Any) -> bool:
    if column.info.name == "dataset" or hasattr(column, "jd1"):
        return False
    dtype = getattr(column, "dtype", None)
    return dtype is not None and dtype.kind in "iuf"


def _taken(column: Any, name: str, period: float | None, found: Matches, method: Method) -> Any:
    """Values of a column for each row of the joined table, masked where there are none."""
    missing = found.row == NO_ROW
    if not len(column):
        kind = column.dtype if isinstance(column, Column) and method != "linear" else np.float64
        return MaskedColumn(np.zeros(len(found.row), kind), mask=True, unit=getattr(column, "unit", None))
    row = np.where(missing, 0, found.row)
    if method == "linear":
        if not _is_numeric(column):
            raise InvalidRequestError(f"{name} is not a number, and cannot be interpolated", hint="method='previous'")
        return _interpolated(column, period, found, missing)
    taken = column[row]
    if not missing.any():
        return taken
    if isinstance(taken, Column):
        mask = missing | np.broadcast_to(getattr(taken, "mask", False), taken.shape).reshape(len(missing), -1).all(1)
        if taken.ndim > 1:
            mask = np.broadcast_to(mask.reshape(-1, *[1] * (taken.ndim - 1)), taken.shape)
        return MaskedColumn(np.asarray(taken), mask=mask, unit=taken.unit, description=taken.description)
    if isinstance(taken, Time):
        taken[missing] = np.ma.masked
        return taken
    if isinstance(taken, Quantity):
        mask = missing | np.broadcast_to(getattr(taken, "mask", False), taken.shape)
        return Masked(getattr(taken, "unmasked", taken), mask=mask)
    raise InvalidRequestError(
        f"{name} is a {type(column).__name__}, which cannot be absent where a row has no match",
        hint="leave it out with TimeJoin(..., columns=[...])",
    )


def _interpolated(column: Any, period: float | None, found: Matches, missing: NDArray[np.bool_]) -> Any:
    unmasked = getattr(column, "unmasked", column)
    values = np.asarray(unmasked.value if isinstance(unmasked, Quantity) else unmasked, dtype=np.float64)
    mask = np.broadcast_to(getattr(column, "mask", False), values.shape)
    shape = (-1, *[1] * (values.ndim - 1))
    row, other = np.where(missing, 0, found.row), np.where(missing, 0, found.other)
    weight = found.weight.reshape(shape)
    before, after = values[row], values[other]
    with np.errstate(invalid="ignore"):
        step = after - before
        if period is not None:
            step = (step + period / 2) % period - period / 2
        # What is exactly at an instant is not touched by its neighbour, which may be infinite.
        result = np.where(weight == 0, before, before + step * weight)
        result = result % period if period is not None else result
    absent = missing.reshape(shape) | mask[row] | (mask[other] & (weight != 0))
    absent = np.broadcast_to(absent, result.shape)
    unit = getattr(column, "unit", None)
    if not absent.any():
        return Column(result, unit=unit)
    return MaskedColumn(np.where(absent, np.nan, result), mask=absent, unit=unit)


def _offset(times: Times, source: Source, found: Matches, matched: NDArray[np.bool_], quantity: bool) -> Any:
    begin = source.begin[np.where(matched, found.row, 0)] if len(source.begin) else times.ns
    seconds = np.where(matched, (times.ns - begin) / 1e9, np.nan)
    return MaskedColumn(seconds, mask=~matched, unit="s") if not matched.all() else Column(seconds, unit="s")


def _describe(column: Any, join: TimeJoin, field: str, method: Method) -> None:
    column.info.meta = {**(column.info.meta or {}), META_KEY: {"source": join.label, "field": field, "method": method}}
