"""What a registry is asked: a room of `Registry`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from uuid import UUID

from msgspec.structs import replace

from pantry.daemon.registry.collections import query_collections
from pantry.daemon.registry.declared import values_of
from pantry.daemon.registry.definitions import Definitions
from pantry.daemon.registry.described import describe_files, describe_members
from pantry.daemon.registry.engine import Session
from pantry.daemon.registry.expansion import Expansion
from pantry.daemon.registry.overrides import preferred
from pantry.daemon.registry.parts import Parts
from pantry.daemon.registry.queries import NamedFile
from pantry.daemon.registry.searching import Keyed
from pantry.model.collections import CollectionInfo
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataValue
from pantry.model.patterns import is_glob
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

__all__ = ["Asking"]


class Asking(Parts):
    """The methods of `Registry` that read and query."""

    def state(self) -> str:
        """Return another text after each change of the registry, whoever made it."""
        return f"{self.writes} {self._database.state()}"

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

    def query_collections(self, query: QueryCollections) -> list[CollectionInfo]:
        """Find collections; see `QueryCollections`."""
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
        return query_collections(definitions, query)

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
        if found.ref is None or not self._queries.plans.overrides:
            return found
        known = definitions.dataset_type(query.dataset_type)
        instead = [one.name for one in preferred(self._queries.plans.overrides, definitions, known, query.collections)]
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
