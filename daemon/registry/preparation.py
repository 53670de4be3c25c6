"""What is checked before datasets are stored, and where their files go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, Definitions, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.placing import Placing
from pantry.daemon.registry.schema import Schema
from pantry.errors import CollectionTypeError, ConfigError, DatasetExistsError, DimensionNameError, InvalidRequestError
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.formats import Formats, StoredForm, check_extension, stored_form, usual_extension
from pantry.model.interpretation import refuse_contradiction


class PutWish(NamedTuple):
    """A dataset that somebody wants to store; fields as of `Registry.prepare_put`."""

    dataset_type: str
    run: str
    data_id: Mapping[str, object]
    extension: str | None = None
    formatter: str = ""


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
    form : StoredForm
        How it is stored.
    run_exists : bool
        Whether the run is registered; `Registry.insert_datasets` makes it if not.
    """

    dataset_type: DatasetType
    data_id: DataCoordinate
    path: str
    form: StoredForm
    run_exists: bool


class PreparedIngest(msgspec.Struct, frozen=True, kw_only=True):
    """Datasets that may be stored, by columns in the order of the rows given.

    Attributes
    ----------
    dataset_type : DatasetType
        With complete dimensions.
    required : tuple of str
        Names of the dimensions.
    values : list of tuple
        For each row, the values of the required dimensions.
    paths : list of str
        Where a file goes that is copied in, relative to the repository's root; empty if that was not asked.
    form : StoredForm
        How datasets of this type are stored, if nothing else is said.
    exists : list of bool
        Whether the run already has a dataset of this data id.
    run_exists : bool
        Whether the run is registered.
    """

    dataset_type: DatasetType
    required: tuple[str, ...]
    values: list[tuple[DataIdValue, ...]]
    paths: list[str]
    form: StoredForm
    exists: list[bool]
    run_exists: bool


class Preparation:
    """Checks datasets before their files are stored.

    Parameters
    ----------
    database, schema
        Where the rows are.
    data_ids : DataIds
        Resolves data ids.
    placing : Placing
        Decides paths.
    marks : FileMarks
        Knows which names of files are not free.

    Attributes
    ----------
    formats : tuple of Formats
        What the repository says of formats.
    """

    def __init__(
        self, database: Database, schema: Schema, data_ids: DataIds, placing: Placing, marks: FileMarks
    ) -> None:
        self.placing = placing
        self._marks = marks
        self._database = database
        self._schema = schema
        self._data_ids = data_ids
        self.formats: tuple[Formats, ...] = ()

    def put(self, session: Session, definitions: Definitions, wish: PutWish) -> PreparedPut:
        """Resolve and check one data id; see `Registry.prepare_put`."""
        known, run = definitions.dataset_type(wish.dataset_type), wish.run
        expanded = self.expand(session, definitions, known, run, wish.data_id)
        form = self._form(known, wish.formatter, wish.extension)
        (path,) = self.placing.paths(
            known, run, [expanded.required_values], [_implied(known, expanded)], [form.extension]
        )
        self._marks.require_free(session, [path])
        return PreparedPut(
            dataset_type=known.definition,
            data_id=expanded,
            path=path,
            form=form,
            run_exists=run in definitions.collections,
        )

    def expand(
        self,
        session: Session,
        definitions: Definitions,
        known: KnownType,
        run: str,
        data_id: Mapping[str, object],
    ) -> DataCoordinate:
        """Complete a data id; of a run that is given check that it may have a dataset of it, and has none."""
        collection = find_run(definitions, run) if run else None
        expanded = self._data_ids.expand(session, known.group, data_id)
        if collection is not None and self._has(session, known, collection, expanded.required_values):
            raise DatasetExistsError(
                f"the run {run!r} already has a {known.definition.name} for {expanded.required!r}",
                hint="datasets are never overwritten: put it into another run",
            )
        return expanded

    def _form(self, known: KnownType, formatter: str = "", extension: str | None = None) -> StoredForm:
        form = stored_form(known.definition.name, known.definition.storage_class, self.formats)
        if formatter and formatter != form.formatter:
            form = msgspec.structs.replace(form, formatter=formatter, extension=usual_extension(formatter), write={})
        if extension is not None:
            form = msgspec.structs.replace(form, extension=extension)
        _check_suffix(form.extension)
        return form

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

    def ingest(
        self,
        session: Session,
        definitions: Definitions,
        dataset_type: str,
        run: str,
        dimensions: Sequence[str],
        rows: Sequence[Sequence[DataIdValue]],
        extensions: Sequence[str | None] | None,
        *,
        named: bool,
    ) -> PreparedIngest:
        """Resolve and check many data ids; see `Registry.prepare_ingest`."""
        known = definitions.dataset_type(dataset_type)
        collection = find_run(definitions, run)
        columns = self._columns(known, dimensions, rows)
        values: list[tuple[DataIdValue, ...]] = (
            list(zip(*[columns[name] for name in known.group.required], strict=True))
            if known.group.required
            else [()] * len(rows)
        )
        self._data_ids.stage(session, known, values)
        # Implied values are looked up for whoever said them, and for templates.
        templated = self.placing.has_template(known)
        implied = [name for name in known.group.implied if templated or name in columns]
        found = self._data_ids.check_staged(session, known, implied)
        for number, name in enumerate(implied):
            if name in columns:
                self._refuse_contradictions(known, name, columns[name], values, [row[number] for row in found])
        exists = [False] * len(rows)
        if collection is not None:
            for (position,) in self._staged_members(session, known, collection):
                exists[position] = True
        form = self._form(known)
        default = form.extension
        suffixes = (
            [default if suffix is None else suffix for suffix in extensions] if extensions else [default] * len(rows)
        )
        for suffix in set(suffixes):
            _check_suffix(suffix)
        paths = self.placing.paths(known, run, values, found, suffixes) if named or templated else []
        if named:
            self._marks.require_free(session, paths)
        return PreparedIngest(
            dataset_type=known.definition,
            required=known.group.required,
            values=values,
            paths=paths,
            form=form,
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
        recorded: Sequence[DataIdValue | None],
    ) -> None:
        for value, required, record in zip(said, values, recorded, strict=True):
            if record != value:
                refuse_contradiction(known.group, required, {name: record}, {name: value})

    def _staged_members(self, session: Session, known: KnownType, run: Collection) -> list[tuple[Any, ...]]:
        """Positions of staged data ids for which a run has a dataset, in their order."""
        staged, member = self._data_ids.staged(known), self._schema.membership
        table = self._schema.data_ids(known.group_id, known.group)
        statement = self._database.prepare(
            ("staged members", staged),
            lambda: (
                sa.select(staged.c.position)
                .join_from(staged, table, same_values(staged, table, known.group.required))
                .join(member, member.c.data_id_id == table.c.id)
                .where(
                    member.c.collection_id == parameter("collection", sa.BigInteger),
                    member.c.dataset_type_id == parameter("kind", sa.BigInteger),
                )
                .order_by(staged.c.position)
            ),
        )
        return session.rows(statement, {"collection": run.id, "kind": known.id})


def _implied(known: KnownType, data_id: DataCoordinate) -> list[DataIdValue | None]:
    return [data_id.get(name) for name in known.group.implied]


def _check_suffix(suffix: str) -> None:
    # It becomes a part of a path.
    try:
        check_extension(suffix, "extension")
    except ConfigError as exc:
        raise InvalidRequestError(exc.message, hint=exc.hint) from None


def find_run(definitions: Definitions, name: str) -> Collection | None:
    """Return a RUN collection, or None if there is none of this name yet."""
    collection = definitions.collections.get(name)
    if collection is None:
        check_collection_name(name)
    elif collection.type is not CollectionType.RUN:
        raise CollectionTypeError(f"datasets are stored in RUN collections, and {name!r} is {collection.type}")
    return collection


def same_values(one: sa.Table, other: sa.Table, names: Sequence[str]) -> sa.ColumnElement[bool]:
    """Give the condition that two tables have the same values of dimensions."""
    return sa.and_(sa.true(), *[one.c[name] == other.c[name] for name in names])
