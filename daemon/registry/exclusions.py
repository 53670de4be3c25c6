"""Datasets that a query leaves out: written to temporary tables once, then one condition each.

Excluded datasets are taken out before the first of several is looked for, so that the next in the search
order is found in their place, and limits and counts are about what is left.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Definitions, KnownType
from pantry.daemon.registry.engine import Session, parameter
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.schema import Schema
from pantry.errors import DimensionNameError, InvalidRequestError
from pantry.wire.operations.exclusions import MAX_EXCLUDED, MAX_EXCLUDED_GROUPS, ExcludedDataIds, ExcludedDatasets

_RUN = "run_id"


class Exclusions:
    """What one query leaves out.

    Parameters
    ----------
    session : Session
        The query's; the temporary tables live as long as its transaction.
    schema : Schema
        The tables.
    definitions : Definitions
        Dataset types and runs.
    data_ids : DataIds
        Checks values.
    excluded : ExcludedDatasets or None
        As the user gave it.

    Raises
    ------
    MissingDatasetTypeError, DimensionNameError, DataIdValueError
        If a data id cannot be understood.
    InvalidRequestError
        If there are too many.
    """

    def __init__(
        self,
        session: Session,
        schema: Schema,
        definitions: Definitions,
        data_ids: DataIds,
        excluded: ExcludedDatasets | None,
    ) -> None:
        self._session = session
        self._schema = schema
        self._definitions = definitions
        self._data_ids = data_ids
        self._ids: sa.Table | None = None
        self._groups: list[tuple[int, tuple[str, ...], sa.Table]] = []
        if excluded is None:
            return
        _check_size(excluded)
        packed = excluded.ids
        if packed:
            rows = {(packed[offset : offset + 16],) for offset in range(0, len(packed), 16)}
            self._ids = self._stage("ids", [sa.Column("uuid", sa.LargeBinary(16), primary_key=True)], rows)
        for number, group in enumerate(excluded.data_ids):
            self._add(number, group)

    def tests(self, known: KnownType, join: RecordJoin) -> list[sa.ColumnElement[bool]]:
        """Make the conditions that leave datasets of a type out, on a join that has the table of datasets."""
        dataset = self._schema.dataset
        found = []
        if self._ids is not None:
            found.append(_absent(self._ids, {"uuid": dataset.c.uuid}))
        for type_id, dimensions, table in self._groups:
            if type_id == known.id:
                values: dict[str, sa.ColumnElement[Any]] = {name: join.column(name) for name in dimensions}
                if _RUN in table.c:
                    values[_RUN] = dataset.c.run_id
                found.append(_absent(table, values))
        return found

    def _add(self, number: int, group: ExcludedDataIds) -> None:
        known = self._definitions.dataset_type(group.dataset_type)
        for name in group.dimensions:
            if name not in known.group.names:
                raise DimensionNameError(
                    f"exclude: {group.dataset_type!r} has no dimension {name!r}",
                    hint=f"its dimensions: {', '.join(known.group.names)}",
                )
        columns: list[list[Any]] = [
            self._checked(name, values) for name, values in zip(group.dimensions, group.columns, strict=True)
        ]
        made = [self._schema.dimension_column(name, primary_key=True) for name in group.dimensions]
        if group.runs:
            collections = self._definitions.collections
            keys = [collections[name].id if name in collections else None for name in group.runs]
            columns.append([keys[index] for index in group.run_index])
            made.append(sa.Column(_RUN, sa.BigInteger, primary_key=True, autoincrement=False))
        rows = set(zip(*columns, strict=True))
        if group.runs:
            # A run that does not exist has nothing to leave out.
            rows = {row for row in rows if row[-1] is not None}
        self._groups.append((known.id, group.dimensions, self._stage(str(number), made, rows)))

    def _checked(self, name: str, values: list[Any]) -> list[Any]:
        # Long columns have few different values.
        checked = {value: self._data_ids.check_value(name, value) for value in set(values)}
        return [checked[value] for value in values]

    def _stage(self, name: str, columns: list[sa.Column[Any]], rows: set[tuple[Any, ...]]) -> sa.Table:
        # The key is an index of all columns: without one SQLite would read the table for each dataset.
        # Not known to the schema: what users think of to leave out would fill its memory.
        table = sa.Table(
            f"excluded_{name}",
            sa.MetaData(),
            *columns,
            prefixes=["TEMPORARY"],
            postgresql_on_commit="DROP",
            sqlite_with_rowid=False,
        )
        self._session.create(table)
        insert = sa.insert(table).values(
            {column.name: parameter(f"p_{column.name}", column.type) for column in table.c}
        )
        self._session.run_many(self._session.database.compile(insert), list(rows))
        return table


def _absent(table: sa.Table, values: dict[str, sa.ColumnElement[Any]]) -> sa.ColumnElement[bool]:
    same = [table.c[name] == value for name, value in values.items()]
    return ~sa.exists(sa.select(sa.literal(1)).select_from(table).where(*same).correlate_except(table))


def _check_size(excluded: ExcludedDatasets) -> None:
    groups = excluded.data_ids
    lengths = [
        {len(values) for values in group.columns} | ({len(group.run_index)} if group.runs else set())
        for group in groups
    ]
    for group, found in zip(groups, lengths, strict=True):
        indexes = set(group.run_index) if group.runs else set()
        if len(group.columns) != len(group.dimensions) or len(set(group.dimensions)) != len(group.dimensions):
            raise InvalidRequestError("exclude: other columns than dimensions")
        if len(found) != 1 or not all(0 <= index < len(group.runs) for index in indexes):
            raise InvalidRequestError("exclude: columns of different lengths, or none")
    if len(excluded.ids) % 16:
        raise InvalidRequestError("exclude: the ids are no whole number of UUIDs")
    if len(groups) > MAX_EXCLUDED_GROUPS:
        raise InvalidRequestError(
            f"exclude: {len(groups)} kinds of data ids; at most {MAX_EXCLUDED_GROUPS}",
            hint="name the same dimensions for all datasets of a type",
        )
    if len(excluded.ids) // 16 + sum(max(found) for found in lengths) > MAX_EXCLUDED:
        raise InvalidRequestError(f"exclude: more than {MAX_EXCLUDED} entries", hint="leave whole runs or types out")
