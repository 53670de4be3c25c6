"""Joins with the records of dimensions, made as the columns of a query need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searched import Searched
from pantry.errors import InvalidQueryError
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionGroup

ColumnLike = sa.ColumnElement[Any]


class Declared(NamedTuple):
    """Metadata of the datasets that a query is about.

    Attributes
    ----------
    definition : DatasetType
        Which declares them.
    table : Table or None
        That holds them; None if it declares nothing.
    dataset : ColumnElement
        The query's column with the datasets' keys.
    bare : bool
        Whether their names alone say what is meant.
    """

    definition: DatasetType
    table: sa.Table | None
    dataset: ColumnLike
    bare: bool


class RecordJoin:
    """A FROM clause that grows by the record tables whose columns are asked for.

    Parameters
    ----------
    schema : Schema
        The tables.
    group : DimensionGroup
        Dimensions of the query.
    source : FromClause or None
        What to begin with; None for the records alone (see `join_records`).
    columns : Mapping
        Columns of ``source``, or parameters, that give the values of dimensions.
    must_exist : bool
        Whether a row without its record is left out; foreign keys see to it that there is none where
        ``columns`` come from tables.
    """

    def __init__(
        self,
        schema: Schema,
        group: DimensionGroup,
        source: sa.FromClause | None = None,
        columns: Mapping[str, ColumnLike] | None = None,
        *,
        must_exist: bool = True,
    ) -> None:
        self.schema = schema
        self.group = group
        self._source = source
        self._columns: dict[str, ColumnLike] = dict(columns or {})
        self._tables: dict[str, sa.Table] = {}
        self.declared: Declared | None = None
        self._described = False
        self.searched: list[Searched] = []
        self._named_collections: dict[int, ColumnLike] = {}
        # Values that may be NULL: implied ones, and what follows from them.
        self._optional: set[str] = set()
        self._must_exist = must_exist

    @property
    def source(self) -> sa.FromClause:
        """The FROM clause so far."""
        assert self._source is not None  # noqa: S101 - join_records comes before any use
        return self._source

    def join(self, table: sa.FromClause, on: sa.ColumnElement[bool]) -> None:
        """Join any table."""
        self._source = self.source.join(table, on)

    def give(self, dimension: str, column: ColumnLike) -> None:
        """Say what gives the values of a dimension that nothing gives yet."""
        self._columns.setdefault(dimension, column)

    def join_pairs(self, table: sa.Table, dimensions: Sequence[str]) -> None:
        """Join a table whose columns are dimensions, and which may be the first to give some of them."""
        if self._source is None:
            self._source = table
        else:
            known = [name for name in dimensions if self._can_give(name)]
            on = [table.c[name] == self.column(name) for name in known]
            self._source = self._source.join(table, sa.and_(sa.true(), *on))
        for name in dimensions:
            self._columns.setdefault(name, table.c[name])

    def join_records(self, *, related: bool = False) -> None:
        """Join the records of all required dimensions, and the elements that relate them.

        Parameters
        ----------
        related : bool
            Whether regions on the sky are related already; otherwise a product of them is refused.
        """
        universe = self.schema.universe
        if not related:
            _refuse_unrelated(self)
        # From the most dependent on: its record proves that those it requires exist.
        for name in reversed(self.group.required):
            if name not in self._columns and name in self.schema.elements:
                self.element(name)
        for element in universe.elements.values():
            if element.always_join and set(self.schema.element_key(element.name)) <= set(self.group.names):
                self.element(element.name)

    def join_sharing(self) -> None:
        """Join the records of elements that imply the same dimension, which must be equal for all, as in Gen3."""
        universe = self.schema.universe
        there = [name for name in self.group.names if universe[name].implies and name in self.schema.elements]
        implied = [other for name in there for other in universe[name].implies]
        for name in there:
            if any(implied.count(other) > 1 for other in universe[name].implies):
                self.element(name)

    def lacking(self) -> list[str]:
        """Give the required dimensions whose values nothing gives: sky pixels, which have no records."""
        return [name for name in self.group.required if name not in self._columns]

    def column(self, dimension: str) -> ColumnLike:
        """Column with the values of a dimension of the group; joins what gives them."""
        if dimension not in self._columns:
            universe = self.schema.universe
            giver = next(name for name in self.group.names if dimension in universe[name].implies and name != dimension)
            self.element(giver)
        return self._columns[dimension]

    def element(self, name: str) -> sa.Table:
        """Record table of an element whose dimensions are in the group, joined."""
        if name in self._tables:
            return self._tables[name]
        table = self.schema.elements[name]
        key = self.schema.element_key(name)
        # With nothing to join to, the table itself gives the values of its key.
        fixed = {dimension: self.column(dimension) for dimension in key if self._can_give(dimension)}
        self._tables[name] = table
        optional = bool(self._optional.intersection(key)) or not self._must_exist or name in self.schema.foreign
        if self._source is None:
            self._source = table
        else:
            on = [table.c[dimension] == column for dimension, column in fixed.items()]
            if not optional:
                # An exposure and a visit of one data id have one filter, as in Gen3; and universes before
                # version 2 relate exposures to the visit that their visit_definition implies.
                implied = self.schema.universe[name].implies
                on += [table.c[other] == self._columns[other] for other in implied if other in self._columns]
            self._source = self._source.join(table, sa.and_(*on) if on else sa.true(), isouter=optional)
        for dimension in key:
            self._columns.setdefault(dimension, table.c[dimension])
        for dimension in self.schema.universe[name].implies:
            if dimension in self.group.names:
                self._columns.setdefault(dimension, table.c[dimension])
                if dimension not in self.group.required:
                    self._optional.add(dimension)
        return table

    def described(self, entry: str) -> ColumnLike:
        """Column of an entry that the results' dataset type declares, joined; a dataset may lack it."""
        declared = self.declared
        assert declared is not None  # noqa: S101 - only declared names come here
        assert declared.table is not None  # noqa: S101
        if not self._described:
            self._described = True
            on = declared.table.c.dataset_id == declared.dataset
            self._source = self.source.join(declared.table, on, isouter=True)
        return declared.table.c[entry]

    def collection_name(self, key: ColumnLike) -> ColumnLike:
        """Column with the name of the collection whose primary key a column has, joined."""
        found = self._named_collections.get(id(key))
        if found is None:
            table = self.schema.collection.alias(f"named_{len(self._named_collections)}")
            self._source = self.source.join(table, table.c.id == key)
            found = self._named_collections[id(key)] = table.c.name
        return found

    def _can_give(self, dimension: str) -> bool:
        return dimension in self._columns or dimension in self.group.implied


def _refuse_unrelated(join: RecordJoin) -> None:
    """Refuse a product of regions: only a spatial join could relate them."""
    universe = join.schema.universe
    families = universe.spatial_families
    touched = {family for family, members in families.items() if set(members) & set(join.group.required)}
    skypix = universe.skypix.intersection(join.group.required)
    if len(touched) > 1 or skypix:
        raise InvalidQueryError(
            f"the dimensions {', '.join(join.group.required)} are related only by their regions on the sky, "
            "which do not identify one data id",
            hint="give the values of all dimensions",
        )
