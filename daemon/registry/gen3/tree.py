"""The mounted view of a Gen3 registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Collection, KnownType
from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.files import shown_name
from pantry.daemon.registry.tree import BATCH_ENTRIES, Tree
from pantry.model.data_id import DataIdValue
from pantry.wire.operations.browse import TreeBatch, TreeEntry


class Gen3Tree(Tree):
    """Lists directories; Gen3's indexes are not in their order, so that each level reads its members."""

    def _skip_scan(
        self,
        known: KnownType,
        order: list[Collection],
        values: list[DataIdValue],
        level: str,
        wanted: DataIdValue | None,
    ) -> sa.Select[Any]:
        members = self._schema.members(known.id, known.group_id, known.group, [one.id for one in order], [])
        tests = [members.values[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if wanted is not None:
            tests.append(members.values[level] == wanted)
        column = members.values[level]
        statement = sa.select(column).select_from(members.source).where(*tests).distinct().order_by(column)
        return statement if wanted is None else statement.limit(1)

    def _files(
        self, session: Session, known: KnownType, order: list[Collection], values: list[DataIdValue], only: str
    ) -> Iterator[TreeBatch]:
        members = self._schema.members(known.id, known.group_id, known.group, [one.id for one in order], [])
        dataset = self._schema.dataset
        last = known.path_order[len(values) :]
        tests = [members.values[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if only:
            candidates = self._candidates(known, values, only)
            if candidates is None:
                return
            tests += [members.values[name].in_(candidates) for name in last]
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
                if not only or name == only:
                    entries.append(TreeEntry(name, None, UUID(bytes=bytes(id_)), size_bytes, ingest_ns, ""))
            if entries:
                yield TreeBatch("", entries)
