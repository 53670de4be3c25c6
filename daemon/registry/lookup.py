"""The hot path: one dataset, by data id or by its own id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, Definitions, KnownType
from pantry.daemon.registry.engine import Database, Prepared, Session, parameter
from pantry.daemon.registry.files import FILE_COLUMNS, file_columns, in_path_order, make_file, shown_name
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.observing import ObservingTimes
from pantry.daemon.registry.schema import Schema
from pantry.errors import ConflictError, InvalidRequestError
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.interpretation import refuse_contradiction
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import FindDataset, FoundDataset

NOTHING = FoundDataset(None, None)
_FILE = 5
"""Number of columns that describe a file."""
_IDS = 256
"""Most ids of one statement."""


class Lookup:
    """Finds single datasets, each with one compiled statement.

    Parameters
    ----------
    database, schema
        Where they are.
    data_ids : DataIds
        Resolves data ids.
    """

    def __init__(self, database: Database, schema: Schema, data_ids: DataIds) -> None:
        self._database = database
        self._schema = schema
        self._data_ids = data_ids
        self._times = ObservingTimes(database, schema, data_ids)

    def find(self, session: Session, definitions: Definitions, query: FindDataset) -> FoundDataset:
        """Find the first dataset in the order of collections; see `Registry.find_dataset`."""
        known = definitions.dataset_type(query.dataset_type)
        if not query.collections:
            raise InvalidRequestError("no collections to search", hint="name them, or give the repository a default")
        group = known.group
        order = definitions.search_order(query.collections, known.id)
        data_id: Mapping[str, object] = query.data_id
        timespan = query.timespan
        timed = query.time_of_data_id and timespan is None
        if timed and any(collection.type is CollectionType.CALIBRATION for collection in order):
            data_id, timespan = self._times.of(session, group, data_id)
        given = self._data_ids.search_values(session, group, data_id)
        if not order:
            return NOTHING
        values: dict[str, Any] = {f"d_{name}": given.dimensions[name] for name in group.required}
        values["kind"] = known.id
        row = self._first(session, known, order, values, timespan)
        if row is None:
            return NOTHING
        count = len(group.required)
        implied = row[4 + _FILE + count :]
        said = {name: given.dimensions[name] for name in group.implied if name in given.dimensions}
        if said:
            refuse_contradiction(
                group, row[4 + _FILE : 4 + _FILE + count], dict(zip(group.implied, implied, strict=True)), said
            )
        return self.found(definitions, known, row)

    def _first(
        self,
        session: Session,
        known: KnownType,
        order: list[Collection],
        values: dict[str, Any],
        timespan: Timespan | None,
    ) -> tuple[Any, ...] | None:
        plain = [collection.id for collection in order if collection.type is not CollectionType.CALIBRATION]
        best: tuple[Any, ...] | None = None
        rank = {collection.id: number for number, collection in enumerate(order)}
        if plain:
            statement = self._member_statement(known, len(plain))
            # Unused places are filled by a collection that does not exist.
            width = padded(len(plain))
            values.update({f"c_{number}": plain[number] if number < len(plain) else -1 for number in range(width)})
            rows = session.rows(statement, values)
            if rows:
                best = min(rows, key=lambda row: rank[row[0]])
        if timespan is None:
            # As in Gen3: without a time there is no answer to what is valid.
            return best
        for collection in order:
            if best is not None and rank[collection.id] > rank[best[0]]:
                break
            if collection.type is CollectionType.CALIBRATION:
                valid = session.rows(
                    self._calibration_statement(known),
                    values | {"holder": collection.id, "begin": timespan.begin_ns, "end": timespan.end_ns},
                )
                if len({row[3] for row in valid}) > 1:
                    raise ConflictError(
                        f"{collection.name!r} has {len(valid)} datasets {known.definition.name} valid in this time",
                        hint="give a shorter timespan",
                    )
                if valid:
                    return valid[0]
        return best

    def _columns(
        self, known: KnownType, table: sa.Table, link: sa.Table, column: str
    ) -> tuple[sa.Select[Any], sa.Table]:
        dataset = self._schema.dataset
        source = sa.join(table, link, link.c.data_id_id == table.c.id).join(dataset, dataset.c.id == link.c.dataset_id)
        join = RecordJoin(
            self._schema, known.group, source, {name: table.c[name] for name in known.group.required}, must_exist=False
        )
        implied = [join.column(name) for name in known.group.implied]
        statement = (
            sa.select(
                link.c[column],
                link.c.data_id_id,
                dataset.c.run_id,
                dataset.c.uuid,
                *file_columns(dataset),
                *[table.c[name] for name in known.group.required],
                *implied,
            )
            .select_from(join.source)
            .where(
                *[table.c[name] == self._data_ids.dimension_parameter(name) for name in known.group.required],
                link.c.dataset_type_id == parameter("kind", sa.BigInteger),
            )
        )
        return statement, link

    def _member_statement(self, known: KnownType, count: int) -> Prepared:
        width = padded(count)
        table = self._schema.data_ids(known.group_id, known.group)

        def build() -> sa.Select[Any]:
            statement, link = self._columns(known, table, self._schema.membership, "collection_id")
            return statement.where(
                link.c.collection_id.in_([parameter(f"c_{number}", sa.BigInteger) for number in range(width)])
            )

        return self._database.prepare(("find", table, width), build)

    def _calibration_statement(self, known: KnownType) -> Prepared:
        table = self._schema.data_ids(known.group_id, known.group)

        def build() -> sa.Select[Any]:
            statement, link = self._columns(known, table, self._schema.calibration, "collection_id")
            return statement.where(
                link.c.collection_id == parameter("holder", sa.BigInteger),
                link.c.begin_ns < parameter("end", sa.BigInteger),
                link.c.end_ns > parameter("begin", sa.BigInteger),
            )

        return self._database.prepare(("valid", table), build)

    def get(self, session: Session, definitions: Definitions, id_: UUID) -> FoundDataset:
        """Find a dataset by its id; see `Registry.get_dataset`."""
        dataset = self._schema.dataset
        place = (dataset.c.dataset_type_id, dataset.c.data_id_id, dataset.c.run_id, dataset.c.uuid)
        statement = self._database.prepare(
            "get dataset",
            lambda: sa.select(*place, *file_columns(dataset)).where(dataset.c.uuid == parameter("id", sa.LargeBinary)),
        )
        row = session.row(statement, {"id": id_.bytes})
        if row is None:
            return NOTHING
        known = definitions.types_by_id[row[0]]
        table = self._schema.data_ids(known.group_id, known.group)

        def build() -> sa.Select[Any]:
            columns = {name: table.c[name] for name in known.group.required}
            join = RecordJoin(self._schema, known.group, table, columns, must_exist=False)
            shown = [join.column(name) for name in known.group.names] or [table.c.id]
            return sa.select(*shown).select_from(join.source).where(table.c.id == parameter("data_id", sa.BigInteger))

        values = session.row(self._database.prepare(("expand", table), build), {"data_id": row[1]}) or ()
        return self.found(definitions, known, row + values[: len(known.group.names)])

    def types(self, session: Session, definitions: Definitions, ids: Sequence[bytes]) -> dict[bytes, DatasetType]:
        """Give the type of each dataset that is there, by its id."""
        found: dict[bytes, DatasetType] = {}
        for start in range(0, len(ids), _IDS):
            part = ids[start : start + _IDS]
            width = padded(len(part))
            statement = self._database.prepare(("types", width), partial(self._types_statement, width))
            # What is left over repeats the last one.
            values = {f"i_{number}": self._raw_id(part[min(number, len(part) - 1)]) for number in range(width)}
            for id_, type_id in session.rows(statement, values):
                if type_id in definitions.types_by_id:
                    found[bytes(id_)] = definitions.types_by_id[type_id].definition
        return found

    def _types_statement(self, width: int) -> sa.Select[Any]:
        dataset = self._schema.dataset
        wanted = [self._id_parameter(f"i_{number}") for number in range(width)]
        return sa.select(dataset.c.uuid, dataset.c.dataset_type_id).where(self._id_column.in_(wanted))

    @property
    def _id_column(self) -> sa.ColumnElement[Any]:
        """The column by which datasets are found by id."""
        return self._schema.dataset.c.uuid

    def _raw_id(self, id_: bytes) -> Any:
        return id_

    def _id_parameter(self, name: str) -> sa.BindParameter[Any]:
        return parameter(name, sa.LargeBinary)

    @staticmethod
    def found(definitions: Definitions, known: KnownType, row: tuple[Any, ...]) -> FoundDataset:
        """Make the answer of a row."""
        group = known.group
        first = 4 + _FILE
        required = row[first : first + len(group.required)]
        file = make_file(row[4:first]) if row[4 + FILE_COLUMNS.index("path")] else None
        ref = DatasetRef(
            id=UUID(bytes=bytes(row[3])),
            dataset_type=known.definition,
            data_id=DataCoordinate(group.required, required, group.implied, row[first + len(group.required) :]),
            run=definitions.collections_by_id[row[2]].name,
        )
        # Imported without its file, or one that the datastore of an attached repository never had.
        name = shown_name(known, in_path_order(known, required), file.path) if file is not None else ""
        return FoundDataset(ref, file, name)


def padded(count: int) -> int:
    """Round up to a power of two, so that few different statements are compiled."""
    return 1 << (count - 1).bit_length()
