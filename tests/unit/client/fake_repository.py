"""The least of a repository that a Butler can be tried against: in memory, files in a directory."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash
from tests.unit.client.fake_daemon import Asked, WithFds

from pantry.errors import (
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidRequestError,
    MissingDatasetTypeError,
    RepositoryNotFoundError,
)
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile
from pantry.model.naming import dataset_path
from pantry.model.repository import RepositoryInfo
from pantry.model.storage import storage_class
from pantry.wire.operations import (
    AbortPut,
    BeginPut,
    CloseOpened,
    CollectionList,
    CommitPut,
    CountDone,
    DatasetTypeList,
    DescribeFiles,
    Done,
    FetchRanges,
    FileTable,
    FindDataset,
    FoundDataset,
    GetDataset,
    GetRepository,
    Ingested,
    IngestFiles,
    InsertDimensionRecords,
    ListDatasetTypes,
    ListRepositories,
    OpenDataset,
    Opened,
    Operation,
    PutContent,
    PutDone,
    PutTicket,
    QueryCollections,
    QueryDatasets,
    RedefineChain,
    RefBatch,
    RegisterCollection,
    RegisterDatasetType,
    RegisteredDatasetType,
    RepositoryList,
)

INFO = RepositoryInfo(name="r", uuid="u", root="file:///r", registry="sqlite:///r", version=1, writable=True)


class FakeRepository:
    """Answers operations on the repository ``r``."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.lock = threading.Lock()
        self.types: dict[str, DatasetType] = {}
        self.datasets: dict[uuid.UUID, tuple[DatasetRef, StoredFile]] = {}
        self.puts: dict[int, PutTicket] = {}
        self.collections: dict[str, CollectionInfo] = {}
        self.records: list[Any] = []
        self.ingested: list[tuple[IngestFiles, int]] = []
        self.fetched: list[tuple[int, int]] = []
        self.opened: dict[int, int] = {}
        self.partial = False
        self.commit_error: Exception | None = None
        self._last = 0

    def add_type(self, name: str, dimensions: tuple[str, ...], storage: str) -> None:
        """Register a dataset type."""
        self.types[name] = DatasetType(name=name, dimensions=dimensions, storage_class=storage)

    def __call__(self, operation: Operation[Any], asked: Asked) -> Any:
        with self.lock:
            name = getattr(operation, "repository", "r")
            if name != "r":
                raise RepositoryNotFoundError(f"no repository {name!r}", hint="`pantry repo list` shows them")
            return getattr(self, f"_{type(operation).__name__}")(operation, asked)

    def _GetRepository(self, _: GetRepository, __: Asked) -> RepositoryInfo:  # noqa: N802
        return INFO

    def _ListRepositories(self, _: ListRepositories, __: Asked) -> RepositoryList:  # noqa: N802
        return RepositoryList((INFO,))

    def _RegisterDatasetType(self, op: RegisterDatasetType, _: Asked) -> RegisteredDatasetType:  # noqa: N802
        new = op.dataset_type.name not in self.types
        self.types[op.dataset_type.name] = op.dataset_type
        return RegisteredDatasetType(op.dataset_type, new)

    def _ListDatasetTypes(self, op: ListDatasetTypes, _: Asked) -> DatasetTypeList:  # noqa: N802
        return DatasetTypeList(tuple(t for n, t in sorted(self.types.items()) if not op.patterns or n in op.patterns))

    def _InsertDimensionRecords(self, op: InsertDimensionRecords, _: Asked) -> CountDone:  # noqa: N802
        self.records += op.records
        return CountDone(len(op.records))

    def _QueryCollections(self, op: QueryCollections, _: Asked) -> CollectionList:  # noqa: N802
        return CollectionList(
            tuple(
                c
                for n, c in sorted(self.collections.items())
                if (not op.patterns or n in op.patterns) and (not op.types or c.type in op.types)
            )
        )

    def _RegisterCollection(self, op: RegisterCollection, _: Asked) -> Done:  # noqa: N802
        self.collections[op.name] = CollectionInfo(name=op.name, type=op.type, doc=op.doc)
        return Done()

    def _RedefineChain(self, op: RedefineChain, _: Asked) -> Done:  # noqa: N802
        self.collections[op.name] = CollectionInfo(name=op.name, type=CollectionType.CHAINED, children=op.children)
        return Done()

    def _find(self, dataset_type: str, data_id: dict[str, Any], collections: tuple[str, ...]) -> uuid.UUID:
        for run in collections:
            for ref, _ in self.datasets.values():
                same = {k: str(v) for k, v in ref.data_id.items()} == {k: str(v) for k, v in data_id.items()}
                if ref.run == run and ref.dataset_type.name == dataset_type and same:
                    return ref.id
        raise DatasetNotFoundError(f"no {dataset_type} {data_id} in {collections}")

    def _FindDataset(self, op: FindDataset, _: Asked) -> FoundDataset:  # noqa: N802
        return FoundDataset(*self.datasets[self._find(op.dataset_type, op.data_id, op.collections)])

    def _GetDataset(self, op: GetDataset, _: Asked) -> FoundDataset:  # noqa: N802
        return FoundDataset(*self.datasets.get(op.id, (None, None)))

    def _DescribeFiles(self, op: DescribeFiles, _: Asked) -> FileTable:  # noqa: N802
        ids = [uuid.UUID(bytes=op.ids[begin : begin + 16]) for begin in range(0, len(op.ids), 16)]
        if not all(id_ in self.datasets for id_ in ids):
            raise DatasetNotFoundError("no such dataset")
        files = [self.datasets[id_][1] for id_ in ids]
        columns = zip(
            *((f.path or "x", f.size_bytes, f.hash, f.formatter, f.ingest_ns, f.path) for f in files), strict=True
        )
        return FileTable(*map(list, columns))

    def _OpenDataset(self, op: OpenDataset, _: Asked) -> WithFds:  # noqa: N802
        found = op.id or self._find(op.dataset_type, op.data_id, op.collections)
        if found not in self.datasets:
            raise DatasetNotFoundError(f"no dataset {found}")
        ref, file = self.datasets[found]
        path = os.path.join(self.directory, str(found))
        partial = op.partial and self.partial
        handle = 0
        if partial:
            # A copy with holes, which FetchRanges fills.
            self._last += 1
            handle = self._last
            holes = f"{path}.holes{handle}"
            self.opened[handle] = os.open(holes, os.O_RDWR | os.O_CREAT, 0o600)
            os.truncate(holes, file.size_bytes)
            self._source = path
            path = holes
        fd = os.open(path, os.O_RDONLY)
        name = file.path
        return WithFds(Opened(ref=ref, file=file, name=name, complete=not partial, handle=handle), (fd,))

    def _FetchRanges(self, op: FetchRanges, _: Asked) -> Done:  # noqa: N802
        with open(self._source, "rb") as source:
            for start, stop in op.ranges:
                self.fetched.append((start, stop))
                os.pwrite(self.opened[op.handle], os.pread(source.fileno(), stop - start, start), start)
        return Done()

    def _CloseOpened(self, op: CloseOpened, _: Asked) -> Done:  # noqa: N802
        os.close(self.opened.pop(op.handle))
        return Done()

    def _PutContent(self, op: PutContent, asked: Asked) -> PutDone:  # noqa: N802
        begin = BeginPut(
            repository=op.repository, dataset_type=op.dataset_type, data_id=op.data_id, run=op.run, id=op.id
        )
        begun = self._BeginPut(begin, asked)
        ticket, (fd,) = begun.result, begun.fds
        if ticket.formatter != op.formatter:
            os.close(fd)
            return PutDone(None)
        with open(fd, "wb") as file:
            file.write(op.content)
        return PutDone(self._CommitPut(CommitPut(put=ticket.put, metadata=op.metadata), asked))

    def _BeginPut(self, op: BeginPut, _: Asked) -> WithFds:  # noqa: N802
        if op.dataset_type not in self.types:
            raise MissingDatasetTypeError(f"no dataset type {op.dataset_type!r}")
        try:
            self._find(op.dataset_type, op.data_id, (op.run,))
        except DatasetNotFoundError:
            pass
        else:
            raise DatasetExistsError(f"{op.dataset_type} {op.data_id} exists in {op.run}", hint="use another run")
        kind = self.types[op.dataset_type]
        known = storage_class(kind.storage_class)
        data_id = DataCoordinate(kind.dimensions, tuple(op.data_id[name] for name in kind.dimensions))
        ref = DatasetRef(id=op.id or uuid.uuid4(), dataset_type=kind, data_id=data_id, run=op.run)
        self._last += 1
        ticket = PutTicket(put=self._last, ref=ref, formatter=known.formatter, python_type=known.python_type)
        self.puts[ticket.put] = ticket
        path = os.path.join(self.directory, str(ref.id))
        return WithFds(ticket, (os.open(path, os.O_RDWR | os.O_CREAT, 0o600),))

    def _CommitPut(self, op: CommitPut, _: Asked) -> DatasetRef:  # noqa: N802
        ticket = self.puts.pop(op.put)
        if self.commit_error is not None:
            raise self.commit_error
        ref = ticket.ref
        size = os.path.getsize(os.path.join(self.directory, str(ref.id)))
        self.add(ref, ticket.formatter, size)
        return ref

    def add(self, ref: DatasetRef, formatter: str, size: int) -> None:
        """Note a dataset whose file lies in the directory."""
        values = ref.data_id.required_values
        path = dataset_path(ref.run, ref.dataset_type.name, values, ".x")
        digest = xxhash.xxh3_128_hexdigest((Path(self.directory) / str(ref.id)).read_bytes())
        file = StoredFile(path=path, size_bytes=size, hash=digest, formatter=formatter, ingest_ns=1)
        self.datasets[ref.id] = (ref, file)

    def _AbortPut(self, op: AbortPut, _: Asked) -> Done:  # noqa: N802
        if op.put not in self.puts:
            raise InvalidRequestError("no such put")
        del self.puts[op.put]
        return Done()

    def _IngestFiles(self, op: IngestFiles, asked: Asked) -> Ingested:  # noqa: N802
        for item, fd in zip(op.items, asked.fds, strict=False):
            assert os.path.samestat(os.stat(item.path), os.fstat(fd))
        self.ingested.append((op, len(asked.fds)))
        skipped = bytes(16)
        return Ingested(b"".join(skipped if item.path.endswith("old") else uuid.uuid4().bytes for item in op.items))

    def _QueryDatasets(self, op: QueryDatasets, _: Asked) -> Iterator[RefBatch]:  # noqa: N802
        batches = []
        for name in op.dataset_types:
            refs = [r for r, _ in self.datasets.values() if r.dataset_type.name == name and r.run in op.collections]
            for begin in range(0, len(refs), 3):
                some = refs[begin : begin + 3]
                runs = sorted({ref.run for ref in some})
                batches.append(
                    RefBatch(
                        dataset_type=self.types[name],
                        required=self.types[name].dimensions,
                        implied=(),
                        ids=b"".join(ref.id.bytes for ref in some),
                        columns=[list(column) for column in zip(*(ref.data_id.values() for ref in some), strict=True)],
                        runs=runs,
                        run_index=[runs.index(ref.run) for ref in some],
                    )
                )
        return iter(batches)
