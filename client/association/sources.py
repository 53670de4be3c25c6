"""What is joined: records of observations, declared metadata of datasets, tables with times; each as one table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from astropy.table import Column, MaskedColumn, Table, vstack

from pantry.client.association.instants import times_of
from pantry.client.association.matching import Instants
from pantry.client.association.request import TimeJoin
from pantry.client.efd.facility import EfdTopic
from pantry.client.efd.results import TIME, as_form
from pantry.client.formatters import convert
from pantry.errors import FormatterError, InvalidRequestError
from pantry.model.datasets import DatasetRef
from pantry.model.timespan import BEGIN_NS, END_NS, Timespan

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler
    from pantry.model.dimensions import DimensionElement

_SPAN = "pantry_joined_span"
_DATASET = "dataset"
_UNIT_IN_DOC = {"s": re.compile(r"\bseconds\b"), "deg": re.compile(r"\bdegrees\b")}
_DTYPES: dict[str, Any] = {"int": np.int64, "float": np.float64, "bool": np.bool_, "string": str, "hash": str}


class Source(NamedTuple):
    """Rows that can be joined.

    Attributes
    ----------
    begin, end : array of int64
        When each row was, TAI nanoseconds since 1970; ``end`` is None if rows are at instants.
    table : Table
        Its columns, of those rows.
    about : dict
        Where it came from, for the provenance.
    """

    begin: Instants
    end: Instants | None
    table: Table
    about: dict[str, Any]


class Wanted(NamedTuple):
    """What the joined table needs of a source.

    Attributes
    ----------
    span : tuple of int, or None
        First and last instant in it, TAI nanoseconds; None if it has none.
    time : str
        Its column of times.
    """

    span: tuple[int, int] | None
    time: str


def gather(butler: Butler, join: TimeJoin, wanted: Wanted) -> Source:
    """Read a source; one query, and one read for each dataset whose table is joined."""
    given = join.source
    if isinstance(given, str):
        if given in butler.dimensions and butler.dimensions[given].temporal:
            return _records(butler, join, butler.dimensions[given], wanted)
        if given in butler.dimensions:
            temporal = [one.name for one in butler.dimensions.elements.values() if one.temporal]
            raise InvalidRequestError(f"{given!r} has no time span", hint=f"these have: {', '.join(temporal)}")
        return _metadata(butler, join, wanted) if join.metadata else _tables(butler, join, _refs(butler, join), wanted)
    if isinstance(given, EfdTopic):
        return _samples(given, join, wanted)
    if join.metadata:
        raise InvalidRequestError("declared metadata is joined by dataset type", hint="give the name of one")
    if isinstance(given, DatasetRef):
        return _tables(butler, join, [given], wanted)
    if isinstance(given, list | tuple) and all(isinstance(one, DatasetRef) for one in given):
        return _tables(butler, join, given, wanted)
    return _of_table(as_table(given), join, wanted, {"table": "given by the caller"})


def as_table(given: Any) -> Table:
    """Return what people call a table as one of astropy; the columns are not copied."""
    if isinstance(given, Table):
        return given
    try:
        table: Table = convert(given, "astropy.table.Table")
    except Exception as exc:
        raise InvalidRequestError(
            f"a {type(given).__name__} is no table", hint="give an astropy, pandas or Arrow table, or a DatasetRef"
        ) from exc
    return table


def _limit(join: TimeJoin, element: str, wanted: Wanted) -> tuple[str, dict[str, Any]]:
    """Narrow a query to the time that is asked for, where nothing outside of it can be taken."""
    tolerance = 0 if (join.method or "within") == "within" else join.tolerance_ns()
    bind = dict(join.bind or {})
    if tolerance is None or wanted.span is None:
        return join.where, bind
    first, last = (min(max(one, BEGIN_NS), END_NS) for one in (wanted.span[0] - tolerance, wanted.span[1] + tolerance))
    bind[_SPAN] = Timespan(first, max(last, first) + 1)
    condition = f"{element}.timespan OVERLAPS :{_SPAN}"
    return f"({join.where}) AND {condition}" if join.where else condition, bind


def _records(butler: Butler, join: TimeJoin, element: DimensionElement, wanted: Wanted) -> Source:
    where, bind = _limit(join, element.name, wanted)
    found = butler.query_dimension_records(element.name, data_id=join.data_id, where=where, bind=bind)
    records = [one for one in found if one.timespan is not None]
    related = {name: butler.dimensions[name].keys[0] for name in (*element.requires, *element.implies)}
    kinds = related | {column.name: column for column in (*element.keys, *element.metadata)}
    table = Table()
    for name in records[0].values if records else kinds:
        column = kinds.get(name)
        values = [one.values[name] for one in records]
        if column is None:
            table[name] = _column(values, None)
            continue
        doc = "" if name in related else column.doc
        table[name] = _column(values, column.type, _unit(doc) if column.type == "float" else None, doc)
    spans = [one.timespan for one in records if one.timespan is not None]
    about = {"records": element.name, **_asked(butler, join)}
    return Source(*_bounds(spans), table, about)


def _metadata(butler: Butler, join: TimeJoin, wanted: Wanted) -> Source:
    name = join.source
    dimensions = butler.get_dataset_type(name).dimensions
    families = butler.dimensions.temporal_families.values()
    element = next((one for family in families for one in family if one in dimensions), None)
    if element is None:
        raise InvalidRequestError(f"{name} has no dimension with a time span", hint=f"it has {', '.join(dimensions)}")
    where, bind = _limit(join, element, wanted)
    asked: dict[str, Any] = {"collections": join.collections, "data_id": join.data_id, "where": where, "bind": bind}
    spans = {}
    for ref in butler.query_datasets(name, with_dimension_records=True, **asked):
        if (span := ref.data_id.timespan) is not None:
            spans[ref.id] = span
    rows = [(ref, values) for ref, values in butler.query_metadata(name, **asked) if ref.id in spans]
    table = Table()
    if rows:
        kind = rows[0][0].dataset_type
        for dimension in rows[0][0].data_id.required_names:
            table[dimension] = _column([ref.data_id[dimension] for ref, _ in rows], None)
        for entry in kind.metadata:
            values = [values[entry.name] for _, values in rows]
            table[entry.name] = _column(values, entry.type, entry.unit or None, entry.doc)
        table[_DATASET] = Column(np.arange(len(rows), dtype=np.int32))
    about = {"metadata": name, **_asked(butler, join), "datasets": [str(ref.id) for ref, _ in rows]}
    return Source(*_bounds([spans[ref.id] for ref, _ in rows]), table, about)


def _samples(topic: EfdTopic, join: TimeJoin, wanted: Wanted) -> Source:
    """Ask an engineering facility database for what can be near the rows, and no more (DMS-MWBT-REQ-0041)."""
    tolerance = join.tolerance_ns()
    if tolerance is None:
        raise InvalidRequestError(
            f"how far from a row may a sample of {topic.name} be?", hint="TimeJoin(..., tolerance=60) is a minute"
        )
    first, last = (0, 0) if wanted.span is None else (wanted.span[0] - tolerance, wanted.span[1] + tolerance + 1)
    fields = () if join.columns is None else tuple(dict.fromkeys([*join.columns, *join.equal.values()]))
    span = Timespan(*(min(max(one, BEGIN_NS), END_NS) for one in (first, last)))
    found = topic.query(fields, timespan=span, form="arrow")
    begin = np.asarray(found[TIME].cast("int64"), dtype=np.int64)
    table = as_form(found.drop_columns([TIME]), "astropy")
    table.meta.clear()
    about = {"topic": topic.name, **({"salIndex": topic.index} if topic.index is not None else {})}
    return Source(begin, None, table, about)


def _refs(butler: Butler, join: TimeJoin) -> Sequence[DatasetRef]:
    return butler.query_datasets(join.source, join.collections, data_id=join.data_id, where=join.where, bind=join.bind)


def _tables(butler: Butler, join: TimeJoin, refs: Sequence[DatasetRef], wanted: Wanted) -> Source:
    refs = list(dict.fromkeys(refs))
    if not refs:
        raise InvalidRequestError(
            f"there is no {join.label} to join", hint="see `butler.query_datasets`; collections= says where to search"
        )
    parts = []
    for number, ref in enumerate(refs):
        part = _of_table(_read(butler, join, ref), join, wanted, {})
        part.table[_DATASET] = Column(np.full(len(part.table), number, dtype=np.int32))
        parts.append(part)
    about = {
        "dataset_type": refs[0].dataset_type.name,
        **_asked(butler, join),
        "datasets": [str(ref.id) for ref in refs],
    }
    columns = [one.table for one in parts]
    try:
        joined = columns[0] if len(columns) == 1 else vstack(columns, metadata_conflicts="silent")
    except Exception as exc:
        raise InvalidRequestError(
            f"the tables of {join.label} do not fit each other: {exc}", hint="choose columns that all of them have"
        ) from exc
    return Source(np.concatenate([one.begin for one in parts]), None, joined, about)


def _read(butler: Butler, join: TimeJoin, ref: DatasetRef) -> Table:
    """Read a dataset's table, only the needed columns if it is known which."""
    if join.columns is not None and join.time is not None:
        columns = list(dict.fromkeys([join.time, *join.columns, *join.equal.values()]))
        try:
            return as_table(butler.get(ref, parameters={"columns": columns}))
        except FormatterError:
            pass  # not every format reads by column; a column that is missing is told below
    return as_table(butler.get(ref))


def _of_table(table: Table, join: TimeJoin, wanted: Wanted, about: dict[str, Any]) -> Source:
    name = join.time or _time_column(table, join, wanted)
    if name not in table.colnames:
        raise InvalidRequestError(f"{join.label} has no column {name!r}", hint=f"it has {', '.join(table.colnames)}")
    times = times_of(table[name], f"{join.label}.{name}", scale=join.scale, form=join.form)
    kept = _chosen(table, join, but=name)
    if not times.known.all():
        kept = kept[times.known]
    about = {**about, "time": name, "times": times.described}
    if (unknown := int(np.count_nonzero(~times.known))) > 0:
        about["rows_without_time"] = unknown
    return Source(times.ns[times.known], None, kept, about)


def _chosen(table: Table, join: TimeJoin, *, but: str) -> Table:
    names = [one for one in table.colnames if one != but]
    if join.columns is not None:
        wanted = dict.fromkeys([*join.columns, *join.equal.values()])
        if unknown := [one for one in wanted if one not in table.colnames]:
            raise InvalidRequestError(
                f"{join.label} has no column {', '.join(unknown)}", hint=f"it has {', '.join(table.colnames)}"
            )
        names = list(wanted)
    made: Table = table[names].copy()
    made.meta.clear()
    return made


def _time_column(table: Table, join: TimeJoin, wanted: Wanted) -> str:
    if wanted.time in table.colnames:
        return wanted.time
    times = [one for one in table.colnames if hasattr(table[one], "jd1")]
    if len(times) == 1:
        return str(times[0])
    raise InvalidRequestError(
        f"which column of {join.label} has the times is not known",
        hint=f"TimeJoin(..., time='...'); its columns are {', '.join(table.colnames)}",
    )


def _asked(butler: Butler, join: TimeJoin) -> dict[str, Any]:
    about: dict[str, Any] = {"repository": butler.repository}
    collections = join.collections if join.collections is not None else butler._default_collections
    if collections:
        about["collections"] = [collections] if isinstance(collections, str) else [str(one) for one in collections]
    if join.data_id:
        about["data_id"] = {str(key): value for key, value in msgspec.to_builtins(dict(join.data_id)).items()}
    if join.where:
        about["where"] = str(join.where)
    return about


def _bounds(spans: Sequence[Timespan]) -> tuple[Instants, Instants]:
    begin = np.fromiter((one.begin_ns for one in spans), dtype=np.int64, count=len(spans))
    end = np.fromiter((one.end_ns for one in spans), dtype=np.int64, count=len(spans))
    return begin, end


def _unit(doc: str) -> str | None:
    """Return the unit that a universe's description of a column names; its columns have none of their own."""
    named = [unit for unit, pattern in _UNIT_IN_DOC.items() if pattern.search(doc)]
    return named[0] if len(named) == 1 else None


def _column(values: Iterable[Any], kind: str | None, unit: str | None = None, doc: str = "") -> Column:
    """Make a column of values of which some may be None."""
    given = list(values)
    mask = np.array([one is None for one in given], dtype=bool)
    known = next((one for one in given if one is not None), None)
    dtype = _DTYPES[kind] if kind is not None else (np.int64 if isinstance(known, int) else str)
    filler = {np.int64: 0, np.float64: np.nan, np.bool_: False}.get(dtype, "")
    data = np.array([filler if one is None else one for one in given], dtype=dtype)
    more: Mapping[str, Any] = {"unit": unit, "description": doc or None}
    return MaskedColumn(data, mask=mask, **more) if mask.any() else Column(data, **more)
