"""Streams of data ids and dimension records; what `queries` says of them holds here too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database
from pantry.daemon.registry.expansion import Expansion
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.planning import Plan, in_order
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
from pantry.errors import DimensionNameError
from pantry.wire.operations.registry import DataIdBatch, QueryDataIds, QueryDimensionRecords, RecordBatch

_RECORD_BATCH_ROWS = 1_000


class RecordQueries:
    """Runs queries over dimension records.

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

    # -- data ids ----------------------------------------------------------------------------------

    def data_ids(self, query: QueryDataIds) -> Iterator[DataIdBatch]:
        """Find data ids over the dimension records; see `Registry.query_data_ids`."""
        return (batch for batch, _ in self.data_ids_keyed(query))

    def data_ids_keyed(self, query: QueryDataIds) -> Iterator[Keyed[DataIdBatch]]:
        """Find data ids as `data_ids` does, with what they are sorted by."""
        check_limit(query.limit)
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            universe = self._schema.universe
            group = universe.group(query.dimensions)
            if not group.required:
                raise DimensionNameError("no dimensions are asked for")
            if query.dataset_types:
                need_collections(query.collections)
            kinds = [definitions.dataset_type(name) for name in query.dataset_types]
            plan = Plan(session, self._schema, self._data_ids, query, group, [known.group for known in kinds])
            join, valid = self._join_datasets(definitions, query, kinds, plan)
            tests = plan.conditions(join)[0] + valid
            sorting = plan.order(join)
            labels = [join.column(name).label(f"v{number}") for number, name in enumerate(group.names)]
            labels += [column.label(f"s{number}") for number, (column, _) in enumerate(sorting)]
            statement = sa.select(*labels).select_from(join.source).where(*tests)
            if plan.repeats or plan.multiplies or valid or join.searched:
                statement = statement.distinct()
            keys: list[sa.ColumnElement[Any]] = [sa.column(f"s{number}") for number in range(len(sorting))]
            statement = in_order(statement, keys, sorting).limit(query.limit)
            expansion = None
            if query.with_dimension_records:
                expansion = Expansion(session, self._schema, self._records, group)
            for rows in session.batches(self._database.compile(statement), batch_rows(query)):
                columns = [list(column) for column in zip(*rows, strict=True)][: len(group.names)]
                tables = expansion.tables(dict(zip(group.names, columns, strict=True))) if expansion else []
                batch = DataIdBatch(group.required, group.implied, columns, tables)
                yield batch, keys_of(rows, len(group.names), query)

    def _join_datasets(
        self, definitions: Definitions, query: QueryDataIds, kinds: Sequence[KnownType], plan: Plan
    ) -> tuple[RecordJoin, list[sa.ColumnElement[bool]]]:
        source: sa.FromClause | None = None
        columns: dict[str, sa.ColumnElement[Any]] = {}
        timed: list[sa.Subquery] = []
        fields: list[Searched] = []
        for known in kinds:
            order = definitions.search_order(query.collections, known.id)
            members = members_of(self._schema, known, order)
            given = [column.label(name) for name, column in members.values.items()]
            spans: list[sa.ColumnElement[Any]] = []
            if members.span is not None and plan.temporal_element() is not None:
                spans = [column.label(name) for name, column in zip(("begin_ns", "end_ns"), members.span, strict=True)]
            source_of, searched = members.source, None
            if plan.speaks_of(known.definition.name, bare=len(kinds) == 1):
                dataset, own = self._schema.dataset, self._schema.dataset_id_column
                source_of = sa.join(source_of, dataset, dataset.c.id == members.dataset)
                searched = Searched.of(known.definition.name, members, dataset, own, bare=len(kinds) == 1)
                spans += searched.columns()
            # One row for each data id (and each validity), in however many collections it is.
            there = sa.select(*given, *spans).select_from(source_of).distinct().subquery(f"have_{known.id}")
            if searched is not None:
                fields.append(searched.within(there))
            if "begin_ns" in there.c:
                timed.append(there)
            shared = [there.c[name] == columns[name] for name in known.group.required if name in columns]
            source = there if source is None else source.join(there, sa.and_(sa.true(), *shared))
            for name in known.group.required:
                columns.setdefault(name, there.c[name])
        join = plan.join(source, columns)
        join.searched += fields
        return join, [
            test for there in timed for test in valid_then(self._schema, plan, join, (there.c.begin_ns, there.c.end_ns))
        ]

    # -- dimension records -------------------------------------------------------------------------

    def dimension_records(self, query: QueryDimensionRecords) -> Iterator[RecordBatch]:
        """Find records of one element; see `Registry.query_dimension_records`."""
        return (batch for batch, _ in self.dimension_records_keyed(query))

    def dimension_records_keyed(self, query: QueryDimensionRecords) -> Iterator[Keyed[RecordBatch]]:
        """Find records as `dimension_records` does, with what they are sorted by."""
        check_limit(query.limit)
        element = self._schema.universe[query.element]
        if element.name not in self._schema.elements:
            raise DimensionNameError(f"{element.name!r} has no records: its values need none")
        group = self._schema.universe.element_group(element.name)
        with self._database.reading() as session:
            plan = Plan(session, self._schema, self._data_ids, query, group)
            join = plan.join(begin=element.name)
            tests, _ = plan.conditions(join)
            sorting = plan.order(join)
            columns = self._records.columns(element.name)
            labels = [column.label(f"s{number}") for number, (column, _) in enumerate(sorting)]
            statement = sa.select(*columns, *labels).select_from(join.source).where(*tests)
            if plan.repeats or plan.multiplies:
                statement = statement.distinct()
            keys: list[sa.ColumnElement[Any]] = [sa.column(label.name) for label in labels]
            statement = in_order(statement, keys, sorting).limit(query.limit)
            for rows in session.batches(self._database.compile(statement), _RECORD_BATCH_ROWS):
                made = self._records.make(element.name, [row[: len(columns)] for row in rows])
                yield RecordBatch(made), keys_of(rows, len(columns), query)
