"""Streams of datasets.

Rows stay columns from the cursor to the wire. An iterator holds a connection and a read transaction
from its first batch to its last, or until it is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.dataset_plans import DatasetPlans, More, Planned, shown_names
from pantry.daemon.registry.declared import as_declared, no_entries
from pantry.daemon.registry.definitions import Definitions, DefinitionsCache, KnownType
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.expansion import Expansion
from pantry.daemon.registry.files import FILE_COLUMNS, file_columns, in_path_order, make_file, shown_name
from pantry.daemon.registry.joins import RecordJoin
from pantry.daemon.registry.remembered import Ready, Remembered
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searching import (
    Keyed,
    batch_rows,
    keys_of,
)
from pantry.errors import CollectionTypeError, InvalidQueryError
from pantry.model.datasets import StoredFile
from pantry.model.metadata import MetadataEntry
from pantry.model.naming import directory_parts
from pantry.wire.operations.metadata import MetadataBatch, QueryMetadata
from pantry.wire.operations.registry import (
    QueryDatasets,
    RefBatch,
)

T = TypeVar("T")


class Shown(NamedTuple):
    """Which values of a dataset's data id the rows begin with, after its id and run."""

    names: tuple[str, ...]
    expansion: Expansion | None = None


Rows = list[tuple[Any, ...]]
Shape = Callable[[Definitions, KnownType, Rows, Shown], T]
"""Makes a batch of rows."""


class NamedFile(NamedTuple):
    """A dataset's file.

    Attributes
    ----------
    file : StoredFile
        Where it is, and what.
    name : str
        Its path in the mounted view, below the repository's directory.
    dataset_type : str
        Of the dataset.
    id : bytes
        The dataset's, in the form that the registry's own database has.
    """

    file: StoredFile
    name: str
    dataset_type: str
    id: bytes


class Queries:
    """Runs queries of datasets.

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

    Attributes
    ----------
    plans : DatasetPlans
        How datasets are searched for.
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
        self._records = records
        self.plans = DatasetPlans(database, schema, data_ids)
        self._remembered = Remembered(schema.universe)

    # -- datasets ----------------------------------------------------------------------------------

    def datasets(self, query: QueryDatasets) -> Iterator[RefBatch]:
        """Find datasets by type, in batches; see `Registry.query_datasets`."""
        return self._each_type(query, self._refs)

    def datasets_keyed(self, query: QueryDatasets) -> Iterator[Keyed[RefBatch]]:
        """Find datasets as `datasets` does, with what they are sorted by."""

        def shape(definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> Keyed[RefBatch]:
            return self._refs(definitions, known, rows, shown), keys_of(rows, 2 + len(shown.names), query)

        return self._each_type(query, shape)

    def files(self, query: QueryDatasets) -> Iterator[list[NamedFile]]:
        """Find the files of datasets, in batches; see `Registry.query_files`."""
        return self._each_type(query, self._files, self._with_files)

    def metadata(self, asked: QueryMetadata) -> Iterator[MetadataBatch]:
        """Find declared metadata, in batches; see `Registry.query_metadata`."""

        def wanted(known: KnownType) -> list[MetadataEntry]:
            declared = {entry.name: entry for entry in known.definition.metadata}
            if not declared:
                raise no_entries(known)
            unknown = [name for name in asked.entries if name not in declared]
            if unknown:
                raise InvalidQueryError(
                    f"the dataset type {known.definition.name!r} declares no metadata {', '.join(unknown)[:200]}",
                    hint=f"it declares {', '.join(declared)}",
                )
            return [declared[name] for name in dict.fromkeys(asked.entries)] or list(declared.values())

        def more(known: KnownType, join: RecordJoin) -> list[sa.ColumnElement[Any]]:
            return [join.described(entry.name) for entry in wanted(known)]

        def shape(definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> MetadataBatch:
            columns = {
                entry.name: [as_declared(entry.type, row[number]) for row in rows]
                for number, entry in enumerate(wanted(known), 2 + len(shown.names))
            }
            return MetadataBatch(self._refs(definitions, known, rows, shown), columns)

        return self._each_type(asked.query, shape, more)

    def _with_files(self, _known: KnownType, _join: RecordJoin) -> list[sa.ColumnElement[Any]]:
        return [*file_columns(self._schema.dataset)]

    def _each_type(
        self,
        query: QueryDatasets,
        shape: Shape[T],
        more: More | None = None,
    ) -> Iterator[T]:
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            left = query.limit
            for planned in self._found(session, definitions, query, more):
                if left == 0:
                    continue
                known, statement, checked, first, values = (
                    planned if isinstance(planned, Ready) else self._compiled(planned, left)
                )
                shown = Shown(shown_names(query, known))
                if query.with_dimension_records:
                    shown = Shown(shown.names, Expansion(session, self._schema, self._records, known.group))
                if first is not None:
                    rows = session.rows(first)
                    if len(rows) == left:
                        yield shape(definitions, known, rows, shown)
                        left = 0
                        continue
                for rows in session.batches(statement, batch_rows(query), values):
                    if checked and any(row[-1] for row in rows):
                        raise _ambiguous(known)
                    yield shape(definitions, known, rows, shown)
                    left = None if left is None else left - len(rows)

    def _found(
        self, session: Session, definitions: Definitions, query: QueryDatasets, more: More | None
    ) -> Iterator[Ready | Planned]:
        """Give the statements of each type: remembered ones, or made now."""
        # What a user's own entries add is of that query alone.
        shape = None if more not in (None, self._with_files) else self._remembered.shape_of(query, more)
        if shape is None:
            yield from self.plans.planned(session, definitions, query, more)
            return
        overrides = self.plans.overrides
        ready = self._remembered.find(shape, definitions, overrides)
        if ready is None:
            before = session.statements
            planned = self.plans.planned(session, definitions, shape.query, more)
            ready = [self._compiled(one, query.limit) for one in planned]
            if session.statements == before:
                self._remembered.keep(shape, definitions, overrides, ready)
        yield from ready

    def _compiled(self, planned: Planned, limit: int | None) -> Ready:
        statement, first = (
            None if one is None else self._database.compile(one.limit(limit))
            for one in (planned.statement, planned.first)
        )
        assert statement is not None  # noqa: S101
        return Ready(planned.known, statement, planned.checked, first)

    def counts(self, query: QueryDatasets) -> dict[str, int]:
        """Count datasets by type; see `Registry.count_datasets`."""
        found: dict[str, int] = {}
        with self._database.reading() as session:
            left = query.limit
            definitions = self._definitions.current(session)
            for known, statement, checked, _ in self.plans.planned(session, definitions, query):
                rows = statement.order_by(None).limit(left).subquery("found")
                wrong = sa.func.count(sa.case((rows.c.ambiguous, 1))) if checked else sa.literal(0)
                count = self._database.compile(sa.select(sa.func.count(), wrong).select_from(rows))
                ((number, ambiguous),) = session.rows(count)
                if ambiguous:
                    raise _ambiguous(known)
                found[known.definition.name] = number
                left = None if left is None else left - number
        return found

    def _refs(self, definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> RefBatch:
        required = known.group.required
        ids, runs, *values = list(zip(*rows, strict=True))[: 2 + len(shown.names)]
        distinct = list(dict.fromkeys(runs))
        number = {run: position for position, run in enumerate(distinct)}
        return RefBatch(
            dataset_type=known.definition,
            required=required,
            implied=shown.names[len(required) :],
            ids=b"".join(ids),
            columns=[list(column) for column in values],
            runs=[definitions.collections_by_id[run].name for run in distinct],
            run_index=[0] * len(rows) if len(distinct) == 1 else [number[run] for run in runs],
            records=shown.expansion.tables(dict(zip(shown.names, values, strict=True))) if shown.expansion else [],
        )

    def _files(self, definitions: Definitions, known: KnownType, rows: Rows, shown: Shown) -> list[NamedFile]:
        first = 2 + len(shown.names)
        found = []
        for row in rows:
            file = make_file(row[first : first + len(FILE_COLUMNS)])
            if not file.path:
                continue
            ordered = in_path_order(known, row[2 : 2 + len(known.group.required)])
            parts = directory_parts(known.definition.name, ordered)
            run = definitions.collections_by_id[row[1]].name
            name = "/".join([run, *parts, shown_name(known, ordered, file.path)])
            found.append(NamedFile(file, name, known.definition.name, row[0]))
        return found


def _ambiguous(known: KnownType) -> CollectionTypeError:
    return CollectionTypeError(
        f"which {known.definition.name} in a CALIBRATION collection comes first depends on the time",
        hint="name the exposure or visit in the expression, or ask with find_first=False",
    )
