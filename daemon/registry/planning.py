"""What all queries have in common: their dimensions, the joins that relate these, conditions and order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.expressions import (
    Names,
    UnknownNameError,
    compile_expression,
    conjuncts,
    dimension_of,
    elements_in,
    invalid,
    names_in,
    parse,
    sky_joins,
)
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searched import FIELDS
from pantry.daemon.registry.sky import Pixels, SkyMatches
from pantry.daemon.registry.sky.connections import SkyConnections
from pantry.errors import DimensionNameError, InvalidQueryError
from pantry.model.dimensions import DimensionGroup
from pantry.model.interpretation import Given
from pantry.wire.operations.registry import QueryDataIds, QueryDatasets, QueryDimensionRecords

MAX_ORDER_BY = 64
"""SQLite takes 64 tables in one statement, and each term may need one."""

Query = QueryDatasets | QueryDataIds | QueryDimensionRecords
Sorting = list[tuple[sa.ColumnElement[Any], bool]]
"""Columns to sort by, and whether from high to low."""


class Plan:
    """One query over dimensions: those of its results, and those that its conditions speak of.

    As in the Gen3 Butler, a condition may name dimensions that the results have not: "the visits that
    overlap this patch". They are joined, by their records and their regions, and each result comes once.

    Parameters
    ----------
    session : Session
        The query's.
    schema : Schema
        The tables.
    data_ids : DataIds
        Interprets data ids.
    query : QueryDatasets, QueryDataIds or QueryDimensionRecords
        With its conditions.
    shown : DimensionGroup
        Dimensions of the results.
    tables : iterable of DimensionGroup
        Of the datasets that are joined: their dimensions are related by these.

    Attributes
    ----------
    shown, whole : DimensionGroup
        Dimensions of the results; those of the conditions too.
    """

    def __init__(
        self,
        session: Session,
        schema: Schema,
        data_ids: DataIds,
        query: Query,
        shown: DimensionGroup,
        tables: Iterable[DimensionGroup] = (),
    ) -> None:
        self.shown = shown
        self._schema = schema
        self._session = session
        self._data_ids = data_ids
        self._query = query
        if len(query.order_by) > MAX_ORDER_BY:
            raise InvalidQueryError(f"order_by with {len(query.order_by)} terms; at most {MAX_ORDER_BY} are taken")
        self._tree = parse(query.where) if query.where.strip() else None
        universe = schema.universe
        named = {name.partition(".")[0] for name in query.data_id} & universe.elements.keys()
        self._named = {} if self._tree is None else elements_in(self._tree, universe, query.bind)
        named |= self._named.keys()
        # A table without an entry for a bare name is found when it is joined.
        self._sorted = {term.removeprefix("-").partition(".")[0] for term in query.order_by}
        tables = list(tables)
        self.whole = universe.group({*shown.names, *named, *(name for group in tables for name in group.names)})
        self._sky = SkyMatches(session, schema, Pixels(universe), self._restrict)
        self._connections = SkyConnections(universe, self.whole)
        for group in tables:
            self._connections.related_by(group)
        for one, other in sky_joins(self._tree, query.bind):
            self._connections.related(one, other)
        self._refuse_unrelated(tables)

    @property
    def repeats(self) -> bool:
        """Whether a result can be met several times, by values of dimensions that it has not."""
        return self.whole.required != self.shown.required

    @property
    def multiplies(self) -> bool:
        """Whether a result can be met several times, by several rows of an operator's table."""
        return not self._schema.several.isdisjoint({*self._named, *self._sorted})

    def join(
        self, source: sa.FromClause | None = None, columns: Mapping[str, Any] | None = None, *, begin: str | None = None
    ) -> RecordJoin:
        """Begin the query's FROM clause with what gives all of its dimensions.

        Parameters
        ----------
        source : FromClause, optional
            Where the results come from, if not from the records alone.
        columns : Mapping, optional
            Its columns with the values of dimensions.
        begin : str, optional
            The element whose records to begin with, without a source.
        """
        join = RecordJoin(self._schema, self.whole, source, columns)
        if begin is not None:
            join.element(begin)
        missing = self._connections.missing()
        if missing is not None:
            pairs = self._sky.pairs(*missing)
            join.join_pairs(pairs, [column.name for column in pairs.c if column.name in self.whole.names])
        if self.repeats or not isinstance(self._query, QueryDatasets):
            join.join_records(related=True)
        join.join_sharing()
        lacking = join.lacking()
        if lacking:
            raise InvalidQueryError(
                f"nothing says which values of {', '.join(lacking)} are meant",
                hint="name a dataset type that has them, or dimensions whose regions overlap them",
            )
        return join

    def temporal_element(self) -> str | None:
        """Return the element whose time span says when the results are about; None if they have no time."""
        found = self._schema.universe.families(self.whole.required, "temporal")
        return next((members[0] for members in found.values()), None)

    def speaks_of(self, dataset_type: str, *, bare: bool) -> bool:
        """Whether conditions or order name a field of the datasets of a type."""
        used = [] if self._tree is None else [name.text for name in names_in(self._tree, self._query.bind)]
        used += [term.removeprefix("-") for term in self._query.order_by]
        firsts = {name.partition(".")[0] for name in used}
        return dataset_type in firsts or (bare and not firsts.isdisjoint({*FIELDS, "timespan"}))

    def conditions(self, join: RecordJoin) -> tuple[list[sa.ColumnElement[bool]], list[sa.ColumnElement[bool]]]:
        """Make the conditions of ``data_id`` and ``where``, and apart those on the metadata of single datasets."""
        tests = _given_tests(join, self._data_ids.interpret(join.group, self._query.data_id))
        if self._tree is None:
            return tests, []
        if join.declared is None or not join.declared.definition.metadata:
            return [*tests, self._compile(join, None)], []
        described: list[sa.ColumnElement[bool]] = []
        for part in conjuncts(self._tree):
            names = Names(join)
            test = self._compile(join, part, names)
            (described if names.described else tests).append(test)
        return tests, described

    def order(self, join: RecordJoin) -> Sorting:
        """Give the columns to sort by."""
        names = Names(join)
        universe = self._schema.universe
        found = []
        for term in self._query.order_by:
            name = term.removeprefix("-")
            element = name.partition(".")[0]
            try:
                if element in universe.elements and not set(universe.required(element)) <= set(self.shown.names):
                    raise UnknownNameError(
                        f"the results have no {element!r} to sort by",
                        f"their dimensions: {', '.join(self.shown.names)}",
                    )
                meaning = names.resolve(name)
                if meaning.kind == "uuid":
                    raise InvalidQueryError(f"order_by: {name}: ids of datasets have no order")
                found.append((meaning.column, term.startswith("-")))
            except UnknownNameError as exc:
                raise InvalidQueryError(f"order_by: {exc}", hint=exc.hint) from None
        return found

    def _refuse_unrelated(self, tables: Sequence[DimensionGroup]) -> None:
        """Refuse conditions on dimensions that nothing relates to the results: they would say nothing of these."""
        universe = self._schema.universe
        links = [set(universe.required(name)) for name in self.whole.names]
        links += [set(universe.required(name)) for name, element in universe.elements.items() if element.always_join]
        sky = universe.families(self.whole.required, "spatial").values()
        links.append({part for members in sky for name in members for part in universe.required(name)})
        reached = {*self.shown.names, *(name for group in tables for name in group.names)}
        while (
            grown := {name for link in links if link & reached and link <= {*self.whole.names} for name in link}
            - reached
        ):
            reached |= grown
        strange = [name for name in self.whole.required if name not in reached]
        # People name the instrument with whatever they ask for.
        if all(universe[name].governor for name in strange):
            return
        message = f"{', '.join(strange)} cannot constrain what has the dimensions {', '.join(self.shown.names)}"
        named = [name for name in strange if name in self._named]
        if named:
            raise invalid(self._query.where, min(self._named[name] for name in named), message)
        raise DimensionNameError(message)

    def _compile(self, join: RecordJoin, part: Any, names: Names | None = None) -> sa.ColumnElement[bool]:
        return compile_expression(
            self._session.database,
            names or Names(join),
            self._query.where,
            self._query.bind,
            tree=part or self._tree,
            sky=self._sky,
        )

    def _restrict(self, join: RecordJoin) -> Sequence[sa.ColumnElement[bool]]:
        """Make the conditions that all results meet and that can be tested on a join of some records."""
        universe, there = self._schema.universe, set(join.group.names)
        given = {
            name: value
            for name, value in self._query.data_id.items()
            if name.partition(".")[0] in there and universe[name.partition(".")[0]].is_dimension
        }
        tests = _given_tests(join, self._data_ids.interpret(join.group, given))
        for part in conjuncts(self._tree):
            named = elements_in(part, universe, self._query.bind)
            firsts = {dimension_of(universe, name.text) for name in names_in(part, self._query.bind)}
            if len(firsts) > len(named) or sky_joins(part, self._query.bind):
                continue  # a column by its bare name may be any element's
            if all(set(universe.required(name)) <= there for name in named):
                tests.append(self._compile(join, part))
        return tests


def _given_tests(join: RecordJoin, given: Given) -> list[sa.ColumnElement[bool]]:
    tests = [join.column(name) == _literal(join.column(name), value) for name, value in given.dimensions.items()]
    for (element, name), value in given.fields.items():
        column = join.element(element).c[name]
        tests.append(column == _literal(column, value))
    return tests


def _literal(column: sa.ColumnElement[Any], value: object) -> sa.BindParameter[Any]:
    return sa.literal(value, column.type)


def in_order(
    statement: sa.Select[Any], keys: Sequence[sa.ColumnElement[Any]], sorting: Sequence[tuple[object, bool]]
) -> sa.Select[Any]:
    """Sort a statement by columns of its own."""
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
