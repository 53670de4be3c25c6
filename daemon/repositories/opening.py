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
from pantry.backends.contract import ObjectBackend
from pantry.backends.loading import make_backend
from pantry.daemon.cache.counters import Counters
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
from pantry.daemon.repositories.roots import local_directory, replica_roots
from pantry.daemon.repositories.site_index import Attachment, Registration
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.origin import Origin
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    OriginUnavailableError,
    TransientBackendError,
)
from pantry.model.templates import Templates

log = logging.getLogger(__name__)

OptionValue = str | int | float | bool
T = TypeVar("T")


class Opener:
    """Opens registered repositories: the storage, the description in it, and the registry.

    Parameters
    ----------
    config : DaemonConfig
        State directory, storage options, operators' tables and overrides.
    transfers, queries : Admission
        Let calls to storage services and registries into threads.
    counters : Counters
        Where requests to storage services are counted.
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
        counters: Counters,
        offline: Callable[[], bool],
    ) -> None:
        self._config = config
        self._transfers = transfers
        self._queries = queries
        self._counters = counters
        self._offline = offline
        self.remembered = RememberedDescriptions(config.state_directory)

    def backend_for(self, root: str, options: Mapping[str, OptionValue]) -> ObjectBackend:
        """Make the backend of a root, with the configuration's options over the repository's."""
        merged: dict[str, OptionValue] = dict(options)
        matching = [one for one in self._config.storage if root.startswith(one.match)]
        for one in sorted(matching, key=lambda one: len(one.match)):
            merged.update(one.options)
        return make_backend(root, merged, self._transfers)

    async def in_thread(self, func: Callable[[], T]) -> T:
        """Run blocking ``func``, which talks to a storage, in a thread, at the caller's turn."""
        return await self._transfers.call(func)

    def origin_for(self, root: str, options: Mapping[str, OptionValue]) -> Origin:
        """Make the origin of a root: its backend, and those of its copies with the options of their own URIs."""
        replicas = [self.backend_for(root, options)]
        replicas += [self.backend_for(copy, {}) for copy in replica_roots(root, self._config.storage)]
        return Origin(
            replicas,
            self._transfers,
            absent=AbsentKeys(self._config.cache.negative_ttl_s),
            counters=self._counters,
            stall_s=self._config.limits.stall_s,
            direct=any(one.direct for one in self._config.storage if root.startswith(one.match)),
            offline=self._offline,
        )

    async def open(self, name: str, registration: Registration) -> Repository:
        """Open a repository that is registered."""
        if registration.attachment is not None:
            return await self.open_attached(name, registration, registration.attachment)
        origin = self.origin_for(registration.root, registration.options)
        description = await self.describe(registration.root, origin)
        return await self.assemble(
            name, registration, description, origin, partial(Registry.open, tables=self._tables(name))
        )

    async def open_attached(self, name: str, registration: Registration, attachment: Attachment) -> Repository:
        """Open an attached repository of the Gen3 Butler."""
        description = attaching.describe(attachment, registration)
        registry = await self._queries.call(
            partial(attaching.open_gen3_registry, attachment, self._tables(name), description.registry)
        )
        origin = self.origin_for(attachment.configuration.storage_root(registration.root), registration.options)
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
        url = self._registry_url(registration, description)
        try:
            shown = make_url(url).render_as_string(hide_password=True)
        except ArgumentError:
            raise ConfigError(f"repository {name!r}: the registry's URL is not a SQLAlchemy URL") from None
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
