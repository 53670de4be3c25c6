"""Datasets: inserted and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.declared import Columns, DeclaredMetadata
from pantry.daemon.registry.definitions import Collection, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import ConstraintError, Database, Session, parameter
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.files import file_columns, file_values, make_file, uuid_bytes
from pantry.daemon.registry.preparation import find_run, same_values
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.staged import stage_ids
from pantry.errors import ConflictError, DatasetExistsError, DimensionNameError
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import StoredFile

NewDataset = tuple[UUID | bytes, DataCoordinate | Sequence[DataIdValue], StoredFile]
"""A dataset's id, its data id (or values in the order of the required dimensions), and its file."""

Insert = tuple[str, str, Sequence[NewDataset], Columns]
"""A run, a dataset type, new datasets and their declared metadata."""

# Below this many, statements per row are quicker than a temporary table.
_FEW = 4
# From this many datasets on, the planner is told how many there are.
_STATISTICS_FROM = 256


class Datasets:
    """Writes datasets.

    Parameters
    ----------
    database, schema
        Where they are.
    definitions : DefinitionsCache
        The writer's own.
    collections : Collections
        Makes runs, and is told what they hold.
    data_ids : DataIds
        Resolves data ids.
    marks : FileMarks
        Says whose files are not theirs alone, and which names are not free.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        collections: Collections,
        data_ids: DataIds,
        marks: FileMarks,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._collections = collections
        self._data_ids = data_ids
        self._marks = marks
        self.declared = DeclaredMetadata(database, schema, definitions)
        self._last = database.compile(sa.select(sa.func.max(schema.dataset.c.id)))

    # -- inserting ---------------------------------------------------------------------------------

    def insert(
        self,
        session: Session,
        run: str,
        dataset_type: str,
        new: Sequence[NewDataset],
        metadata: Columns | None = None,
        *,
        in_place: bool = False,
        marked: bool = True,
    ) -> None:
        """Insert datasets into a run, all or none; see `Registry.insert_datasets`.

        If not ``marked``, the caller says whose files are not theirs alone.
        """
        definitions = self._definitions.current(session)
        known = definitions.dataset_type(dataset_type)
        collection = find_run(definitions, run) or self._collections.register(session, run, CollectionType.RUN, "")
        if not new:
            return
        self._collections.summarize(session, collection, {known.id})
        values = [_required(known, data_id) for _, data_id, _ in new]
        self._marks.require_free(session, [file.path for _, _, file in new])
        rows = [(uuid_bytes(id_), file_values(file)) for id_, _, file in new]
        try:
            if len(new) <= _FEW or not known.group.required:
                data_ids = [self._data_id(session, known, self._data_ids.required(known.group, row)) for row in values]
            else:
                data_ids = self._bulk_data_ids(session, known, values)
            if len(set(data_ids)) != len(data_ids):
                raise DatasetExistsError(f"two of the datasets for {run!r} have the same data id")
            keys = self._add(session, known, collection, data_ids, rows)
            self.declared.insert(session, known, keys, metadata or {})
            if marked and in_place:
                self._marks.mark_in_place(session, keys)
            elif marked and len(new) > 1:
                files = [(id_, file.path) for (id_, _), (_, _, file) in zip(rows, new, strict=True)]
                self._marks.mark(session, files, in_place=False)
        except ConstraintError as exc:
            raise self._clash(run, dataset_type, values, exc) from exc

    def insert_together(self, session: Session, inserts: Iterable[Insert]) -> None:
        """Insert datasets of several types and runs; see `Registry.insert_together`."""
        for one in inserts:
            self.insert(session, *one)

    def _clash(
        self, run: str, dataset_type: str, values: Sequence[Sequence[DataIdValue]], exc: ConstraintError
    ) -> ConflictError:
        if "uuid" in str(exc):
            return ConflictError("a dataset with this id is already in the registry")
        about = f" for {values[0]!r}" if len(values) == 1 else ""
        return DatasetExistsError(
            f"the run {run!r} already has a {dataset_type}{about}",
            hint="datasets are never overwritten: put it into another run",
        )

    def _data_id(self, session: Session, known: KnownType, required: Sequence[DataIdValue]) -> int:
        """Primary key of a data id, which is made if it is new."""
        table = self._schema.data_ids(known.group_id, known.group)
        names = known.group.required
        find = self._database.prepare(
            ("find data id", table),
            lambda: sa.select(table.c.id).where(
                *[table.c[name] == self._data_ids.dimension_parameter(name) for name in names]
            ),
        )
        values = {f"d_{name}": value for name, value in zip(names, required, strict=True)}
        row = session.row(find, values)
        if row is None:
            self._data_ids.expand(session, known.group, dict(zip(names, required, strict=True)))
            row = session.row(
                self._database.prepare(
                    ("add data id", table),
                    lambda: (
                        sa.insert(table)
                        .values({name: self._data_ids.dimension_parameter(name) for name in names})
                        .returning(table.c.id)
                    ),
                ),
                values,
            )
        assert row is not None  # noqa: S101 - found or made
        return int(row[0])

    def _bulk_data_ids(self, session: Session, known: KnownType, values: Sequence[Sequence[DataIdValue]]) -> list[int]:
        staged, table = self._data_ids.stage(session, known, values), self._schema.data_ids(known.group_id, known.group)
        names = known.group.required
        same = same_values(staged, table, names)
        find = self._database.prepare(
            ("find staged", staged),
            lambda: sa.select(table.c.id).join_from(staged, table, same).order_by(staged.c.position),
        )
        found = session.rows(find)
        if len(found) < len(values):
            self._data_ids.check_staged(session, known)
            source = sa.select(*[staged.c[name] for name in names]).where(~sa.exists().where(same)).distinct()
            session.run(
                self._database.prepare(
                    ("add staged", staged), lambda: sa.insert(table).from_select(list(names), source)
                )
            )
            found = session.rows(find)
        return [row[0] for row in found]

    def _add(
        self,
        session: Session,
        known: KnownType,
        run: Collection,
        data_ids: Sequence[int],
        rows: Sequence[tuple[bytes, tuple[Any, ...]]],
    ) -> range:
        # The writer is alone (`Database.writing`): nobody else takes these keys.
        last = session.rows(self._last)[0][0] or 0
        keys = range(last + 1, last + 1 + len(rows))
        database, kind, holder = self._database, known.id, run.id
        session.run_many(
            database.prepare_insert(self._schema.dataset),
            [
                (key, id_, kind, holder, data_id, *file)
                for key, data_id, (id_, file) in zip(keys, data_ids, rows, strict=True)
            ],
        )
        session.run(database.prepare("add members", self._build_members), {"first": keys.start, "last": keys.stop - 1})
        # Each time that there are twice as many.
        if keys.stop >= _STATISTICS_FROM and keys.start.bit_length() < keys.stop.bit_length():
            groups = {one.group_id: one for one in self._definitions.current(session).types.values()}
            tables = [self._schema.data_ids(one.group_id, one.group) for one in groups.values()]
            session.analyze(*self._schema.fixed, *tables)
        return keys

    def _build_members(self) -> sa.Insert:
        """Make the statement that makes new datasets members of their runs."""
        dataset, member = self._schema.dataset, self._schema.membership
        values = {
            "collection_id": dataset.c.run_id,
            "dataset_type_id": dataset.c.dataset_type_id,
            "data_id_id": dataset.c.data_id_id,
            "dataset_id": dataset.c.id,
        }
        new = sa.between(dataset.c.id, parameter("first", sa.BigInteger), parameter("last", sa.BigInteger))
        return sa.insert(member).from_select(list(values), sa.select(*values.values()).where(new))

    # -- deleting ----------------------------------------------------------------------------------

    def delete(self, session: Session, ids: Sequence[UUID | bytes]) -> list[StoredFile]:
        """Delete datasets from all collections; see `Registry.delete_datasets`."""
        staged = stage_ids(session, self._schema, [uuid_bytes(id_) for id_ in ids])
        dataset = self._schema.dataset
        files = session.rows(
            self._database.prepare(
                "staged files",
                lambda: (
                    sa.select(*file_columns(dataset))
                    .join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
                    .order_by(staged.c.position)
                ),
            )
        )
        keys = sa.select(dataset.c.id).join_from(staged, dataset, dataset.c.uuid == staged.c.uuid)
        for table, column in (
            (self._schema.membership, self._schema.membership.c.dataset_id),
            (self._schema.calibration, self._schema.calibration.c.dataset_id),
            (dataset, dataset.c.id),
        ):
            statement = sa.delete(table).where(column.in_(keys))
            session.run(self._database.prepare(("delete staged", table), lambda statement=statement: statement))  # type: ignore[misc]
        return [make_file(row) for row in files]


def _required(known: KnownType, data_id: DataCoordinate | Sequence[DataIdValue]) -> Sequence[DataIdValue]:
    names = known.group.required
    if isinstance(data_id, DataCoordinate):
        if data_id.required_names == names:
            return data_id.required_values
        if set(names) <= set(data_id):
            return [data_id[name] for name in names]  # type: ignore[misc]
    elif len(data_id) == len(names):
        return data_id
    raise DimensionNameError(f"the data id {data_id!r} does not fit", hint=f"needed: {', '.join(names)}")
