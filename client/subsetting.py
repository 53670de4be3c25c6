"""A new repository from a part of another one: a copy or a view (DMS-MWBT-REQ-0010, 0011; decisions 0047, 0062)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import groupby, islice
from uuid import UUID

import msgspec

from pantry.client.bundles.creating import searched
from pantry.client.bundles.gathering import Gathering
from pantry.client.bundles.harvesting import MAX_QUANTA, MAX_RECORDS, chunks, quantum_bytes, record_bytes
from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values
from pantry.client.butler.graph import DiscoveryGraph
from pantry.client.butler.opened import OpenedFile
from pantry.client.staging import Components, DescribedFile, describe_files
from pantry.errors import ConflictError, InvalidRequestError, NotFoundError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.composites import COMPOSITE
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.dimensions import DimensionUniverse
from pantry.model.provenance import Quantum
from pantry.model.timespan import Timespan
from pantry.wire.operations import (
    BeginSubset,
    CopyDatasets,
    DescribeMembers,
    FinishSubset,
    GetDimensions,
    ImportDefinitions,
    ImportedCollection,
    ImportedMembers,
    ImportMembers,
    InsertDimensionRecords,
    QueryCollections,
    QueryQuanta,
    RecordQuanta,
)
from pantry.wire.operations.files import MAX_DESCRIBED
from pantry.wire.operations.importing import IS_STORED
from pantry.wire.operations.provenance import MAX_PRODUCED
from pantry.wire.operations.subsetting import MAX_COPIED, SubsetTransfer

Progress = Callable[[str, int, int], None]

_COPY_BYTES = 256 << 20
"""Most bytes of one request that copies, unless one file has more."""
_COPIES_AT_ONCE = 2
_MANIFESTS = 200
"""Composites whose manifests are read together."""


class Subset(msgspec.Struct, frozen=True, kw_only=True):
    """What `Butler.subset` or `Butler.create_view` did.

    Attributes
    ----------
    repository, root : str
        Name of the new repository, and where it lies.
    datasets, size_bytes : int
        That were copied now, or referred to, and the bytes of their files; components of composites count too.
    present : int
        Datasets that were there already.
    dimension_records, definitions, members, quanta : int
        What else is new: records; dataset types and collections; members of TAGGED and CALIBRATION collections; quanta.
    """

    repository: str
    root: str
    datasets: int = 0
    size_bytes: int = 0
    present: int = 0
    dimension_records: int = 0
    definitions: int = 0
    members: int = 0
    quanta: int = 0


def subset(
    butler: RepositoryAccess,
    datasets: Iterable[DatasetRef],
    begin: BeginSubset,
    *,
    collections: Sequence[str],
    data_ids: Iterable[DataId],
    transfer: SubsetTransfer,
    progress: Progress | None,
) -> Subset:
    """Make a subset, or go on with it; see `Butler.subset` and `Butler.create_view`."""
    refs = list(datasets)
    if not refs:
        raise NotFoundError(
            "there are no datasets to make a subset of, and nothing was made",
            hint="`pantry query-datasets` shows what there is",
        )
    _check_runs(refs)
    refs += butler._companions(refs)
    held = searched(butler, collections)
    # Up to here nothing was made.
    work = _Work(butler, begin, held, transfer, progress or (lambda what, done, total: None))
    types: Mapping[str, DatasetType] = {}
    if isinstance(datasets, DiscoveryGraph):
        types = {name: datasets._type(name) for name in datasets.dataset_types}
        work.gather(datasets.dimensions, datasets.data_ids(datasets.dimensions))
    for data_id in data_ids:
        values = data_id_values(data_id, {})
        work.gather(values, [values])
    work.define(types, held)
    work.copy(refs)
    work.associate()
    work.record_quanta()
    return work.finish()


def _check_runs(refs: Iterable[DatasetRef]) -> None:
    """Refuse different datasets of one type, run and data id, which repositories of a chain may have."""
    seen: dict[tuple[str, str, tuple[object, ...]], DatasetRef] = {}
    for ref in refs:
        first = seen.setdefault((ref.dataset_type.name, ref.run, ref.data_id.required_values), ref)
        if first.id != ref.id:
            raise ConflictError(
                f"{first.repository!r} and {ref.repository!r} have different datasets {ref}, and a run of one "
                "repository holds only one of them",
                hint="choose one of them, as find_first does; nothing was made",
            )


class _Work:
    """One subset that is being made."""

    def __init__(
        self,
        butler: RepositoryAccess,
        begin: BeginSubset,
        collections: Sequence[CollectionInfo],
        transfer: SubsetTransfer,
        progress: Progress,
    ) -> None:
        self._butler = butler
        self._link = butler.connection.link()
        self._name = begin.name
        self._transfer: SubsetTransfer = transfer
        self._progress = progress
        self._begun = self._link.call(begin)
        config = self._link.call(GetDimensions(repository=butler.repository)).config
        self._universe = DimensionUniverse(config)
        self._own = DimensionUniverse(self._begun.dimensions)
        self._gathering = Gathering(butler, self._universe)
        self._inserted: set[tuple[str, tuple[object, ...]]] = set()
        self._collections = collections
        self._types: set[str] = set()
        self._runs: set[str] = set()
        self._held: dict[tuple[str, str], dict[bytes, None]] = {}
        self._counts = dict.fromkeys(
            ("datasets", "size_bytes", "present", "dimension_records", "definitions", "members", "quanta"), 0
        )
        self._done = self._total = 0

    # -- what datasets need ------------------------------------------------------------------------

    def gather(self, dimensions: Iterable[str], data_ids: Iterable[DataId]) -> None:
        """Take over the records that data ids need, those of outputs too."""
        group = self._universe.group(dimensions)
        keys = [self._universe.standardize(group, data_id_values(one, {})).required_values for one in data_ids]
        self._gathering.gather(group, dict.fromkeys(keys))
        self._insert_records()

    def _gather_of(self, batch: Iterable[DescribedFile]) -> None:
        for dimensions, files in groupby(batch, lambda one: one.ref.dataset_type.dimensions):
            keys = dict.fromkeys(one.ref.data_id.required_values for one in files)
            self._gathering.gather(self._universe.group(dimensions), keys)
        self._insert_records()

    def _insert_records(self) -> None:
        """Insert the gathered records that are new, each after those that it needs."""
        records = []
        for element in self._own.elements:
            for key, record in self._gathering.records.get(element, {}).items():
                if (element, key) not in self._inserted:
                    self._inserted.add((element, key))
                    records.append(record)
        done = 0
        for some in chunks(records, MAX_RECORDS, record_bytes):
            operation = InsertDimensionRecords(
                repository=self._name, records=tuple(some), skip_existing=True, compare=True
            )
            self._counts["dimension_records"] += self._link.call(operation).count
            done += len(some)
            self._progress("dimension records", done, len(records))

    def define(self, types: Mapping[str, DatasetType], collections: Iterable[CollectionInfo] = ()) -> None:
        """Register dataset types and collections that were not yet."""
        new = {name: kind for name, kind in types.items() if name not in self._types}
        named = {one.name: one for one in collections if one.name not in self._runs}
        if not new and not named:
            return
        operation = ImportDefinitions(
            repository=self._name,
            # In order of name, by which a composite comes before its components.
            dataset_types=tuple(new[name] for name in sorted(new)),
            collections=tuple(ImportedCollection(name=one.name, type=one.type, doc=one.doc) for one in named.values()),
        )
        self._counts["definitions"] += self._link.call(operation).count
        self._types.update(new)
        self._runs.update(named)

    def _define_of(self, batch: Iterable[DescribedFile]) -> None:
        types = {one.ref.dataset_type.name: one.ref.dataset_type for one in batch}
        runs = {one.ref.run: one.repository for one in batch if one.ref.run not in self._runs}
        infos: list[CollectionInfo] = []
        for repository in dict.fromkeys(runs.values()):
            wanted = tuple(run for run, where in runs.items() if where == repository)
            infos += self._link.call(QueryCollections(repository=repository, patterns=wanted)).collections
        self.define(types, infos)

    # -- files -------------------------------------------------------------------------------------

    def copy(self, refs: list[DatasetRef]) -> None:
        """Copy datasets, with the components of composites and what lies beside files."""
        components = Components(self._butler)
        self._total = len(refs)
        for asked in describe_files(self._butler, refs):
            todo = [asked]
            while todo:
                batch = todo.pop(0)
                if batch is not asked:
                    self._total += len(batch)
                self._gather_of(batch)
                self._define_of(batch)
                self._copy(batch)
                todo += self._components(components, batch)

    def _copy(self, batch: Iterable[DescribedFile]) -> None:
        def kind(one: DescribedFile) -> tuple[str, str, str]:
            return one.repository, one.ref.dataset_type.name, one.ref.run

        distinct = {one.ref.id: one for one in batch}
        requests = [
            some
            for _, group in groupby(sorted(distinct.values(), key=kind), kind)
            for some in chunks(group, MAX_COPIED, lambda one: one.file.size_bytes, most_bytes=_COPY_BYTES)
        ]
        with ThreadPoolExecutor(_COPIES_AT_ONCE, thread_name_prefix="pantry-subset") as threads:
            try:
                for some, found in zip(requests, threads.map(self._copy_some, requests), strict=True):
                    self._count(some, found)
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _copy_some(self, some: list[DescribedFile]) -> bytes:
        first = some[0]
        operation = CopyDatasets(
            repository=self._name,
            source=first.repository,
            dataset_type=first.ref.dataset_type.name,
            run=first.ref.run,
            dimensions=first.ref.data_id.required_names,
            values=tuple(one.ref.data_id.required_values for one in some),
            ids=b"".join(one.ref.id.bytes for one in some),
            transfer=self._transfer,
        )
        return self._link.call(operation).found

    def _count(self, some: list[DescribedFile], found: bytes) -> None:
        held = self._held.setdefault((some[0].repository, some[0].ref.dataset_type.name), {})
        for one, stood in zip(some, found, strict=True):
            held[one.ref.id.bytes] = None
            if stood == IS_STORED:
                self._counts["present"] += 1
            else:
                self._counts["datasets"] += 1
                self._counts["size_bytes"] += one.file.size_bytes
        self._done += len(some)
        self._progress("datasets", self._done, max(self._total, self._done))

    def _components(self, components: Components, batch: list[DescribedFile]) -> Iterator[list[DescribedFile]]:
        """Describe what goes along with datasets; manifests of composites are read, and nothing else."""
        yield from components.of((one, "") for one in batch if one.file.formatter != COMPOSITE)
        composites = iter([one for one in batch if one.file.formatter == COMPOSITE])
        while some := list(islice(composites, _MANIFESTS)):
            with ExitStack() as opened, ThreadPoolExecutor(8, thread_name_prefix="pantry-subset") as threads:
                files = [opened.enter_context(file) for file in threads.map(self._open, some)]
                pairs = [(one, f"/proc/self/fd/{file.fd}") for one, file in zip(some, files, strict=True)]
                yield from list(components.of(pairs))

    def _open(self, one: DescribedFile) -> OpenedFile:
        return OpenedFile.open(self._link, self._butler._to_open(one.repository, id=one.ref.id))

    # -- members and provenance --------------------------------------------------------------------

    def associate(self) -> None:
        """Take over which datasets are in which collections, calibrations with their validity; then fill chains."""
        found: dict[tuple[str, Timespan | None], list[bytes]] = {}
        timed = (CollectionType.TAGGED, CollectionType.CALIBRATION)
        holding = [one for one in self._collections if one.type in timed]
        for (repository, dataset_type), ids in self._held.items():
            names = [one.name for one in holding if one.repository in ("", repository)]
            given = iter(ids)
            while names and (some := list(islice(given, MAX_DESCRIBED))):
                operation = DescribeMembers(
                    repository=repository, dataset_type=dataset_type, ids=b"".join(some), collections=tuple(names)
                )
                table = self._link.call(operation)
                for dataset, collection, begin, end in zip(
                    table.datasets, table.collections, table.begin_ns, table.end_ns, strict=True
                ):
                    span = None if begin is None or end is None else Timespan(begin, end)
                    found.setdefault((names[collection], span), []).append(some[dataset])
        members = [
            ImportedMembers(collection=name, ids=b"".join(some), timespan=span)
            for (name, span), ids_ in found.items()
            for some in chunks(ids_, MAX_DESCRIBED, len)
        ]
        for batch in chunks(members, MAX_RECORDS, lambda one: len(one.ids) + 100):
            self._counts["members"] += self._link.call(ImportMembers(repository=self._name, members=tuple(batch))).count
            self._progress("members", self._counts["members"], sum(map(len, found.values())))
        chains = {one.name: one.children for one in self._collections if one.type is CollectionType.CHAINED}
        if chains:
            self._link.call(ImportMembers(repository=self._name, chains=chains))

    def record_quanta(self) -> None:
        """Take over what made the datasets, and their ancestors, step by step."""
        by_repository: dict[str, dict[bytes, None]] = {}
        for (repository, _), ids in self._held.items():
            by_repository.setdefault(repository, {}).update(ids)
        for repository, ids in by_repository.items():
            known, todo = dict(ids), list(ids)
            while todo:
                parents: dict[bytes, None] = {}
                for batch in chunks(self._producers(repository, todo), MAX_QUANTA, quantum_bytes):
                    operation = RecordQuanta(repository=self._name, quanta=tuple(batch))
                    self._counts["quanta"] += self._link.call(operation).count
                    for one in batch:
                        inputs = {*(one.predicted_inputs or ()), *(one.actual_inputs or ())}
                        parents.update((id_.bytes, None) for id_ in inputs if id_.bytes not in known)
                self._progress("datasets whose provenance is known", len(known), len(known) + len(parents))
                known.update(parents)
                todo = list(parents)

    def _producers(self, repository: str, ids: Iterable[bytes]) -> Iterator[Quantum]:
        seen: set[UUID] = set()
        for some in chunks(ids, MAX_PRODUCED, len):
            for batch in self._link.stream(QueryQuanta(repository=repository, ids=b"".join(some))):
                for one in batch.quanta:
                    if one.id not in seen:
                        seen.add(one.id)
                        yield one

    def finish(self) -> Subset:
        """Let the subset be read."""
        self._link.call(FinishSubset(repository=self._name))
        return Subset(repository=self._name, root=self._begun.repository.root, **self._counts)


def absolute(root: str | os.PathLike[str]) -> str:
    """Return a root as the daemon, which has a working directory of its own, understands it."""
    given = os.fspath(root)
    if not given:
        raise InvalidRequestError("a subset needs a root", hint="give a directory or a URI such as s3://bucket/prefix")
    return given if "://" in given else os.path.abspath(os.path.expanduser(given))
