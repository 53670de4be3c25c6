"""One dataset of a Gen3 registry."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Definitions, KnownType
from pantry.daemon.registry.engine import Database, Prepared, Session, parameter
from pantry.daemon.registry.files import file_columns
from pantry.daemon.registry.gen3.tables import Gen3Schema
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.lookup import NOTHING, Lookup, padded
from pantry.daemon.registry.members import Members
from pantry.model.datasets import StoredFile
from pantry.model.gen3_names import formatter_of
from pantry.wire.operations.registry import FindDataset, FoundDataset


class Gen3Lookup(Lookup):
    """Finds datasets.

    Parameters
    ----------
    database, schema
        Where they are.
    data_ids : DataIds
        Resolves data ids.
    """

    def __init__(self, database: Database, schema: Gen3Schema, data_ids: DataIds) -> None:
        super().__init__(database, schema, data_ids)
        self._gen3_schema = schema
        dataset = schema.dataset
        self._place = database.compile(
            sa.select(dataset.c.dataset_type_id, dataset.c.run_id).where(dataset.c.id == sa.bindparam("id", None))
        )

    def find(self, session: Session, definitions: Definitions, query: FindDataset) -> FoundDataset:
        """Find the first dataset in the order of collections."""
        return _ours(super().find(session, definitions, query))

    def get(self, session: Session, definitions: Definitions, id_: UUID) -> FoundDataset:
        """Find a dataset by its id."""
        raw = self._gen3_schema.dataset_id(id_.bytes)
        place = session.row(self._place, {"id": raw})
        known = definitions.types_by_id.get(place[0]) if place is not None else None
        if place is None or known is None:
            return NOTHING

        def build() -> sa.Select[Any]:
            statement, _ = self._select(known, [parameter("run", sa.BigInteger)], [])
            return statement.where(self._schema.dataset.c.id == sa.bindparam("id", None))

        row = session.row(self._database.prepare(("get", known.id, known.group), build), {"id": raw, "run": place[1]})
        return NOTHING if row is None else _ours(self.found(definitions, known, row))

    @property
    def _id_column(self) -> sa.ColumnElement[Any]:
        return self._schema.dataset.c.id

    def _raw_id(self, id_: bytes) -> Any:
        return self._gen3_schema.dataset_id(id_)

    def _id_parameter(self, name: str) -> sa.BindParameter[Any]:
        return sa.bindparam(name, None)

    def _select(self, known: KnownType, plain: list[Any], timed: list[Any]) -> tuple[sa.Select[Any], Members]:
        dataset = self._schema.dataset
        members = self._schema.members(known.id, known.group_id, known.group, plain, timed)
        source = sa.join(members.source, dataset, dataset.c.id == members.dataset)
        join = RecordJoin(self._schema, known.group, source, members.values, must_exist=False)
        implied = [join.column(name) for name in known.group.implied]
        statement = sa.select(
            members.collection,
            sa.literal(0),
            dataset.c.run_id,
            dataset.c.uuid,
            *file_columns(dataset),
            *members.values.values(),
            *implied,
        ).select_from(join.source)
        if members.span is not None:
            begin, end = members.span
            statement = statement.where(
                begin < parameter("end", sa.BigInteger), end > parameter("begin", sa.BigInteger)
            )
        return statement, members

    def _of_data_id(self, known: KnownType, plain: list[Any], timed: list[Any]) -> sa.Select[Any]:
        statement, members = self._select(known, plain, timed)
        return statement.where(
            *[column == self._data_ids.dimension_parameter(name) for name, column in members.values.items()]
        )

    def _member_statement(self, known: KnownType, count: int) -> Prepared:
        width = padded(count)
        holders = [parameter(f"c_{number}", sa.BigInteger) for number in range(width)]
        return self._database.prepare(
            ("find", known.id, known.group, width), lambda: self._of_data_id(known, holders, [])
        )

    def _calibration_statement(self, known: KnownType) -> Prepared:
        holder = [parameter("holder", sa.BigInteger)]
        return self._database.prepare(("valid", known.id, known.group), lambda: self._of_data_id(known, [], holder))


def our_file(file: StoredFile) -> StoredFile:
    """Name the formatter of ours that reads a file."""
    return msgspec.structs.replace(file, formatter=formatter_of(file.formatter, file.path))


def _ours(found: FoundDataset) -> FoundDataset:
    if found.file is None:
        return found
    # A composite taken apart, or a dataset that the datastore never had.
    file = our_file(found.file) if found.file.path else None
    return FoundDataset(found.ref, file, found.name)
