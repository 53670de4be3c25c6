"""Repositories that go: files, then the registry, the description and the registration (docs/decisions/0065)."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from functools import partial

import msgspec
import trio

from pantry.backends.contract import ObjectBackend
from pantry.daemon.datasets.removing import Remover, delete_files
from pantry.daemon.registry.connecting import without_password
from pantry.daemon.registry.dropping import drop_registry
from pantry.daemon.repositories.access import AccessRules, unknown_repository
from pantry.daemon.repositories.description import DESCRIPTION_KEY, read_description
from pantry.daemon.repositories.holders import refuse_viewed
from pantry.daemon.repositories.referring import keys_below
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.roots import is_local, local_directory
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.repositories.site_index import Registration, Remains
from pantry.daemon.server.identity import Identity
from pantry.errors import ConflictError, InvalidRequestError, RepositoryNotFoundError
from pantry.wire.operations import RemovedRepository, RemoveRepository

CHUNK = 2000
MOST_COUNTED = 1000


async def remove_repository(
    repositories: Repositories, remover: Remover, asked: RemoveRepository, who: Identity
) -> RemovedRepository:
    """Remove a repository, or say what is left; asked again, it goes on.

    Raises
    ------
    PermissionDeniedError
        ``who`` is not its owner, or it is only read here.
    ConflictError
        A chain names it, a view has files in it, or views or tables of others use its registry's tables.
    """
    # One after the other: who comes second would not know which files the first was told to keep.
    async with repositories.removals_from(asked.repository).of_all:
        return await _remove(repositories, remover, asked, who)


async def _remove(
    repositories: Repositories, remover: Remover, asked: RemoveRepository, who: Identity
) -> RemovedRepository:
    name = asked.repository
    registration = repositories.index.get(name)
    if registration is None or registration.chain:
        raise unknown_repository(name) if registration is None else _no_chain(name)
    done = RemovedRepository()
    if registration.remains is not None:
        AccessRules(owner=registration.remains.owner).require_owner(who, name)
    else:
        _refuse_chained(repositories, name)
        repository = await repositories.removable(name, who)
        await refuse_viewed(repositories, name, repository.uuid)
        if repository.is_attached:
            # Nothing of it is ours but its name.
            if not asked.dry_run:
                # First, so that nobody opens it again meanwhile.
                repositories.index.remove(name)
                await repositories.forget(name)
            return done
        registry = repository.registry
        await repositories.queries.call(registry.still_unfinished)
        names = sorted({*asked.keep_files_of, *registry.keeps_files_of})
        spared = await _spared(repositories, repository, names, who)
        await repositories.queries.call(registry.require_droppable)
        if asked.dry_run:
            done = await _plan(repositories, remover, repository, spared)
            return msgspec.structs.replace(done, keep_files_of=tuple(names))
        await repositories.queries.call(partial(registry.begin_removal, names))
        done = await _remove_datasets(repositories, remover, repository, spared)
        done = msgspec.structs.replace(done, keep_files_of=tuple(names))
        if done.left:
            return done
        registration = await _leave_remains(repositories, repository, registration)
    if not asked.dry_run:
        done = msgspec.structs.replace(done, others=await _finish(repositories, name, registration))
    return done


def _no_chain(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name!r} is a chain of repositories, and one is removed at a time")


def _refuse_chained(repositories: Repositories, name: str) -> None:
    for other in repositories.index.names():
        found = repositories.index.get(other)
        if found is not None and name in found.chain:
            raise ConflictError(f"the chain {other!r} names {name!r}", hint="it could not be read without it")


async def _remove_datasets(
    repositories: Repositories, remover: Remover, repository: Repository, spared: Collection[str]
) -> RemovedRepository:
    registry, call = repository.registry, repositories.queries.call
    done = RemovedRepository()
    while rows := await call(partial(registry.stored_datasets, 0, CHUNK)):
        ids = [id_ for _, id_, _ in rows]
        removal, left = await remover.remove(repository, ids, missing_ok=True, spared=spared)
        done = RemovedRepository(
            datasets=done.datasets + removal.datasets,
            files=done.files + len(removal.removed),
            size_bytes=done.size_bytes + sum(file.size_bytes for file in removal.removed),
            kept=done.kept + removal.kept,
            left=left.files,
            reason=left.reason,
        )
        if left.files:
            return done
    # Those that an earlier attempt left.
    left = await delete_files(repository, repositories.queries)
    return msgspec.structs.replace(done, left=left.files, reason=left.reason)


async def _plan(
    repositories: Repositories, remover: Remover, repository: Repository, spared: Collection[str]
) -> RemovedRepository:
    done, last = RemovedRepository(), 0
    while rows := await repositories.queries.call(partial(repository.registry.stored_datasets, last, CHUNK)):
        last = rows[-1][0]
        ids = [id_ for _, id_, _ in rows]
        removal = await remover.plan(repository, ids, missing_ok=True, spared=spared)
        done = RemovedRepository(
            datasets=done.datasets + len(rows),
            files=done.files + len(removal.removed),
            size_bytes=done.size_bytes + sum(file.size_bytes for file in removal.removed),
            kept=done.kept + removal.kept,
        )
    return done


async def _spared(
    repositories: Repositories, repository: Repository, names: Sequence[str], who: Identity
) -> frozenset[str]:
    """Give the keys of those files that other repositories refer to: in place, or by symbolic links."""
    found: set[str] = set()
    for name in names:
        try:
            other = await repositories.readable(name, who)
        except RepositoryNotFoundError as exc:
            if name not in repository.registry.keeps_files_of:
                raise
            raise RepositoryNotFoundError(
                f"files of {name!r} were to be kept when the removal of {repository.name!r} began, and now: "
                f"{exc.message}",
                hint="register it by this name and go on; if there is none any more, an empty one does",
            ) from None
        if other is repository or other.is_attached:
            what = "itself" if other is repository else "an attached repository, whose files are not known here"
            raise InvalidRequestError(f"files of {name!r} cannot be kept: it is {what}")
        last = 0
        while rows := await repositories.queries.call(partial(other.registry.stored_datasets, last, CHUNK)):
            last = rows[-1][0]
            paths = [path for _, _, path in rows]
            roots = (repository.backend.location, other.backend.location)
            found.update(await repositories.opener.in_thread(partial(keys_below, *roots, paths)))
    return frozenset(found)


async def _leave_remains(
    repositories: Repositories, repository: Repository, registration: Registration
) -> Registration:
    """Remember durably that there is nothing left to look up in the registry, and close it."""
    url = repository.registry.url
    shown = without_password(url)
    remains = Remains(registry=shown, uuid=repository.uuid, owner=repository.access.owner, has_password=shown != url)
    registration = msgspec.structs.replace(registration, remains=remains)
    if repositories.index.configured(repository.name) is not None:
        # What it says of the registry is not written down a second time: it may hold a password.
        registration = msgspec.structs.replace(registration, registry="")
    repositories.index.replace(repository.name, registration)
    await repositories.forget(repository.name)
    return registration


async def _finish(repositories: Repositories, name: str, registration: Registration) -> int:
    """Remove what is left when all files are gone; give how many files that are not Pantry's are in the root."""
    remains = registration.remains
    assert remains is not None  # noqa: S101 - only then
    url = await _registry_url(repositories, name, registration, remains)
    if url:
        with trio.CancelScope(shield=True):
            await repositories.queries.call(partial(drop_registry, url, remains.uuid))
    root = registration.root
    directory = local_directory(root) if is_local(root) else ""
    is_there = not directory or await repositories.opener.in_thread(partial(os.path.isdir, directory))
    others = await _clear_root(repositories, registration, remains) if is_there else 0
    if directory and not others:
        await repositories.opener.in_thread(partial(_remove_empty, directory))
    repositories.opener.remembered.forget(root)
    repositories.index.remove(name)
    return others


async def _registry_url(repositories: Repositories, name: str, registration: Registration, remains: Remains) -> str:
    """Give the URL of the registry that is to be dropped, with its password; empty if it is dropped already."""
    if not remains.has_password:
        return remains.registry
    origin = repositories.opener.origin_for(registration.root, registration.options)
    try:
        description = await read_description(origin.primary)
    except RepositoryNotFoundError:
        # It goes after the registry.
        return ""
    finally:
        await origin.aclose()
    known = repositories.index.configured(name) or registration
    return (await repositories.opener.registry_url(name, known, description))[0]


def _remove_empty(directory: str) -> None:
    with suppress(OSError):
        os.rmdir(directory)


async def _clear_root(repositories: Repositories, registration: Registration, remains: Remains) -> int:
    """Delete the description and count what is left."""
    origin = repositories.opener.origin_for(registration.root, registration.options)
    try:
        backend = origin.primary
        with suppress(RepositoryNotFoundError):
            if (await read_description(backend)).uuid == remains.uuid:
                await backend.delete(DESCRIPTION_KEY)
        return await _count(backend)
    finally:
        await origin.aclose()


async def _count(backend: ObjectBackend) -> int:
    count = 0
    async with aclosing(backend.list_keys("")) as keys:  # type: ignore[type-var]
        async for _ in keys:
            count += 1
            if count >= MOST_COUNTED:
                break
    return count
