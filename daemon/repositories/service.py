"""Repositories by their names: who may read or write which, and which are open."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from pantry.backends.admission import Admission
from pantry.daemon.cache.counters import Counters
from pantry.daemon.config import DaemonConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.registry.gen3 import refuse_to_write
from pantry.daemon.repositories import attaching
from pantry.daemon.repositories.access import AccessRules, being_removed, unknown_repository
from pantry.daemon.repositories.chains import SEPARATOR, RepositoryChain, flatten
from pantry.daemon.repositories.opening import Opener
from pantry.daemon.repositories.removals import Removals
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.roots import absolute_root
from pantry.daemon.repositories.site_index import Attachment, Registration, SiteIndex
from pantry.daemon.repositories.views import RepositoryViews
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.storage import Storage
from pantry.errors import (
    ConflictError,
    InvalidRequestError,
    PantryError,
    PermissionDeniedError,
    RepositoryNotFoundError,
)
from pantry.model.repository import check_repository_name
from pantry.wire.operations import AttachRepository

log = logging.getLogger(__name__)


class Repositories:
    """All repositories of the site index, each opened when first asked for.

    Parameters
    ----------
    config : DaemonConfig
        State directory, storage options, administrators.
    transfers, queries : Admission
        Let calls to storage services and registries into threads.
    held : HeldCredentials
        Users' own credentials.
    counters : Counters, optional
        Where requests to storage services are counted.
    offline : Callable[[], bool], optional
        Whether no origin may be asked; else as the configuration says.

    Attributes
    ----------
    queries : Admission
        As given.
    index : SiteIndex
        What is registered.
    storage : Storage
        Makes the origins of roots.
    opener : Opener
        Opens what is not open yet.
    views : RepositoryViews
        What users see of repositories that are read with their own rights.
    """

    def __init__(
        self,
        config: DaemonConfig,
        *,
        transfers: Admission,
        queries: Admission,
        held: HeldCredentials,
        counters: Counters | None = None,
        offline: Callable[[], bool] | None = None,
    ) -> None:
        self._config = config
        self.queries = queries
        is_offline = offline or (lambda: config.cache.offline)
        self.storage = Storage(config, transfers, counters or Counters(), is_offline, held)
        self.opener = Opener(config, transfers=transfers, queries=queries, storage=self.storage, offline=is_offline)
        self.views = RepositoryViews(
            held, lambda one, uid: self.opener.origin_for(one.root, one.options, uid), is_offline
        )
        configured = {
            name: Registration(root=one.root, registry=one.registry, chain=one.chain)
            for name, one in config.repositories.items()
        }
        self.index = SiteIndex(config.state_directory, configured)
        self._open: dict[str, Repository] = {}
        self._opening: dict[str, trio.Lock] = {}
        self._removals: dict[str, Removals] = {}

    async def aclose(self) -> None:
        """Close every registry and backend."""
        for repository in self._open.values():
            await trio.to_thread.run_sync(repository.registry.close)
            await repository.origin.aclose()
        self._open.clear()
        await self.views.aclose()

    async def get(self, name: str) -> Repository:
        """Return a repository by name, opening it if need be; nothing is checked for the asking user.

        Raises
        ------
        PermissionDeniedError
            It is read with users' own rights only.
        """
        if (found := self._open.get(name)) is not None:
            return found
        if self.is_chain(name):
            raise InvalidRequestError(
                f"{name!r} is a chain of repositories, and this is done with one at a time",
                hint=f"name one of {', '.join(self._members(name))}",
            )
        registration = self.index.get(name)
        if registration is None:
            raise unknown_repository(name)
        if registration.remains is not None:
            raise being_removed(name)
        lock = self._opening.setdefault(name, trio.Lock())
        async with lock:
            if (found := self._open.get(name)) is None:
                found = self._opened(name, await self.opener.open(name, registration))
            return found

    def _opened(self, name: str, repository: Repository) -> Repository:
        repository.removals = self.removals_from(name)
        self._open[name] = repository
        return repository

    def removals_from(self, name: str) -> Removals:
        """Return the removals of datasets from a repository by its name, which need not be open."""
        return self._removals.setdefault(name, Removals())

    async def readable(self, name: str, who: Identity) -> Repository:
        """Return a repository that ``who`` may read, or raise."""
        repository = await self.seen_by(name, who)
        repository.access.require_read(who, name)
        await self._require_finished(repository)
        return repository

    async def seen_by(self, name: str, who: Identity) -> Repository:
        """Return a repository by name, or the user's view of it; its rules are not asked."""
        if name in self._open:
            return self._open[name]
        registration = self.index.get(name)
        is_own = registration is not None and not registration.chain and self.storage.is_for_each(registration.root)
        if registration is None or not is_own or registration.attachment is not None:
            return await self.get(name)
        assemble = partial(self.opener.open_described, name, registration)
        return await self.views.get(name, registration, who.uid, assemble)

    async def _require_finished(self, repository: Repository) -> None:
        registry = repository.registry
        if registry.is_being_removed:
            raise being_removed(repository.name, registry.keeps_files_of)
        if registry.is_unfinished and await self.queries.call(registry.still_unfinished):
            raise RepositoryNotFoundError(
                f"{repository.name!r} is a subset that was not made to its end",
                hint="run `pantry repo subset` again with the same arguments: it goes on where it was cut off",
            )

    async def readable_all(self, name: str, who: Identity) -> Repository | RepositoryChain:
        """Return a repository or a chain of them that ``who`` may read, or raise."""
        if name in self._open or not self.is_chain(name):
            return await self.readable(name, who)
        members = [await self.readable(one, who) for one in self._members(name)]
        return RepositoryChain(name, members) if len(members) > 1 else members[0]

    async def readable_first(self, name: str, who: Identity) -> Repository:
        """Return a repository that ``who`` may read, of a chain the first, or raise; no attached one."""
        repository = await self.readable(self._members(name)[0] if self.is_chain(name) else name, who)
        if repository.is_attached:
            refuse_to_write()
        return repository

    def is_chain(self, name: str) -> bool:
        """Whether a name means several repositories."""
        registration = self.index.get(name)
        return SEPARATOR in name or (registration is not None and bool(registration.chain))

    def _members(self, name: str) -> list[str]:
        def children(one: str) -> tuple[str, ...]:
            registration = self.index.get(one)
            return registration.chain if registration is not None else ()

        return flatten(name, children)

    async def writable(self, name: str, who: Identity, *, unfinished: bool = False) -> Repository:
        """Return a repository that ``who`` may write to, or raise; of a chain that is the first.

        With ``unfinished`` also one that is still being filled.
        """
        repository = await self.seen_by(self._members(name)[0] if self.is_chain(name) else name, who)
        repository.access.require_write(who, name)
        if repository.uid is not None:
            raise PermissionDeniedError(
                f"the repository {name!r} is only read here, with the rights of each user",
                hint="put datasets into another repository; a chain of both is read as one",
            )
        if repository.is_attached:
            refuse_to_write()
        if not repository.backend.capabilities.writable:
            raise PermissionDeniedError(
                f"the repository {name!r} is only read here: its storage is {repository.backend.location}",
                hint="put datasets into another repository; a chain of both is read as one",
            )
        if not unfinished or repository.registry.is_being_removed:
            await self._require_finished(repository)
        return repository

    async def removable(self, name: str, who: Identity) -> Repository:
        """Return a repository that ``who`` may remove, or raise."""
        repository = await self.seen_by(name, who)
        repository.access.require_owner(who, name)
        if not repository.is_attached:
            if repository.uid is not None or not repository.backend.capabilities.writable:
                raise PermissionDeniedError(f"the repository {name!r} is only read here, so that its files stay")
            repository.origin.require_online(name)
        return repository

    async def forget(self, name: str) -> None:
        """Close a repository; whoever names it next opens it anew, if it is registered."""
        repository = self._open.pop(name, None)
        if repository is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(repository.registry.close)
                await repository.origin.aclose()

    async def all_readable(self, who: Identity) -> list[Repository]:
        """Return every repository that ``who`` may read; one that cannot be opened is logged and left out."""
        found = []
        for name in self.index.names():
            known = self.index.get(name)
            if self.is_chain(name) or (known is not None and known.remains is not None):
                continue
            try:
                repository = await self.seen_by(name, who)
            except PantryError as exc:
                registration = self.index.get(name)
                is_own = registration is not None and self.storage.is_for_each(registration.root)
                how = logging.DEBUG if is_own else logging.WARNING
                log.log(how, "repository %s cannot be opened: %s", name, exc.message)
                continue
            if repository.access.may_read(who) and not repository.registry.is_unfinished:
                found.append(repository)
        return found

    def opened(self) -> list[Repository]:
        """Return the repositories that are open, and users' views of them."""
        return [*self._open.values(), *self.views.opened()]

    async def attach(self, request: AttachRepository, who: Identity) -> Repository:
        """Register a repository of the Gen3 Butler, to be read where it is.

        Raises
        ------
        PermissionDeniedError
            ``who`` is no administrator of this daemon.
        ConflictError
            The name is taken.
        RepositoryNotFoundError, ConfigError
            There is none, or one that cannot be read.
        """
        name = self.may_register(request.name, who)
        directory, key = attaching.split_configuration(request.configuration)
        root = absolute_root(directory)
        origin = self.opener.origin_for(root, request.storage_options)
        try:
            configuration = await attaching.read_gen3_configuration(origin.primary, key)
        finally:
            await origin.aclose()
        attachment = Attachment(
            uuid=attaching.new_uuid(),
            configuration=configuration,
            access=AccessRules(owner=who.user_name, readers=request.readers),
        )
        registration = Registration(
            root=root, registry=request.registry, options=request.storage_options, attachment=attachment
        )
        lock = self._opening.setdefault(name, trio.Lock())
        async with lock:
            repository = await self.opener.open_attached(name, registration, attachment)
            try:
                self.index.add(name, registration)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(repository.registry.close)
                    await repository.origin.aclose()
                raise
            return self._opened(name, repository)

    async def chain(self, name: str, members: Sequence[str], who: Identity) -> RepositoryChain:
        """Register a chain of repositories by a name.

        Raises
        ------
        PermissionDeniedError
            ``who`` is no administrator of this daemon, or may not read one of them.
        ConflictError
            The name is taken.
        """
        name = self.may_register(name, who)
        found = await self.readable_all(SEPARATOR.join(members), who)
        if isinstance(found, Repository):
            raise InvalidRequestError(f"a chain is of two repositories at least, not of {found.name!r} alone")
        self.index.add(name, Registration(root="", chain=tuple(members)))
        return RepositoryChain(name, found.members)

    async def all_chains(self, who: Identity) -> list[RepositoryChain]:
        """Return every registered chain whose repositories ``who`` may read."""
        found = []
        for name in filter(self.is_chain, self.index.names()):
            try:
                chain = await self.readable_all(name, who)
            except PantryError as exc:
                log.info("the chain %s cannot be read: %s", name, exc.message)
                continue
            if isinstance(chain, RepositoryChain):
                found.append(chain)
        return found

    @asynccontextmanager
    async def registering(self, name: str) -> AsyncIterator[None]:
        """Let nobody else register or open a repository by this name."""
        async with self._opening.setdefault(name, trio.Lock()):
            yield

    def adopt(self, name: str, registration: Registration, repository: Repository) -> None:
        """Register a repository that `Opener.assemble` gave."""
        self.index.add(name, registration)
        self.opener.remembered.store(registration.root, repository.description)
        self._opened(name, repository)

    def may_register(self, name: str, who: Identity) -> str:
        """Check that ``who`` may register a repository by a name, and that it is free."""
        if who.uid not in (0, os.geteuid()) and not who.matches(self._config.administrators):
            raise PermissionDeniedError(
                f"user {who.user_name} may not create or attach repositories with this daemon",
                hint="its administrator can list you under 'administrators' in its configuration",
            )
        name = check_repository_name(name)
        if self.index.get(name) is not None:
            raise ConflictError(f"a repository is registered by the name {name!r} already", hint="choose another name")
        return name
