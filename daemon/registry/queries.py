"""Streams of datasets, data ids and dimension records.

Rows stay columns from the cursor to the wire. An iterator holds a connection and a read transaction
from its first batch to its last, or until it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, Definitions, DefinitionsCache, KnownType, is_glob
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database
from pantry.daemon.registry.expressions import Names, UnknownNameError, compile_expression
from pantry.daemon.registry.files import FILE_COLUMNS, file_columns, in_path_order, make_file, shown_name
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.schema import Schema
from pantry.errors import CollectionTypeError, DimensionNameError, InvalidQueryError, InvalidRequestError
from pantry.model.collections import CollectionType
from pantry.model.datasets import StoredFile
from pantry.model.dimensions import DimensionGroup
from pantry.model.naming import directory_parts
from pantry.wire.operations.registry import (
    DataIdBatch,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
    RecordBatch,
    RefBatch,
)

BATCH_ROWS = 5_000
_RECORD_BATCH_ROWS = 1_000
Query = QueryDatasets | QueryDataIds | QueryDimensionRecords
T = TypeVar("T")


class NamedFile(NamedTuple):
    """A dataset's file, and its path in the mounted view below the repository's directory."""

    file: StoredFile
    name: str


class Queries:
    """Plans and runs queries.

    Parameters
    ----------
    database, schema
        Where the rows are.
    definitions : DefinitionsCache
        Collections and dataset types.
    data_ids : DataIds
        Interprets data ids.
    records : DimensionRecords
        Makes records of rows.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        data_ids: DataIds,
        records: DimensionRecords,
    ) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._data_ids = data_ids
        self._records = records

    # -- what all have in common -------------------------------------------------------------------

    def _conditions(self, query: Query, join: RecordJoin) -> list[sa.ColumnElement[bool]]:
        """Conditions from ``data_id`` and ``where``."""
        strange = [
            name for name in query.data_id if name in self._schema.universe.elements and name not in join.group.names
        ]
        if strange:
            raise DimensionNameError(
                f"{', '.join(strange)} cannot constrain what has the dimensions {', '.join(join.group.names)}"
            )
        given = self._data_ids.interpret(join.group, query.data_id)
        tests = [join.column(name) == _literal(join.column(name), value) for name, value in given.dimensions.items()]
        for (element, name), value in given.fields.items():
            column = join.element(element).c[name]
            tests.append(column == _literal(column, value))
        if query.where.strip():
            tests.append(compile_expression(self._database, Names(join), query.where, query.bind))
        return tests

    def _order(self, query: Query, join: RecordJoin) -> list[tuple[sa.ColumnElement[Any], bool]]:
        """Columns to sort by, and whether from high to low."""
        names = Names(join)
        found = []
        for term in query.order_by:
            descending = term.startswith("-")
            try:
                found.append((names.resolve(term.removeprefix("-")).column, descending))
            except UnknownNameError as exc:
                raise InvalidQueryError(f"order_by: {exc}", hint=exc.hint) from None
        return found

    # -- datasets ----------------------------------------------------------------------------------

    def datasets(self, query: QueryDatasets) -> Iterator[RefBatch]:
        """Find datasets by type, in batches; see `Registry.query_datasets`."""
        return self._each_type(query, self._refs, with_files=False)

    def files(self, query: QueryDatasets) -> Iterator[list[NamedFile]]:
        """Find the files of datasets, in batches; see `Registry.query_files`."""
        return self._each_type(query, self._files, with_files=True)

    def _each_type(
        self,
        query: QueryDatasets,
        shape: Callable[[Definitions, KnownType, list[tuple[Any, ...]], bool], T],
        *,
        with_files: bool,
    ) -> Iterator[T]:
        _check_limit(query.limit)
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            _need_collections(query.collections)
            left = query.limit
            refusal: Exception | None = None
            planned = 0
            for known in definitions.match_types(query.dataset_types):
                order = definitions.search_order(query.collections, known.id)
                if not query.find_first or not any(c.type is CollectionType.CALIBRATION for c in order):
                    pass
                elif known.definition.name in query.dataset_types:
                    raise CollectionTypeError(
                        f"which {known.definition.name} in a CALIBRATION collection comes first depends on the time",
                        hint="ask with find_first=False, or find one with a timespan",
                    )
                else:
                    order = [c for c in order if c.type is not CollectionType.CALIBRATION]
                try:
                    statement = self._plan_datasets(query, known, order, left, with_files)
                except (DimensionNameError, InvalidQueryError) as exc:
                    # A pattern also matches types that have not the dimensions asked for.
                    if not any(map(is_glob, query.dataset_types)) or known.definition.name in query.dataset_types:
                        raise
                    refusal = exc
                    continue
                planned += 1
                if not order or left == 0:
                    continue
                for rows in session.batches(self._database.compile(statement), BATCH_ROWS):
                    yield shape(definitions, known, rows, query.expand)
                    left = None if left is None else left - len(rows)
            if refusal is not None and not planned:
                raise refusal

    def _plan_datasets(
        self, query: QueryDatasets, known: KnownType, order: Sequence[Collection], limit: int | None, with_files: bool
    ) -> sa.Select[Any]:
        group, dataset = known.group, self._schema.dataset
        table = self._schema.data_ids(known.group_id, group)
        members = self._members(known, order)
        source = sa.join(members, table, members.c.data_id_id == table.c.id).join(
            dataset, dataset.c.id == members.c.dataset_id
        )
        join = RecordJoin(self._schema, group, source, {name: table.c[name] for name in group.required})
        tests = self._conditions(query, join)
        sorting = self._order(query, join)
        shown = group.names if query.expand else group.required
        columns = [dataset.c.uuid, dataset.c.run_id, *[join.column(name) for name in shown]]
        if with_files:
            columns += file_columns(dataset)
        labels = [column.label(f"v{number}") for number, column in enumerate(columns)]
        labels += [column.label(f"s{number}") for number, (column, _) in enumerate(sorting)]
        if len(order) > 1 and query.find_first:
            # Members of one partition have one data id, so that what the conditions leave out is whole partitions.
            rank = sa.case(
                {collection.id: number for number, collection in enumerate(order)}, value=members.c.collection_id
            )
            place = sa.func.row_number().over(partition_by=members.c.data_id_id, order_by=rank).label("place")
            inner = sa.select(*labels, place).select_from(join.source).where(*tests).subquery("ranked")
            statement = sa.select(*[inner.c[label.name] for label in labels]).where(inner.c.place == 1)
            keys = [inner.c[f"s{number}"] for number in range(len(sorting))]
        else:
            statement = sa.select(*labels).select_from(join.source).where(*tests)
            if len(order) > 1 or any(c.type is CollectionType.CALIBRATION for c in order):
                statement = statement.distinct()
            keys = [sa.column(f"s{number}") for number in range(len(sorting))]
        return _sorted(statement, keys, sorting).limit(limit)

    def _members(self, known: KnownType, order: Sequence[Collection]) -> sa.FromClause:
        """Members of collections, of one type: collection_id, data_id_id, dataset_id."""
        parts: list[sa.Select[Any]] = []
        for link, kinds in (
            (self._schema.membership, (CollectionType.RUN, CollectionType.TAGGED)),
            (self._schema.calibration, (CollectionType.CALIBRATION,)),
        ):
            ids = [collection.id for collection in order if collection.type in kinds]
            if ids or (not order and not parts):
                parts.append(
                    sa.select(link.c.collection_id, link.c.data_id_id, link.c.dataset_id).where(
                        link.c.dataset_type_id == known.id, link.c.collection_id.in_(ids)
                    )
                )
        return (parts[0] if len(parts) == 1 else sa.union_all(*parts)).subquery("members")

    def _refs(self, definitions: Definitions, known: KnownType, rows: list[tuple[Any, ...]], expand: bool) -> RefBatch:
        group = known.group
        names = group.names if expand else group.required
        ids, runs, *values = list(zip(*rows, strict=True))[: 2 + len(names)]
        distinct = list(dict.fromkeys(runs))
        number = {run: position for position, run in enumerate(distinct)}
        return RefBatch(
            dataset_type=known.definition,
            required=group.required,
            implied=group.implied if expand else (),
            ids=b"".join(ids),
            columns=[list(column) for column in values],
            runs=[definitions.collections_by_id[run].name for run in distinct],
            run_index=[0] * len(rows) if len(distinct) == 1 else [number[run] for run in runs],
        )

    def _files(
        self, definitions: Definitions, known: KnownType, rows: list[tuple[Any, ...]], expand: bool
    ) -> list[NamedFile]:
        first = 2 + len(known.group.names if expand else known.group.required)
        found = []
        for row in rows:
            file = make_file(row[first : first + len(FILE_COLUMNS)])
            ordered = in_path_order(known, row[2 : 2 + len(known.group.required)])
            parts = directory_parts(known.definition.name, ordered)
            run = definitions.collections_by_id[row[1]].name
            found.append(NamedFile(file, "/".join([run, *parts, shown_name(known, ordered, file.path)])))
        return found

    # -- data ids ----------------------------------------------------------------------------------

    def data_ids(self, query: QueryDataIds) -> Iterator[DataIdBatch]:
        """Find data ids over the dimension records; see `Registry.query_data_ids`."""
        _check_limit(query.limit)
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            universe = self._schema.universe
            group = universe.group(query.dimensions)
            if not group.required:
                raise DimensionNameError("no dimensions are asked for")
            if query.dataset_types:
                _need_collections(query.collections)
            kinds = [definitions.dataset_type(name) for name in query.dataset_types]
            whole = universe.group({*group.names, *(name for known in kinds for name in known.group.names)})
            join = self._join_datasets(definitions, query, kinds, whole)
            tests = self._conditions(query, join)
            sorting = self._order(query, join)
            labels = [join.column(name).label(f"v{number}") for number, name in enumerate(group.names)]
            labels += [column.label(f"s{number}") for number, (column, _) in enumerate(sorting)]
            statement = sa.select(*labels).select_from(join.source).where(*tests)
            if whole.required != group.required:
                statement = statement.distinct()
            keys: list[sa.ColumnElement[Any]] = [sa.column(f"s{number}") for number in range(len(sorting))]
            statement = _sorted(statement, keys, sorting).limit(query.limit)
            for rows in session.batches(self._database.compile(statement), BATCH_ROWS):
                columns = [list(column) for column in zip(*rows, strict=True)][: len(group.names)]
                yield DataIdBatch(group.required, group.implied, columns)

    def _join_datasets(
        self, definitions: Definitions, query: QueryDataIds, kinds: Sequence[KnownType], whole: DimensionGroup
    ) -> RecordJoin:
        source: sa.FromClause | None = None
        columns: dict[str, sa.ColumnElement[Any]] = {}
        for known in kinds:
            order = definitions.search_order(query.collections, known.id)
            table = self._schema.data_ids(known.group_id, known.group)
            members = self._members(known, order)
            # One row for each data id, in however many collections it is.
            there = (
                sa.select(*[table.c[name] for name in known.group.required])
                .where(table.c.id.in_(sa.select(members.c.data_id_id)))
                .subquery(f"have_{known.id}")
            )
            shared = [there.c[name] == columns[name] for name in known.group.required if name in columns]
            source = there if source is None else source.join(there, sa.and_(sa.true(), *shared))
            for name in known.group.required:
                columns.setdefault(name, there.c[name])
        join = RecordJoin(self._schema, whole, source, columns)
        join.join_records()
        return join

    # -- dimension records -------------------------------------------------------------------------

    def dimension_records(self, query: QueryDimensionRecords) -> Iterator[RecordBatch]:
        """Find records of one element; see `Registry.query_dimension_records`."""
        _check_limit(query.limit)
        element = self._schema.universe[query.element]
        if element.name not in self._schema.elements:
            raise DimensionNameError(f"{element.name!r} has no records: its values need none")
        group = self._schema.universe.element_group(element.name)
        join = RecordJoin(self._schema, group)
        join.element(element.name)
        tests = self._conditions(query, join)
        sorting = self._order(query, join)
        columns = self._records.columns(element.name)
        statement = sa.select(*columns).select_from(join.source).where(*tests)
        statement = _sorted(statement, [column for column, _ in sorting], sorting).limit(query.limit)
        with self._database.reading() as session:
            for rows in session.batches(self._database.compile(statement), _RECORD_BATCH_ROWS):
                yield RecordBatch(self._records.make(element.name, rows))


def _literal(column: sa.ColumnElement[Any], value: object) -> sa.BindParameter[Any]:
    return sa.literal(value, column.type)


def _sorted(
    statement: sa.Select[Any], keys: Sequence[sa.ColumnElement[Any]], sorting: Sequence[tuple[object, bool]]
) -> sa.Select[Any]:
    order = []
    for key, (column, descending) in zip(keys, sorting, strict=True):
        term = key.desc() if descending else key.asc()
        # Absent values last in both directions: SQLite and PostgreSQL differ otherwise. Where there are
        # none it is not said, since an index does not give that order.
        order.append(term.nulls_last() if _may_be_absent(column) else term)
    return statement.order_by(*order)


def _may_be_absent(column: object) -> bool:
    # Not by `nullable` alone: records may be joined that do not exist.
    return not (isinstance(column, sa.Column) and column.table.name.startswith("data_id_") and not column.nullable)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise InvalidRequestError(f"a limit is not negative: {limit}")


def _need_collections(collections: Sequence[str]) -> None:
    if not collections:
        raise InvalidRequestError("no collections to search", hint="name them, or give the repository a default")
