"""Repositories that are read with each user's own rights: a view for each user, one registry for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from pantry.daemon.credentials.held import HeldCredentials, Rights
from pantry.daemon.repositories.description import RepositoryDescription, read_description
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.site_index import Registration
from pantry.daemon.transfers.origin import Origin
from pantry.errors import BackendAccessError, BackendError, OriginUnavailableError, TransientBackendError

VIEW_S = 300.0
"""How long a user who could read a repository's description is believed to be able to, in seconds."""

AGAIN_S = 10.0
"""How long after an origin could not be asked for that it is not asked again, in seconds."""

Assemble = Callable[[RepositoryDescription, Origin], Awaitable[Repository]]


class _View(NamedTuple):
    """What one user has of a repository, and by which credentials it was proven."""

    repository: Repository
    rights: Rights
    until_s: float


class RepositoryViews:
    """The views of all users.

    Parameters
    ----------
    held : HeldCredentials
        Users' own credentials.
    origin_for : Callable
        Makes the origin of a registration for a user.
    offline : Callable[[], bool]
        Whether no origin may be asked.
    """

    def __init__(
        self,
        held: HeldCredentials,
        origin_for: Callable[[Registration, int], Origin],
        offline: Callable[[], bool],
    ) -> None:
        self._held = held
        self._origin_for = origin_for
        self._offline = offline
        self._views: dict[tuple[str, int], _View] = {}
        self._origins: dict[tuple[str, int], Origin] = {}
        self._first: dict[tuple[str, str], Repository] = {}
        self._locks: dict[tuple[str, int], trio.Lock] = {}
        self._opening: dict[str, trio.Lock] = {}

    def opened(self) -> list[Repository]:
        """Return all views."""
        return [one.repository for one in self._views.values()]

    async def aclose(self) -> None:
        """Close the registries, and all origins."""
        for repository in self._first.values():
            await trio.to_thread.run_sync(repository.registry.close)
        for origin in self._origins.values():
            await origin.aclose()
        self._first.clear()
        self._origins.clear()
        self._views.clear()

    async def get(self, name: str, registration: Registration, uid: int, assemble: Assemble) -> Repository:
        """Return a user's view of a repository.

        Parameters
        ----------
        name, registration
            Of the repository.
        uid : int
            The user.
        assemble : Callable
            Opens the registry, for the first who comes.

        Raises
        ------
        BackendError
            He has no credential for it, or cannot read its description with it.
        """
        key = (name, uid)
        view = self._present(key, registration)
        if view is not None:
            return view
        async with self._locks.setdefault(key, trio.Lock()):
            if (view := self._present(key, registration)) is not None:
                return view
            return await self._prove(key, registration, assemble)

    def _present(self, key: tuple[str, int], registration: Registration) -> Repository | None:
        # Without one there is nothing.
        self._held.for_origin(key[1], registration.root)
        view = self._views.get(key)
        if view is None or view.rights != self._origins[key].rights() or trio.current_time() >= view.until_s:
            return None
        return view.repository

    async def _prove(self, key: tuple[str, int], registration: Registration, assemble: Assemble) -> Repository:
        name, uid = key
        before = self._views.get(key)
        if (origin := self._origins.get(key)) is None:
            origin = self._origins[key] = self._origin_for(registration, uid)
        rights = origin.rights()
        try:
            description = await self._describe(origin)
        except TransientBackendError:
            # The same credential was good before, and the origin says nothing else: what is cached can be read.
            if before is None or before.rights != rights:
                raise
            self._views[key] = before._replace(until_s=trio.current_time() + AGAIN_S)
            return before.repository
        repository = await self._assembled(name, uid, description, origin, assemble)
        self._views[key] = _View(repository, rights, trio.current_time() + VIEW_S)
        return repository

    async def _describe(self, origin: Origin) -> RepositoryDescription:
        if self._offline():
            raise OriginUnavailableError(
                f"whether you may read {origin.location} cannot be asked: this node works offline",
                hint="`pantry cache offline off` ends it",
            )
        refusal: BackendError | None = None
        failure: BackendError | None = None
        for backend, serial in zip(origin.backends, origin.rights(), strict=True):
            try:
                return await read_description(backend)
            except BackendAccessError as exc:
                # That he has no credential for a copy says nothing of the root.
                refusal = refusal or (exc if serial else None)
                failure = failure or exc
            except BackendError as exc:
                failure = failure or exc
        # Who is refused by one is not believed because another is down.
        error = refusal or failure
        assert error is not None  # noqa: S101 - there is at least one replica
        raise error

    async def _assembled(
        self, name: str, uid: int, description: RepositoryDescription, origin: Origin, assemble: Assemble
    ) -> Repository:
        async with self._opening.setdefault(name, trio.Lock()):
            first = self._first.get((name, description.uuid))
            if first is None:
                first = self._first[name, description.uuid] = await assemble(description, origin)
        return first.seen_by(uid, description, origin)
