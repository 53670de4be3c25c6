"""What another repository exported, into a registry: datasets with their ids, members of collections, chains.

All may be asked again: what is there and equal is passed over, what contradicts is an error that names it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.dataset_types import DatasetTypes
from pantry.daemon.registry.datasets import Datasets, NewDataset
from pantry.daemon.registry.declared import Columns
from pantry.daemon.registry.definitions import Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.files import FILE_COLUMNS, file_values, uuid_bytes
from pantry.daemon.registry.preparation import same_values
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_ids
from pantry.errors import ConflictError, ConflictingDefinitionError, DimensionNameError, InvalidRequestError
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType, StoredFile
from pantry.wire.operations.importing import (
    IS_NEW,
    IS_STORED,
    IS_WITHOUT_FILE,
    ImportDatasets,
    ImportDefinitions,
)


class Lacking(NamedTuple):
    """A registered dataset that gets the file that it lacks; ``metadata`` by entry."""

    id: bytes
    file: StoredFile


class ImportedDatasets:
    """Writes imported definitions, datasets and chains.

    Parameters
    ----------
    database, schema
        Where it goes.
    definitions : DefinitionsCache
        The writer's own.
    collections, dataset_types, datasets
        Write what they are of.
    data_ids : DataIds
        Checks values.
    marks : FileMarks
        Says whose files are not theirs alone.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        collections: Collections,
        dataset_types: DatasetTypes,
        datasets: Datasets,
        data_ids: DataIds,
        marks: FileMarks,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._collections = collections
        self._dataset_types = dataset_types
        self._datasets = datasets
        self._data_ids = data_ids
        self._marks = marks

    # -- definitions -------------------------------------------------------------------------------

    def complete(self, asked: ImportDefinitions) -> list[DatasetType]:
        """Check dataset types and give them with all their dimensions."""
        return [self._dataset_types.complete(one) for one in asked.dataset_types]

    def define(self, session: Session, dataset_types: Sequence[DatasetType], asked: ImportDefinitions) -> int:
        """Register complete dataset types and collections; give how many are new."""
        new = 0
        for dataset_type in dataset_types:
            known = self._definitions.current(session).types.get(dataset_type.name)
            # Which metadata a type declares is the repository's own affair.
            if known is not None and _plain(known.definition) == _plain(dataset_type):
                continue
            new += self._dataset_types.register(session, dataset_type)[1]
        for collection in asked.collections:
            new += collection.name not in self._definitions.current(session).collections
            self._collections.register(session, collection.name, CollectionType(collection.type), collection.doc)
        return new

    # -- datasets ----------------------------------------------------------------------------------

    def standings(self, session: Session, definitions: Definitions, asked: ImportDatasets) -> bytes:
        """Say how datasets stand in the registry.

        Raises
        ------
        ConflictError
            If one of the ids is another dataset's here, or the run has another dataset of the same data id.
        """
        ids = [asked.ids[start : start + 16] for start in range(0, len(asked.ids), 16)]
        if len(set(ids)) != len(ids):
            raise InvalidRequestError(f"two datasets of {asked.dataset_type!r} in {asked.run!r} have the same id")
        known = definitions.types.get(asked.dataset_type)
        run = definitions.collections.get(asked.run)
        keys = self._data_id_keys(session, known, asked) if known is not None else {}
        found = bytearray(len(ids))
        for position, type_id, run_id, data_id, path in self._registered(session, ids):
            same = known is not None and run is not None and (type_id, run_id) == (known.id, run.id)
            if not same or keys.get(position) != data_id:
                self._refuse_id(definitions, asked, ids[position], type_id, run_id, position)
            found[position] = IS_STORED if path else IS_WITHOUT_FILE
        if known is not None and run is not None:
            for position, other in self._in_run(session, known, run.id):
                if found[position] == IS_NEW:
                    raise ConflictError(
                        f"the run {asked.run!r} has another {asked.dataset_type} for "
                        f"{_show(asked.dimensions, asked.items[position].values)}: {UUID(bytes=bytes(other))}, not "
                        f"{UUID(bytes=ids[position])}",
                        hint="one run holds one dataset of a type and data id",
                    )
        return bytes(found)

    def _data_id_keys(self, session: Session, known: KnownType, asked: ImportDatasets) -> dict[int, int]:
        """Stage the data ids and give the primary keys of those that are known, by position."""
        names = known.group.required
        missing = [name for name in names if name not in asked.dimensions]
        if missing or any(len(item.values) != len(asked.dimensions) for item in asked.items):
            raise DimensionNameError(
                f"the data ids of {known.definition.name} lack {', '.join(missing) or 'values'}",
                hint=f"needed: {', '.join(names)}",
            )
        places = [asked.dimensions.index(name) for name in names]
        rows = [self._data_ids.required(known.group, [item.values[place] for place in places]) for item in asked.items]
        if len(set(rows)) != len(rows):
            raise ConflictError(f"two datasets of {asked.dataset_type!r} in {asked.run!r} have the same data id")
        staged, table = self._data_ids.stage(session, known, rows), self._table(known)
        statement = self._database.prepare(
            ("import data ids", staged),
            lambda: sa.select(staged.c.position, table.c.id).join_from(
                staged, table, same_values(staged, table, names)
            ),
        )
        return dict(session.rows(statement))

    def _table(self, known: KnownType) -> sa.Table:
        return self._schema.data_ids(known.group_id, known.group)

    def _registered(self, session: Session, ids: Sequence[bytes]) -> list[tuple[Any, ...]]:
        staged, dataset = stage_ids(session, self._schema, ids), self._schema.dataset
        columns = [dataset.c[name] for name in ("dataset_type_id", "run_id", "data_id_id", "path")]
        return session.rows(
            self._database.prepare(
                "import registered",
                lambda: (
                    sa.select(staged.c.position, *columns)
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .order_by(staged.c.position)
                ),
            )
        )

    def _refuse_id(
        self,
        definitions: Definitions,
        asked: ImportDatasets,
        id_: bytes,
        type_id: int,
        run_id: int,
        position: int,
    ) -> None:
        kind, run = definitions.types_by_id[type_id].definition.name, definitions.collections_by_id[run_id].name
        raise ConflictError(
            f"the id {UUID(bytes=id_)} is that of a {kind} in {run!r} here, and in the export that of a "
            f"{asked.dataset_type} in {asked.run!r} for {_show(asked.dimensions, asked.items[position].values)}",
            hint="" if (kind, run) != (asked.dataset_type, asked.run) else "its data id is another one here",
        )

    def _in_run(self, session: Session, known: KnownType, run: int) -> list[tuple[Any, ...]]:
        """Positions of staged data ids for which a run has a dataset, with its id."""
        staged, table = self._data_ids.staged(known), self._table(known)
        member, dataset = self._schema.membership, self._schema.dataset
        statement = self._database.prepare(
            ("import in run", staged),
            lambda: (
                sa.select(staged.c.position, dataset.c.uuid)
                .join_from(staged, table, same_values(staged, table, known.group.required))
                .join(member, member.c.data_id_id == table.c.id)
                .join(dataset, dataset.c.id == member.c.dataset_id)
                .where(
                    member.c.collection_id == parameter("collection", sa.BigInteger),
                    member.c.dataset_type_id == parameter("kind", sa.BigInteger),
                )
                .order_by(staged.c.position)
            ),
        )
        return session.rows(statement, {"collection": run, "kind": known.id})

    def insert(
        self,
        session: Session,
        run: str,
        dataset_type: str,
        new: Sequence[NewDataset],
        lacking: Sequence[Lacking],
        metadata: tuple[Columns, Columns],
        *,
        in_place: bool = False,
    ) -> None:
        """Insert new datasets and give those that lack one their file, all or none.

        ``metadata`` is of the new ones, then of the others.
        """
        if new:
            self._datasets.insert(session, run, dataset_type, new, metadata[0], marked=False)
        if lacking:
            self._fill(session, dataset_type, lacking, metadata[1])
        files = [(uuid_bytes(id_), file.path) for id_, _, file in new]
        self._marks.mark(session, files + [(one.id, one.file.path) for one in lacking], in_place=in_place)

    def _fill(self, session: Session, dataset_type: str, lacking: Sequence[Lacking], metadata: Columns) -> None:
        """Give datasets the file that they lack."""
        self._marks.require_free(session, [one.file.path for one in lacking])
        dataset = self._schema.dataset
        without = self._schema.dataset.c.path == ""
        stage_ids(session, self._schema, [one.id for one in lacking])
        staged = self._schema.staged_ids
        count = self._database.prepare(
            "import lacking",
            lambda: (
                sa.select(sa.func.count())
                .select_from(sa.join(staged, dataset, dataset.c.uuid == staged.c.uuid))
                .where(without)
            ),
        )
        if session.rows(count)[0][0] != len(lacking):
            raise ConflictError("another import gave datasets their files meanwhile", hint="import again")
        update = self._database.prepare(
            "import files",
            lambda: (
                sa.update(dataset)
                .where(dataset.c.uuid == parameter("which", sa.LargeBinary))
                .values({name: parameter(f"new_{name}", dataset.c[name].type) for name in FILE_COLUMNS})
            ),
        )
        names = update.names
        rows = []
        for one in lacking:
            values = dict(zip([f"new_{name}" for name in FILE_COLUMNS], file_values(one.file), strict=True))
            values["which"] = one.id
            rows.append([values[name] for name in names])
        session.run_many(update, rows)
        if self._definitions.current(session).dataset_type(dataset_type).definition.metadata:
            self._datasets.declared.record(session, dataset_type, [one.id for one in lacking], metadata)

    # -- chains ------------------------------------------------------------------------------------

    def chain(self, session: Session, chains: Mapping[str, Sequence[str]]) -> None:
        """Give chains without children theirs; those that have some must have the same.

        Raises
        ------
        ConflictingDefinitionError
            If a chain has others.
        """
        for name, children in chains.items():
            definitions = self._definitions.current(session)
            parent = definitions.collection(name)
            now = [definitions.collections_by_id[child].name for child in parent.children]
            if now == list(dict.fromkeys(children)):
                continue
            if now:
                raise ConflictingDefinitionError(
                    f"the chain {name!r} is {', '.join(now)} here and {', '.join(children)} in the export", name=name
                )
            self._collections.redefine_chain(session, name, children)


def _plain(dataset_type: DatasetType) -> tuple[object, ...]:
    return dataset_type.name, dataset_type.dimensions, dataset_type.storage_class, dataset_type.is_calibration


def _show(names: Sequence[str], values: Sequence[DataIdValue]) -> str:
    return "{" + ", ".join(f"{name}: {value!r}" for name, value in zip(names, values, strict=False)) + "}"
