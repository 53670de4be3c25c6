"""Datasets of one repository, taken into another by the daemon itself (docs/decisions/0047-subsets.md)."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from urllib.parse import unquote

import msgspec
import trio

from pantry.backends.contract import LocalPlacement
from pantry.daemon.datasets.importing import Importer
from pantry.daemon.datasets.ingesting import NewFile
from pantry.daemon.datasets.side_by_side import each
from pantry.daemon.datasets.sources import SourceFile
from pantry.daemon.registry.references import reference_in
from pantry.daemon.repositories.repository import Repository
from pantry.errors import BackendError, DatasetNotFoundError, IntegrityError, InvalidRequestError, ObjectExistsError
from pantry.model.datasets import StoredFile
from pantry.model.remote_files import remote_file
from pantry.wire.operations import CopyDatasets, FileTable, ImportDatasets, ImportItem, IngestFiles
from pantry.wire.operations.importing import IS_STORED
from pantry.wire.operations.subsetting import MAX_COPIED, SubsetTransfer

_OPENED_AT_ONCE = 16
_WRITABLE = 0o222

OpenFile = Callable[[Repository, StoredFile, str], Awaitable[int]]
"""Opens a file of a repository, by way of the cache; gives a descriptor, which the caller closes."""

FindHolder = Callable[[str], Awaitable[Repository]]
"""Gives the repository of a UUID that holds files of a view, as the asking user may read it."""


class Copier(Importer):
    """Copies datasets from one repository into another; for one request.

    Parameters
    ----------
    importer : Importer
        Whose parts it works with.
    source : Repository
        Where the datasets are; the asking user may read it.
    open_file : OpenFile
        Opens what is not in a directory.
    find_holder : FindHolder
        If the source is a view.
    how : str
        See `SubsetTransfer`.
    """

    def __init__(
        self,
        importer: Importer,
        source: Repository,
        open_file: OpenFile,
        find_holder: FindHolder,
        how: SubsetTransfer,
    ) -> None:
        super().__init__(importer._journal, importer._repositories, importer._puts, importer._transfers)
        self._source = source
        self._open_file = open_file
        self._find_holder = find_holder
        self._how = how
        self._local = source.backend if isinstance(source.backend, LocalPlacement) else None
        self._root = unquote(source.backend.location.removeprefix("file://")) if self._local is not None else ""
        self._registered: dict[str, tuple[str, int]] = {}

    async def copy(self, target: Repository, asked: CopyDatasets) -> bytes:
        """Copy what is not there yet; give how each dataset stood before, see `Standings`.

        Raises
        ------
        DatasetNotFoundError
            The source has not one of them, or not its file.
        IntegrityError
            A file is not what the source has registered.
        ConflictError
            As of `Importer.load`.
        """
        ids = dataset_ids(asked)
        standings = await self.load(target, standings_of(target, asked), (), same_user=True)
        wanted = [number for number, stood in enumerate(standings) if stood != IS_STORED]
        if not wanted:
            return standings
        table = await self._describe(asked, [ids[number] for number in wanted])
        held: dict[str, list[int]] = {}
        for place, path in enumerate(table.paths):
            reference = reference_in(path)
            held.setdefault(reference.holder if reference is not None else "", []).append(place)
        for holder, places in held.items():
            if not holder:
                await self._copy_each_format(target, asked, ids, wanted, table, places)
                continue
            # Its files are where the holder's registry says, and declared metadata are the view's own.
            found = await self._find_holder(holder)
            copier = Copier(self, found, self._open_file, self._find_holder, self._how)
            chosen = [wanted[place] for place in places]
            described = await copier._describe(asked, [ids[number] for number in chosen])
            metadata = {name: [column[place] for place in places] for name, column in table.metadata.items()}
            described = msgspec.structs.replace(described, metadata=metadata)
            await copier._copy_each_format(target, asked, ids, chosen, described, range(len(chosen)))
        return standings

    async def _describe(self, asked: CopyDatasets, ids: list[bytes]) -> FileTable:
        describe = partial(self._source.registry.describe_files, asked.dataset_type, ids)
        return await self._repositories.queries.call(describe)

    async def _copy_each_format(
        self,
        target: Repository,
        asked: CopyDatasets,
        ids: list[bytes],
        wanted: list[int],
        table: FileTable,
        places: Sequence[int],
    ) -> None:
        """Copy datasets whose files are in the source's own storage; ``places`` of ``wanted`` and of ``table``."""
        for formatter in dict.fromkeys(table.formatters[place] for place in places):
            some = [place for place in places if table.formatters[place] == formatter]
            await self._copy_some(target, asked, ids, wanted, table, some)

    async def _copy_some(
        self,
        target: Repository,
        asked: CopyDatasets,
        ids: list[bytes],
        wanted: list[int],
        table: FileTable,
        places: list[int],
    ) -> None:
        """Copy datasets of one format; ``places`` of ``wanted`` and of ``table``."""
        paths = [self._path(table.paths[place], ids[wanted[place]]) for place in places]
        self._registered.update(
            zip(paths, ((table.hashes[place], table.sizes[place]) for place in places), strict=True)
        )
        request = ImportDatasets(
            repository=target.name,
            dataset_type=asked.dataset_type,
            run=asked.run,
            transfer="copy",
            dimensions=asked.dimensions,
            items=tuple(
                ImportItem(path, asked.values[wanted[place]]) for path, place in zip(paths, places, strict=True)
            ),
            ids=b"".join(ids[wanted[place]] for place in places),
            formatter=table.formatters[places[0]],
            metadata={name: [column[place] for place in places] for name, column in table.metadata.items()},
        )
        distinct = dict(zip(paths, places, strict=True))
        with ExitStack() as opened:
            fds = await self._open_all(opened, table, list(distinct.values()))
            await self.load(target, request, fds, same_user=False)

    def _path(self, key: str, id_: bytes) -> str:
        if not key:
            raise DatasetNotFoundError(
                f"the dataset {id_.hex()} is registered in {self._source.name!r} without a file",
                hint="import it again from where its file is, or leave it out",
            )
        return key if remote_file(key) is not None else os.path.join(self._root, key)

    async def _open_all(self, opened: ExitStack, table: FileTable, places: list[int]) -> list[int]:
        found: dict[int, int] = {}
        if (local := self._local) is not None:
            here = [place for place in places if remote_file(table.paths[place]) is None]

            def open_each() -> None:
                for place, (fd, _) in zip(here, local.open_each([table.paths[place] for place in here]), strict=True):
                    opened.callback(os.close, fd)
                    found[place] = fd

            await self._transfers.call(open_each)
        limit = trio.CapacityLimiter(_OPENED_AT_ONCE)

        async def open_one(place: int) -> None:
            async with limit:
                file = StoredFile(
                    path=table.paths[place],
                    size_bytes=table.sizes[place],
                    hash=table.hashes[place],
                    formatter=table.formatters[place],
                    ingest_ns=table.ingest_ns[place],
                )
                fd = await self._open_file(self._source, file, table.names[place])
                opened.callback(os.close, fd)
                found[place] = fd

        await each(open_one, [place for place in places if place not in found])
        return [found[place] for place in places]

    async def _measure(
        self,
        repository: Repository,
        request: ImportDatasets,
        places: list[str],
        numbers: list[int],
        fds: Sequence[int],
        *,
        same_user: bool,
    ) -> list[SourceFile]:
        sources = await super()._measure(repository, request, places, numbers, fds, same_user=same_user)
        for source in sources:
            # Of an attached repository's file nobody had computed the hash, and not always the size.
            hash_, size_bytes = self._registered[source.path]
            if hash_ and source.hash != hash_:
                wrong = f"has the hash {source.hash}, registered is {hash_}"
            elif size_bytes > 0 and source.size_bytes != size_bytes:
                wrong = f"has {source.size_bytes} bytes, registered are {size_bytes}"
            else:
                continue
            raise IntegrityError(
                f"{source.path} in {self._source.name!r} {wrong}",
                hint="its file was damaged or replaced, and nothing was copied: the repository's owner can tell",
            )
        return sources

    async def _store_one(
        self,
        repository: Repository,
        request: IngestFiles | ImportDatasets,
        dataset: NewFile,
        source: SourceFile,
        token: str,
    ) -> None:
        may_link = self._how == "auto" and self._local is not None and _is_read_only(source)
        if (self._how == "hardlink" or may_link) and await self._is_linked(repository, dataset, source, token):
            return
        await super()._store_one(repository, request, dataset, source, token)

    async def _is_linked(self, repository: Repository, dataset: NewFile, source: SourceFile, token: str) -> bool:
        backend = repository.backend
        try:
            is_remote = remote_file(source.path) is not None
            if is_remote or self._local is None or not isinstance(backend, LocalPlacement):
                raise BackendError("only files between two directories can be linked")
            await self._link(backend, dataset.file.path, source, "hardlink", token)
        except ObjectExistsError:
            raise
        except BackendError as exc:
            if self._how == "auto":
                return False
            raise InvalidRequestError(
                f"{source.path} cannot be a hard link in {backend.location}: {exc.message}",
                hint="source and subset must be directories of one file system; the transfer auto copies where need be",
            ) from None
        return True


def _is_read_only(source: SourceFile) -> bool:
    return source.fd is not None and not stat.S_IMODE(os.fstat(source.fd).st_mode) & _WRITABLE


def standings_of(target: Repository, asked: CopyDatasets) -> ImportDatasets:
    """Make the question how datasets that are to be taken over stand."""
    return ImportDatasets(
        repository=target.name,
        dataset_type=asked.dataset_type,
        run=asked.run,
        transfer="copy",
        dimensions=asked.dimensions,
        items=tuple(ImportItem("", values) for values in asked.values),
        ids=asked.ids,
        check=True,
    )


def dataset_ids(asked: CopyDatasets) -> list[bytes]:
    """Give the ids of the datasets that are to be taken over, checked."""
    if not 0 < len(asked.values) <= MAX_COPIED:
        raise InvalidRequestError(f"one request copies 1 to {MAX_COPIED} datasets, not {len(asked.values)}")
    if len(asked.ids) != 16 * len(asked.values):
        raise InvalidRequestError(f"{len(asked.ids)} bytes are no ids of {len(asked.values)} datasets")
    return [asked.ids[begin : begin + 16] for begin in range(0, len(asked.ids), 16)]
