"""Several registries read as one (docs/decisions/0019-repository-chains.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from pantry.daemon.registry import Registry
from pantry.daemon.registry.chained_tree import list_tree
from pantry.daemon.registry.lookup import NOTHING
from pantry.daemon.registry.rows_of_batches import Batch, count_rows, join_rows, split_rows, take_rows
from pantry.daemon.registry.searching import Keyed
from pantry.daemon.registry.seen import Seen, Sorter
from pantry.errors import (
    ConflictingDefinitionError,
    InvalidRequestError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionInfo
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionUniverse
from pantry.model.patterns import is_glob
from pantry.wire.operations.browse import ListTree, TreeBatch
from pantry.wire.operations.data import OpenDataset
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

_SORTED_ROWS = 1_000
Query = TypeVar("Query", QueryDatasets, QueryDataIds, QueryDimensionRecords)
Asked = TypeVar("Asked", QueryDatasets, QueryDataIds, QueryDimensionRecords, FindDataset, OpenDataset, ListTree)


class ChainedRegistry:
    """The asking methods of `Registry`, over several of them in order.

    Parameters
    ----------
    members : sequence of (str, Registry)
        Names of the repositories, and their registries.
    """

    def __init__(self, members: Sequence[tuple[str, Registry]]) -> None:
        self._members = list(members)

    @property
    def universe(self) -> DimensionUniverse:
        """The first one's dimensions."""
        return self._members[0][1].universe

    def restricted(self, query: Asked) -> list[Asked | None]:
        """Leave out of a question to each member the collections and dataset types that it lacks.

        Returns
        -------
        list
            A question for each member; None for one that has nothing of what is asked for.

        Raises
        ------
        MissingCollectionError, MissingDatasetTypeError
            No member has one of them.
        """
        named = _named_in(query)
        types: tuple[str, ...] = named[0]
        collections: tuple[str, ...] = named[1]
        lacking = [registry.lacking(types, collections) for _, registry in self._members]
        for name in (*types, *collections):
            if all(name in unknown[0] | unknown[1] for unknown in lacking):
                raise (_no_type if name in types else _no_collection)(name, [one for one, _ in self._members])
        found: list[Asked | None] = []
        for no_types, no_collections in lacking:
            left = tuple(name for name in types if name not in no_types)
            where = tuple(name for name in collections if name not in no_collections)
            if (types and not left) or (collections and not where):
                found.append(None)
            elif isinstance(query, QueryDatasets | QueryDataIds):
                # Data ids of which all these datasets exist: one type that is not there leaves none.
                whole = isinstance(query, QueryDatasets) or len(left) == len(types)
                found.append(msgspec.structs.replace(query, dataset_types=left, collections=where) if whole else None)
            elif isinstance(query, ListTree):
                found.append(query)
            elif collections:
                found.append(msgspec.structs.replace(query, collections=where))
            else:
                found.append(query)
        return found

    def find_dataset(self, query: FindDataset) -> FoundDataset:
        """Find a dataset in the first repository that has it."""
        for (name, registry), one in zip(self._members, self.restricted(query), strict=True):
            found = NOTHING if one is None else registry.find_dataset(one)
            if found.ref is not None:
                return _named(found, name)
        return NOTHING

    def get_dataset(self, id: UUID, *, dimension_records: bool = False) -> FoundDataset:  # noqa: A002 - Gen3's name
        """Find a dataset by its id, in the first repository that has it."""
        for name, registry in self._members:
            found = registry.get_dataset(id, dimension_records=dimension_records)
            if found.ref is not None:
                return _named(found, name)
        return NOTHING

    def state(self) -> str:
        """Return another text after each change of any of them; none if one cannot tell."""
        states = [registry.state() for _, registry in self._members]
        return " / ".join(states) if all(states) else ""

    def list_dataset_types(self, patterns: Sequence[str] = ()) -> list[DatasetType]:
        """List the dataset types of all, each as the first repository defines it."""
        found: dict[str, DatasetType] = {}
        lacking = [registry.lacking(patterns, ())[0] for _, registry in self._members]
        for (_, registry), unknown in zip(self._members, lacking, strict=True):
            everywhere = set.intersection(*lacking)
            asked = [name for name in patterns if name not in unknown or name in everywhere]
            if asked or not patterns:
                for kind in registry.list_dataset_types(asked):
                    found.setdefault(kind.name, kind)
        return [found[name] for name in sorted(found)]

    def query_collections(self, query: QueryCollections) -> list[CollectionInfo]:
        """Find collections, with the repositories that they are in."""
        lacking = [registry.lacking((), query.patterns)[1] for _, registry in self._members]
        everywhere = set.intersection(*lacking)
        found: list[CollectionInfo] = []
        for (name, registry), unknown in zip(self._members, lacking, strict=True):
            asked = tuple(one for one in query.patterns if one not in unknown or one in everywhere)
            if asked or not query.patterns:
                there = registry.query_collections(msgspec.structs.replace(query, patterns=asked))
                found += [msgspec.structs.replace(one, repository=name) for one in there]
        return found

    def query_datasets(self, query: QueryDatasets) -> Generator[RefBatch]:
        """Find datasets; with ``find_first`` those of the first repository that has any of a data id."""
        known = _DataIdKeys() if query.find_first else None
        if not query.order_by:
            yield from self._one_by_one(query, Registry.query_datasets, known)
            return
        left = query.limit
        # As in one repository, each type is sorted by itself.
        for name in self._type_names(query.dataset_types):
            one = msgspec.structs.replace(query, dataset_types=(name,), limit=left)
            for batch in self._sorted(one, Registry.query_datasets_keyed, known):
                yield batch
                left = None if left is None else left - len(batch.run_index)

    def query_metadata(self, query: QueryMetadata) -> Iterator[MetadataBatch]:
        """Find datasets with their declared metadata, as `query_datasets` does; not in order."""
        if query.query.order_by:
            raise InvalidRequestError(
                "metadata of several repositories cannot be asked for in order",
                hint="sort what comes, or name one repository",
            )
        keys, left = _DataIdKeys(), query.query.limit
        with contextlib.closing(Seen()) as seen:
            for part, ((name, registry), one) in enumerate(
                zip(self._members, self.restricted(query.query), strict=True)
            ):
                if one is None:
                    continue
                asked = msgspec.structs.replace(query, query=_unlimited(one))
                for batch in registry.query_metadata(asked):
                    rows = range(count_rows(batch.refs))
                    kept = seen.new(part, keys(name, batch.refs)) if one.find_first else list(rows)
                    kept = kept if left is None else kept[:left]
                    columns = {entry: [column[row] for row in kept] for entry, column in batch.columns.items()}
                    if kept:
                        yield MetadataBatch(take_rows(batch.refs, kept, name), columns)
                    left = None if left is None else left - len(kept)
                    if left == 0:
                        return

    def count_datasets(self, query: QueryDatasets) -> dict[str, int]:
        """Count what `query_datasets` would find."""
        found: dict[str, int] = {}
        if not query.find_first and query.limit is None:
            for (_, registry), one in zip(self._members, self.restricted(query), strict=True):
                for kind, count in (registry.count_datasets(one) if one is not None else {}).items():
                    found[kind] = found.get(kind, 0) + count
            return found
        bare = msgspec.structs.replace(query, with_dimension_records=False, order_by=())
        with contextlib.closing(self.query_datasets(bare)) as batches:
            for batch in batches:
                found[batch.dataset_type.name] = found.get(batch.dataset_type.name, 0) + len(batch.run_index)
        return found

    def query_data_ids(self, query: QueryDataIds) -> Iterator[DataIdBatch]:
        """Find data ids, each once."""

        def keys(_: str, batch: DataIdBatch) -> Iterator[object]:
            return zip(*batch.columns[: len(batch.required)], strict=True)

        if query.order_by:
            return self._sorted(query, Registry.query_data_ids_keyed, keys)
        return self._one_by_one(query, Registry.query_data_ids, keys)

    def query_dimension_records(self, query: QueryDimensionRecords) -> Iterator[RecordBatch]:
        """Find records, each as the first repository has it."""

        def keys(_: str, batch: RecordBatch) -> Iterator[object]:
            # A record calls its own key as the universe does, those above it by the dimension.
            own = self.universe[query.element].keys[:1]
            names = [key.name for key in own] + [n for n in self.universe.required(query.element) if n != query.element]
            return (tuple(record.values[name] for name in names) for record in batch.records)

        if query.order_by:
            return self._sorted(query, Registry.query_dimension_records_keyed, keys)
        return self._one_by_one(query, Registry.query_dimension_records, keys)

    def list_tree(self, query: ListTree) -> Iterator[TreeBatch]:
        """List one directory of the mounted view; see `Registry.list_tree`."""
        asked = self.restricted(query)
        there = [member for member, one in zip(self._members, asked, strict=True) if one is not None]
        return list_tree(there, query)

    # -- one after another -------------------------------------------------------------------------

    def _type_names(self, patterns: Sequence[str]) -> list[str]:
        found: dict[str, None] = {}
        for pattern in patterns:
            names = [kind.name for kind in self.list_dataset_types((pattern,))] if is_glob(pattern) else [pattern]
            found.update(dict.fromkeys(names))
        return list(found)

    def _members_rows(
        self,
        query: Query,
        ask: Callable[[Registry, Query], Iterator[Keyed[Batch]]],
        keys: Callable[[str, Batch], Iterable[object]] | None,
    ) -> Generator[Keyed[Batch]]:
        """Give the rows of one member after another, without those that an earlier one has given."""
        with contextlib.closing(Seen()) as seen:
            for part, ((name, registry), one) in enumerate(zip(self._members, self.restricted(query), strict=True)):
                if one is None:
                    continue
                # Of later members some rows are left out, nobody knows how many before.
                if keys is not None and (part or query.order_by):
                    one = _unlimited(one)
                for batch, sorting in ask(registry, one):
                    kept = None if keys is None else seen.new(part, keys(name, batch))
                    chosen = sorting if kept is None or not sorting else [sorting[row] for row in kept]
                    yield take_rows(batch, kept, name), chosen

    def _one_by_one(
        self,
        query: Query,
        ask: Callable[[Registry, Query], Iterator[Batch]],
        keys: Callable[[str, Batch], Iterable[object]] | None,
    ) -> Iterator[Batch]:
        def bare(registry: Registry, one: Query) -> Iterator[Keyed[Batch]]:
            return ((batch, []) for batch in ask(registry, one))

        left = query.limit
        with contextlib.closing(self._members_rows(query, bare, keys)) as batches:
            for batch, _ in batches:
                if left is not None and count_rows(batch) >= left:
                    yield take_rows(batch, range(left))
                    return
                left = None if left is None else left - count_rows(batch)
                yield batch

    # -- sorted ------------------------------------------------------------------------------------

    def _sorted(
        self,
        query: Query,
        ask: Callable[[Registry, Query], Iterator[Keyed[Batch]]],
        keys: Callable[[str, Batch], Iterable[object]] | None,
    ) -> Iterator[Batch]:
        descending = [term.startswith("-") for term in query.order_by]
        shape: Batch | None = None
        with contextlib.closing(Sorter(descending)) as sorter:
            with contextlib.closing(self._members_rows(query, ask, keys)) as batches:
                for batch, sorting in batches:
                    shape = shape or batch
                    sorter.add(sorting, split_rows(batch, sorter.keep))
            if shape is None:
                return
            for rows in sorter.batches(_SORTED_ROWS, query.limit):
                yield join_rows(shape, rows, sorter.kept)


class _DataIdKeys:
    """Tells what datasets of several repositories are the same by."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[tuple[str, ...], str]] = {}

    def __call__(self, name: str, batch: RefBatch) -> Iterator[object]:
        kind = batch.dataset_type.name
        required, first = self._kinds.setdefault(kind, (batch.required, name))
        if required != batch.required:
            raise ConflictingDefinitionError(
                f"{kind} has the dimensions {', '.join(required)} in {first}, and {', '.join(batch.required)} in "
                f"{name}: which is first cannot be told",
                hint="ask with find_first=False, or one repository at a time",
            )
        return ((kind, *row) for row in zip(*batch.columns[: len(required)], strict=True))


def _named_in(
    query: QueryDatasets | QueryDataIds | QueryDimensionRecords | FindDataset | OpenDataset | ListTree,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if isinstance(query, QueryDimensionRecords):
        return (), ()
    if isinstance(query, QueryDatasets | QueryDataIds):
        return query.dataset_types, query.collections
    if isinstance(query, ListTree):
        return (query.dataset_type,), (query.collection,)
    return (query.dataset_type,), query.collections


def _no_type(name: str, repositories: Sequence[str]) -> MissingDatasetTypeError:
    return MissingDatasetTypeError(f"no dataset type {name!r} is registered in {', '.join(repositories)}", name=name)


def _no_collection(name: str, repositories: Sequence[str]) -> MissingCollectionError:
    return MissingCollectionError(f"there is no collection {name!r} in {', '.join(repositories)}", name=name)


def _named(found: FoundDataset, repository: str) -> FoundDataset:
    ref = None if found.ref is None else msgspec.structs.replace(found.ref, repository=repository)
    return msgspec.structs.replace(found, ref=ref)


def _unlimited(query: Query) -> Query:
    return msgspec.structs.replace(query, limit=None)
