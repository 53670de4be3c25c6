"""The mounted view's directories: listed from indexes, with exactly the names of `pantry.model.naming`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
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
from pantry.model.timespan import Timespan
from pantry.wire.operations.browse import ListTree, TreeBatch, TreeEntry

BATCH_ENTRIES = 2_000
VALIDITY = "timespan"
"""Level of the directories of times of validity."""


class Searched(NamedTuple):
    """Where a directory's entries are looked for, in order.

    Attributes
    ----------
    plain : list of Collection
        RUN and TAGGED collections.
    timed : list of Collection
        CALIBRATION collections.
    """

    plain: list[Collection]
    timed: list[Collection]


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

    def entries(self, query: ListTree, *, any_suffix: bool = False) -> Iterator[TreeBatch]:
        """Entries of one directory, in batches; see `Registry.list_tree`."""
        for batch in self._entries(query):
            # A name is looked up by what the suffix stands behind, which may be more than one file's.
            wanted = batch.entries
            if query.name and not batch.level and not any_suffix:
                wanted = [entry for entry in batch.entries if entry.name == query.name]
            if wanted:
                yield TreeBatch(batch.level, wanted)

    def _entries(self, query: ListTree) -> Iterator[TreeBatch]:
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(query.dataset_type)
            order = [
                collection
                for collection in definitions.flatten([definitions.collection(query.collection)])
                if known.id in definitions.summary.get(collection.id, ())
            ]
            timed = [collection for collection in order if collection.type is CollectionType.CALIBRATION]
            searched = Searched([collection for collection in order if collection not in timed], timed)
            depth = max(0, len(known.path_order) - 1)
            values = self._values(known, query.parts[:depth])
            if values is None or not order or len(query.parts) > depth + 1:
                return
            if len(query.parts) > depth:
                span = naming.parse_validity(query.parts[depth])
                if span is not None and timed:
                    yield from self._files(session, known, Searched([], timed), values, query.name, span)
            elif len(query.parts) < depth:
                yield from self._directories(session, known, searched, values, query.name)
            else:
                if searched.plain:
                    yield from self._files(session, known, Searched(searched.plain, []), values, query.name)
                if timed:
                    yield from self._validities(session, known, timed, values, query.name)

    def _values(self, known: KnownType, parts: Sequence[str]) -> list[DataIdValue] | None:
        """Values of the directories gone down, or None if there can be no such directory."""
        found: list[DataIdValue] = []
        for name, part in zip(known.path_order, parts, strict=False):
            value = self._value(name, part)
            if value is None:
                return None
            found.append(value)
        return found

    def _value(self, dimension: str, part: str, *, last: bool = False) -> DataIdValue | None:
        text = naming.unquote_last(part) if last else naming.unquote_value(part)
        if text is None:
            return None
        try:
            value = self._data_ids.check_value(dimension, text)
        except DataIdValueError:
            return None
        # "007" is no name of 7.
        return value if str(value) == text else None

    # -- directories -------------------------------------------------------------------------------

    def _directories(
        self, session: Session, known: KnownType, searched: Searched, values: list[DataIdValue], only: str
    ) -> Iterator[TreeBatch]:
        level = known.path_order[len(values)]
        wanted = self._value(level, only) if only else None
        if only and wanted is None:
            return
        statement = self._skip_scan(known, searched, values, level, wanted)
        for rows in session.batches(self._database.compile(statement), BATCH_ENTRIES):
            yield TreeBatch(level, [TreeEntry(naming.quote_value(value), value) for (value,) in rows])

    def _skip_scan(
        self,
        known: KnownType,
        searched: Searched,
        values: list[DataIdValue],
        level: str,
        wanted: DataIdValue | None,
    ) -> sa.Select[Any]:
        """Distinct values of a level, each found by one step in the index.

        DISTINCT would read every member: a million for the few directories at the top.
        """
        table = self._schema.data_ids(known.group_id, known.group)
        links = [(self._schema.membership, searched.plain), (self._schema.calibration, searched.timed)]

        def smallest(above: sa.ColumnElement[Any] | None) -> sa.Select[Any]:
            row = table.alias()
            there = sa.or_(
                *[
                    sa.exists().where(
                        link.c.collection_id.in_([collection.id for collection in collections]),
                        link.c.dataset_type_id == known.id,
                        link.c.data_id_id == row.c.id,
                    )
                    for link, collections in links
                    if collections
                ]
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

    # -- times of validity -------------------------------------------------------------------------

    def _validities(
        self, session: Session, known: KnownType, timed: list[Collection], values: list[DataIdValue], only: str
    ) -> Iterator[TreeBatch]:
        span = naming.parse_validity(only) if only else None
        if only and span is None:
            return
        for rows in session.batches(self._database.compile(self._spans(known, timed, values, span)), BATCH_ENTRIES):
            names = [naming.validity_name(Timespan(begin, end)) for begin, end in rows]
            yield TreeBatch(VALIDITY, [TreeEntry(name) for name in names])

    def _spans(
        self, known: KnownType, timed: list[Collection], values: list[DataIdValue], wanted: Timespan | None
    ) -> sa.Select[Any]:
        """Distinct times of validity, in order."""
        table, valid = self._schema.data_ids(known.group_id, known.group), self._schema.calibration
        tests = [table.c[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if wanted is not None:
            tests += [valid.c.begin_ns == wanted.begin_ns, valid.c.end_ns == wanted.end_ns]
        return (
            sa.select(valid.c.begin_ns, valid.c.end_ns)
            .join_from(table, valid, valid.c.data_id_id == table.c.id)
            .where(
                *tests,
                valid.c.dataset_type_id == known.id,
                valid.c.collection_id.in_([collection.id for collection in timed]),
            )
            .distinct()
            .order_by(valid.c.begin_ns, valid.c.end_ns)
        )

    # -- files -------------------------------------------------------------------------------------

    def _files(
        self,
        session: Session,
        known: KnownType,
        searched: Searched,
        values: list[DataIdValue],
        only: str,
        span: Timespan | None = None,
    ) -> Iterator[TreeBatch]:
        """Files of the plain collections, or of the timed ones those that are valid for ``span``."""
        table, dataset = self._schema.data_ids(known.group_id, known.group), self._schema.dataset
        member = self._schema.membership if span is None else self._schema.calibration
        order = searched.plain or searched.timed
        last = known.path_order[len(values) :]
        tests = [table.c[name] == value for name, value in zip(known.path_order, values, strict=False)]
        if only:
            candidates = self._candidates(known, values, only)
            if candidates is None:
                return
            tests += [table.c[name].in_(candidates) for name in last]
        if span is not None:
            tests += [member.c.begin_ns == span.begin_ns, member.c.end_ns == span.end_ns]
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
                shown_hash = digest.hex() if digest else ""
                last_value = value[0] if value else None
                entries.append(TreeEntry(name, last_value, UUID(bytes=bytes(id_)), size_bytes, ingest_ns, shown_hash))
            if entries:
                yield TreeBatch("", entries)

    def _candidates(self, known: KnownType, values: list[DataIdValue], name: str) -> list[DataIdValue] | None:
        """Values that the last dimension can have in a file of this name; None if it is no such name."""
        stem = "_".join([known.definition.name, *map(naming.quote_value, values)])
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
        found = [self._value(known.path_order[-1], rest[:end], last=True) for end in ends]
        return [value for value in found if value is not None] or None
