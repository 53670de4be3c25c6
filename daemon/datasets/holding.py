"""Which repository holds a dataset's file: its own, or the one that a view refers to (docs/decisions/0062-views.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

import msgspec

from pantry.daemon.registry import Registry
from pantry.daemon.registry.queries import NamedFile
from pantry.daemon.registry.references import reference_in
from pantry.daemon.repositories.holders import find_holder
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.server.identity import Identity
from pantry.errors import DatasetNotFoundError, IntegrityError, MissingDatasetTypeError, PantryError
from pantry.model.datasets import StoredFile
from pantry.model.remote_files import remote_file

LookUp = Callable[[Repository, UUID], Awaitable[StoredFile]]
"""Gives a dataset's file as its repository's registry has it, or raises `DatasetNotFoundError`."""


class Held(NamedTuple):
    """A file, and the repository whose storage it is in.

    Attributes
    ----------
    repository : Repository
        As the asking user may read it.
    file : StoredFile
        As that repository knows it.
    """

    repository: Repository
    file: StoredFile


async def hold(
    repositories: Repositories, repository: Repository, id_: UUID, file: StoredFile, who: Identity, look_up: LookUp
) -> Held:
    """Find where the file of a dataset is read from, and may be by ``who``.

    Of what a view says only the holder's UUID counts. The path is that which the holder's registry has for the dataset,
    so that no file is within reach that is no dataset there, or is no more.

    Raises
    ------
    PermissionDeniedError
        ``who`` may not read the repository that holds it.
    DatasetNotFoundError
        It is not there any more.
    IntegrityError
        The dataset of this id has another content there.
    """
    reference = reference_in(file.path)
    if reference is None:
        return Held(repository, file)
    holder = await find_holder(repositories, repository, reference.holder, who)
    try:
        there = await look_up(holder, id_)
        if reference_in(there.path) is not None:
            raise DatasetNotFoundError(f"{holder.name!r} only refers to it")
    except DatasetNotFoundError:
        raise _gone(repository, holder, id_) from None
    if there.hash != file.hash:
        raise IntegrityError(
            f"the dataset {id_} has the hash {there.hash or 'unknown'} in {holder.name!r}, and in its view "
            f"{repository.name!r} {file.hash or 'unknown'}",
            hint="it was deleted there and put again by the same id: make the view anew",
        )
    return Held(holder, there)


async def hold_each(
    repositories: Repositories, repository: Repository, files: Sequence[NamedFile], who: Identity
) -> list[Held | DatasetNotFoundError]:
    """Find where each of many files is read from, as `hold` does; of one that is not there any more give the error.

    One that has another content there is gone, too.
    """
    found: list[Held | DatasetNotFoundError] = [Held(repository, one.file) for one in files]
    groups: dict[tuple[str, str], list[int]] = {}
    for number, one in enumerate(files):
        if (reference := reference_in(one.file.path)) is not None:
            groups.setdefault((reference.holder, one.dataset_type), []).append(number)
    holders: dict[str, Repository] = {}
    for (uuid, dataset_type), numbers in groups.items():
        if uuid not in holders:
            holders[uuid] = await find_holder(repositories, repository, uuid, who)
        holder = holders[uuid]
        ids = list(dict.fromkeys(files[number].id for number in numbers))
        look_up = partial(_files_of, holder.registry, dataset_type, ids)
        there = dict(zip(ids, await repositories.queries.call(look_up), strict=True))
        for number in numbers:
            one, file = files[number], there[files[number].id]
            if file is None or reference_in(file.path) is not None or file.hash != one.file.hash:
                found[number] = _gone(repository, holder, UUID(bytes=one.id))
            else:
                found[number] = Held(holder, file)
    return found


def _files_of(registry: Registry, dataset_type: str, ids: Sequence[bytes]) -> list[StoredFile | None]:
    """Look up the files of datasets, None for those that are not there; for a worker thread."""
    try:
        table = registry.describe_files(dataset_type, ids)
    except (DatasetNotFoundError, MissingDatasetTypeError):
        # Rarely, and then one by one.
        return [registry.get_dataset(UUID(bytes=id_)).file for id_ in ids]
    columns = (table.paths, table.sizes, table.hashes, table.formatters, table.ingest_ns)
    files = [
        StoredFile(path=path, size_bytes=size_bytes, hash=hash_, formatter=formatter, ingest_ns=ingest_ns)
        for path, size_bytes, hash_, formatter, ingest_ns in zip(*columns, strict=True)
    ]
    return [file if file.path else None for file in files]


def _gone(view: Repository, holder: Repository, id_: UUID) -> DatasetNotFoundError:
    return DatasetNotFoundError(
        f"the dataset {id_} of the view {view.name!r} is no longer in {holder.name!r}, where its file was",
        hint=f"it was deleted there; `pantry delete {view.name}` takes it out of the view too",
    )


def origin_of(repository: Repository, path: str) -> str:
    """Return the URI of a file of a repository's own storage, or of another archive that it refers to."""
    if (remote := remote_file(path)) is not None:
        return remote.url
    return f"{repository.backend.location.rstrip('/')}/{path}"


async def shown_paths(
    repositories: Repositories, repository: Repository, paths: Sequence[str], who: Identity
) -> list[str]:
    """Give stored paths as people may see them: references as URIs of the files, if ``who`` may read their holder.

    Files of other archives are given as their URLs.
    """
    holders: dict[str, Repository | None] = {}
    shown = []
    for path in paths:
        if (reference := reference_in(path)) is not None:
            if reference.holder not in holders:
                try:
                    holders[reference.holder] = await find_holder(repositories, repository, reference.holder, who)
                except PantryError:
                    # The registry's own answer does not depend on it; whoever reads the file is told.
                    holders[reference.holder] = None
            holder = holders[reference.holder]
            path = origin_of(holder, reference.path) if holder is not None else path
        elif (remote := remote_file(path)) is not None:
            path = remote.url
        shown.append(path)
    return shown


async def with_shown_path(
    repositories: Repositories, repository: Repository, file: StoredFile, who: Identity
) -> StoredFile:
    """Describe a file as people may see it; see `shown_paths`."""
    (path,) = await shown_paths(repositories, repository, [file.path], who)
    return file if path == file.path else msgspec.structs.replace(file, path=path)
