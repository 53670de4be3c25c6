"""Which regions overlap: candidates from the index, decided exactly, kept in temporary tables.

The tables live as long as the transaction of one query, so that everything else (conditions inside
OR and NOT, first matches, order, limits, counts) stays the database's own work.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.sky.pixels import Pixels
from pantry.daemon.registry.sky.regions import decode_region, overlap
from pantry.errors import InvalidQueryError

if TYPE_CHECKING:
    from lsst.sphgeom import Region

    from pantry.daemon.registry.engine import Session
    from pantry.daemon.registry.schema import Schema

_BATCH_ROWS = 10_000
MOST = 32
"""Comparisons of regions in one query: each reads the index, and the regions near by."""

# More of them find fewer wrong candidates, but make longer statements.
_RANGES = 64

Restrict = Callable[[RecordJoin], Sequence[sa.ColumnElement[bool]]]


class SkyMatches:
    """Finds overlaps for one query.

    Parameters
    ----------
    session : Session
        The query's; the temporary tables are made in it.
    schema : Schema
        The tables.
    pixels : Pixels
        Of the index.
    restrict : callable
        Gives conditions on a join of records that all results of the query meet.
    """

    def __init__(self, session: Session, schema: Schema, pixels: Pixels, restrict: Restrict) -> None:
        self._restrict = restrict
        self._session = session
        self._schema = schema
        self._pixels = pixels
        self._numbers = itertools.count(1)

    def constraint(
        self, element: str, region: Region, columns: Mapping[str, sa.ColumnElement[Any]]
    ) -> sa.ColumnElement[bool]:
        """Make the condition that the record with the key in ``columns``, or the sky pixel there, overlaps a region."""
        if element not in self._schema.elements:
            return in_ranges(columns[element], self._pixels.covering(region, element))
        records, overlaps = self._schema.elements[element], self._schema.sky_overlaps[element]
        key = self._schema.element_key(element)
        near = sa.select(*[overlaps.c[name] for name in key]).distinct()
        near = near.where(in_ranges(overlaps.c.pixel, self._pixels.about(region, _RANGES)))
        candidates = near.subquery("near")
        statement = sa.select(*[records.c[name] for name in key], records.c.region).join_from(
            candidates, records, sa.and_(*[candidates.c[name] == records.c[name] for name in key])
        )
        found = self._table(element, [self._schema.dimension_column(name) for name in key])
        rows = (tuple(values) for *values, encoded in self._rows(statement) if overlap(decode_region(encoded), region))
        self._fill(found, rows)
        return sa.tuple_(*[columns[name] for name in key]).in_(sa.select(*[found.c[name] for name in key]))

    def pairs(self, one: str, other: str) -> sa.Table:
        """Find the overlapping pairs of two elements' records, or of an element's records and sky pixels.

        Parameters
        ----------
        one, other : str
            Spatial elements; one of them may be a sky pixel dimension.

        Returns
        -------
        Table
            Its columns are the dimensions that identify both.
        """
        if other not in self._schema.elements:
            return self._with_pixels(one, other)
        if one not in self._schema.elements:
            return self._with_pixels(other, one)
        keys = [self._schema.element_key(name) for name in (one, other)]
        names = tuple(dict.fromkeys(keys[0] + keys[1]))
        join = RecordJoin(self._schema, self._schema.universe.group(names))
        tables = [join.element(one)]
        indexes = [
            self._schema.sky_overlaps[name].alias(f"pixels_{number}") for number, name in enumerate((one, other))
        ]
        # From one element's records by the pixels to the other's; records that share dimensions are equal in them.
        join.join(indexes[0], sa.and_(*[indexes[0].c[name] == tables[0].c[name] for name in keys[0]]))
        shared = [indexes[1].c[name] == indexes[0].c[name] for name in keys[1] if name in keys[0]]
        join.join(indexes[1], sa.and_(indexes[1].c.pixel == indexes[0].c.pixel, *shared))
        for name in keys[1]:
            join.give(name, indexes[1].c[name])
        tables.append(join.element(other))
        tests = self._restrict(join)
        columns = [join.column(name) for name in names]
        statement = (
            sa.select(*columns, tables[0].c.region, tables[1].c.region.label("other_region"))
            .select_from(join.source)
            .where(*tests)
            .distinct()
        )
        found = self._table(f"{one}_{other}", [self._schema.dimension_column(name) for name in names])
        rows = (
            tuple(values)
            for *values, first, second in self._rows(statement)
            if overlap(decode_region(first), decode_region(second))
        )
        self._fill(found, rows)
        return found

    def _with_pixels(self, element: str, pixel: str) -> sa.Table:
        key = self._schema.element_key(element)
        join = RecordJoin(self._schema, self._schema.universe.group(key))
        records = join.element(element)
        tests = self._restrict(join)
        statement = (
            sa.select(*[join.column(name) for name in key], records.c.region)
            .select_from(join.source)
            .where(records.c.region.is_not(None), *tests)
        )
        found = self._table(f"{element}_{pixel}", [self._schema.dimension_column(name) for name in (*key, pixel)])
        rows = (
            (*values, index)
            for *values, encoded in self._rows(statement)
            for begin, end in self._pixels.covering(decode_region(encoded), pixel)
            for index in range(begin, end)
        )
        self._fill(found, rows)
        return found

    # -- temporary tables --------------------------------------------------------------------------

    def _rows(self, statement: sa.Select[Any]) -> Iterator[tuple[Any, ...]]:
        for batch in self._session.batches(self._session.database.compile(statement), _BATCH_ROWS):
            yield from batch

    def _table(self, name: str, columns: Sequence[sa.Column[Any]]) -> sa.Table:
        number = next(self._numbers)
        if number > MOST:
            raise InvalidQueryError(
                f"more than {MOST} comparisons of regions in one query", hint="ask with fewer, larger regions"
            )
        # One name for each use in a query; the next query's transaction uses it again.
        return self._schema.staging(f"sky_{number}_{name}", columns)

    def _fill(self, table: sa.Table, rows: Iterable[tuple[Any, ...]]) -> None:
        session = self._session
        session.create_temporary(table)
        insert = session.database.prepare_insert(table)
        numbered = enumerate(rows)
        while batch := list(itertools.islice(((number, *row) for number, row in numbered), _BATCH_ROWS)):
            session.run_many(insert, batch)


def in_ranges(column: sa.ColumnElement[Any], ranges: Sequence[tuple[int, int]]) -> sa.ColumnElement[bool]:
    """Make the condition that a column lies in one of several half-open ranges."""
    tests = [
        column == sa.literal(begin, sa.BigInteger())
        if end == begin + 1
        else column.between(sa.literal(begin, sa.BigInteger()), sa.literal(end - 1, sa.BigInteger()))
        for begin, end in ranges
    ]
    return sa.or_(sa.false(), *tests)
