"""Rows of a discovery service's answer, checked: what each becomes, or why it becomes nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from pantry.client.discovered.mapping import DiscoveryMapping
from pantry.client.discovered.regions import around, region_of
from pantry.errors import InvalidRequestError, PantryError
from pantry.model.data_id import DataIdValue
from pantry.model.dimensions import Column, DimensionGroup, DimensionUniverse
from pantry.model.records import DimensionRecord, RecordValue
from pantry.model.remote_files import plain_url
from pantry.model.timespan import BEGIN_NS, END_NS, Timespan

_HALF_DAY_NS = 43_200_000_000_000
_MAX_DID = 1024


class Found(NamedTuple):
    """One file that was found.

    Attributes
    ----------
    did : str
        Its publisher's identifier of it.
    id : uuid.UUID
        Of the dataset; the same for the same identifier, everywhere.
    url : str
        Where it is.
    values : dict
        Of all dimensions that the mapping names.
    fields : dict of str to dict
        For each dimension element whose records are to be added, what the row says of it.
    row, times : dict
        What the row says, and its times in TAI nanoseconds since 1970.
    """

    did: str
    id: UUID
    url: str
    values: dict[str, DataIdValue]
    fields: dict[str, dict[str, RecordValue]]
    row: Mapping[str, Any]
    times: Mapping[str, int | None]


def dataset_id(did: str) -> UUID:
    """Return the id of the dataset that a publisher's identifier means (RFC 9562, version 5, of a URL)."""
    return uuid5(NAMESPACE_URL, did)


def rows_of_answer(answer: Any) -> list[dict[str, Any]]:
    """Return rows, with None for what is missing, of a table of astropy, pyarrow or pyvo, or of mappings."""
    if hasattr(answer, "to_table"):
        answer = answer.to_table()
    if hasattr(answer, "to_pylist"):
        rows = answer.to_pylist()
    elif hasattr(answer, "colnames"):
        columns = [answer[name].tolist() for name in answer.colnames]
        rows = [dict(zip(answer.colnames, values, strict=True)) for values in zip(*columns, strict=True)]
    else:
        rows = [dict(one) for one in answer]
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if value == "" or (isinstance(value, float) and not math.isfinite(value)) else value


def look_at(
    rows: Sequence[Mapping[str, Any]], mapping: DiscoveryMapping, universe: DimensionUniverse, group: DimensionGroup
) -> tuple[list[Found], dict[str, str]]:
    """Say what rows become, of which a dataset type with the dimensions ``group`` is made.

    Returns
    -------
    list of Found
        Each file once.
    dict of str to str
        Why other rows become nothing, by identifier, or ``row N`` where that is missing.
    """
    times = _times(rows, mapping)
    found: dict[str, Found] = {}
    refused: dict[str, str] = {}
    for number, row in enumerate(rows):
        did = row.get(mapping.called("obs_publisher_did"))
        name = did if isinstance(did, str) else f"row {number + 1}"
        try:
            one = _found(row, mapping, universe, {column: values[number] for column, values in times.items()})
            before = found.get(one.did)
            if before is not None and (before.url, before.values) != (one.url, one.values):
                raise InvalidRequestError("another row with this obs_publisher_did says something else")
        except PantryError as exc:
            refused[name] = exc.message
        else:
            found[one.did] = one
    by_data_id: dict[tuple[DataIdValue, ...], list[str]] = {}
    for did, one in found.items():
        by_data_id.setdefault(ordered(one.values, group), []).append(did)
    for dids in by_data_id.values():
        for did in dids if len(dids) > 1 else ():
            other = dids[did == dids[0]]
            refused[did] = f"its data id is also that of {other[:200]}: they differ in nothing that the mapping names"
    for did in found.keys() & refused.keys():
        # Of rows that contradict each other none is believed.
        del found[did]
    return list(found.values()), refused


def _found(
    row: Mapping[str, Any],
    mapping: DiscoveryMapping,
    universe: DimensionUniverse,
    times: Mapping[str, int | None],
) -> Found:
    did, url, form = (row.get(mapping.called(name)) for name in ("obs_publisher_did", "access_url", "access_format"))
    if not isinstance(did, str) or len(did) > _MAX_DID:
        raise InvalidRequestError("no obs_publisher_did, by which it could be known again")
    if not isinstance(url, str):
        raise InvalidRequestError("no access_url")
    form = form.strip().lower() if isinstance(form, str) else ""
    if "content=datalink" in form.replace(" ", "").replace('"', ""):
        raise InvalidRequestError("the access_url is that of a datalink document, which is a list of files and no file")
    if mapping.formats and form not in [one.lower() for one in mapping.formats]:
        raise InvalidRequestError(f"the access_format is {form[:80] or 'not said'}")
    values = {}
    for name, source in mapping.data_id.items():
        value = mapping.value(source, row, times)
        if value is None:
            raise InvalidRequestError(f"nothing says which {name} it is")
        values[name] = universe.check_value(name, int(value) if _is_whole(value) else value)
    fields = {name: _fields(name, row, mapping, universe, times) for name in mapping.records}
    return Found(did, dataset_id(did), plain_url(url.strip()), values, fields, row, times)


def _fields(
    element: str,
    row: Mapping[str, Any],
    mapping: DiscoveryMapping,
    universe: DimensionUniverse,
    times: Mapping[str, int | None],
) -> dict[str, RecordValue]:
    columns = {one.name: one for one in (*universe[element].keys[1:], *universe[element].metadata)}
    made: dict[str, RecordValue] = {}
    for field, source in mapping.records[element].items():
        value = mapping.value(source, row, times)
        column = columns.get(field)
        if value is None and (column is None or not column.nullable or column in universe[element].keys):
            raise InvalidRequestError(f"nothing says what {element}.{field} is")
        # What is no column of its own is a dimension that follows from it.
        made[field] = universe.check_value(field, value) if column is None else _typed(column, value, element)
    return made


def _is_whole(value: Any) -> bool:
    return isinstance(value, float) and value == int(value)


def _times(rows: Sequence[Mapping[str, Any]], mapping: DiscoveryMapping) -> dict[str, list[int | None]]:
    """Give all times in TAI nanoseconds since 1970, by column; None for what is no time of our records."""
    import numpy as np
    from astropy.time import Time

    made: dict[str, list[int | None]] = {}
    for column in mapping.time_columns:
        said = np.array([_mjd(row.get(column)) for row in rows], dtype=float)
        known = np.flatnonzero(np.isfinite(said))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of leap seconds that nobody knows yet
            tai = Time(said[known], format="mjd", scale=mapping.time_scale).tai
        # jd1 is a whole number of half days.
        whole = np.rint((tai.jd1 - 2440587.5) * 2).astype(np.int64) * _HALF_DAY_NS
        instants = whole + np.rint(tai.jd2 * 2 * _HALF_DAY_NS).astype(np.int64)
        made[column] = [None] * len(rows)
        for number, ns in zip(known.tolist(), instants.tolist(), strict=True):
            made[column][number] = ns if BEGIN_NS <= ns < END_NS else None
    return made


def _mjd(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 < value < 100_000 else math.nan


def records_of(
    files: Sequence[Found], mapping: DiscoveryMapping, universe: DimensionUniverse
) -> tuple[list[DimensionRecord], int]:
    """Make the dimension records of files, each once, in an order in which things depend on one another.

    Returns
    -------
    list of DimensionRecord
        Of rows with the same keys the first says what the fields are; the region is one around all of theirs.
    int
        Of how many records with a region nobody says what it is.
    """
    made: list[DimensionRecord] = []
    without_region = 0
    for name in (one for one in universe if one in mapping.records):
        element, required = universe[name], universe.required(name)
        by_key: dict[tuple[DataIdValue, ...], list[Found]] = {}
        for file in files:
            by_key.setdefault(tuple(file.values[one] for one in required), []).append(file)
        for key, of_key in by_key.items():
            first = of_key[0]
            values: dict[str, Any] = dict(zip(required, key, strict=True))
            if element.is_dimension:
                values[element.keys[0].name] = values.pop(name)
            values |= {one: first.values[one] for one in element.implies if one in first.values} | first.fields[name]
            region = None
            if element.spatial:
                regions = [one for file in of_key if (one := region_of(_renamed(file.row, mapping))) is not None]
                region = bytes(around(regions).encode()) if regions else None
                without_region += not regions
            span = _span(of_key, mapping) if element.temporal else None
            made.append(DimensionRecord(element=name, values=values, timespan=span, region=region))
    return made, without_region


def _renamed(row: Mapping[str, Any], mapping: DiscoveryMapping) -> dict[str, Any]:
    return {name: row.get(mapping.called(name)) for name in ("s_region", "s_ra", "s_dec", "s_fov")}


def _span(files: Iterable[Found], mapping: DiscoveryMapping) -> Timespan | None:
    begins, ends = ([file.times[mapping.called(name)] for file in files] for name in ("t_min", "t_max"))
    known = [(begin, end) for begin, end in zip(begins, ends, strict=True) if begin is not None and end is not None]
    known = [(begin, end) for begin, end in known if begin <= end]
    return Timespan(min(begin for begin, _ in known), max(end for _, end in known)) if known else None


def _typed(column: Column, value: Any, element: str) -> RecordValue:
    """Return a value in the type of a column of records."""
    if value is None:
        return None
    try:
        match column.type:
            case "string" | "hash":
                text = str(value)
                if column.length is not None and len(text) > column.length:
                    raise ValueError(f"longer than {column.length} characters")
                return text
            case "int":
                number = int(value)
                if isinstance(value, float) and value != number:
                    raise ValueError("not an integer")
                return number
            case "float":
                return float(value)
            case _:
                if not isinstance(value, bool):
                    raise ValueError("neither true nor false")
                return value
    except (ValueError, TypeError) as exc:
        raise InvalidRequestError(f"{element}.{column.name} cannot be {str(value)[:80]!r}: {exc}") from None


def ordered(values: Mapping[str, DataIdValue], group: DimensionGroup) -> tuple[DataIdValue, ...]:
    """Return the values that identify a dataset, in the order of the universe."""
    return tuple(values[name] for name in group.required)
