"""Taking existing files into a repository, all or none (DMS-MWBT-REQ-0008, 0009)."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange, LocalPlacement
from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.datasets.in_the_way import exists_already
from pantry.daemon.datasets.putting import Puts
from pantry.daemon.datasets.removing import with_free_names
from pantry.daemon.datasets.side_by_side import each
from pantry.daemon.datasets.sources import SourceFile, measure_stored, remove_source, unreadable
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.registry import PreparedIngest
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.roots import is_local, local_directory
from pantry.daemon.repositories.service import Repositories
from pantry.errors import BackendError, DatasetExistsError, InvalidRequestError, ObjectExistsError
from pantry.model.collections import check_collection_name
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import StoredFile
from pantry.model.metadata import MetadataValue, check_columns
from pantry.model.naming import extension_of
from pantry.wire.operations import ImportDatasets, IngestFiles

MAX_ITEMS = 5000
_HASHED_AT_ONCE = 1000
_PARALLEL_UPLOADS = 8


NOT_INGESTED = bytes(16)
"""In place of the id of a dataset that existed already."""


_Metadata = dict[str, list[MetadataValue]]


class NewFile(NamedTuple):
    """A dataset to be registered, in the form that the registry takes."""

    id: bytes
    values: tuple[DataIdValue, ...]
    file: StoredFile


def keys_in_place(repository: Repository, paths: Sequence[str]) -> list[str]:
    """Give the keys of files in a storage that are named by these or by absolute paths."""
    location = repository.backend.location
    root = (local_directory(location) if is_local(location) else location).rstrip("/") + "/"
    return [path.removeprefix(root) for path in paths]


_VERSION = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


def _new_ids(count: int) -> list[bytes]:
    """Make dataset ids as `uuid.uuid4` does (RFC 9562, version 4), but from one read of the random source."""
    raw = bytearray(os.urandom(16 * count))
    raw[6::16] = raw[6::16].translate(_VERSION)
    raw[8::16] = raw[8::16].translate(_VARIANT)
    made = bytes(raw)
    return [made[begin : begin + 16] for begin in range(0, len(made), 16)]


class Ingester:
    """Ingests files.

    Parameters
    ----------
    journal : Journal
        Remembers what is being stored.
    repositories : Repositories
        For queries and undoing.
    puts : Puts
        Undoes failed writes.
    transfers : Admission
        Lets reads of local files into threads.
    """

    def __init__(self, journal: Journal, repositories: Repositories, puts: Puts, transfers: Admission) -> None:
        self._journal = journal
        self._repositories = repositories
        self._puts = puts
        self._transfers = transfers

    async def ingest(
        self, repository: Repository, request: IngestFiles, fds: Sequence[int], *, same_user: bool
    ) -> list[bytes]:
        """Ingest and return the dataset ids, 16 bytes each, in the order of the items.

        Raises
        ------
        DatasetExistsError
            The run has one of them already and ``skip_existing`` was not asked for; nothing was
            ingested. With ``skip_existing``, such an item gets `NOT_INGESTED` in place of an id.
        """
        if not request.items or len(request.items) > MAX_ITEMS:
            raise InvalidRequestError(f"one request ingests 1 to {MAX_ITEMS} files, not {len(request.items)}")
        check_collection_name(request.run)
        repository.origin.require_online(request.run)
        in_place = request.transfer == "in_place"
        if not in_place and not same_user and len(fds) != len(request.items):
            raise InvalidRequestError("ingest needs a readable descriptor for each file")
        items = request.items
        paths = [one.path for one in items]
        if in_place:
            paths = keys_in_place(repository, paths)
        prepare = partial(
            repository.registry.prepare_ingest,
            request.dataset_type,
            request.run,
            request.dimensions,
            [one.values for one in items],
            None if in_place else [extension_of(path) for path in paths],
            named=not in_place,
        )
        queries = self._repositories.queries
        prepared = await with_free_names(repository, queries, partial(queries.call, prepare))
        existing = [number for number, found in enumerate(prepared.exists) if found]
        if existing and not request.skip_existing:
            raise DatasetExistsError(
                f"{len(existing)} of {len(items)} datasets exist in run {request.run!r} already,"
                f" the first from {items[existing[0]].path}",
                hint="use skip_existing (--skip-existing) to ingest only the others",
            )
        wanted = [number for number, found in enumerate(prepared.exists) if not found]
        ids = [
            NOT_INGESTED if found else made for found, made in zip(prepared.exists, _new_ids(len(items)), strict=True)
        ]
        if not wanted:
            return ids
        metadata = check_columns(
            prepared.dataset_type.metadata,
            {name: list(_chosen(values, wanted)) for name, values in request.metadata.items()},
            [items[number].path for number in wanted],
        )
        if in_place and not isinstance(repository.backend, LocalPlacement):
            sources = await self._measure_remote(repository, [paths[number] for number in wanted])
        else:
            sources = await self._measure_local(repository, paths, fds, wanted, in_place=in_place)
        formatter = request.formatter or prepared.form.formatter
        now = time.time_ns()
        new = [
            NewFile(
                ids[number],
                prepared.values[number],
                StoredFile(
                    path=paths[number] if in_place else prepared.paths[number],
                    size_bytes=source.size_bytes,
                    hash=source.hash,
                    formatter=formatter,
                    ingest_ns=now,
                ),
            )
            for number, source in zip(wanted, sources, strict=True)
        ]
        register = partial(self._register, repository, request.run, prepared, new, metadata, in_place=in_place)
        if in_place:
            await register()
        else:
            await self._take_over(repository, request, new, sources, register, verb="ingest")
        return ids

    async def _measure_local(
        self, repository: Repository, paths: list[str], fds: Sequence[int], wanted: list[int], *, in_place: bool
    ) -> list[SourceFile]:
        backend = repository.backend
        made: list[SourceFile] = []

        def measure(numbers: list[int]) -> list[SourceFile]:
            if in_place and isinstance(backend, LocalPlacement):
                return measure_stored(backend, [paths[number] for number in numbers])
            sources = [SourceFile(paths[number], fds[number] if fds else None) for number in numbers]
            for source in sources:
                try:
                    source.measure()
                except OSError as exc:
                    raise unreadable(source.path, exc) from None
            return sources

        for begin in range(0, len(wanted), _HASHED_AT_ONCE):
            made += await self._transfers.call(partial(measure, wanted[begin : begin + _HASHED_AT_ONCE]))
        return made

    async def _measure_remote(self, repository: Repository, keys: list[str]) -> list[SourceFile]:
        sources = [SourceFile(key, None) for key in keys]
        limit = trio.CapacityLimiter(_PARALLEL_UPLOADS)

        async def measure(source: SourceFile) -> None:
            async with limit:
                found = await repository.backend.stat(source.path)
                path = os.path.join(self._puts.cache.incoming, f"{uuid.uuid4()}.measure")
                with self._puts.cache.reserved(found.size_bytes):
                    with self._puts.cache.disk.watched():
                        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                    try:
                        os.unlink(path)
                        span = ByteRange(0, found.size_bytes)
                        await repository.backend.read_into(source.path, span, fd, if_version=found.version)
                        source.size_bytes = found.size_bytes
                        source.hash = await trio.to_thread.run_sync(hash_file, fd, found.size_bytes)
                    finally:
                        os.close(fd)

        await each(measure, sources)
        return sources

    async def _register(
        self,
        repository: Repository,
        run: str,
        prepared: PreparedIngest,
        new: list[NewFile],
        metadata: _Metadata,
        *,
        in_place: bool,
    ) -> None:
        insert = repository.registry.insert_datasets
        with trio.CancelScope(shield=True):
            await self._repositories.queries.call(
                partial(insert, run, prepared.dataset_type.name, new, metadata, in_place=in_place)
            )
        for one in new:
            repository.origin.absent.forget(one.file.path)

    async def _take_over(
        self,
        repository: Repository,
        request: IngestFiles | ImportDatasets,
        new: list[NewFile],
        sources: list[SourceFile],
        register: Callable[[], Awaitable[None]],
        *,
        verb: str,
    ) -> None:
        """Store the file of each dataset and register them; what fails is undone, what was to be moved is removed."""
        token = str(uuid.uuid4())
        intent = Intent(token, tuple(Target(repository.name, one.file.path, one.id) for one in new))
        limit = trio.CapacityLimiter(_PARALLEL_UPLOADS)

        async def store(work: tuple[NewFile, SourceFile]) -> None:
            async with limit:
                await self._store_one(repository, request, *work, token)

        try:
            with repository.names.writing([one.file.path for one in new]):
                await self._journal.record(intent)
                try:
                    await each(store, list(zip(new, sources, strict=True)))
                    await register()
                except BaseException:
                    with trio.CancelScope(shield=True):
                        await self._puts.undo(intent)
                    raise
        except ObjectExistsError as exc:
            key = str(exc.fields.get("key") or new[0].file.path)
            raise await exists_already(
                repository, self._repositories.queries, key, hint=f"{verb} it in place, or remove the file"
            ) from None
        for one in new:
            await repository.backend.settle_write(one.file.path, token=token)
        if request.transfer == "move":
            for source in sources:
                await self._transfers.call(partial(remove_source, source.path))
        self._journal.clear(token)

    async def _store_one(
        self,
        repository: Repository,
        request: IngestFiles | ImportDatasets,
        dataset: NewFile,
        source: SourceFile,
        token: str,
    ) -> None:
        how = request.transfer
        if how in ("link", "hardlink", "symlink"):
            if not isinstance(repository.backend, LocalPlacement):
                raise InvalidRequestError(
                    f"{repository.backend.location} is not a local file system, so nothing can be linked into it",
                    hint="use transfer='copy'",
                )
            await self._link(repository.backend, dataset.file.path, source, how, token)
            return
        fd = source.open()
        try:
            await repository.backend.write_from(dataset.file.path, fd, source.size_bytes, token=token)
            source.require_unchanged(fd)
        finally:
            os.close(fd)

    async def _link(self, backend: LocalPlacement, key: str, source: SourceFile, how: str, token: str) -> None:
        if how == "link":
            try:
                await backend.place(key, source.path, how="hardlink", token=token)
            except ObjectExistsError:
                raise
            except BackendError:
                # Another file system, or one without hard links.
                await backend.place(key, source.path, how="symlink", token=token)
        else:
            await backend.place(key, source.path, how=how, token=token)
        fd = source.open()
        try:
            source.require_unchanged(fd)
        finally:
            os.close(fd)


def _chosen(values: Sequence[MetadataValue], wanted: list[int]) -> Iterator[MetadataValue]:
    if wanted and wanted[-1] >= len(values):
        raise InvalidRequestError("the columns of metadata do not have one value for each file")
    return (values[number] for number in wanted)
