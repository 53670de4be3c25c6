"""An export's dimension records in the form of ours, checked against the repository's universe."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pantry.client.exports.contents import Contents
from pantry.client.exports.values import EMPTY, Block, Instant, Region, make_timespan
from pantry.model.dimensions import Column, DimensionElement, DimensionUniverse
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan

_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "string": (str,)}


def make_records(
    contents: Contents, universe: DimensionUniverse, skip_dimensions: Collection[str]
) -> Iterator[DimensionRecord]:
    """Make records, in the order of the universe.

    Raises
    ------
    ExportError
        For an element or a column that the repository's universe has not, or a value of another type.
    """
    for name in contents.records:
        if name not in universe.elements and name not in skip_dimensions:
            line = contents.records[name][0].line if contents.records[name] else 1
            raise contents.refuse(
                line,
                f"the repository has no dimension element {name!r}",
                f"its universe is {universe.namespace} {universe.version}, that of the export "
                f"{contents.universe_namespace} {contents.universe_version}; skip_dimensions passes over elements",
            )
    maker = _Maker(contents, universe)
    for name, element in universe.elements.items():
        if name in contents.records and name not in skip_dimensions:
            for record in contents.records[name]:
                yield maker.make(element, record)
    if maker.timeless:
        contents.notes.append(f"{maker.timeless} records have an empty time span, which is taken as none")


class _Maker:
    def __init__(self, contents: Contents, universe: DimensionUniverse) -> None:
        self._contents = contents
        self._universe = universe
        self.timeless = 0

    def make(self, element: DimensionElement, record: Block) -> DimensionRecord:
        values: dict[str, Any] = dict(record)
        timespan = self._timespan(element, record, values)
        region = values.pop("region", None) if element.spatial else None
        if region is not None and not isinstance(region, Region):
            raise self._refuse(element, record, "region", region, "a region")
        own = element.keys[0].name if element.is_dimension else ""
        if own and own != element.name and element.name in values:
            # Gen3 takes either name, and both if they agree.
            other = values.pop(element.name)
            if values.setdefault(own, other) != other:
                raise self._contents.refuse(record.line, f"a {element.name} record has two values for {own!r}")
        columns = {name: self._universe[name].keys[0] for name in self._universe.required(element.name)}
        if own:
            columns.pop(element.name)
            columns[own] = element.keys[0]
        columns |= {key.name: key for key in element.keys}
        columns |= {name: self._universe[name].keys[0] for name in element.implies}
        columns |= {column.name: column for column in element.metadata}
        for name, value in values.items():
            column = columns.get(name)
            if column is None:
                raise self._contents.refuse(
                    record.line,
                    f"records of {element.name} have no {name!r} here",
                    f"the repository's universe is {self._universe.namespace} {self._universe.version}, that of the "
                    f"export {self._contents.universe_namespace} {self._contents.universe_version}",
                )
            if value is not None:
                values[name] = self._value(element, record, column, value)
        return DimensionRecord(
            element=element.name, values=values, timespan=timespan, region=region.encoded if region else None
        )

    def _value(self, element: DimensionElement, record: Block, column: Column, value: object) -> Any:
        if column.type == "hash":
            if isinstance(value, bytes):
                return value.hex()
            raise self._refuse(element, record, column.name, value, "binary")
        kinds = _KINDS[column.type]
        if not isinstance(value, kinds) or (isinstance(value, bool) and column.type != "bool"):
            what = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "text"}[column.type]
            raise self._refuse(element, record, column.name, value, what)
        return float(value) if column.type == "float" else value  # type: ignore[arg-type]

    def _timespan(self, element: DimensionElement, record: Block, values: dict[str, Any]) -> Timespan | None:
        if not element.temporal:
            return None
        timespan = values.pop("timespan", None)
        if timespan is None and "datetime_begin" in values:
            begin, end = values.pop("datetime_begin"), values.pop("datetime_end", None)
            for name, value in (("datetime_begin", begin), ("datetime_end", end)):
                if value is not None and not isinstance(value, Instant):
                    raise self._refuse(element, record, name, value, "a time")
            try:
                timespan = make_timespan(begin, end)
            except ValueError as exc:
                raise self._contents.refuse(record.line, f"the time span of a {element.name} record is {exc}") from None
        if timespan is not None and not isinstance(timespan, Timespan):
            raise self._refuse(element, record, "timespan", timespan, "a time span")
        if timespan is EMPTY:
            self.timeless += 1
            return None
        return timespan

    def _refuse(self, element: DimensionElement, record: Block, name: str, value: object, what: str) -> Exception:
        return self._contents.refuse(
            record.line, f"{element.name}.{name} is {what}, not {str(value)[:80]!r} ({type(value).__name__})"
        )
