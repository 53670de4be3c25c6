"""What it takes to open a repository: its storage with its copies, its description, its registry."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeVar

import trio
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from pantry.backends.admission import Admission
from pantry.daemon.config import DaemonConfig
from pantry.daemon.registry import Registry
from pantry.daemon.registry.operator_tables import OperatorTable
from pantry.daemon.registry.overrides import Override
from pantry.daemon.repositories import attaching
from pantry.daemon.repositories.description import (
    DESCRIPTION_KEY,
    IN_STATE_DIRECTORY,
    RepositoryDescription,
    read_description,
)
from pantry.daemon.repositories.remembered import RememberedDescriptions
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.roots import local_directory
from pantry.daemon.repositories.site_index import Attachment, Registration
from pantry.daemon.transfers.origin import Origin
from pantry.daemon.transfers.storage import OptionValue, Storage
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    OriginUnavailableError,
    TransientBackendError,
)
from pantry.model.templates import Templates

log = logging.getLogger(__name__)

T = TypeVar("T")


class Opener:
    """Opens registered repositories: the storage, the description in it, and the registry.

    Parameters
    ----------
    config : DaemonConfig
        State directory, storage options, operators' tables and overrides.
    transfers, queries : Admission
        Let calls to storage services and registries into threads.
    storage : Storage
        Makes the origins of roots.
    offline : Callable[[], bool]
        Whether no origin may be asked.

    Attributes
    ----------
    remembered : RememberedDescriptions
        What the descriptions last were.
    """

    def __init__(
        self,
        config: DaemonConfig,
        *,
        transfers: Admission,
        queries: Admission,
        storage: Storage,
        offline: Callable[[], bool],
    ) -> None:
        self._config = config
        self._transfers = transfers
        self._queries = queries
        self._storage = storage
        self._offline = offline
        self.remembered = RememberedDescriptions(config.state_directory)

    async def in_thread(self, func: Callable[[], T]) -> T:
        """Run blocking ``func``, which talks to a storage, in a thread, at the caller's turn."""
        return await self._transfers.call(func)

    def origin_for(self, root: str, options: Mapping[str, OptionValue], uid: int | None = None) -> Origin:
        """Make the origin of a root; see `Storage.origin_for`."""
        return self._storage.origin_for(root, options, uid)

    async def open(self, name: str, registration: Registration) -> Repository:
        """Open a repository that is registered."""
        if registration.attachment is not None:
            return await self.open_attached(name, registration, registration.attachment)
        origin = self.origin_for(registration.root, registration.options)
        description = await self.describe(registration.root, origin)
        return await self.open_described(name, registration, description, origin)

    async def open_described(
        self, name: str, registration: Registration, description: RepositoryDescription, origin: Origin
    ) -> Repository:
        """Open a repository whose description has been read."""
        connect = partial(Registry.open, tables=self._tables(name))
        return await self.assemble(name, registration, description, origin, connect)

    async def open_attached(self, name: str, registration: Registration, attachment: Attachment) -> Repository:
        """Open an attached repository of the Gen3 Butler."""
        description = attaching.describe(attachment, registration)
        # First: it may be refused, and has nothing to be closed yet.
        origin = self.origin_for(attachment.configuration.storage_root(registration.root), registration.options)
        registry = await self._queries.call(
            partial(attaching.open_gen3_registry, attachment, self._tables(name), description.registry)
        )
        shown = make_url(description.registry).render_as_string(hide_password=True)
        self._override(name, registry)
        return Repository(name, description, origin, registry, registry_url=shown, attached=True)

    async def describe(self, root: str, origin: Origin) -> RepositoryDescription:
        """Read the description from the root or a copy; if none can be asked, as it was when one last could."""
        failure: BackendError | None = None
        for backend in () if self._offline() else origin.backends:
            try:
                description = await read_description(backend)
            except (TransientBackendError, BackendAccessError) as exc:
                failure = failure or exc
            else:
                self.remembered.store(root, description)
                return description
        remembered = None if isinstance(failure, BackendAccessError) else self.remembered.load(root)
        if remembered is not None:
            log.info("%s is opened with the description that it last had", origin.location)
            return remembered
        raise failure or OriginUnavailableError(
            f"{origin.location} was never opened by this daemon, which works offline",
            hint="let it ask the origin once: `cache.offline` in the daemon's configuration",
        )

    async def assemble(
        self,
        name: str,
        registration: Registration,
        description: RepositoryDescription,
        origin: Origin,
        connect: Callable[[str], Registry],
    ) -> Repository:
        """Put a repository together, which nobody finds by its name yet; see `Repositories.adopt`."""
        url, shown = await self.registry_url(name, registration, description)
        registry = await self._queries.call(partial(connect, url))
        if registry.uuid != description.uuid:
            raise ConfigError(
                f"repository {name!r}: the registry at {shown} belongs to another repository",
                hint=f"{DESCRIPTION_KEY} says uuid {description.uuid}, the registry {registry.uuid}",
            )
        self._override(name, registry)
        registry.use_formats(description.formats)
        if description.templates:
            templates = Templates(description.templates, f"{origin.location.rstrip('/')}/{DESCRIPTION_KEY}: templates")
            try:
                await self._queries.call(partial(registry.use_templates, templates))
            except BaseException:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(registry.close)
                raise
        return Repository(name, description, origin, registry, registry_url=shown)

    async def registry_url(
        self, name: str, registration: Registration, description: RepositoryDescription
    ) -> tuple[str, str]:
        """Give the URL of a repository's registry with its password, wherever that is kept, and one for people."""
        url = self._registry_url(registration, description)
        try:
            shown = make_url(url).render_as_string(hide_password=True)
        except ArgumentError:
            raise ConfigError(f"repository {name!r}: the registry's URL is not a SQLAlchemy URL") from None
        configured = self._config.repositories.get(name)
        if configured is not None and configured.registry_password is not None:
            what = f"repository {name!r}: registry_password"
            password = await self._queries.call(partial(configured.registry_password.read, what))
            url = make_url(url).set(password=password.reveal()).render_as_string(hide_password=False)
        return url, shown

    def _tables(self, name: str) -> list[OperatorTable]:
        return [
            OperatorTable(name=called, table=one.table, key=one.key, fixed=one.fixed)
            for called, one in self._config.tables.items()
            if not one.repositories or any(fnmatchcase(name, pattern) for pattern in one.repositories)
        ]

    def _override(self, name: str, registry: Registry) -> None:
        registry.override(
            [
                Override(dataset_types=one.dataset_types, collections=one.collections, within=one.within)
                for one in self._config.overrides
                if not one.repositories or any(fnmatchcase(name, pattern) for pattern in one.repositories)
            ]
        )

    def _registry_url(self, registration: Registration, description: RepositoryDescription) -> str:
        url = registration.registry or description.registry
        if url == IN_STATE_DIRECTORY:
            return "sqlite:///" + os.path.join(
                self._config.state_directory, "registries", f"{description.uuid}.sqlite3"
            )
        relative = url.removeprefix("sqlite:///")
        if relative != url and not relative.startswith("/"):
            return "sqlite:///" + os.path.join(local_directory(registration.root), relative)
        return url
