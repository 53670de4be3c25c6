"""A bundle in the place of a daemon: it answers the same operations, as far as it can, in this process.

So `Butler` and everything above it, the formatters too, work on a bundle as on a repository: there is one way to read
and one to write.
"""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

from pantry.client.bundles.contents import Contents
from pantry.client.bundles.defining import Defining
from pantry.client.bundles.index import BundleIndex
from pantry.client.bundles.lookup import Lookup, Row
from pantry.client.bundles.provenance import BundleProvenance
from pantry.client.bundles.putting import Puts
from pantry.client.bundles.queries import Queries
from pantry.client.connection import Connection, Link
from pantry.client.staging.placing import hash_file
from pantry.errors import (
    DaemonUnavailableError,
    DatasetNotFoundError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    PantryError,
)
from pantry.model.datasets import DatasetRef
from pantry.wire import operations as ops
from pantry.wire.envelope import Welcome

R = TypeVar("R")

_HINT = "ask the repository; a bundle reads and writes datasets, and finds them by type, collection and data id"


class BundleConnection(Connection):
    """Answers for a bundle; see `Connection`.

    Parameters
    ----------
    directory : str
        The bundle's.
    """

    def __init__(self, directory: str) -> None:
        super().__init__("")
        self.directory = os.path.abspath(directory)

    def __repr__(self) -> str:
        return f"BundleConnection({self.directory!r})"

    def defaults(self) -> tuple[tuple[str, ...], str | None]:
        """Return the collections that are searched and the run that is written to if nobody says otherwise."""
        link = self.link()
        assert isinstance(link, BundleLink)  # noqa: S101 - as `_open` says
        return link.defaults()

    def apart(self, timeout_s: float) -> Connection:
        """Return another connection to the same bundle, which answers at once."""
        return BundleConnection(self.directory)

    def _open(self) -> Link:
        return BundleLink(self.directory)


class BundleLink(Link):
    """An open bundle.

    Parameters
    ----------
    directory : str
        The bundle's.
    """

    def __init__(self, directory: str) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._lock = threading.Lock()
        self.welcome = Welcome(1, "bundle", os.geteuid())
        self._index = BundleIndex(directory)
        try:
            if self._index.about("complete") != b"1":
                raise NotFoundError(
                    f"{self._index.directory}: this bundle was not made to its end", hint="make it again: it goes on"
                )
            self._contents = Contents(self._index)
        except BaseException:
            self._index.close()
            raise
        self._lookup = Lookup(self._index, self._contents)
        self._queries = Queries(self._index, self._contents, self._lookup.data_ids)
        self._puts = Puts(self._index, self._contents, self._lookup)
        self._provenance = BundleProvenance(self._index, self._contents, self._lookup)
        self._verified: set[tuple[int, int, int, int]] = set()
        self._defining = Defining(self._index, self._contents)
        self._answers = self._answering()
        self._with_files: dict[type[Any], Callable[[Any], tuple[Any, tuple[int, ...]]]] = {
            ops.OpenDataset: self._open,
            ops.BeginPut: self._begin,
            ops.BeginPuts: self._begin_group,
        }
        self._streams: dict[type[Any], Callable[[Any], Iterator[Any]]] = {
            ops.QueryDatasets: self._queries.datasets,
            ops.QueryMetadata: self._queries.metadata,
            ops.QueryDataIds: self._queries.query_data_ids,
            ops.QueryDimensionRecords: self._queries.dimension_records,
            ops.QueryRelatives: self._provenance.relatives,
        }

    def _answering(self) -> dict[type[Any], Callable[[Any], Any]]:
        defining = self._defining
        return {
            ops.GetRepository: lambda _: self._contents.info,
            ops.ListRepositories: lambda _: ops.RepositoryList((self._contents.info,)),
            ops.GetDimensions: lambda _: ops.Dimensions(dict(self._contents.universe.config)),
            ops.ListDatasetTypes: defining.list_types,
            ops.RegisterDatasetType: defining.register_type,
            ops.QueryCollections: defining.query_collections,
            ops.RegisterCollection: defining.register_collection,
            ops.RedefineChain: defining.redefine_chain,
            ops.InsertDimensionRecords: defining.insert_records,
            ops.FindDataset: self._find,
            ops.GetDataset: self._get,
            ops.CountDatasets: self._count,
            ops.GetMetadata: lambda asked: ops.DatasetMetadata(self._declared(self._lookup.known_row(asked.id))),
            ops.DescribeFiles: self._describe,
            ops.ExpandDataId: self._puts.expand,
            ops.PutContent: self._put_content,
            ops.CommitPut: self._commit,
            ops.CommitPuts: self._commit_group,
            ops.AbortPut: self._abort,
            ops.CloseOpened: lambda _: ops.Done(),
            ops.RecordQuanta: lambda asked: ops.CountDone(self._provenance.record(asked.quanta)),
            ops.GetProvenance: lambda asked: self._provenance.of(asked.id),
        }

    @property
    def answered(self) -> frozenset[type[Any]]:
        """The operations that it answers."""
        return frozenset((*self._answers, *self._with_files, *self._streams))

    # -- as a link ---------------------------------------------------------------------------------

    def call_with_fds(self, operation: ops.Operation[R], fds: Sequence[int] = ()) -> tuple[R, tuple[int, ...]]:
        """Answer one operation."""
        self._check()
        if with_files := self._with_files.get(type(operation)):
            return cast(tuple[R, tuple[int, ...]], with_files(operation))
        answer = self._answers.get(type(operation))
        if answer is None:
            raise _cannot(operation)
        return answer(operation), ()

    def stream(self, operation: ops.StreamOperation[R]) -> Iterator[R]:
        """Answer with a stream."""
        self._check()
        answer = self._streams.get(type(operation))
        if answer is None:
            raise _cannot(operation)
        return answer(operation)

    def defaults(self) -> tuple[tuple[str, ...], str | None]:
        """See `BundleConnection.defaults`."""
        said = json.loads(self._index.about("defaults") or b"{}")
        return tuple(said.get("collections", ())), said.get("run")

    def post(self, operation: ops.Operation[Any]) -> None:
        """Answer one operation, whatever comes of it."""
        try:
            self.call(operation)
        except PantryError:
            return

    @property
    def is_alive(self) -> bool:
        """Whether it is open, in this process."""
        return not self._closed and self._pid == os.getpid()

    def notices_hangup(self) -> bool:
        """Tell whether it was closed."""
        return not self.is_alive

    def close(self) -> None:
        """Give up puts under way, and close the index."""
        with self._lock:
            if self._closed or self._pid != os.getpid():
                return
            self._closed = True
        self._puts.abort_all()
        self._index.close()

    def disown(self) -> None:
        """Leave everything to the parent process."""
        self._closed = True
        self._index.disown()

    def _check(self) -> None:
        if not self.is_alive:
            raise DaemonUnavailableError("the bundle was closed", hint="a Butler opens it again with the next call")

    def _refuse_other(self, repository: str) -> None:
        if repository != self._index.directory:
            raise InvalidRequestError(
                f"a bundle writes into itself, not to {repository!r}",
                hint="`pantry bundle harvest` takes its outputs there",
            )

    # -- writing ------------------------------------------------------------------------------------

    def _begin(self, asked: ops.BeginPut) -> tuple[ops.PutTicket, tuple[int, ...]]:
        self._refuse_other(asked.repository)
        (ticket,), fds = self._puts.begin([asked])
        return ticket, fds

    def _begin_group(self, asked: ops.BeginPuts) -> tuple[ops.PutTickets, tuple[int, ...]]:
        for one in asked.puts:
            self._refuse_other(one.repository)
        tickets, fds = self._puts.begin(asked.puts)
        return ops.PutTickets(tickets), fds

    def _commit(self, asked: ops.CommitPut) -> DatasetRef:
        self._refuse_publishing(asked.publish)
        return self._puts.commit(asked.put, [asked.metadata])[0]

    def _commit_group(self, asked: ops.CommitPuts) -> ops.StoredPuts:
        self._refuse_publishing(asked.publish)
        return ops.StoredPuts(self._puts.commit(asked.put, asked.metadata))

    def _refuse_publishing(self, services: Sequence[str]) -> None:
        if services:
            raise InvalidRequestError(
                f"a bundle publishes nothing, not to {', '.join(services)} either; nothing was stored",
                hint="put it without publish, harvest the bundle, and `Butler.publish` it from the repository",
            )

    def _put_content(self, asked: ops.PutContent) -> ops.PutDone:
        self._refuse_other(asked.repository)
        return ops.PutDone(self._puts.put(asked))

    # -- reading -----------------------------------------------------------------------------------

    def _open(self, asked: ops.OpenDataset) -> tuple[ops.Opened, tuple[int, ...]]:
        if asked.id is not None:
            row = self._lookup.known_row(asked.id)
        else:
            found = self._lookup.find(
                ops.FindDataset(
                    repository=asked.repository,
                    dataset_type=asked.dataset_type,
                    data_id=asked.data_id,
                    collections=asked.collections,
                    timespan=asked.timespan,
                    time_of_data_id=True,
                )
            )
            if found is None:
                raise DatasetNotFoundError(
                    f"the bundle {self._index.directory} has no dataset of type {asked.dataset_type!r} with data id "
                    f"{asked.data_id} in {', '.join(asked.collections)}",
                    hint="it has only what it was made with, and its outputs; nothing is fetched",
                )
            row = found
        fd = self._open_file(row)
        origin = f"file://{self._index.directory}/{row.path}"
        opened = ops.Opened(
            ref=self._lookup.ref(row), file=row.file, name=row.path, complete=True, was_cached=True, origin=origin
        )
        return opened, (fd,)

    def _open_file(self, row: Row) -> int:
        """Open a dataset's file, which is exactly what was registered (DMS-MWBT-REQ-0054)."""
        path = self._index.path(row.path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as exc:
            raise DatasetNotFoundError(
                f"{row.dataset_type} {row.data_id}: the file {path} cannot be opened: {os.strerror(exc.errno or 0)}",
                hint="make the bundle again, which puts in place what is missing; nothing is fetched",
            ) from None
        try:
            self._verify(row, fd, path)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _verify(self, row: Row, fd: int, path: str) -> None:
        """Compare size and hash; the hash only once, unless the file has changed since it was compared."""
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size == row.size_bytes:
            if status.st_mtime_ns == row.modified_ns:
                return
            seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
            if not row.hash or seen in self._verified:
                return
            if hash_file(fd) == row.hash:
                self._verified.add(seen)
                return
        raise IntegrityError(
            f"{path} is not what was registered: its size or its hash differs",
            hint="remove it and make the bundle again; an output must be made again",
        )

    def _declared(self, row: Row) -> dict[str, Any]:
        known = self._contents.definitions().dataset_type(row.dataset_type)
        values = row.declared
        return {entry.name: values.get(entry.name) for entry in known.definition.metadata}

    def _find(self, asked: ops.FindDataset) -> ops.FoundDataset:
        return self._lookup.found(self._lookup.find(asked), records=asked.dimension_records)

    def _get(self, asked: ops.GetDataset) -> ops.FoundDataset:
        return self._lookup.found(self._lookup.by_id(asked.id), records=asked.dimension_records)

    def _count(self, asked: ops.CountDatasets) -> ops.DatasetCounts:
        return ops.DatasetCounts(
            {known.definition.name: len(rows) for known, rows in self._queries.select(asked.query)}
        )

    def _describe(self, asked: ops.DescribeFiles) -> ops.FileTable:
        known = self._contents.definitions().dataset_type(asked.dataset_type)
        names = [entry.name for entry in known.definition.metadata]
        table = ops.FileTable([], [], [], [], [], [], {name: [] for name in names})
        for row in self._queries.by_ids(asked.dataset_type, asked.ids):
            table.paths.append(row.path)
            table.sizes.append(row.size_bytes)
            table.hashes.append(row.hash)
            table.formatters.append(row.formatter)
            table.ingest_ns.append(row.ingest_ns)
            table.names.append(row.path)
            declared = row.declared
            for name in names:
                table.metadata[name].append(declared.get(name))
        return table

    def _abort(self, asked: ops.AbortPut) -> ops.Done:
        self._puts.abort(asked.put)
        return ops.Done()


def _cannot(operation: ops.Operation[Any]) -> InvalidRequestError:
    return InvalidRequestError(f"a bundle cannot do this ({operation.__struct_config__.tag})", hint=_HINT)
