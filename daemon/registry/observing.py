"""The time that a data id is about, by which a calibration is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.schema import Schema
from pantry.errors import DataIdValueError
from pantry.model.data_id import DataIdValue
from pantry.model.dimensions import DimensionGroup
from pantry.model.interpretation import column_of
from pantry.model.timespan import ALL_TIMES, Timespan


class ObservingTimes:
    """Looks up when the exposure, visit or day of a data id was.

    Parameters
    ----------
    database, schema
        Where the records are.
    data_ids : DataIds
        Resolves data ids.
    """

    def __init__(self, database: Database, schema: Schema, data_ids: DataIds) -> None:
        self._database = database
        self._schema = schema
        self._data_ids = data_ids
        families = schema.universe.temporal_families
        dimensions = {name for name in schema.universe.dimensions if name in schema.elements}
        # Of a family only the first counts, as in Gen3: an exposure's own time, not that of its day.
        self._families = [[name for name in members if name in dimensions] for members in families.values()]

    def of(
        self, session: Session, group: DimensionGroup, data_id: Mapping[str, object]
    ) -> tuple[Mapping[str, object], Timespan]:
        """Give the part of a data id that is about ``group``, and the time that all of it is about.

        That is all times if the data id says nothing of a time, as in Gen3: then only one dataset may
        ever have been valid.

        Raises
        ------
        DataIdValueError
            If there is no such observation, or its record has no timespan.
        """
        named = self._named(group, data_id)
        if not named:
            return data_id, ALL_TIMES
        whole = self._schema.universe.group({*group.names, *named})
        values = self._data_ids.search_values(session, whole, data_id).dimensions
        found = [
            self._timespan(session, next(name for name in family if name in whole.names), values)
            for family in self._families
            if any(name in whole.required for name in family)
        ]
        begin_ns, end_ns = max(one.begin_ns for one in found), min(one.end_ns for one in found)
        if begin_ns > end_ns:
            raise DataIdValueError("the observations of the data id have no time in common", hint="give a timespan")
        # A bias takes no time, and yet is at a time.
        return {name: values[name] for name in group.names if name in values}, Timespan(
            begin_ns, max(end_ns, begin_ns + 1)
        )

    def _named(self, group: DimensionGroup, data_id: Mapping[str, object]) -> set[str]:
        """Temporal dimensions that a data id names, by themselves or by a column that only they have."""
        universe = self._schema.universe
        named = set()
        for name, value in data_id.items():
            before = name.partition(".")[0]
            if value is None:
                continue
            if before in universe.elements:
                named |= {before for family in self._families if before in family}
            elif not any(column_of(universe[other], name) for other in group.names):
                for family in self._families:
                    named.update([other for other in family if column_of(universe[other], name)][:1])
        return named

    def _timespan(self, session: Session, name: str, values: Mapping[str, DataIdValue]) -> Timespan:
        table, key = self._schema.elements[name], self._schema.element_key(name)

        def build() -> sa.Select[Any]:
            return sa.select(table.c.timespan_begin, table.c.timespan_end).where(
                *[table.c[part] == self._data_ids.dimension_parameter(part) for part in key]
            )

        row = session.row(self._database.prepare(("when", name), build), {f"d_{part}": values[part] for part in key})
        shown = "{" + ", ".join(f"{part}: {values[part]!r}" for part in key) + "}"
        if row is None:
            raise DataIdValueError(f"there is no {name} record for {shown}", hint="check the value", dimension=name)
        if None in row:
            raise DataIdValueError(
                f"the {name} record for {shown} has no timespan, so which calibration is valid is unknown",
                hint="give a timespan",
                dimension=name,
            )
        return Timespan(*row)
