"""Streams of datasets.

Rows stay columns from the cursor to the wire. An iterator holds a connection and a read transaction
from its first batch to its last, or until it is closed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.declared import as_declared, no_entries
from pantry.daemon.registry.definitions import Collection, Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.exclusions import Exclusions
from pantry.daemon.registry.expansion import Expansion
from pantry.daemon.registry.files import FILE_COLUMNS, file_columns, in_path_order, make_file, shown_name
from pantry.daemon.registry.joins import Declared, RecordJoin
from pantry.daemon.registry.nearest import nearest
from pantry.daemon.registry.overrides import Override, preferred
from pantry.daemon.registry.planning import Plan, in_order
from pantry.daemon.registry.remembered import Ready, Remembered
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searched import Searched
from pantry.daemon.registry.searching import (
    Keyed,
    batch_rows,
    check_limit,
    keys_of,
    members_of,
    need_collections,
    valid_then,
)
from pantry.errors import CollectionTypeError, DimensionNameError, InvalidQueryError
from pantry.model.collections import CollectionType
from pantry.model.datasets import StoredFile
from pantry.model.metadata import MetadataEntry
from pantry.model.naming import directory_parts
from pantry.model.patterns import is_glob
from pantry.wire.operations.metadata import MetadataBatch, QueryMetadata
from pantry.wire.operations.registry import (
    QueryDatasets,
    RefBatch,
)

T = TypeVar("T")
More = Callable[[KnownType, RecordJoin], list[sa.ColumnElement[Any]]]
"""Gives further columns of the datasets of a type."""


class Shown(NamedTuple):
    """Which values of a dataset's data id the rows begin with, after its id and run."""

    names: tuple[str, ...]
    expansion: Expansion | None = None


Rows = list[tuple[Any, ...]]
Shape = Callable[[Definitions, KnownType, Rows, Shown], T]
"""Makes a batch of rows."""


class Planned(NamedTuple):
    """How the datasets of one type are found.

    Attributes
    ----------
    known : KnownType
        The type.
    statement : Select
        Finds them.
    checked : bool
        Whether the last column tells that a row is one of several first ones.
    first : Select or None
        Finds the first of them with less work, but perhaps too few; see `nearest`.
    """

    known: KnownType
    statement: sa.Select[Any]
    checked: bool
    first: sa.Select[Any] | None


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

    Attributes
    ----------
    overrides : sequence of Override
        Hold for searches of the first dataset.
    """

    def __init__(
        self,
        database: Database,
        schema: Schema,
        definitions: DefinitionsCache,
        data_ids: DataIds,
        records: DimensionRecords,
    ) -> None:
        self.overrides: Sequence[Override] = ()
        self._nearest_first = database.is_sqlite and schema.has_data_ids
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._data_ids = data_ids
        self._records = records
        self._remembered = Remembered(schema.universe)

    # -- datasets ----------------------------------------------------------------------------------

    def datasets(self, query: QueryDatasets) -> Iterator[RefBatch]:
        """Find datasets by type, in batches; see `Registry.query_datasets`."""
        return self._each_type(query, self._refs)

    def datasets_keyed(self, query: QueryDatasets) -> Iterator[Keyed[RefBatch]]:
        """Find datasets as `datasets` does, with what they are sorted by."""

        def shape(definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> Keyed[RefBatch]:
            return self._refs(definitions, known, rows, shown), keys_of(rows, 2 + len(shown.names), query)

        return self._each_type(query, shape)

    def files(self, query: QueryDatasets) -> Iterator[list[NamedFile]]:
        """Find the files of datasets, in batches; see `Registry.query_files`."""
        return self._each_type(query, self._files, self._with_files)

    def metadata(self, asked: QueryMetadata) -> Iterator[MetadataBatch]:
        """Find declared metadata, in batches; see `Registry.query_metadata`."""

        def wanted(known: KnownType) -> list[MetadataEntry]:
            declared = {entry.name: entry for entry in known.definition.metadata}
            if not declared:
                raise no_entries(known)
            unknown = [name for name in asked.entries if name not in declared]
            if unknown:
                raise InvalidQueryError(
                    f"the dataset type {known.definition.name!r} declares no metadata {', '.join(unknown)[:200]}",
                    hint=f"it declares {', '.join(declared)}",
                )
            return [declared[name] for name in dict.fromkeys(asked.entries)] or list(declared.values())

        def more(known: KnownType, join: RecordJoin) -> list[sa.ColumnElement[Any]]:
            return [join.described(entry.name) for entry in wanted(known)]

        def shape(definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> MetadataBatch:
            columns = {
                entry.name: [as_declared(entry.type, row[number]) for row in rows]
                for number, entry in enumerate(wanted(known), 2 + len(shown.names))
            }
            return MetadataBatch(self._refs(definitions, known, rows, shown), columns)

        return self._each_type(asked.query, shape, more)

    def _with_files(self, _known: KnownType, _join: RecordJoin) -> list[sa.ColumnElement[Any]]:
        return [*file_columns(self._schema.dataset)]

    def _each_type(
        self,
        query: QueryDatasets,
        shape: Shape[T],
        more: More | None = None,
    ) -> Iterator[T]:
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            left = query.limit
            for planned in self._found(session, definitions, query, more):
                if left == 0:
                    continue
                known, statement, checked, first, values = (
                    planned if isinstance(planned, Ready) else self._compiled(planned, left)
                )
                shown = Shown(_shown_names(query, known))
                if query.with_dimension_records:
                    shown = Shown(shown.names, Expansion(session, self._schema, self._records, known.group))
                if first is not None:
                    rows = session.rows(first)
                    if len(rows) == left:
                        yield shape(definitions, known, rows, shown)
                        left = 0
                        continue
                for rows in session.batches(statement, batch_rows(query), values):
                    if checked and any(row[-1] for row in rows):
                        raise _ambiguous(known)
                    yield shape(definitions, known, rows, shown)
                    left = None if left is None else left - len(rows)

    def _found(
        self, session: Session, definitions: Definitions, query: QueryDatasets, more: More | None
    ) -> Iterator[Ready | Planned]:
        """Give the statements of each type: remembered ones, or made now."""
        # What a user's own entries add is of that query alone.
        shape = None if more not in (None, self._with_files) else self._remembered.shape_of(query, more)
        if shape is None:
            yield from self._planned(session, definitions, query, more)
            return
        overrides = self.overrides
        ready = self._remembered.find(shape, definitions, overrides)
        if ready is None:
            before = session.statements
            planned = self._planned(session, definitions, shape.query, more)
            ready = [self._compiled(one, query.limit) for one in planned]
            if session.statements == before:
                self._remembered.keep(shape, definitions, overrides, ready)
        yield from ready

    def _compiled(self, planned: Planned, limit: int | None) -> Ready:
        statement, first = (
            None if one is None else self._database.compile(one.limit(limit))
            for one in (planned.statement, planned.first)
        )
        assert statement is not None  # noqa: S101
        return Ready(planned.known, statement, planned.checked, first)

    def counts(self, query: QueryDatasets) -> dict[str, int]:
        """Count datasets by type; see `Registry.count_datasets`."""
        found: dict[str, int] = {}
        with self._database.reading() as session:
            left = query.limit
            definitions = self._definitions.current(session)
            for known, statement, checked, _ in self._planned(session, definitions, query):
                rows = statement.order_by(None).limit(left).subquery("found")
                wrong = sa.func.count(sa.case((rows.c.ambiguous, 1))) if checked else sa.literal(0)
                count = self._database.compile(sa.select(sa.func.count(), wrong).select_from(rows))
                ((number, ambiguous),) = session.rows(count)
                if ambiguous:
                    raise _ambiguous(known)
                found[known.definition.name] = number
                left = None if left is None else left - number
        return found

    def _planned(
        self, session: Session, definitions: Definitions, query: QueryDatasets, more: More | None = None
    ) -> Iterator[Planned]:
        """Make the statements for each dataset type that can have what is asked for; see `_search`."""
        check_limit(query.limit)
        need_collections(query.collections)
        exclusions = Exclusions(session, self._schema, definitions, self._data_ids, query.exclude)
        refusal: Exception | None = None
        planned = 0
        kinds = definitions.match_types(query.dataset_types)
        for known in kinds:
            order = definitions.search_order(query.collections, known.id)
            try:
                plan = self._plan(session, query, known)
                if query.find_first and known.definition.name not in query.dataset_types:
                    order = _without_ambiguous(order, plan)
                instead = preferred(self.overrides, definitions, known, query.collections) if query.find_first else []
                alone = len(kinds) == 1
                search = functools.partial(
                    self._search, plan, query, known, order, exclusions, more, instead, bare=alone
                )
                statement, checked = search()
                first = None
                if self._nearest_first and not instead:
                    first = nearest(self._schema, known, query, order)
            except (DimensionNameError, InvalidQueryError) as exc:
                # A pattern also matches types that have not the dimensions asked for.
                if not any(map(is_glob, query.dataset_types)) or known.definition.name in query.dataset_types:
                    raise
                refusal = exc
                continue
            planned += 1
            if order:
                yield Planned(known, statement, checked, None if first is None else search(among=first)[0])
        if refusal is not None and not planned:
            raise refusal

    def _plan(self, session: Session, query: QueryDatasets, known: KnownType) -> Plan:
        plan = Plan(session, self._schema, self._data_ids, query, known.group, [known.group])
        if plan.repeats and known.definition.name not in query.dataset_types:
            strange = [name for name in plan.whole.required if name not in known.group.names]
            raise DimensionNameError(f"{known.definition.name} has no {', '.join(strange)}, which the conditions name")
        return plan

    def _search(
        self,
        plan: Plan,
        query: QueryDatasets,
        known: KnownType,
        order: Sequence[Collection],
        exclusions: Exclusions,
        more: More | None,
        instead: Sequence[Collection],
        *,
        bare: bool,
        among: sa.Select[tuple[int]] | None = None,
    ) -> tuple[sa.Select[Any], bool]:
        """Make the statement, and say whether its last column tells that a row is one of several first ones."""
        dataset = self._schema.dataset
        asked = [collection.id for collection in order]
        if order:
            order = [*instead, *(collection for collection in order if collection not in instead)]
        members = members_of(self._schema, known, order)
        source = sa.join(members.source, dataset, dataset.c.id == members.dataset)
        join = plan.join(source, members.values)
        table = self._schema.declared(known.id, known.definition) if known.definition.metadata else None
        join.declared = Declared(known.definition, table, members.dataset, bare)
        own = self._schema.dataset_id_column
        join.searched.append(Searched.of(known.definition.name, members, dataset, own, bare=True))
        tests, described = plan.conditions(join)
        tests += valid_then(self._schema, plan, join, members.span)
        tests += exclusions.tests(known, join)
        if among is not None:
            (data_id,) = members.identity
            tests.append(data_id.in_(among))
        sorting = plan.order(join)
        columns = [dataset.c.uuid, dataset.c.run_id, *[join.column(name) for name in _shown_names(query, known)]]
        if more is not None:
            columns += more(known, join)
        labels = [column.label(f"v{number}") for number, column in enumerate(columns)]
        labels += [column.label(f"s{number}") for number, (column, _) in enumerate(sorting)]
        calibrations = any(c.type is CollectionType.CALIBRATION for c in order)
        if not query.find_first or (len(order) < 2 and not calibrations):
            statement = sa.select(*labels).select_from(join.source).where(*tests, *described)
            # A dataset is in one RUN only: nothing to compare, and nothing to remember of a million rows.
            several = len(order) > 1 and any(c.type is not CollectionType.RUN for c in order)
            if several or calibrations or plan.repeats or plan.multiplies:
                statement = statement.distinct()
            keys: list[sa.ColumnElement[Any]] = [sa.column(f"s{number}") for number in range(len(sorting))]
            return in_order(statement, keys, sorting), False
        # Members of one partition have one data id: conditions leave out whole partitions, exclusions single datasets.
        partition = list(members.identity)
        fewest = len(partition)
        if calibrations and (element := plan.temporal_element()) is not None:
            partition += [join.column(name) for name in self._schema.element_key(element)]
        rank = sa.case({collection.id: number for number, collection in enumerate(order)}, value=members.collection)
        # A condition on metadata is about single datasets: the first is found without it, and rows that are
        # equally first are told apart by it.
        number = sa.func.rank() if described else sa.func.row_number()
        place = number.over(partition_by=partition, order_by=rank).label("place")
        if calibrations:
            equal = [*partition, members.collection]
            first, last = (
                kind(sa.cast(members.dataset, sa.String)).over(partition_by=equal)
                for kind in (sa.func.min, sa.func.max)
            )
            labels.append((first != last).label("ambiguous"))
        tells = [sa.and_(*described).label("holds")] if described else []
        if instead:
            # An override replaces what is there, and adds nothing.
            there = sa.case((members.collection.in_(asked), 1), else_=0)
            tells.append((sa.func.max(there).over(partition_by=partition) == 1).label("there"))
        inner = sa.select(*labels, place, *tells).select_from(join.source).where(*tests).subquery("ranked")
        statement = sa.select(*[inner.c[label.name] for label in labels]).where(inner.c.place == 1)
        statement = statement.where(*[inner.c[tell.name] for tell in tells])
        if len(partition) > fewest or described:
            statement = statement.distinct()
        keys = [inner.c[f"s{number}"] for number in range(len(sorting))]
        return in_order(statement, keys, sorting), calibrations

    def _refs(self, definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> RefBatch:
        required = known.group.required
        ids, runs, *values = list(zip(*rows, strict=True))[: 2 + len(shown.names)]
        distinct = list(dict.fromkeys(runs))
        number = {run: position for position, run in enumerate(distinct)}
        return RefBatch(
            dataset_type=known.definition,
            required=required,
            implied=shown.names[len(required) :],
            ids=b"".join(ids),
            columns=[list(column) for column in values],
            runs=[definitions.collections_by_id[run].name for run in distinct],
            run_index=[0] * len(rows) if len(distinct) == 1 else [number[run] for run in runs],
            records=shown.expansion.tables(dict(zip(shown.names, values, strict=True))) if shown.expansion else [],
        )

    def _files(self, definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> list[NamedFile]:
        first = 2 + len(shown.names)
        found = []
        for row in rows:
            file = make_file(row[first : first + len(FILE_COLUMNS)])
            if not file.path:
                continue
            ordered = in_path_order(known, row[2 : 2 + len(known.group.required)])
            parts = directory_parts(known.definition.name, ordered)
            run = definitions.collections_by_id[row[1]].name
            found.append(NamedFile(file, "/".join([run, *parts, shown_name(known, ordered, file.path)])))
        return found


def _shown_names(query: QueryDatasets, known: KnownType) -> tuple[str, ...]:
    return known.group.names if query.with_dimension_records else known.group.required


def _without_ambiguous(order: list[Collection], plan: Plan) -> list[Collection]:
    """Leave calibrations out where nothing says for which time: a pattern matches them only by the way."""
    if plan.temporal_element() is not None:
        return order
    return [collection for collection in order if collection.type is not CollectionType.CALIBRATION]


def _ambiguous(known: KnownType) -> CollectionTypeError:
    return CollectionTypeError(
        f"which {known.definition.name} in a CALIBRATION collection comes first depends on the time",
        hint="name the exposure or visit in the expression, or ask with find_first=False",
    )
