"""New repositories: empty ones, and those for a part of another one (docs/decisions/0047-subsets.md)."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
import trio
import yaml

from pantry.backends.contract import ObjectBackend
from pantry.backends.mounted import mounted_at
from pantry.daemon.registry import Registry, default_universe
from pantry.daemon.registry.connecting import without_password
from pantry.daemon.repositories.access import AccessRules
from pantry.daemon.repositories.chains import SEPARATOR, RepositoryChain
from pantry.daemon.repositories.description import (
    DESCRIPTION_KEY,
    IN_STATE_DIRECTORY,
    RepositoryDescription,
    check_repository_formats,
    dump_description,
    read_description,
)
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.roots import absolute_root, is_local, local_directory
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.repositories.site_index import Registration
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.origin import Origin
from pantry.errors import (
    BackendError,
    ConfigError,
    ConflictError,
    InvalidRequestError,
    ObjectExistsError,
    RepositoryNotFoundError,
)
from pantry.model.dimensions import DimensionUniverse
from pantry.model.formats import NO_FORMATS, Formats
from pantry.model.repository import DATA_MODEL_VERSION
from pantry.model.templates import TemplateLike, Templates
from pantry.wire.operations import BeginSubset, CreateRepository


class _Wanted(NamedTuple):
    """A repository to be made; what is not said here is as of `CreateRepository`."""

    asked: CreateRepository | BeginSubset
    name: str
    root: str
    universe: Mapping[str, Any]
    formats: Formats = NO_FORMATS
    templates: dict[str, TemplateLike] = {}
    subset_of: str = ""
    view: bool = False

    @property
    def has_registry_inside(self) -> bool:
        """Whether a registry in SQLite lies in the root; asks only the kernel."""
        # SQLite is for one host only, and loses transactions on many a shared file system (sqlite.org/useovernet.html).
        return is_local(self.root) and not mounted_at(local_directory(self.root)).is_shared

    def description(self, owner: str) -> RepositoryDescription:
        asked = self.asked
        default = "sqlite:///.pantry/registry.sqlite3" if self.has_registry_inside else IN_STATE_DIRECTORY
        return RepositoryDescription(
            version=DATA_MODEL_VERSION,
            uuid=str(uuid.uuid4()),
            registry=asked.registry or default,
            storage=asked.storage_options,
            access=AccessRules(owner=owner, readers=asked.readers, writers=asked.writers),
            formats=self.formats,
            templates=self.templates,
            subset_of=self.subset_of,
            view=self.view,
        )

    def registration(self) -> Registration:
        # A URL with a password stays in the daemon's own index, which only it can read.
        registry = self.asked.registry if "@" in self.asked.registry else ""
        return Registration(root=self.root, registry=registry, options=self.asked.storage_options)


async def create_repository(repositories: Repositories, request: CreateRepository, who: Identity) -> Repository:
    """Make a repository and register it.

    If that fails, no description and no registration remain, so that it can be tried again; a
    directory that was made, or a registry without datasets, may.

    Raises
    ------
    PermissionDeniedError
        ``who`` is no administrator of this daemon.
    ConflictError
        The name is taken, or the root holds a repository already.
    """
    name = repositories.may_register(request.name, who)
    universe = _parse_universe(request.dimensions) if request.dimensions else default_universe()
    check_repository_formats(request.formats, "formats")
    Templates(request.templates).check_fields(DimensionUniverse(universe))
    wanted = _Wanted(request, name, absolute_root(request.root), universe, request.formats, request.templates)
    return await _make(repositories, wanted, who)


async def begin_subset(repositories: Repositories, request: BeginSubset, who: Identity) -> tuple[Repository, bool]:
    """Make a repository for a part of another one, or give the one that was begun before.

    Returns
    -------
    Repository
        That nobody can read before it is finished.
    bool
        Whether it was there already.

    Raises
    ------
    PermissionDeniedError
        ``who`` is no administrator of this daemon, or may not read the source.
    ConflictError
        Another repository has the name or lies in the root.
    """
    found = await repositories.readable_all(request.source, who)
    members = found.members if isinstance(found, RepositoryChain) else (found,)
    root = absolute_root(request.root)
    _refuse_inside(root, members)
    subset_of = SEPARATOR.join(one.uuid for one in members)
    registered = repositories.index.get(request.name)
    if registered is not None:
        if registered.root == root and not registered.chain:
            there = await repositories.writable(request.name, who, unfinished=True)
            if (there.description.subset_of, there.description.view) == (subset_of, request.view):
                return there, True
        what = "view" if request.view else "subset"
        raise ConflictError(
            f"{request.name!r} is the name of another repository, and none of a {what} of {request.source!r} in {root}",
            hint="choose another name; to go on with one, give source, name and root as before",
        )
    first = members[0]
    wanted = _Wanted(
        request,
        repositories.may_register(request.name, who),
        root,
        first.registry.universe_config,
        first.description.formats,
        first.description.templates,
        subset_of,
        request.view,
    )
    try:
        return await _make(repositories, wanted, who), False
    except ConflictError:
        begun = await _take_up(repositories, wanted, who)
        if begun is None:
            raise
        return begun, True


def _refuse_inside(root: str, members: tuple[Repository, ...]) -> None:
    if not is_local(root):
        return
    for one in members:
        theirs = absolute_root(one.backend.location) if is_local(one.backend.location) else ""
        if theirs and (root + "/").startswith(theirs.rstrip("/") + "/"):
            raise InvalidRequestError(
                f"{root} is in the repository {one.name!r} itself", hint="a subset lies in a directory of its own"
            )


async def _make(repositories: Repositories, wanted: _Wanted, who: Identity) -> Repository:
    name, root = wanted.name, wanted.root
    if is_local(root):
        make = partial(_make_root, local_directory(root), with_registry=wanted.has_registry_inside)
        await repositories.opener.in_thread(make)
    description, registration = wanted.description(who.user_name), wanted.registration()
    if registration.registry:
        description = _without_password(description)
    connect = partial(_create_registry, wanted.universe, description.uuid, bool(wanted.subset_of))
    async with repositories.registering(name):
        origin = repositories.opener.origin_for(root, registration.options)
        backend = origin.primary
        await _write_description(backend, description)
        try:
            repository = await repositories.opener.assemble(name, registration, description, origin, connect)
            repositories.adopt(name, registration, repository)
        except BaseException:
            with trio.CancelScope(shield=True):
                await backend.undo_write(DESCRIPTION_KEY, token=description.uuid)
            raise
        await backend.settle_write(DESCRIPTION_KEY, token=description.uuid)
        return repository


def _make_root(directory: str, *, with_registry: bool) -> None:
    try:
        os.makedirs(os.path.join(directory, ".pantry") if with_registry else directory, exist_ok=True)
    except OSError as exc:
        raise BackendError(
            f"{directory} cannot be made: {exc.strerror}", hint="choose a root that may be written to"
        ) from None


async def _take_up(repositories: Repositories, wanted: _Wanted, who: Identity) -> Repository | None:
    """Register what a daemon that was killed had begun to make; None if something else is in the root."""
    name, registration = wanted.name, wanted.registration()
    async with repositories.registering(name):
        origin = repositories.opener.origin_for(wanted.root, registration.options)
        repository = await _begun(repositories, wanted, registration, origin, who)
        if repository is None:
            await origin.aclose()
            return None
        repositories.adopt(name, registration, repository)
        await origin.primary.settle_write(DESCRIPTION_KEY, token=repository.uuid)
        return repository


async def _begun(
    repositories: Repositories, wanted: _Wanted, registration: Registration, origin: Origin, who: Identity
) -> Repository | None:
    try:
        description = await read_description(origin.primary)
    except RepositoryNotFoundError:
        return None
    if (description.subset_of, description.view) != (wanted.subset_of, wanted.view):
        return None
    if not description.access.may_write(who):
        return None
    connect = partial(_open_or_create_registry, wanted.universe, description.uuid)
    repository = await repositories.opener.assemble(wanted.name, registration, description, origin, connect)
    if repository.registry.is_unfinished:
        return repository
    await trio.to_thread.run_sync(repository.registry.close)
    return None


def _create_registry(universe: Mapping[str, object], repository_uuid: str, unfinished: bool, url: str) -> Registry:
    path = url.removeprefix("sqlite:///")
    if path != url:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    return Registry.create(url, universe, uuid=repository_uuid, unfinished=unfinished)


def _open_or_create_registry(universe: Mapping[str, object], repository_uuid: str, url: str) -> Registry:
    try:
        return Registry.open(url)
    except RepositoryNotFoundError:
        return _create_registry(universe, repository_uuid, True, url)


def _without_password(description: RepositoryDescription) -> RepositoryDescription:
    return msgspec.structs.replace(description, registry=without_password(description.registry))


async def _write_description(backend: ObjectBackend, description: RepositoryDescription) -> None:
    body = dump_description(description)
    fd = os.memfd_create("pantry.yaml", os.MFD_CLOEXEC)
    try:
        os.write(fd, body)
        await backend.write_from(DESCRIPTION_KEY, fd, len(body), token=description.uuid)
    except ObjectExistsError:
        raise ConflictError(
            f"there is a repository at {backend.location} already", hint="choose an empty root, or attach that one"
        ) from None
    finally:
        os.close(fd)


def _parse_universe(text: str) -> Mapping[str, object]:
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError(f"dimensions: not YAML: {exc}") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("elements"), dict):
        raise ConfigError("dimensions: needs a mapping 'elements'", hint="use the form of Gen3's dimensions.yaml")
    return parsed
