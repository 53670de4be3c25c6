"""The mounted view of a Gen3 registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Collection, KnownType
from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.files import shown_name
from pantry.daemon.registry.members import Members
from pantry.daemon.registry.tree import BATCH_ENTRIES, Searched, Tree
from pantry.model.data_id import DataIdValue
from pantry.model.timespan import Timespan
from pantry.wire.operations.browse import TreeBatch, TreeEntry


class Gen3Tree(Tree):
    """Lists directories; Gen3's indexes are not in their order, so that each level reads its members."""

    def _skip_scan(
        self,
        known: KnownType,
        searched: Searched,
        values: list[DataIdValue],
        level: str,
        wanted: DataIdValue | None,
    ) -> sa.Select[Any]:
        members = self._members(known, searched)
        tests = [members.values[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if wanted is not None:
            tests.append(members.values[level] == wanted)
        column = members.values[level]
        statement = sa.select(column).select_from(members.source).where(*tests).distinct().order_by(column)
        return statement if wanted is None else statement.limit(1)

    def _members(self, known: KnownType, searched: Searched) -> Members:
        plain, timed = [one.id for one in searched.plain], [one.id for one in searched.timed]
        return self._schema.members(known.id, known.group_id, known.group, plain, timed)

    def _spans(
        self, known: KnownType, timed: list[Collection], values: list[DataIdValue], wanted: Timespan | None
    ) -> sa.Select[Any]:
        members = self._members(known, Searched([], timed))
        tests = [members.values[name] == value for name, value in zip(known.path_order, values, strict=False)]
        return (
            sa.select(*_ends(members))
            .select_from(members.source)
            .where(*tests, *_is(members, wanted))
            .distinct()
            .order_by(*_ends(members))
        )

    def _files(
        self,
        session: Session,
        known: KnownType,
        searched: Searched,
        values: list[DataIdValue],
        only: str,
        span: Timespan | None = None,
    ) -> Iterator[TreeBatch]:
        members, order = self._members(known, searched), searched.plain or searched.timed
        dataset = self._schema.dataset
        last = known.path_order[len(values) :]
        tests = [members.values[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if only:
            candidates = self._candidates(known, values, only)
            if candidates is None:
                return
            tests += [members.values[name].in_(candidates) for name in last]
        tests += _is(members, span)
        rank = sa.case({one.id: number for number, one in enumerate(order)}, value=members.collection)
        shown = [dataset.c[name] for name in ("uuid", "path", "size_bytes", "ingest_ns")]
        ordered = [members.values[name] for name in last]
        statement = (
            sa.select(*shown, *ordered)
            .select_from(sa.join(members.source, dataset, dataset.c.id == members.dataset))
            .where(*tests, dataset.c.path != "")
            .order_by(*ordered, *([rank] if len(order) > 1 else []))
        )
        before: list[DataIdValue] | None = None
        for rows in session.batches(self._database.compile(statement), BATCH_ENTRIES):
            entries = []
            for id_, path, size_bytes, ingest_ns, *value in rows:
                # Sorted by data id, then by the order of collections: the first one counts.
                if value == before:
                    continue
                before = value
                name = shown_name(known, [*values, *value], path)
                last_value = value[0] if value else None
                entries.append(TreeEntry(name, last_value, UUID(bytes=bytes(id_)), size_bytes, ingest_ns, ""))
            if entries:
                yield TreeBatch("", entries)


def _ends(members: Members) -> tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]:
    if members.span is None:
        raise ValueError("members of a calibration collection have a time of validity")
    return members.span


def _is(members: Members, span: Timespan | None) -> list[sa.ColumnElement[bool]]:
    """Whether the time of validity is this one; no condition for None."""
    if span is None:
        return []
    begin, end = _ends(members)
    return [begin == span.begin_ns, end == span.end_ns]
