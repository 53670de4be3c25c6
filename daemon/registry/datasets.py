"""Datasets: prepared, inserted and deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.data_ids import DataIds, refuse_contradiction
from pantry.daemon.registry.definitions import Collection, Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import ConstraintError, Database, Session, parameter
from pantry.daemon.registry.files import (
    file_columns,
    file_values,
    make_file,
    path_of,
    uuid_bytes,
)
from pantry.daemon.registry.schema import Schema
from pantry.errors import CollectionTypeError, ConflictError, DatasetExistsError, DimensionNameError
from pantry.model import naming
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetType, StoredFile
from pantry.model.storage import storage_class

NewDataset = tuple[UUID | bytes, DataCoordinate | Sequence[DataIdValue], StoredFile]
"""A dataset's id, its data id (or values in the order of the required dimensions), and its file."""

# Below this many, statements per row are quicker than a temporary table.
_FEW = 4


class PreparedPut(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that may be stored.

    Attributes
    ----------
    dataset_type : DatasetType
        With complete dimensions.
    data_id : DataCoordinate
        With implied values.
    path : str
        Where its file goes, relative to the repository's root.
    run_exists : bool
        Whether the run is registered; `Registry.insert_datasets` makes it if not.
    """

    dataset_type: DatasetType
    data_id: DataCoordinate
    path: str
    run_exists: bool


class PreparedIngest(msgspec.Struct, frozen=True, kw_only=True):
    """Datasets that may be stored, by columns in the order of the rows given.

    Attributes
    ----------
    dataset_type : DatasetType
        With complete dimensions.
    required, implied : tuple of str
        Names of the dimensions.
    values, implied_values : list of tuple
        For each row, the values of the required and of the implied dimensions.
    paths : list of str
        Where a file goes that is copied in, relative to the repository's root.
    exists : list of bool
        Whether the run already has a dataset of this data id.
    run_exists : bool
        Whether the run is registered.
    """

    dataset_type: DatasetType
    required: tuple[str, ...]
    implied: tuple[str, ...]
    values: list[tuple[DataIdValue, ...]]
    implied_values: list[tuple[DataIdValue | None, ...]]
    paths: list[str]
    exists: list[bool]
    run_exists: bool


class Datasets:
    """Checks and writes datasets.

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
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        collections: Collections,
        data_ids: DataIds,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._collections = collections
        self._data_ids = data_ids
        self._last = database.compile(sa.select(sa.func.max(schema.dataset.c.id)))

    # -- preparing ---------------------------------------------------------------------------------

    def prepare_put(
        self,
        session: Session,
        definitions: Definitions,
        dataset_type: str,
        run: str,
        data_id: Mapping[str, object],
        extension: str | None,
    ) -> PreparedPut:
        """Resolve and check one data id; see `Registry.prepare_put`."""
        known = definitions.dataset_type(dataset_type)
        collection = _run(definitions, run)
        expanded = self._data_ids.expand(session, known.group, data_id)
        if collection is not None and self._has(session, known, collection, expanded.required_values):
            raise DatasetExistsError(
                f"the run {run!r} already has a {dataset_type} for {expanded.required!r}",
                hint="datasets are never overwritten: put it into another run",
            )
        suffix = storage_class(known.definition.storage_class).extension if extension is None else extension
        return PreparedPut(
            dataset_type=known.definition,
            data_id=expanded,
            path=path_of(known, run, expanded.required_values, suffix),
            run_exists=collection is not None,
        )

    def _has(self, session: Session, known: KnownType, run: Collection, required: Sequence[DataIdValue]) -> bool:
        table, member = self._schema.data_ids(known.group_id, known.group), self._schema.membership
        statement = self._database.prepare(
            ("has", table),
            lambda: (
                sa.select(member.c.dataset_id)
                .join_from(table, member, member.c.data_id_id == table.c.id)
                .where(
                    *[table.c[name] == self._data_ids.dimension_parameter(name) for name in known.group.required],
                    member.c.collection_id == parameter("collection", sa.BigInteger),
                    member.c.dataset_type_id == parameter("kind", sa.BigInteger),
                )
            ),
        )
        values: dict[str, Any] = {
            f"d_{name}": value for name, value in zip(known.group.required, required, strict=True)
        }
        return session.row(statement, values | {"collection": run.id, "kind": known.id}) is not None

    def prepare_ingest(
        self,
        session: Session,
        definitions: Definitions,
        dataset_type: str,
        run: str,
        dimensions: Sequence[str],
        rows: Sequence[Sequence[DataIdValue]],
        extensions: Sequence[str | None] | None,
    ) -> PreparedIngest:
        """Resolve and check many data ids; see `Registry.prepare_ingest`."""
        known = definitions.dataset_type(dataset_type)
        collection = _run(definitions, run)
        columns = self._columns(known, dimensions, rows)
        values: list[tuple[DataIdValue, ...]] = (
            list(zip(*[columns[name] for name in known.group.required], strict=True))
            if known.group.required
            else [()] * len(rows)
        )
        self._data_ids.stage(session, known, values)
        implied_values = self._data_ids.check_staged(session, known, known.group.implied) or [()] * len(rows)
        for name in known.group.implied:
            if name in columns:
                self._refuse_contradictions(known, name, columns[name], values, implied_values)
        exists = [False] * len(rows)
        if collection is not None:
            for (position,) in self._staged_members(session, known, collection):
                exists[position] = True
        default = storage_class(known.definition.storage_class).extension
        suffixes = (
            [default if suffix is None else suffix for suffix in extensions] if extensions else [default] * len(rows)
        )
        return PreparedIngest(
            dataset_type=known.definition,
            required=known.group.required,
            implied=known.group.implied,
            values=values,
            implied_values=implied_values,
            paths=_paths(known, run, values, suffixes),
            exists=exists,
            run_exists=collection is not None,
        )

    def _columns(
        self, known: KnownType, dimensions: Sequence[str], rows: Sequence[Sequence[DataIdValue]]
    ) -> dict[str, list[DataIdValue]]:
        group = known.group
        unknown = [name for name in dimensions if name not in group.names]
        missing = [name for name in group.required if name not in dimensions]
        if unknown or missing or len(set(dimensions)) != len(dimensions):
            raise DimensionNameError(
                f"{known.definition.name} cannot be ingested by the dimensions {', '.join(dimensions)}",
                hint=f"needed: {', '.join(group.required)}; possible too: {', '.join(group.implied)}",
            )
        for number, row in enumerate(rows):
            if len(row) != len(dimensions):
                raise DimensionNameError(f"item {number} has {len(row)} values for {len(dimensions)} dimensions")
        columns: dict[str, list[DataIdValue]] = {}
        for number, name in enumerate(dimensions):
            given = [row[number] for row in rows]
            # A file's name occurs once, an instrument's ten thousand times: check what is distinct.
            checked = {value: self._data_ids.check_value(name, value) for value in set(given)}
            columns[name] = [checked[value] for value in given]
        return columns

    def _refuse_contradictions(
        self,
        known: KnownType,
        name: str,
        said: Sequence[DataIdValue],
        values: Sequence[tuple[DataIdValue, ...]],
        implied_values: Sequence[tuple[DataIdValue | None, ...]],
    ) -> None:
        number = known.group.implied.index(name)
        for value, required, row in zip(said, values, implied_values, strict=True):
            if row[number] != value:
                refuse_contradiction(known.group, required, {name: row[number]}, {name: value})

    def _staged_members(self, session: Session, known: KnownType, run: Collection) -> list[tuple[Any, ...]]:
        """Positions of staged data ids for which a run has a dataset, in their order."""
        staged, member = self._data_ids.staged(known), self._schema.membership
        table = self._schema.data_ids(known.group_id, known.group)
        statement = self._database.prepare(
            ("staged members", staged),
            lambda: (
                sa.select(staged.c.position)
                .join_from(staged, table, _same(staged, table, known.group.required))
                .join(member, member.c.data_id_id == table.c.id)
                .where(
                    member.c.collection_id == parameter("collection", sa.BigInteger),
                    member.c.dataset_type_id == parameter("kind", sa.BigInteger),
                )
                .order_by(staged.c.position)
            ),
        )
        return session.rows(statement, {"collection": run.id, "kind": known.id})

    # -- inserting ---------------------------------------------------------------------------------

    def insert(self, session: Session, run: str, dataset_type: str, new: Sequence[NewDataset]) -> None:
        """Insert datasets into a run, all or none; see `Registry.insert_datasets`."""
        definitions = self._definitions.current(session)
        known = definitions.dataset_type(dataset_type)
        collection = _run(definitions, run) or self._collections.register(session, run, CollectionType.RUN, "")
        if not new:
            return
        self._collections.summarize(session, collection, {known.id})
        values = [_required(known, data_id) for _, data_id, _ in new]
        rows = [(uuid_bytes(id_), file_values(file)) for id_, _, file in new]
        try:
            if len(new) <= _FEW or not known.group.required:
                data_ids = [self._data_id(session, known, self._data_ids.required(known.group, row)) for row in values]
            else:
                data_ids = self._bulk_data_ids(session, known, values)
            if len(set(data_ids)) != len(data_ids):
                raise DatasetExistsError(f"two of the datasets for {run!r} have the same data id")
            self._add(session, known, collection, data_ids, rows)
        except ConstraintError as exc:
            raise self._clash(run, dataset_type, values, exc) from exc

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
        same = _same(staged, table, names)
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
    ) -> None:
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
        session.run_many(
            database.prepare_insert(self._schema.membership),
            [(holder, kind, data_id, key) for key, data_id in zip(keys, data_ids, strict=True)],
        )

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


def stage_ids(session: Session, schema: Schema, ids: Sequence[bytes]) -> sa.Table:
    """Write dataset ids into a temporary table, each once."""
    staged = schema.staged_ids
    session.create_temporary(staged)
    session.run_many(session.database.prepare_insert(staged), list(enumerate(dict.fromkeys(ids))))
    return staged


def _run(definitions: Definitions, name: str) -> Collection | None:
    collection = definitions.collections.get(name)
    if collection is None:
        check_collection_name(name)
    elif collection.type is not CollectionType.RUN:
        raise CollectionTypeError(f"datasets are stored in RUN collections, and {name!r} is {collection.type}")
    return collection


def _same(one: sa.Table, other: sa.Table, names: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(sa.true(), *[one.c[name] == other.c[name] for name in names])


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


def _paths(known: KnownType, run: str, values: Sequence[Sequence[DataIdValue]], suffixes: Sequence[str]) -> list[str]:
    """Do what `path_of` does, for many: the parts of names are quoted once per distinct value."""
    name = known.definition.name
    order = [known.group.required.index(dimension) for dimension in known.path_order]
    if not order:
        return [path_of(known, run, (), suffix) for suffix in suffixes]
    quoted = [{value: naming.quote_value(value) for value in {row[number] for row in values}} for number in order]
    columns = [[names[row[number]] for row in values] for number, names in zip(order, quoted, strict=True)]
    head = f"{run}/{name}/"
    return [
        head + "".join([part + "/" for part in parts[:-1]]) + name + "_" + "_".join(parts) + suffix
        for *parts, suffix in zip(*columns, suffixes, strict=True)
    ]
