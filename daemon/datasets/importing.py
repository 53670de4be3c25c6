"""Datasets of another repository, with their ids and files, all or none (docs/decisions/0026-importing-exports.md)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import trio

from pantry.backends.contract import LocalPlacement
from pantry.daemon.datasets.ingesting import MAX_ITEMS, Ingester, NewFile, keys_in_place
from pantry.daemon.datasets.removing import with_free_names
from pantry.daemon.datasets.sources import SourceFile
from pantry.daemon.registry import NewDataset, PreparedIngest
from pantry.daemon.registry.importing import Lacking
from pantry.daemon.repositories.repository import Repository
from pantry.errors import InvalidRequestError
from pantry.model.collections import check_collection_name
from pantry.model.datasets import StoredFile
from pantry.model.metadata import MetadataValue, check_columns
from pantry.model.naming import extension_of
from pantry.wire.operations import ImportDatasets
from pantry.wire.operations.importing import IS_NEW, IS_STORED

STAYING = ("in_place", "direct")
"""Transfers of files that stay where they are, and are not the repository's to delete."""

_Columns = dict[str, list[MetadataValue]]


class _Work(NamedTuple):
    """What is to be registered.

    Attributes
    ----------
    new, lacking
        As the registry takes them.
    metadata : tuple
        Of the new ones and of the others.
    """

    new: list[NewDataset]
    lacking: list[Lacking]
    metadata: tuple[_Columns, _Columns]


class Importer(Ingester):
    """Imports datasets; what it does with files is the `Ingester`'s."""

    async def load(
        self, repository: Repository, request: ImportDatasets, fds: Sequence[int], *, same_user: bool
    ) -> bytes:
        """Import, or only look; give how each dataset stood before, see `Standings`.

        Raises
        ------
        ConflictError
            If the repository has one of the ids, or the run one of the data ids, with another meaning.
        """
        _check(request)
        standings = await self._repositories.queries.call(partial(repository.registry.imports.standings, request))
        if request.check:
            return standings
        wanted = [
            number
            for number, (item, standing) in enumerate(zip(request.items, standings, strict=True))
            if standing == IS_NEW or (standing != IS_STORED and item.path)
        ]
        if not wanted:
            return standings
        prepared = await self._prepare(repository, request, wanted)
        places = list(dict.fromkeys(item.path for item in request.items if item.path))
        needed = dict.fromkeys(request.items[number].path for number in wanted if request.items[number].path)
        numbers = [number for number, path in enumerate(places) if path in needed]
        sources = await self._measure(repository, request, places, numbers, fds, same_user=same_user)
        files = self._files(repository, request, prepared, wanted, dict(zip(needed, sources, strict=True)))
        work = _work(request, prepared, wanted, standings, files)
        register = partial(self._record, repository, request, work)
        if needed and request.transfer not in STAYING:
            stored = _stored(request, prepared, wanted, files)
            await self._take_over(repository, request, stored, sources, register, verb="import")
        else:
            await register()
        return standings

    async def _prepare(self, repository: Repository, request: ImportDatasets, wanted: list[int]) -> PreparedIngest:
        if any(request.items[number].path for number in wanted):
            repository.origin.require_online(request.run)
        chosen = [request.items[number] for number in wanted]
        prepare = partial(
            repository.registry.prepare_ingest,
            request.dataset_type,
            request.run,
            request.dimensions,
            [one.values for one in chosen],
            [extension_of(one.path) for one in chosen],
        )
        queries = self._repositories.queries
        return await with_free_names(repository, queries, partial(queries.call, prepare))

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
        """Measure those of the files whose numbers are given, in their order."""
        in_place = request.transfer == "in_place"
        if not in_place and not same_user and len(fds) != len(places):
            raise InvalidRequestError("an import needs a readable descriptor for each file")
        paths = keys_in_place(repository, places) if in_place else places
        if in_place and not isinstance(repository.backend, LocalPlacement):
            return await self._measure_remote(repository, [paths[number] for number in numbers])
        return await self._measure_local(repository, paths, fds, numbers, in_place=in_place)

    def _files(
        self,
        repository: Repository,
        request: ImportDatasets,
        prepared: PreparedIngest,
        wanted: list[int],
        sources: Mapping[str, SourceFile],
    ) -> list[StoredFile]:
        """Describe the file of each dataset; those of one file share what is stored for the first of them."""
        in_place = request.transfer == "in_place"
        formatter = request.formatter or prepared.form.formatter
        now = time.time_ns()
        nothing = StoredFile(path="", size_bytes=0, hash="", formatter="", ingest_ns=now)
        made: dict[str, StoredFile] = {"": nothing}
        keys = dict(zip(sources, keys_in_place(repository, list(sources)), strict=True)) if in_place else {}
        for number, key in zip(wanted, prepared.paths, strict=True):
            path = request.items[number].path
            if path not in made:
                source = sources[path]
                made[path] = StoredFile(
                    path=keys[path] if in_place else key,
                    size_bytes=source.size_bytes,
                    hash=source.hash,
                    formatter=formatter,
                    ingest_ns=now,
                )
        return [made[request.items[number].path] for number in wanted]

    async def _record(self, repository: Repository, request: ImportDatasets, work: _Work) -> None:
        with trio.CancelScope(shield=True):
            await self._repositories.queries.call(
                partial(
                    repository.registry.imports.insert,
                    request.run,
                    request.dataset_type,
                    work.new,
                    work.lacking,
                    work.metadata,
                    in_place=request.transfer in STAYING,
                )
            )
        for _, _, file in work.new:
            repository.origin.absent.forget(file.path)
        for _, file in work.lacking:
            repository.origin.absent.forget(file.path)


def _stored(
    request: ImportDatasets, prepared: PreparedIngest, wanted: list[int], files: list[StoredFile]
) -> list[NewFile]:
    """Give the datasets that files are stored for, one for each file."""
    found: dict[str, NewFile] = {}
    for number, values, file in zip(wanted, prepared.values, files, strict=True):
        if file.path:
            id_ = request.ids[16 * number : 16 * number + 16]
            found.setdefault(request.items[number].path, NewFile(id_, values, file))
    return list(found.values())


def _check(request: ImportDatasets) -> None:
    if not request.items or len(request.items) > MAX_ITEMS:
        raise InvalidRequestError(f"one request imports 1 to {MAX_ITEMS} datasets, not {len(request.items)}")
    if len(request.ids) != 16 * len(request.items):
        raise InvalidRequestError(f"{len(request.ids)} bytes are no ids of {len(request.items)} datasets")
    check_collection_name(request.run)


def _work(
    request: ImportDatasets,
    prepared: PreparedIngest,
    wanted: list[int],
    standings: bytes,
    files: list[StoredFile],
) -> _Work:
    new: list[NewDataset] = []
    lacking: list[Lacking] = []
    chosen: tuple[list[int], list[int]] = ([], [])
    for number, values, file in zip(wanted, prepared.values, files, strict=True):
        id_ = request.ids[16 * number : 16 * number + 16]
        if standings[number] == IS_NEW:
            new.append((id_, values, file))
            chosen[0].append(number)
        else:
            lacking.append(Lacking(id_, file))
            chosen[1].append(number)
    if any(len(column) != len(request.items) for column in request.metadata.values()):
        raise InvalidRequestError("the columns of metadata do not have one value for each dataset")
    metadata = [
        check_columns(
            prepared.dataset_type.metadata,
            {name: [column[number] for number in numbers] for name, column in request.metadata.items()},
            [request.items[number].path for number in numbers],
        )
        for numbers in chosen
    ]
    return _Work(new, lacking, (metadata[0], metadata[1]))
