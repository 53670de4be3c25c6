"""Data ids as users write them, resolved by the records of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pantry.client.bundles.contents import Contents, own_value
from pantry.errors import DataIdValueError, DimensionNameError
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.dimensions import DimensionGroup
from pantry.model.interpretation import Given, Interpretation, column_of, refuse_contradiction, show
from pantry.model.records import DimensionRecord
from pantry.model.timespan import ALL_TIMES, Timespan

_MOST_ROWS = 100_000
"""Combinations of records that are looked at for one data id."""


class BundleDataIds(Interpretation):
    """Resolves data ids.

    Parameters
    ----------
    contents : Contents
        Has the records.
    """

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents.universe)
        self._contents = contents
        families = contents.universe.temporal_families
        self._families = [
            [name for name in members if self._universe[name].is_dimension] for members in families.values()
        ]

    def search_values(self, group: DimensionGroup, data_id: Mapping[str, object]) -> tuple[DataIdValue, ...]:
        """Give the values of the required dimensions, for a search; what contradicts the records is refused."""
        given = self.interpret(group, data_id)
        values = self._complete(group, given)
        found = self._contents.implied(group, [values[name] for name in group.required])
        known: dict[str, object] = {
            name: value for name, value in found.mapping.items() if name in group.implied and value is not None
        }
        said = {name: value for name, value in given.dimensions.items() if name in known}
        refuse_contradiction(group, found.required_values, known, said)
        return found.required_values

    def expand(self, group: DimensionGroup, data_id: Mapping[str, object]) -> DataCoordinate:
        """Complete a data id of a new dataset, whose values must have records."""
        values = self.search_values(group, data_id)
        named = dict(zip(group.required, values, strict=True))
        for name in group.required:
            if self._contents.has_records(name) and self._contents.record(name, named) is None:
                key = {part: named[part] for part in self._universe.required(name) if part in named}
                raise DataIdValueError(
                    f"the bundle has no {name} record for {show(key)}",
                    hint="make the bundle with data ids of the outputs too, or insert the dimension record into it",
                    dimension=name,
                )
        return self._contents.implied(group, values)

    def _complete(self, group: DimensionGroup, given: Given) -> dict[str, DataIdValue]:
        """Find the missing dimensions by the records that have the given values."""
        missing = [name for name in group.required if name not in given.dimensions]
        if not missing and not given.fields:
            return given.dimensions
        unknown = [name for name in missing if not self._contents.has_records(name)]
        if unknown or not (given.fields or given.dimensions):
            raise DimensionNameError(
                f"the data id lacks {', '.join(unknown or missing)}", hint=f"needed: {', '.join(group.required)}"
            )
        rows: list[dict[str, DataIdValue]] = [dict(given.dimensions)]
        asked = {*missing, *(element for element, _ in given.fields)}
        for element in [name for name in self._universe.elements if name in asked]:
            wanted = {column: value for (other, column), value in given.fields.items() if other == element}
            records = [record for record in self._contents.records(element).values() if self._has(record, wanted)]
            rows = list(self._joined(rows, element, records))
            if len(rows) > _MOST_ROWS:
                break
        distinct = {tuple(row[name] for name in group.required): row for row in rows}
        if len(distinct) != 1:
            said = {**given.dimensions, **{f"{a}.{b}": value for (a, b), value in given.fields.items()}}
            if distinct or not given.fields:
                raise DimensionNameError(
                    f"the data id {show(said)} lacks {', '.join(missing)}"
                    + (": several records have these values" if given.fields else ""),
                    hint=f"needed: {', '.join(group.required)}",
                )
            raise DataIdValueError(f"no dimension records of the bundle have {show(said)}")
        return next(iter(distinct.values()))

    def _has(self, record: DimensionRecord, wanted: Mapping[str, object]) -> bool:
        return all(record.values.get(column) == value for column, value in wanted.items())

    def _joined(
        self, rows: Iterable[dict[str, DataIdValue]], element: str, records: list[DimensionRecord]
    ) -> Iterable[dict[str, DataIdValue]]:
        names = (*self._universe.required(element), *self._universe[element].implies)
        for row in rows:
            for record in records:
                values: dict[str, Any] = {name: own_value(self._universe, record, name) for name in names}
                if all(row.get(name, value) == value for name, value in values.items()):
                    yield {**row, **values}

    # -- times -------------------------------------------------------------------------------------

    def time_of(self, group: DimensionGroup, data_id: Mapping[str, object]) -> tuple[Mapping[str, object], Timespan]:
        """Give the part of a data id that is about a group, and the time of the exposure, visit or day that it names.

        As in a repository that is all times if it names none.
        """
        named = self._named(group, data_id)
        if not named:
            return data_id, ALL_TIMES
        whole = self._universe.group({*group.names, *named})
        required = self.search_values(whole, data_id)
        values = self._contents.implied(whole, required).mapping
        found = [
            self._timespan(next(name for name in family if name in whole.names), values)
            for family in self._families
            if any(name in whole.required for name in family)
        ]
        begin_ns, end_ns = max(one.begin_ns for one in found), min(one.end_ns for one in found)
        if begin_ns > end_ns:
            raise DataIdValueError("the observations of the data id have no time in common", hint="give a timespan")
        part = {name: values[name] for name in group.names if values.get(name) is not None}
        return part, Timespan(begin_ns, max(end_ns, begin_ns + 1))

    def _named(self, group: DimensionGroup, data_id: Mapping[str, object]) -> set[str]:
        named: set[str] = set()
        for name, value in data_id.items():
            before = name.partition(".")[0]
            if value is None:
                continue
            if before in self._universe.elements:
                named |= {before for family in self._families if before in family}
            elif not any(column_of(self._universe[other], name) for other in group.names):
                for family in self._families:
                    named.update([other for other in family if column_of(self._universe[other], name)][:1])
        return named

    def _timespan(self, name: str, values: Mapping[str, object]) -> Timespan:
        record = self._contents.record(name, values)
        shown = show({part: values[part] for part in self._universe.required(name)})
        if record is None:
            raise DataIdValueError(
                f"the bundle has no {name} record for {shown}", hint="check the value", dimension=name
            )
        if record.timespan is None:
            raise DataIdValueError(
                f"the {name} record for {shown} has no timespan, so which calibration is valid is unknown",
                hint="give a timespan",
                dimension=name,
            )
        return record.timespan
