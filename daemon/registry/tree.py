"""The mounted view's directories: listed from indexes, with exactly the names of `pantry.model.naming`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.definitions import Collection, DefinitionsCache, KnownType
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.files import shown_name
from pantry.daemon.registry.schema import Schema
from pantry.errors import DataIdValueError
from pantry.model import naming
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataIdValue
from pantry.wire.operations.browse import ListTree, TreeBatch, TreeEntry

BATCH_ENTRIES = 2_000


class Tree:
    """Lists directories below ``<collection>/<dataset type>``.

    Parameters
    ----------
    database, schema
        Where the rows are.
    definitions : DefinitionsCache
        Collections and dataset types.
    data_ids : DataIds
        Knows what values dimensions take.
    """

    def __init__(self, database: Database, schema: Schema, definitions: DefinitionsCache, data_ids: DataIds) -> None:
        self._database = database
        self._schema = schema
        self._definitions = definitions
        self._data_ids = data_ids

    def entries(self, query: ListTree) -> Iterator[TreeBatch]:
        """Entries of one directory, in batches; see `Registry.list_tree`."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(query.dataset_type)
            order = [
                collection
                for collection in definitions.flatten([definitions.collection(query.collection)])
                if known.id in definitions.summary.get(collection.id, ())
                and collection.type is not CollectionType.CALIBRATION
            ]
            values = self._values(known, query.parts)
            if values is None or not order:
                return
            if len(values) + 1 < len(known.path_order):
                yield from self._directories(session, known, order, values, query.name)
            else:
                yield from self._files(session, known, order, values, query.name)

    def _values(self, known: KnownType, parts: Sequence[str]) -> list[DataIdValue] | None:
        """Values of the directories gone down, or None if there can be no such directory."""
        if len(parts) >= max(1, len(known.path_order)):
            return None
        found: list[DataIdValue] = []
        for name, part in zip(known.path_order, parts, strict=False):
            value = self._value(name, part)
            if value is None:
                return None
            found.append(value)
        return found

    def _value(self, dimension: str, part: str) -> DataIdValue | None:
        text = naming.unquote_value(part)
        if text is None:
            return None
        try:
            value = self._data_ids.check_value(dimension, text)
        except DataIdValueError:
            return None
        # "007" is no name of 7.
        return value if naming.quote_value(value) == part else None

    # -- directories -------------------------------------------------------------------------------

    def _directories(
        self, session: Session, known: KnownType, order: list[Collection], values: list[DataIdValue], only: str
    ) -> Iterator[TreeBatch]:
        level = known.path_order[len(values)]
        wanted = self._value(level, only) if only else None
        if only and wanted is None:
            return
        statement = self._skip_scan(known, order, values, level, wanted)
        for rows in session.batches(self._database.compile(statement), BATCH_ENTRIES):
            yield TreeBatch(level, [TreeEntry(naming.quote_value(value), value) for (value,) in rows])

    def _skip_scan(
        self,
        known: KnownType,
        order: list[Collection],
        values: list[DataIdValue],
        level: str,
        wanted: DataIdValue | None,
    ) -> sa.Select[Any]:
        """Distinct values of a level, each found by one step in the index.

        DISTINCT would read every member: a million for the few directories at the top.
        """
        table, member = self._schema.data_ids(known.group_id, known.group), self._schema.membership

        def smallest(above: sa.ColumnElement[Any] | None) -> sa.Select[Any]:
            row = table.alias()
            there = sa.exists().where(
                member.c.collection_id.in_([collection.id for collection in order]),
                member.c.dataset_type_id == known.id,
                member.c.data_id_id == row.c.id,
            )
            fixed = [row.c[name] == value for name, value in zip(known.path_order, values, strict=False)]
            if above is not None:
                fixed.append(row.c[level] > above)
            if wanted is not None:
                fixed.append(row.c[level] == wanted)
            return sa.select(row.c[level].label("value")).where(*fixed, there).order_by(row.c[level]).limit(1)

        if wanted is not None:
            return smallest(None)
        first = smallest(None).subquery()
        steps = sa.select(first.c.value.label("value")).cte("steps", recursive=True)
        following = smallest(steps.c.value).correlate(steps).scalar_subquery()
        steps = steps.union_all(sa.select(following).where(steps.c.value.is_not(None)))
        return sa.select(steps.c.value).where(steps.c.value.is_not(None))

    # -- files -------------------------------------------------------------------------------------

    def _files(
        self, session: Session, known: KnownType, order: list[Collection], values: list[DataIdValue], only: str
    ) -> Iterator[TreeBatch]:
        table, member, dataset = (
            self._schema.data_ids(known.group_id, known.group),
            self._schema.membership,
            self._schema.dataset,
        )
        last = known.path_order[len(values) :]
        tests = [table.c[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if only:
            candidates = self._candidates(known, values, only)
            if candidates is None:
                return
            tests += [table.c[name].in_(candidates) for name in last]
        rank = sa.case({collection.id: number for number, collection in enumerate(order)}, value=member.c.collection_id)
        shown = [dataset.c[name] for name in ("uuid", "path", "size_bytes", "ingest_ns", "hash")]
        statement = (
            sa.select(member.c.data_id_id, *shown, *[table.c[name] for name in last])
            .join_from(table, member, member.c.data_id_id == table.c.id)
            .join(dataset, dataset.c.id == member.c.dataset_id)
            .where(
                *tests,
                member.c.dataset_type_id == known.id,
                member.c.collection_id.in_([collection.id for collection in order]),
            )
            .order_by(*[table.c[name] for name in last], *([rank] if len(order) > 1 else []))
        )
        before = None
        for rows in session.batches(self._database.compile(statement), BATCH_ENTRIES):
            entries = []
            for data_id, id_, path, size_bytes, ingest_ns, digest, *value in rows:
                # Sorted by data id, then by the order of collections: the first one counts.
                if data_id == before:
                    continue
                before = data_id
                if not path:
                    continue
                name = shown_name(known, [*values, *value], path)
                if not only or name == only:
                    entries.append(
                        TreeEntry(
                            name, None, UUID(bytes=bytes(id_)), size_bytes, ingest_ns, digest.hex() if digest else ""
                        )
                    )
            if entries:
                yield TreeBatch("", entries)

    def _candidates(self, known: KnownType, values: list[DataIdValue], name: str) -> list[DataIdValue] | None:
        """Values that the last dimension can have in a file of this name; None if it is no such name."""
        stem = naming.file_name(known.definition.name, values, "")
        if not name.startswith(stem):
            return None
        if len(values) == len(known.path_order):
            return []
        rest = name[len(stem) :]
        if not rest.startswith("_"):
            return None
        rest = rest[1:]
        # Where the value ends and the suffix begins cannot be seen: both may have dots.
        ends = [position for position, char in enumerate(rest) if char == "."] + [len(rest)]
        found = [self._value(known.path_order[-1], rest[:end]) for end in ends]
        return [value for value in found if value is not None] or None
