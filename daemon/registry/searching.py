"""What streams of datasets and of data ids have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Collection, KnownType
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.members import Members
from pantry.daemon.registry.planning import Plan, Query
from pantry.daemon.registry.schema import Schema
from pantry.errors import InvalidRequestError
from pantry.model.collections import CollectionType
from pantry.wire.operations.registry import QueryDataIds, QueryDatasets

BATCH_ROWS = 5_000
EXPANDED_ROWS = 2_000
"""With dimension records, of which each row may have one with a region of kilobytes: a frame has 16 MiB."""
T = TypeVar("T")
Keyed = tuple[T, list[tuple[Any, ...]]]
"""A batch, and of each row the values that it is sorted by."""


def batch_rows(query: QueryDatasets | QueryDataIds) -> int:
    """Give the number of rows in a batch."""
    return min(BATCH_ROWS, EXPANDED_ROWS) if query.with_dimension_records else BATCH_ROWS


def members_of(schema: Schema, known: KnownType, order: Sequence[Collection]) -> Members:
    """Give the members of collections, of one dataset type."""
    plain = [collection.id for collection in order if collection.type is not CollectionType.CALIBRATION]
    timed = [collection.id for collection in order if collection.type is CollectionType.CALIBRATION]
    return schema.members(known.id, known.group_id, known.group, plain, timed)


def valid_then(
    schema: Schema, plan: Plan, join: RecordJoin, span: tuple[sa.ColumnElement[Any], ...] | None
) -> list[sa.ColumnElement[bool]]:
    """Make the condition that calibrations are valid at the time of what is asked about, if that has one."""
    element = plan.temporal_element()
    if span is None or element is None:
        return []
    begin, end = span
    table = join.element(element)
    valid = sa.and_(begin < table.c.timespan_end, end > table.c.timespan_begin)
    return [sa.or_(begin.is_(None), valid)]


def keys_of(rows: Sequence[tuple[Any, ...]], first: int, query: Query) -> list[tuple[Any, ...]]:
    """Give what rows are sorted by, which stands in them from a column on."""
    if not query.order_by:
        return []
    return [row[first : first + len(query.order_by)] for row in rows]


def check_limit(limit: int | None) -> None:
    """Refuse a limit that is none."""
    if limit is not None and limit < 0:
        raise InvalidRequestError(f"a limit is not negative: {limit}")


def need_collections(collections: Sequence[str]) -> None:
    """Refuse to search nowhere."""
    if not collections:
        raise InvalidRequestError("no collections to search", hint="name them, or give the repository a default")
