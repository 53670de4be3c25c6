"""The registry: what a repository holds, in SQLite or PostgreSQL.

`Registry` is the door; the modules behind it each do one thing. Writes of all callers go through one
writer thread, which commits them in groups; reads run in the caller's thread.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from msgspec.structs import replace

from pantry.daemon.registry.attributes import UNFINISHED, default_universe, delete_attribute, read_attributes
from pantry.daemon.registry.collections import Collections, query_collections
from pantry.daemon.registry.data_ids import DataIds
from pantry.daemon.registry.dataset_types import DatasetTypes
from pantry.daemon.registry.datasets import Datasets, Insert, NewDataset
from pantry.daemon.registry.declared import Columns, values_of
from pantry.daemon.registry.definitions import COLLECTIONS, DATASET_TYPES, Definitions, DefinitionsCache
from pantry.daemon.registry.described import describe_files, describe_members
from pantry.daemon.registry.dimension_records import DimensionRecords
from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.expansion import Expansion
from pantry.daemon.registry.import_members import ImportedMemberships
from pantry.daemon.registry.importing import ImportedDatasets
from pantry.daemon.registry.imports import Imports
from pantry.daemon.registry.lookup import Lookup
from pantry.daemon.registry.operator_tables import OperatorTable, read_tables
from pantry.daemon.registry.overrides import Override, preferred
from pantry.daemon.registry.placing import Placing
from pantry.daemon.registry.preparation import Preparation, PreparedIngest, PreparedPut
from pantry.daemon.registry.provenance import Provenance
from pantry.daemon.registry.queries import NamedFile, Queries
from pantry.daemon.registry.record_queries import RecordQueries
from pantry.daemon.registry.schema import Schema
from pantry.daemon.registry.searching import Keyed
from pantry.daemon.registry.tagging import Tagging
from pantry.daemon.registry.tree import Tree
from pantry.daemon.registry.writer import Writer
from pantry.errors import ConfigError, ConflictError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetType, StoredFile
from pantry.model.dimensions import DimensionUniverse
from pantry.model.formats import Formats
from pantry.model.metadata import MetadataValue
from pantry.model.patterns import is_glob
from pantry.model.records import DimensionRecord
from pantry.model.repository import DATA_MODEL_VERSION
from pantry.model.templates import Templates
from pantry.model.timespan import Timespan
from pantry.wire.operations.browse import ListTree, TreeBatch
from pantry.wire.operations.files import FileTable, MemberTable
from pantry.wire.operations.metadata import MetadataBatch, QueryMetadata
from pantry.wire.operations.registry import (
    DataIdBatch,
    FindDataset,
    FoundDataset,
    QueryDataIds,
    QueryDatasets,
    QueryDimensionRecords,
    RecordBatch,
    RefBatch,
)
from pantry.wire.operations.repositories import QueryCollections

__all__ = ["Insert", "NewDataset", "PreparedIngest", "PreparedPut", "Registry", "default_universe"]

T = TypeVar("T")


class Registry:
    """A repository's registry; all methods may be called from any thread.

    Methods block while the database works, so the daemon calls them in worker threads. Made by
    `create` or `open`.

    Attributes
    ----------
    universe : DimensionUniverse
        The repository's dimensions.
    uuid : str
        The repository's, made at its creation.
    version : int
        Version of its data model.
    is_unfinished : bool
        Whether it is still being filled, so that nobody should read it; see `still_unfinished`.
    provenance : Provenance
        What was made of what.
    imports : Imports
        Takes what another repository exported.
    writes : int
        Another number after each write through this object; safe to read in any thread.
    """

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
        self._datasets = Datasets(database, schema, written, self._collections, self._data_ids)
        self._preparation = Preparation(database, schema, self._data_ids, self._placing)
        self._tagging = Tagging(database, schema, written, self._collections, self._data_ids)
        imported = ImportedDatasets(
            database, schema, written, self._collections, self._dataset_types, self._datasets, self._data_ids
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

    @classmethod
    def create(cls, url: str, universe: Mapping[str, Any], *, uuid: str, unfinished: bool = False) -> Registry:
        """Make a new registry in an SQLite file or a PostgreSQL database and open it.

        Parameters
        ----------
        url : str
            SQLAlchemy URL; the file must not exist or be empty, the database hold no registry.
        universe : Mapping
            Configuration of the dimensions (see `default_universe`).
        uuid : str
            The repository's.
        unfinished : bool
            Nobody should read it until `finish`.

        Raises
        ------
        ConflictError
            If there is a registry already.
        ConfigError
            If the URL or the universe is wrong.
        """
        schema = Schema(DimensionUniverse(universe))
        database = Database(url)
        attributes = {"uuid": uuid, "version": str(DATA_MODEL_VERSION), "universe": json.dumps(universe)}
        if unfinished:
            attributes[UNFINISHED] = "yes"
        try:
            with database.writing() as session:
                if database.has_table(session, schema.attribute.name):
                    raise ConflictError("there is a registry already", hint=database.shown_url)
                session.create(*schema.fixed)
                session.run_many(database.prepare_insert(schema.attribute), list(attributes.items()))
                session.run_many(database.prepare_insert(schema.revision), [(COLLECTIONS, 0), (DATASET_TYPES, 0)])
        finally:
            database.close()
        return cls.open(url)

    @classmethod
    def open(cls, url: str, *, tables: Sequence[OperatorTable] = ()) -> Registry:
        """Open an existing registry.

        Parameters
        ----------
        url : str
            SQLAlchemy URL.
        tables : sequence of OperatorTable
            Beside the registry's own, to be read only.

        Raises
        ------
        RepositoryNotFoundError
            If there is none.
        ConfigError
            If it was made by a newer version of Pantry than this one, or by one before the first release.
        """
        database = Database(url)
        try:
            attributes = read_attributes(database)
            version = int(attributes["version"])
            if version > DATA_MODEL_VERSION:
                raise ConfigError(
                    f"the repository has data model version {version}; this Pantry knows up to {DATA_MODEL_VERSION}",
                    hint="update Pantry on this node",
                )
            if version < DATA_MODEL_VERSION:
                raise ConfigError(
                    f"the repository has data model version {version}, of Pantry before its first release; this one "
                    f"works with {DATA_MODEL_VERSION}",
                    hint="make a new repository and ingest the files again; nothing in the old one was changed",
                )
            universe = DimensionUniverse(json.loads(attributes["universe"]))
            made = cls(database, uuid=attributes["uuid"], version=version, universe=universe, tables=tables)
            made.is_unfinished = UNFINISHED in attributes
            return made
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Finish the writes under way and close all connections."""
        self._writer.close()
        self._database.close()

    @property
    def universe_config(self) -> dict[str, Any]:
        """Configuration of the dimensions that are the repository's own, without elements of operators' tables."""
        config = self.universe.config
        own = {name: body for name, body in config["elements"].items() if name not in self._schema.foreign}
        return {**config, "elements": own}

    def still_unfinished(self) -> bool:
        """Look again whether it is still being filled: another daemon may have finished it."""
        self.is_unfinished = UNFINISHED in read_attributes(self._database)
        return self.is_unfinished

    def finish(self) -> None:
        """Say that it may be read."""
        self._write(delete_attribute, self._schema, UNFINISHED)
        self.is_unfinished = False

    def override(self, overrides: Sequence[Override]) -> None:
        """Let searches of the first dataset find others; once, before any search."""
        self._queries.overrides = tuple(overrides)

    def use_templates(self, templates: Templates) -> None:
        """Store new datasets where the repository's templates say; once, before any are written.

        Raises
        ------
        ConfigError
            A template names what is no dimension, or two datasets could share a path.
        """
        with self._database.reading() as session:
            types = self._definitions.current(session).types
        self._placing.use(templates, list(types.values()))

    def use_formats(self, formats: Formats) -> None:
        """Store new datasets as the repository's configuration says; once, before any are written."""
        self._preparation.formats = (formats,)
        self._dataset_types.formats = (formats,)

    def _write(self, work: Callable[..., T], *args: Any, **options: Any) -> T:
        try:
            return self._writer.run(functools.partial(_call, work, args, options))
        finally:
            # Two threads may set it in either order: no number comes twice, which is all that counts.
            self.writes = next(self._numbers)

    # -- definitions -------------------------------------------------------------------------------

    def register_dataset_type(self, dataset_type: DatasetType) -> tuple[DatasetType, bool]:
        """Register a dataset type unless an equal one is.

        Returns
        -------
        DatasetType
            With complete dimensions, in the order of the universe.
        bool
            Whether it is new.

        Raises
        ------
        ConflictingDefinitionError
            If one of this name is defined differently.
        DatasetTypeError
            For an unknown storage class or a component.
        """
        complete = self._dataset_types.complete(dataset_type)
        known, new = self._write(self._dataset_types.register, complete)
        return known.definition, new

    def list_dataset_types(self, patterns: Sequence[str] = ()) -> list[DatasetType]:
        """List dataset types whose names match any of the globs, all if there are none, in order of name."""
        with self._database.reading() as session:
            known = self._definitions.current(session).match_types(patterns or ["*"])
        return sorted((one.definition for one in known), key=lambda definition: definition.name)

    def lacking(self, dataset_types: Iterable[str], collections: Iterable[str]) -> tuple[set[str], set[str]]:
        """Give those of these names that are not registered; patterns are no names."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
        return (
            {name for name in dataset_types if not is_glob(name) and name not in definitions.types},
            {name for name in collections if not is_glob(name) and name not in definitions.collections},
        )

    def register_collection(self, name: str, type: CollectionType, doc: str = "") -> None:  # noqa: A002 - Gen3's name
        """Make a collection unless it exists; `ConflictingDefinitionError` if it is of another type."""
        self._write(self._collections.register, name, type, doc)

    def redefine_chain(self, name: str, children: Sequence[str]) -> None:
        """Set the children of a CHAINED collection, in search order; circles are refused."""
        self._write(self._collections.redefine_chain, name, tuple(children))

    def query_collections(self, query: QueryCollections) -> list[CollectionInfo]:
        """Find collections; see `QueryCollections`."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
        return query_collections(definitions, query)

    def insert_dimension_records(
        self,
        records: Iterable[DimensionRecord],
        *,
        skip_existing: bool = False,
        compare: bool = False,
        replace: bool = False,
    ) -> int:
        """Insert dimension records of any elements, all or none.

        Parameters
        ----------
        records : iterable of DimensionRecord
            In any order; the bands of filters need no records of their own.
        skip_existing : bool
            Leave records with equal keys as they are.
        compare : bool
            With ``skip_existing``: those must say the same, as far as these say anything.
        replace : bool
            Put the given ones in the place of those with equal keys.

        Returns
        -------
        int
            How many are new or were replaced.

        Raises
        ------
        DataIdValueError
            For a value of the wrong type, or a record that another one needs and that is missing.
        ConflictError
            If a record exists or is different, or another one has the same alternate key.
        """
        rows = self._records.check(records)
        return self._write(self._records.insert, rows, skip_existing=skip_existing, compare=compare, replace=replace)

    # -- writing datasets --------------------------------------------------------------------------

    def prepare_put(
        self,
        dataset_type: str,
        run: str,
        data_id: Mapping[str, object],
        extension: str | None = None,
        formatter: str = "",
    ) -> PreparedPut:
        """Check that a dataset may be stored, and say where.

        Parameters
        ----------
        dataset_type, run : str
            As what and in which RUN collection; it need not exist.
        data_id : Mapping
            Dimensions, alternate keys (``detector.full_name``) or record fields
            (``exposure.seq_num``, or ``seq_num`` if only one dimension has it) with their values.
        extension : str or None
            Suffix of the file, with its dot; None for the format's own.
        formatter : str
            Name of the formatter; empty for what the repository says, or the storage class.

        Raises
        ------
        DatasetExistsError
            If the run has such a dataset.
        DataIdValueError
            If a value has no dimension record.
        """
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return self._preparation.put(session, definitions, dataset_type, run, data_id, extension, formatter)

    def expand_data_id(
        self, dataset_type: str, data_id: Mapping[str, object], run: str = ""
    ) -> tuple[DatasetType, DataCoordinate]:
        """Complete a data id as `prepare_put` does, and give the dataset type too; nothing is to be stored."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(dataset_type)
            return known.definition, self._preparation.expand(session, definitions, known, run, data_id)

    def prepare_ingest(
        self,
        dataset_type: str,
        run: str,
        dimensions: Sequence[str],
        rows: Sequence[Sequence[DataIdValue]],
        extensions: Sequence[str | None] | None = None,
        *,
        named: bool = True,
    ) -> PreparedIngest:
        """Check that many datasets may be stored, and say where; no query per row.

        Parameters
        ----------
        dataset_type, run : str
            As what and in which RUN collection.
        dimensions : sequence of str
            All required dimensions of the type, and implied ones if they shall be checked.
        rows : sequence of tuple
            Their values.
        extensions : sequence of str or None, optional
            For each row, the suffix of the file; None for the storage class's own.
        named : bool
            Whether paths are wanted.
        """
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return self._preparation.ingest(
                session, definitions, dataset_type, run, dimensions, rows, extensions, named=named
            )

    def insert_datasets(
        self, run: str, dataset_type: str, new: Sequence[NewDataset], metadata: Columns | None = None
    ) -> None:
        """Insert datasets into a RUN collection, which is made if it is absent; all or none.

        Parameters
        ----------
        run, dataset_type : str
            Where and as what.
        new : sequence of (id, data id, StoredFile)
            The data id as a `DataCoordinate`, or as the values of the required dimensions.
        metadata : Mapping, optional
            For each declared entry's name a checked value for each of them.

        Raises
        ------
        DatasetExistsError
            If the run has one of them, or two have the same data id.
        DataIdValueError
            If a value has no dimension record.
        """
        self._write(self._datasets.insert, run, dataset_type, new, metadata)

    def insert_each(self, inserts: Sequence[Insert]) -> list[BaseException | None]:
        """Do several times what `insert_datasets` does, by one commit; give the error of each that failed.

        Parameters
        ----------
        inserts : sequence of (run, dataset type, new, metadata)
            As of `insert_datasets`; each is all or none.
        """
        try:
            return self._writer.run_each([functools.partial(_call, self._datasets.insert, one, {}) for one in inserts])
        finally:
            self.writes = next(self._numbers)

    def insert_together(self, inserts: Sequence[Insert]) -> None:
        """Do several times what `insert_datasets` does, of several types and runs, all or none."""
        self._write(self._datasets.insert_together, inserts)

    def record_metadata(self, dataset_type: str, ids: Sequence[bytes], columns: Columns) -> int:
        """Store declared metadata of datasets of a type in place of what was there, all or none; give their number.

        Raises
        ------
        InvalidRequestError
            If the type declares no such entries, or a value is of another type.
        DatasetNotFoundError
            If one of the datasets is not there.
        """
        return self._write(self._datasets.declared.record, dataset_type, ids, columns)

    def delete_datasets(self, ids: Sequence[UUID | bytes]) -> list[StoredFile]:
        """Delete datasets from all collections; ids that are not there are passed over.

        Returns
        -------
        list of StoredFile
            The files of those that were there.
        """
        return self._write(self._datasets.delete, ids)

    def associate(self, collection: str, ids: Sequence[UUID | bytes]) -> int:
        """Put datasets into a TAGGED collection in place of those with the same type and data id."""
        return self._write(self._tagging.associate, collection, ids)

    def disassociate(self, collection: str, ids: Sequence[UUID | bytes]) -> int:
        """Take datasets out of a TAGGED collection; give the number that were in it."""
        return self._write(self._tagging.disassociate, collection, ids)

    def certify(self, collection: str, ids: Sequence[UUID | bytes], timespan: Timespan) -> int:
        """Make datasets valid for a time in a CALIBRATION collection.

        Raises
        ------
        ConflictError
            If another dataset of the same type and data id is valid in a part of this time.
        DatasetTypeError
            If a dataset's type is not a calibration type.
        """
        return self._write(self._tagging.certify, collection, ids, timespan)

    def decertify(
        self,
        collection: str,
        dataset_type: str,
        timespan: Timespan,
        data_ids: Sequence[Mapping[str, object]] | None = None,
    ) -> int:
        """Make a type's datasets invalid for a time; validity before and after it stays.

        Parameters
        ----------
        collection, dataset_type : str
            Where and what.
        timespan : Timespan
            The time to clear.
        data_ids : sequence of Mapping, optional
            Only these.

        Returns
        -------
        int
            How many validity ranges were cut or removed.
        """
        return self._write(self._tagging.decertify, collection, dataset_type, timespan, data_ids)

    # -- reading -----------------------------------------------------------------------------------

    def find_dataset(self, query: FindDataset) -> FoundDataset:
        """Find the first dataset of a type and data id in collections; `FoundDataset` of None if there is none.

        Raises
        ------
        MissingDatasetTypeError, MissingCollectionError
            If what is named does not exist.
        DimensionNameError, DataIdValueError
            If the data id cannot be understood.
        """
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            found = self._find(session, definitions, query)
            return self._with_records(session, definitions, found) if query.dimension_records else found

    def _find(self, session: Session, definitions: Definitions, query: FindDataset) -> FoundDataset:
        found = self._lookup.find(session, definitions, query)
        if found.ref is None or not self._queries.overrides:
            return found
        known = definitions.dataset_type(query.dataset_type)
        instead = [one.name for one in preferred(self._queries.overrides, definitions, known, query.collections)]
        if not instead:
            return found
        better = self._lookup.find(session, definitions, replace(query, collections=tuple(instead)))
        return found if better.ref is None else better

    def _with_records(self, session: Session, definitions: Definitions, found: FoundDataset) -> FoundDataset:
        if found.ref is None:
            return found
        group = definitions.dataset_type(found.ref.dataset_type.name).group
        data_id = Expansion(session, self._schema, self._records, group).one(found.ref.data_id)
        return replace(found, ref=replace(found.ref, data_id=data_id))

    def get_dataset(self, id: UUID, *, dimension_records: bool = False) -> FoundDataset:  # noqa: A002 - Gen3's name
        """Look a dataset up by its id; `FoundDataset` of None if there is none."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            found = self._lookup.get(session, definitions, id)
            return self._with_records(session, definitions, found) if dimension_records else found

    def dataset_types_of(self, ids: Sequence[bytes]) -> dict[bytes, DatasetType]:
        """Give the type of each dataset that is there, by its id of 16 bytes."""
        with self._database.reading() as session:
            return self._lookup.types(session, self._definitions.current(session), ids)

    def get_metadata(self, id: UUID) -> dict[str, MetadataValue]:  # noqa: A002 - Gen3's name
        """Read what is recorded of the declared metadata of a dataset."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            return values_of(self._database, self._schema, session, definitions, id)

    def describe_files(self, dataset_type: str, ids: Sequence[bytes]) -> FileTable:
        """Give what is recorded of the files of datasets of a type, in their order; see `DescribeFiles`."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(dataset_type)
            return describe_files(self._database, self._schema, session, definitions, known, ids)

    def describe_members(self, dataset_type: str, ids: Sequence[bytes], collections: Sequence[str]) -> MemberTable:
        """Tell which datasets of a type are in which TAGGED and CALIBRATION collections; see `DescribeMembers`."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            known = definitions.dataset_type(dataset_type)
            return describe_members(self._database, self._schema, session, definitions, known, ids, collections)

    def query_metadata(self, query: QueryMetadata) -> Iterator[MetadataBatch]:
        """Find the declared metadata of the datasets that `query_datasets` finds; as it in everything else."""
        return self._queries.metadata(query)

    def query_datasets(self, query: QueryDatasets) -> Iterator[RefBatch]:
        """Find datasets, in batches of at most 5,000 of one type each (2,000 with records).

        Nothing is checked or read before the first batch is asked for. From then on the iterator holds a
        read transaction, until it ends or is closed. ``order_by`` and ``limit`` work on each dataset type
        in turn; types that only a glob matches and that have not the dimensions asked for are passed over.

        Raises
        ------
        MissingDatasetTypeError, MissingCollectionError
            If something is named, without a glob, that does not exist.
        InvalidQueryError
            For a mistake in ``where`` or ``order_by``, with its place.
        """
        return self._queries.datasets(query)

    def query_datasets_keyed(self, query: QueryDatasets) -> Iterator[Keyed[RefBatch]]:
        """Find datasets as `query_datasets` does, with what they are sorted by."""
        return self._queries.datasets_keyed(query)

    def count_datasets(self, query: QueryDatasets) -> dict[str, int]:
        """Count, by dataset type, what `query_datasets` would find; types that have nothing may be missing."""
        return self._queries.counts(query)

    def query_files(self, query: QueryDatasets) -> Iterator[list[NamedFile]]:
        """Find the files of the datasets that `query_datasets` finds; as it in everything else."""
        return self._queries.files(query)

    def query_data_ids(self, query: QueryDataIds) -> Iterator[DataIdBatch]:
        """Find data ids over the dimension records, with implied values; holds a transaction as `query_datasets`."""
        return self._record_queries.data_ids(query)

    def query_data_ids_keyed(self, query: QueryDataIds) -> Iterator[Keyed[DataIdBatch]]:
        """Find data ids as `query_data_ids` does, with what they are sorted by."""
        return self._record_queries.data_ids_keyed(query)

    def query_dimension_records(self, query: QueryDimensionRecords) -> Iterator[RecordBatch]:
        """Find records of one element; holds a transaction as `query_datasets`."""
        return self._record_queries.dimension_records(query)

    def query_dimension_records_keyed(self, query: QueryDimensionRecords) -> Iterator[Keyed[RecordBatch]]:
        """Find records as `query_dimension_records` does, with what they are sorted by."""
        return self._record_queries.dimension_records_keyed(query)

    def list_tree(self, query: ListTree, *, any_suffix: bool = False) -> Iterator[TreeBatch]:
        """List one directory of the mounted view; holds a transaction as `query_datasets`.

        Directories are in the order of their values. A directory that cannot exist has no entries. With
        ``any_suffix``, a name also finds files that differ from it only in their suffix.
        """
        return self._tree.entries(query, any_suffix=any_suffix)


def _call(work: Callable[..., T], args: tuple[Any, ...], options: dict[str, Any], session: Session) -> T:
    return work(session, *args, **options)
