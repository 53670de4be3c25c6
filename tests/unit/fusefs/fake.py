"""A daemon for the mount's tests: speaks the real wire, answers from dicts and temporary files.

It is written from the wire's definition alone, shares no code with the daemon, and does what a test tells it:
deny users, hold files back, fetch only on demand, die.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import msgspec
import trio

from pantry.errors import (
    DatasetNotFoundError,
    InvalidRequestError,
    PantryError,
    PermissionDeniedError,
    ProtocolError,
    RepositoryNotFoundError,
)
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile
from pantry.model.naming import file_name, quote_value
from pantry.model.repository import RepositoryInfo
from pantry.wire import operations as ops
from pantry.wire.envelope import (
    PROTOCOL_VERSIONS,
    STREAM_WINDOW,
    Behalf,
    Cancel,
    Credit,
    End,
    Failure,
    Hello,
    Item,
    Reply,
    Request,
    Welcome,
    decode_from_client,
    encode,
)
from pantry.wire.framing import FrameParser
from pantry.wire.trio_transport import receive, send_frame

NAMESPACE = UUID("6f1d2ec1-7a43-4c61-8f0e-3d1b8f0c9a11")
BATCH = 256


@dataclass
class FakeDataset:
    """One dataset; ``partial`` keeps its bytes back until ranges are asked for."""

    id: UUID
    type: DatasetType
    values: tuple[DataIdValue, ...]
    run: str
    content: Path
    size: int
    name: str
    partial: bool = False
    hash: str = "0" * 32

    @property
    def ref(self) -> DatasetRef:
        data_id = DataCoordinate(self.type.dimensions, self.values)
        return DatasetRef(id=self.id, dataset_type=self.type, data_id=data_id, run=self.run)

    @property
    def stored(self) -> StoredFile:
        return StoredFile(
            path=f"{self.run}/x/{self.name}", size_bytes=self.size, hash=self.hash, formatter="json",
            ingest_ns=1_700_000_000_123_456_789,
        )  # fmt: skip


@dataclass
class FakeRepository:
    name: str
    directory: Path
    collections: dict[str, CollectionInfo] = field(default_factory=dict)
    members: dict[str, list[FakeDataset]] = field(default_factory=dict)
    by_id: dict[UUID, FakeDataset] = field(default_factory=dict)
    denied: set[int] = field(default_factory=set)
    changes: int = 0

    def run(self, name: str) -> None:
        self.changes += 1
        self.collections[name] = CollectionInfo(name=name, type=CollectionType.RUN)
        self.members.setdefault(name, [])

    def tagged(self, name: str, datasets: list[FakeDataset]) -> None:
        self.changes += 1
        self.collections[name] = CollectionInfo(name=name, type=CollectionType.TAGGED)
        self.members[name] = list(datasets)

    def chain(self, name: str, *children: str) -> None:
        self.changes += 1
        self.collections[name] = CollectionInfo(name=name, type=CollectionType.CHAINED, children=children)

    def calibration(self, name: str) -> None:
        self.collections[name] = CollectionInfo(name=name, type=CollectionType.CALIBRATION)

    def add(
        self,
        run: str,
        type_name: str,
        content: bytes | int,
        *,
        partial: bool = False,
        extension: str = ".dat",
        **data_id: DataIdValue,
    ) -> FakeDataset:
        """Add a dataset; ``content`` may be a length, for a sparse file."""
        if run not in self.collections:
            self.run(run)
        kind = DatasetType(name=type_name, dimensions=tuple(data_id), storage_class="Bytes")
        values = tuple(data_id.values())
        dataset_id = uuid5(NAMESPACE, f"{self.name}/{run}/{type_name}/{values}")
        path = self.directory / f"{dataset_id}"
        if isinstance(content, int):
            with path.open("wb") as file:
                file.truncate(content)
        else:
            path.write_bytes(content)
        dataset = FakeDataset(
            dataset_id, kind, values, run, path, path.stat().st_size, file_name(type_name, values, extension), partial
        )
        self.members[run].append(dataset)
        self.by_id[dataset_id] = dataset
        return dataset

    def remove(self, dataset: FakeDataset) -> None:
        """Delete a dataset, also from the collections that select it."""
        self.changes += 1
        del self.by_id[dataset.id]
        for name, members in self.members.items():
            self.members[name] = [one for one in members if one is not dataset]

    def add_alias(self, dataset: FakeDataset, value: DataIdValue) -> None:
        """Add a dataset of another data id with the same file; cheap, for many."""
        alias = FakeDataset(
            uuid5(NAMESPACE, f"{dataset.id}/{value}"), dataset.type, (*dataset.values[:-1], value), dataset.run,
            dataset.content, dataset.size, file_name(dataset.type.name, (*dataset.values[:-1], value), ".dat"),
        )  # fmt: skip
        self.members[dataset.run].append(alias)
        self.by_id[alias.id] = alias

    def datasets(self, collection: str) -> list[FakeDataset]:
        """Datasets of a collection; of a chain, the first by type and data id."""
        info = self.collections[collection]
        if info.type is not CollectionType.CHAINED:
            return self.members.get(collection, [])
        found: dict[tuple[str, tuple[DataIdValue, ...]], FakeDataset] = {}
        for child in info.children:
            for dataset in self.datasets(child):
                found.setdefault((dataset.type.name, dataset.values), dataset)
        return list(found.values())

    def tree(self, operation: ops.ListTree) -> tuple[str, list[ops.TreeEntry]]:
        if operation.collection not in self.collections:
            raise DatasetNotFoundError("no such collection")
        depth = len(operation.parts)
        entries: dict[str, ops.TreeEntry] = {}
        level = ""
        for dataset in self.datasets(operation.collection):
            if dataset.type.name != operation.dataset_type:
                continue
            directories = tuple(quote_value(value) for value in dataset.values[:-1])
            if directories[:depth] != operation.parts:
                continue
            if len(directories) > depth:
                level = dataset.type.dimensions[depth]
                entries[directories[depth]] = ops.TreeEntry(directories[depth], dataset.values[depth])
            else:
                stored = dataset.stored
                entries[dataset.name] = ops.TreeEntry(
                    dataset.name, None, dataset.id, stored.size_bytes, stored.ingest_ns, stored.hash
                )
        if operation.name:
            entries = {name: entry for name, entry in entries.items() if name == operation.name}
        return level, [entries[name] for name in sorted(entries)]


@dataclass
class _Handle:
    dataset: FakeDataset
    fd: int


class FakeDaemon:
    """Serves on a socket; `serve` runs it in trio, `running_in_thread` beside a blocking test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = str(directory / "d.sock")
        self.repositories: dict[str, FakeRepository] = {}
        self.calls: Counter[str] = Counter()
        self.behalfs: list[Behalf | None] = []
        self.fetched: list[tuple[UUID, int, int]] = []
        self.cancelled: list[int] = []
        self.most_ahead = 0
        self.batches = 0
        self.handles: dict[int, _Handle] = {}
        self.fetch_error: PantryError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.stalled: set[str] = set()
        """Operations that are not answered while they are named here."""
        self._next_handle = 1
        self._scope: trio.CancelScope | None = None

    def repository(self, name: str) -> FakeRepository:
        directory = self.directory / f"repo-{name}"
        directory.mkdir()
        self.repositories[name] = FakeRepository(name, directory)
        return self.repositories[name]

    # -- life ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[FakeDaemon]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.serve)
            yield self
            nursery.cancel_scope.cancel()

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket_path)
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, trio.CancelScope() as self._scope:
            await listener.bind(self.socket_path)
            listener.listen(64)
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    peer, _ = await listener.accept()
                    nursery.start_soon(_Peer(self, peer).run)

    @contextmanager
    def running_in_thread(self) -> Iterator[FakeDaemon]:
        stop = self.start_thread()
        try:
            yield self
        finally:
            stop()

    def start_thread(self) -> Any:
        """Start in a thread; give a function that ends it as if killed: the connections break."""
        ready = threading.Event()
        handles: list[Any] = []

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.serve)
                handles.extend((trio.lowlevel.current_trio_token(), self._scope))
                ready.set()

        thread = threading.Thread(target=trio.run, args=(run,), daemon=True)
        thread.start()
        assert ready.wait(10)

        def stop() -> None:
            if thread.is_alive():
                token, scope = handles
                token.run_sync_soon(scope.cancel)
                thread.join(10)
                assert not thread.is_alive()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.socket_path)

        return stop

    def die(self) -> None:
        """End as if killed; to be called in trio."""
        assert self._scope is not None
        self._scope.cancel()

    # -- answers ---------------------------------------------------------------------------------

    def check(self, name: str, uid: int) -> FakeRepository:
        repository = self.repositories.get(name)
        if repository is None:
            raise RepositoryNotFoundError(f"no repository {name}")
        if uid in repository.denied:
            raise PermissionDeniedError(f"user {uid} may not read {name}")
        return repository

    async def answer(self, operation: Any, uid: int, owned: set[int]) -> tuple[Any, list[int]]:
        match operation:
            case ops.ListRepositories():
                visible = [r for r in self.repositories.values() if uid not in r.denied]
                return ops.RepositoryList(tuple(_info(r) for r in visible)), []
            case ops.GetRepository():
                return _info(self.check(operation.repository, uid)), []
            case ops.QueryCollections():
                repository = self.check(operation.repository, uid)
                return ops.CollectionList(
                    tuple(
                        msgspec.structs.replace(
                            info,
                            dataset_types=tuple(sorted({d.type.name for d in repository.members.get(info.name, [])})),
                        )
                        for _, info in sorted(repository.collections.items())
                    )
                ), []
            case ops.GetDataset():
                dataset = self._dataset(operation.repository, operation.id, uid)
                return ops.FoundDataset(dataset.ref, dataset.stored, dataset.name), []
            case ops.OpenDataset():
                return self._open(self._dataset(operation.repository, operation.id, uid), owned)
            case ops.FetchRanges():
                return await self._fetch(operation), []
            case ops.CloseOpened():
                os.close(self.handles.pop(operation.handle).fd)
                return ops.Done(), []
            case ops.GetCacheStatus():
                return ops.CacheStatus(
                    quota_bytes=1 << 30, used_bytes=1 << 20, reserved_bytes=0, objects=3, partial_objects=1, hits=0,
                    misses=0, fetches=0, fetched_bytes=0, evicted_objects=0, evicted_bytes=0,
                ), []  # fmt: skip
        raise InvalidRequestError(f"the fake daemon does not do {type(operation).__name__}")

    def _dataset(self, repository: str, dataset_id: UUID | None, uid: int) -> FakeDataset:
        found = self.check(repository, uid).by_id.get(dataset_id or UUID(int=0))
        if found is None:
            raise DatasetNotFoundError(f"no dataset {dataset_id}")
        return found

    def _open(self, dataset: FakeDataset, owned: set[int]) -> tuple[ops.Opened, list[int]]:
        if not dataset.partial:
            opened = ops.Opened(ref=dataset.ref, file=dataset.stored, name=dataset.name, complete=True, was_cached=True)
            return opened, [os.open(dataset.content, os.O_RDONLY)]
        sparse = dataset.content.with_suffix(".part")
        fd = os.open(sparse, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, dataset.size)
        handle = self._next_handle
        self._next_handle += 1
        self.handles[handle] = _Handle(dataset, fd)
        owned.add(handle)
        opened = ops.Opened(ref=dataset.ref, file=dataset.stored, name=dataset.name, complete=False, handle=handle)
        return opened, [os.open(sparse, os.O_RDONLY)]

    async def _fetch(self, operation: ops.FetchRanges) -> ops.Done:
        while not self.gate.is_set():  # noqa: ASYNC110
            await trio.sleep(0.005)  # the test holds the gate in another thread
        if self.fetch_error is not None:
            raise self.fetch_error
        if operation.handle not in self.handles:
            raise InvalidRequestError(f"no handle {operation.handle}")
        handle = self.handles[operation.handle]
        source = os.open(handle.dataset.content, os.O_RDONLY)
        try:
            for start, stop in operation.ranges:
                os.pwrite(handle.fd, os.pread(source, stop - start, start), start)
                self.fetched.append((handle.dataset.id, start, stop))
        finally:
            os.close(source)
        return ops.Done()


def _info(repository: FakeRepository) -> RepositoryInfo:
    return RepositoryInfo(
        name=repository.name,
        uuid="u",
        root=f"s3://bucket/{repository.name}",
        registry="",
        version=1,
        writable=False,
        state=str((repository.changes, {name: len(members) for name, members in repository.members.items()})),
    )


class _Peer:
    """One connection."""

    def __init__(self, daemon: FakeDaemon, sock: trio.socket.SocketType) -> None:
        self.daemon = daemon
        self.sock = sock
        self.lock = trio.Lock()
        self.parser = FrameParser()
        self.scopes: dict[int, trio.CancelScope] = {}
        self.handles: set[int] = set()
        self.credit: dict[int, int] = {}
        self.credit_came = trio.Event()
        self.uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]

    async def run(self) -> None:
        with self.sock:
            try:
                async with trio.open_nursery() as nursery:
                    await self.read(nursery)
                    nursery.cancel_scope.cancel()
            except* (OSError, ProtocolError, trio.ClosedResourceError):
                pass
            finally:
                self.parser.close()
                for handle in self.handles & self.daemon.handles.keys():
                    os.close(self.daemon.handles.pop(handle).fd)

    async def read(self, nursery: trio.Nursery) -> None:
        while True:
            data, fds = await receive(self.sock)
            if not data:
                return
            for frame in self.parser.feed(data, fds):
                message = decode_from_client(frame.payload)
                match message:
                    case Hello():
                        await self.send(Welcome(version=PROTOCOL_VERSIONS[-1], daemon="fake", uid=os.getuid()))
                    case Request():
                        self.scopes[message.number] = trio.CancelScope()
                        nursery.start_soon(self.request, message)
                    case Cancel():
                        self.daemon.cancelled.append(message.number)
                        if message.number in self.scopes:
                            self.scopes[message.number].cancel()
                    case Credit():
                        self.credit[message.number] = self.credit.get(message.number, 0) + message.items
                        self.credit_came.set()

    async def request(self, request: Request) -> None:
        number = request.number
        fds: list[int] = []
        try:
            with self.scopes[number] as scope:
                try:
                    operation = ops.decode_operation(request.operation)
                    self.daemon.calls[type(operation).__name__] += 1
                    self.daemon.behalfs.append(request.behalf)
                    uid = request.behalf.uid if request.behalf else self.uid
                    while type(operation).__name__ in self.daemon.stalled:  # noqa: ASYNC110
                        await trio.sleep(0.005)  # the test says in another thread when it goes on
                    if isinstance(operation, ops.ListTree):
                        await self.stream(number, operation, uid)
                        answer: Any = End(number)
                    else:
                        result, fds = await self.daemon.answer(operation, uid, self.handles)
                        answer = Reply(number, msgspec.Raw(encode(result)))
                except PantryError as exc:
                    answer = Failure(number, exc.code, exc.message)
            if scope.cancelled_caught:
                answer = Failure(number, "error", "cancelled")
            await self.send(answer, fds)
        finally:
            for fd in fds:
                os.close(fd)
            self.scopes.pop(number, None)

    async def stream(self, number: int, operation: ops.ListTree, uid: int) -> None:
        level, entries = self.daemon.check(operation.repository, uid).tree(operation)
        for sent, begin in enumerate(range(0, len(entries), BATCH)):
            while sent - self.credit.get(number, 0) >= STREAM_WINDOW:
                self.credit_came = trio.Event()
                await self.credit_came.wait()
            self.daemon.most_ahead = max(self.daemon.most_ahead, sent + 1 - self.credit.get(number, 0))
            self.daemon.batches += 1
            batch = ops.TreeBatch(level, entries[begin : begin + BATCH])
            await self.send(Item(number, msgspec.Raw(encode(batch))))

    async def send(self, message: Any, fds: list[int] | None = None) -> None:
        async with self.lock:
            with trio.CancelScope(shield=True):
                await send_frame(self.sock, encode(message), fds or ())
