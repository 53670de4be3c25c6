"""Whole dimension records for streams of data ids: each record once a batch, no query for a row."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Session, parameter
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.sky.pixels import pixelization
from pantry.model.data_id import DataCoordinate
from pantry.model.dimensions import DimensionGroup
from pantry.model.records import DimensionRecord
from pantry.wire.operations.registry import RecordTable

_KEYS = 256
"""Records looked up by one statement; fewer are rounded up to powers of two, so that few statements are compiled."""

Key = tuple[Any, ...]


class Expansion:
    """Finds the records of the data ids of one stream.

    Parameters
    ----------
    session : Session
        The stream's.
    schema : Schema
        The tables.
    records : DimensionRecords
        Makes records of rows.
    group : DimensionGroup
        Dimensions of the data ids.
    """

    def __init__(self, session: Session, schema: Schema, records: DimensionRecords, group: DimensionGroup) -> None:
        self._session = session
        self._schema = schema
        self._records = records
        universe = schema.universe
        names = set(group.names)
        self._elements = [
            name
            for name in universe.elements
            # Of an operator's table with several rows for a data id none is the record.
            if set(universe.required(name)) <= names and name not in schema.several
        ]
        self._spatial = {members[0] for members in universe.families(group.required, "spatial").values()}
        self._temporal = {members[0] for members in universe.families(group.required, "temporal").values()}
        # What the batch before had: exposures and detectors go on over many.
        self._held: dict[str, dict[Key, DimensionRecord | None]] = {}

    def tables(self, columns: Mapping[str, Sequence[Any]]) -> list[RecordTable]:
        """Give the records of all elements for a batch.

        Parameters
        ----------
        columns : Mapping of str to sequence
            Values of all dimensions of the group, implied ones too.
        """
        found = []
        for name in self._elements:
            keys = list(zip(*[columns[part] for part in self._schema.universe.required(name)], strict=True))
            there = self._known(name, list(dict.fromkeys(keys)))
            position: dict[Key, int] = {}
            records: list[DimensionRecord] = []
            for key, record in there.items():
                position[key] = len(records) if record is not None else -1
                if record is not None:
                    records.append(record)
            rows = [position[key] for key in keys]
            found.append(RecordTable(name, records, rows, name in self._spatial, name in self._temporal))
        return found

    def one(self, data_id: DataCoordinate) -> DataCoordinate:
        """Give a data id with its implied values its records."""
        tables = self.tables({name: [value] for name, value in data_id.mapping.items()})
        return data_id.expanded(
            {table.element: table.records[0] if table.records else None for table in tables},
            spatial=tuple(table.element for table in tables if table.spatial),
            temporal=tuple(table.element for table in tables if table.temporal),
        )

    def _known(self, name: str, keys: list[Key]) -> dict[Key, DimensionRecord | None]:
        held = self._held.get(name, {})
        lacking = [key for key in keys if key not in held]
        if lacking:
            held = {**held, **dict.fromkeys(lacking)}
            for start in range(0, len(lacking), _KEYS):
                held.update(self._find(name, lacking[start : start + _KEYS]))
        self._held[name] = found = {key: held[key] for key in keys}
        return found

    def _find(self, name: str, keys: Sequence[Key]) -> dict[Key, DimensionRecord]:
        if name in self._schema.universe.skypix:
            return {key: _pixel(name, *key) for key in keys}
        # An implied value that is absent has no record.
        keys = [key for key in keys if None not in key]
        if not keys:
            return {}
        width = 1 << (len(keys) - 1).bit_length()
        statement = self._session.database.prepare(
            ("records by key", self._schema.elements[name], width), functools.partial(self._build, name, width)
        )
        padded = [*keys, *[keys[-1]] * (width - len(keys))]
        values = {f"k{row}_{part}": value for row, key in enumerate(padded) for part, value in enumerate(key)}
        rows = self._session.rows(statement, values)
        length = len(keys[0])
        made = self._records.make(name, [row[length:] for row in rows])
        return {tuple(row[:length]): record for row, record in zip(rows, made, strict=True)}

    def _build(self, name: str, width: int) -> sa.Select[Any]:
        table = self._schema.elements[name]
        own = [table.c[part] for part in self._schema.element_key(name)]
        places = [
            tuple(parameter(f"k{row}_{part}", column.type) for part, column in enumerate(own)) for row in range(width)
        ]
        wanted = sa.values(*[sa.column(f"k{part}", column.type) for part, column in enumerate(own)], name="wanted")
        keys = wanted.data(places).cte("wanted")
        equal = [column == keys.c[f"k{part}"] for part, column in enumerate(own)]
        return sa.select(*own, *self._records.columns(name)).select_from(sa.join(keys, table, sa.and_(*equal)))


def _pixel(name: str, index: int) -> DimensionRecord:
    return DimensionRecord(element=name, values={"id": index}, region=bytes(pixelization(name).pixel(index).encode()))
