"""What a registry consists of, and how it writes: under the rooms of `Registry`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from pantry.daemon.registry.collections import Collections
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.dataset_types import DatasetTypes
from pantry.daemon.registry.datasets import Datasets
from pantry.daemon.registry.definitions import DefinitionsCache
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.file_marks import FileMarks
from pantry.daemon.registry.import_members import ImportedMemberships
from pantry.daemon.registry.importing import ImportedDatasets
from pantry.daemon.registry.imports import Imports
from pantry.daemon.registry.lookup import Lookup
from pantry.daemon.registry.operator_tables import OperatorTable, read_tables
from pantry.daemon.registry.placing import Placing
from pantry.daemon.registry.preparation import Preparation
from pantry.daemon.registry.provenance import Provenance
from pantry.daemon.registry.queries import Queries
from pantry.daemon.registry.record_queries import RecordQueries
from pantry.daemon.registry.removed_files import RemovedFiles
from pantry.daemon.registry.removing import Removing
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.tagging import Tagging
from pantry.daemon.registry.tree import Tree
from pantry.daemon.registry.writer import Writer
from pantry.model.dimensions import DimensionUniverse

__all__ = ["Parts"]

T = TypeVar("T")


class Parts:
    """The parts of a registry, which `Changing` and `Asking` hand their work to; see `Registry`."""

    def __init__(
        self,
        database: Database,
        *,
        uuid: str,
        version: int,
        universe: DimensionUniverse,
        tables: Sequence[OperatorTable] = (),
    ) -> None:
        known = read_tables(database, universe, tables)
        self.universe = universe = known.universe
        self.uuid = uuid
        self.version = version
        self.is_unfinished = False
        self.is_being_removed = False
        self.keeps_files_of: tuple[str, ...] = ()
        self.holders: dict[str, str] = {}
        self._database = database
        schema = self._schema = Schema(universe)
        schema.adopt(known)
        self._definitions = DefinitionsCache(database, schema)
        # The writer's own: it sees what is not committed yet.
        written = DefinitionsCache(database, schema)
        self._collections = Collections(database, schema, written)
        self._placing = Placing(universe)
        self._dataset_types = DatasetTypes(database, schema, written, self._placing)
        self._records = DimensionRecords(database, schema)
        self._data_ids = DataIds(database, schema)
        marks = self._marks = FileMarks(database, schema)
        self._datasets = Datasets(database, schema, written, self._collections, self._data_ids, marks)
        self._removed = RemovedFiles(database, schema, marks)
        self._removing = Removing(
            database, schema, written, self._definitions, marks, self._removed, self._datasets.delete
        )
        self._preparation = Preparation(database, schema, self._data_ids, self._placing, marks)
        self._tagging = Tagging(database, schema, written, self._collections, self._data_ids)
        imported = ImportedDatasets(
            database, schema, written, self._collections, self._dataset_types, self._datasets, self._data_ids, marks
        )
        members = ImportedMemberships(database, schema, written, self._collections, self._tagging)
        self.imports = Imports(database, self._definitions, imported, members, self._write)
        self._lookup = Lookup(database, schema, self._data_ids)
        self._queries = Queries(database, schema, self._definitions, self._data_ids, self._records)
        self._record_queries = RecordQueries(database, schema, self._definitions, self._data_ids, self._records)
        self._tree = Tree(database, schema, self._definitions, self._data_ids)
        self._writer = Writer(database)
        self.provenance = Provenance(database, schema, self._definitions, self._lookup, self._write)
        self._numbers = itertools.count(1)
        self.writes = 0

    def close(self) -> None:
        """Finish the writes under way and close all connections."""
        self._writer.close()
        self._database.close()

    def _write(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        try:
            return self._writer.run(functools.partial(_call, work, args, options))
        finally:
            self._count()

    def _write_each(self, work: Callable[..., T], several: Iterable[tuple[Any, ...]]) -> list[BaseException | None]:
        """Do several writes by one commit; give the error of each that failed."""
        try:
            return self._writer.run_each([functools.partial(_call, work, args, {}) for args in several])
        finally:
            self._count()

    def _count(self) -> None:
        # Two threads may set it in either order: no number comes twice, which is all that counts.
        self.writes = next(self._numbers)


def _call(work: Callable[..., T], args: tuple[Any, ...], options: dict[str, Any], session: Session) -> T:
    return work(session, *args, **options)
