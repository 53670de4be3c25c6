"""How the datasets of a type are searched for: the statements of a query, built and not run yet."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, Definitions, KnownType
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.exclusions import Exclusions
from pantry.daemon.registry.joins import Declared, RecordJoin
from pantry.daemon.registry.nearest import nearest
from pantry.daemon.registry.overrides import Override, preferred
from pantry.daemon.registry.planning import Plan, in_order
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searched import Searched
from pantry.daemon.registry.searching import (
    check_limit,
    members_of,
    need_collections,
    valid_then,
)
from pantry.errors import DimensionNameError, InvalidQueryError
from pantry.model.collections import CollectionType
from pantry.model.patterns import is_glob
from pantry.wire.operations.registry import (
    QueryDatasets,
)

More = Callable[[KnownType, RecordJoin], list[sa.ColumnElement[Any]]]
"""Gives further columns of the datasets of a type."""


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


class DatasetPlans:
    """Plans searches of datasets.

    Parameters
    ----------
    database, schema
        Where the rows are.
    data_ids : DataIds
        Interprets data ids.

    Attributes
    ----------
    overrides : sequence of Override
        Hold for searches of the first dataset.
    """

    def __init__(self, database: Database, schema: Schema, data_ids: DataIds) -> None:
        self.overrides: Sequence[Override] = ()
        self._nearest_first = database.is_sqlite and schema.has_data_ids
        self._schema = schema
        self._data_ids = data_ids

    def planned(
        self, session: Session, definitions: Definitions, query: QueryDatasets, more: More | None = None
    ) -> Iterator[Planned]:
        """Make the statements for each dataset type that can have what is asked for; see `Planned`."""
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
        columns = [dataset.c.uuid, dataset.c.run_id, *[join.column(name) for name in shown_names(query, known)]]
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


def shown_names(query: QueryDatasets, known: KnownType) -> tuple[str, ...]:
    """Give the dimensions whose values a query shows."""
    return known.group.names if query.with_dimension_records else known.group.required


def _without_ambiguous(order: list[Collection], plan: Plan) -> list[Collection]:
    """Leave calibrations out where nothing says for which time: a pattern matches them only by the way."""
    if plan.temporal_element() is not None:
        return order
    return [collection for collection in order if collection.type is not CollectionType.CALIBRATION]
