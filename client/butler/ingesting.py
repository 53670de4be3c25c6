"""Existing files become datasets."""

from __future__ import annotations

import functools
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice
from typing import get_args
from uuid import UUID

from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values, type_name
from pantry.client.butler.batches import uuids
from pantry.client.butler.forms import form_of, formatter_of_suffix
from pantry.client.formatters.declared import read_local
from pantry.errors import DimensionNameError, InvalidRequestError, NotFoundError, PermissionDeniedError
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.formats import StoredForm
from pantry.model.metadata import MetadataEntry, MetadataValue
from pantry.model.naming import extension_of
from pantry.wire.operations import IngestFiles, IngestItem, ListDatasetTypes
from pantry.wire.operations.data import Transfer

MAX_ITEMS = 5000
"""Most files of one request; one request is all or nothing."""
MAX_ITEMS_WITH_DESCRIPTORS = 100
"""Most files of one request that carries their descriptors; below the frame's and the process's limits."""
_AHEAD = 2
"""Requests that are under way at once."""
_MAX_PATH_BYTES = 8 * 1024 * 1024
"""Most bytes of paths in one request, well below the longest frame."""

Batch = tuple[tuple[str, ...], str, list[IngestItem]]
"""Dimensions, formatter and files of one request."""
File = tuple[str | os.PathLike[str], DataId]


class Ingesting(RepositoryAccess):
    """The ingest method of `Butler`."""

    def ingest(
        self,
        dataset_type: DatasetType | str,
        files: Iterable[File],
        *,
        run: str | None = None,
        transfer: Transfer = "copy",
        formatter: str = "",
        skip_existing: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> list[UUID | None]:
        """Take existing files into the repository (DMS-MWBT-REQ-0008, 0009).

        Parameters
        ----------
        dataset_type : DatasetType or str
            What the files are; registered already.
        files : iterable of (path, data id)
            The files, in any number. With ``in_place`` they lie in the repository's storage, and the path is
            absolute or relative to its root.
        run : str, optional
            The RUN collection, made if need be; by default the Butler's own.
        transfer : str
            ``copy``, ``move``, ``hardlink``, ``symlink``, ``link`` (hard or else symbolic) or ``in_place``. Declared
            metadata of files in place that this process cannot read is left absent; see `record_metadata`.
        formatter : str
            Name of the formatter that will read them; by default the storage class's own, or for a file with another
            suffix, as a table in ``.csv`` or ``.fits``, that of the suffix which gives the same Python type.
        skip_existing : bool
            Pass over data ids that the run has already, in place of `DatasetExistsError`.
        progress : callable, optional
            Called with the number of files done after each request.

        Returns
        -------
        list of uuid.UUID or None
            The dataset ids, in the order of the files; None for those passed over.

        Raises
        ------
        DatasetExistsError
            The run has one of them already. Of the request that failed (up to 5,000 files, 100 if the daemon
            is another user) nothing was ingested; others before it, and one that was under way beside it, stay,
            and ``skip_existing`` passes over them.
        """
        self._writing()
        if transfer not in get_args(Transfer):
            raise InvalidRequestError(f"unknown transfer {transfer!r}", hint=f"one of {', '.join(get_args(Transfer))}")
        run, name = self._run(run), type_name(dataset_type)
        link = self.connection.link()
        in_place = transfer == "in_place"
        # The daemon reads nothing that this user could not; in place it reads only the repository's own storage.
        with_descriptors = link.welcome.uid != os.geteuid() and not in_place
        most = MAX_ITEMS_WITH_DESCRIPTORS if with_descriptors else MAX_ITEMS
        entries, usual = self._declared(name)
        chosen = functools.cache(lambda suffix: formatter or formatter_of_suffix(suffix, usual))

        def ask(dimensions: tuple[str, ...], formatter: str, items: list[IngestItem]) -> list[UUID | None]:
            read_by = formatter or (usual.formatter if usual is not None else "")
            operation = IngestFiles(
                repository=self.repository,
                dataset_type=name,
                run=run,
                transfer=transfer,
                dimensions=dimensions,
                items=tuple(items),
                formatter=formatter,
                skip_existing=skip_existing,
                metadata=read_metadata(read_by, self._local(items, in_place), entries) if entries else {},
            )
            with ExitStack() as opened:
                fds = [open_for_daemon(opened, item.path) for item in items if with_descriptors]
                return [one if one.int else None for one in uuids(link.call(operation, fds).ids)]

        done: list[UUID | None] = []

        def answered(ids: list[UUID | None]) -> None:
            done.extend(ids)
            if progress is not None:
                progress(len(done))

        batches = _batches(files, most, str if in_place else os.path.abspath, chosen)
        _in_turn(ask, batches, answered, give_up=self.connection.close)
        return done

    def _declared(self, dataset_type: str) -> tuple[tuple[MetadataEntry, ...], StoredForm | None]:
        """Give the metadata that a type declares, and how its datasets usually are stored."""
        found = self.connection.call(ListDatasetTypes(repository=self.repository, patterns=(dataset_type,)))
        (kind,) = found.dataset_types
        return kind.metadata, form_of(kind.name, kind.storage_class, (self.info.formats,))

    def _local(self, items: Iterable[IngestItem], in_place: bool) -> list[str]:
        """Give where this process can read each file; empty if only the daemon can."""
        if not in_place:
            return [item.path for item in items]
        root = self.info.root.removeprefix("file://")
        found = [os.path.join(root, item.path) for item in items]
        return [path if os.path.isabs(path) and os.access(path, os.R_OK) else "" for path in found]


def _in_turn(
    ask: Callable[[tuple[str, ...], str, list[IngestItem]], list[UUID | None]],
    batches: Iterator[Batch],
    answered: Callable[[list[UUID | None]], None],
    *,
    give_up: Callable[[], None],
) -> None:
    """Take answers in order, with one request ahead: while files of one are hashed, another is committed.

    Who is impatient waits for none of them: ``give_up`` ends those under way, and then their threads.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    first = list(islice(batches, _AHEAD))
    if len(first) < _AHEAD:  # most often all fits into one request
        for batch in first:
            answered(ask(*batch))
        return
    under_way: deque[Future[list[UUID | None]]] = deque()
    threads = ThreadPoolExecutor(_AHEAD, thread_name_prefix="pantry-ingest")
    try:
        for batch in chain(first, batches):
            under_way.append(threads.submit(ask, *batch))
            if len(under_way) == _AHEAD:
                answered(under_way.popleft().result())
        while under_way:
            answered(under_way.popleft().result())
    except BaseException as exc:
        if not isinstance(exc, Exception):
            give_up()
        raise
    finally:
        threads.shutdown(cancel_futures=True)


def read_metadata(formatter: str, paths: list[str], entries: Sequence[MetadataEntry]) -> dict[str, list[MetadataValue]]:
    """Read declared metadata of files, by entry; nothing unless all files can be read here."""
    if not entries or not all(paths):
        return {}
    rows = [read_local(formatter, path, entries) for path in paths]
    return {entry.name: [row[entry.name] for row in rows] for entry in entries}


def _batches(
    files: Iterable[File], most: int, key: Callable[[str], str], formatter_of: Callable[[str], str]
) -> Iterator[Batch]:
    dimensions: tuple[str, ...] | None = None
    formatter = ""
    items: list[IngestItem] = []
    n_bytes = 0
    for given, data_id in files:
        values = data_id_values(data_id, {})
        if dimensions is None:
            dimensions = tuple(values)
        item = IngestItem(key(os.fspath(given)), _ordered(dimensions, values, given))
        own = formatter_of(extension_of(item.path))
        if items and own != formatter:  # a request is of one format
            yield dimensions, formatter, items
            items, n_bytes = [], 0
        formatter = own
        items.append(item)
        n_bytes += len(item.path)
        if len(items) >= most or n_bytes >= _MAX_PATH_BYTES:
            yield dimensions, formatter, items
            items, n_bytes = [], 0
    if items and dimensions is not None:
        yield dimensions, formatter, items


def _ordered(dimensions: Sequence[str], values: dict[str, DataIdValue], path: object) -> tuple[DataIdValue, ...]:
    if len(values) != len(dimensions) or any(name not in values for name in dimensions):
        raise DimensionNameError(
            f"{path}: the data id has {', '.join(values)}, but that of the first file {', '.join(dimensions)}",
            hint="all files of one ingest have the same dimensions",
        )
    return tuple(values[name] for name in dimensions)


def open_for_daemon(stack: ExitStack, path: str) -> int:
    """Open a file of this user's, for a daemon of another one; closed with the stack."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFoundError(f"{path}: no such file") from None
    except OSError as exc:
        raise PermissionDeniedError(f"{path}: {exc.strerror}") from None
    stack.callback(os.close, fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise InvalidRequestError(f"{path} is not a regular file")
    return fd
