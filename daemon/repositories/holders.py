"""The repositories that hold the files of a view (docs/decisions/0062-views.md)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.server.identity import Identity
from pantry.errors import ConflictError, PantryError, RepositoryNotFoundError

log = logging.getLogger(__name__)


async def find_holder(repositories: Repositories, view: Repository, uuid: str, who: Identity) -> Repository:
    """Return the repository of this UUID, as ``who`` may read it: by the name that it had, or by any other.

    Raises
    ------
    PermissionDeniedError
        ``who`` may not read it, whatever the view allows.
    RepositoryNotFoundError
        It is not registered here.
    BackendError
        It has the name that it had, and cannot be opened.
    """
    first = view.registry.holders.get(uuid, "")
    for name in dict.fromkeys((first, *repositories.index.names())):
        if not _is_one(repositories, name):
            continue
        try:
            found = await repositories.seen_by(name, who)
        except PantryError as exc:
            if name == first:
                raise
            # It may be anybody's.
            log.debug("whether %s is %s cannot be told: %s", name, uuid, exc.message)
            continue
        if found.uuid == uuid:
            return await repositories.readable(name, who)
    raise RepositoryNotFoundError(
        f"{view.name!r} is a view, and files of it are in {first[:80]!r} ({uuid[:80]}), which is not registered here",
        hint="its administrator can register it again, by any name, in the daemon's configuration under 'repositories'",
    )


async def refuse_viewed(repositories: Repositories, name: str, uuid: str) -> None:
    """Raise `ConflictError` if a registered view refers to files of a repository; what cannot be opened is left out."""
    for other in _others(repositories, name):
        try:
            found = await repositories.get(other)
            holders = await repositories.queries.call(found.registry.read_holders)
        except PantryError as exc:
            log.info("whether %s is a view of %s cannot be told: %s", other, name, exc.message)
            continue
        if uuid in holders:
            raise ConflictError(
                f"{other!r} is a view, and files of it are in {name!r}",
                hint=f"it could not be read without them: first `pantry repo remove {other}`, or make a copy of it",
            )


def _others(repositories: Repositories, name: str) -> Iterator[str]:
    for other in repositories.index.names():
        registration = repositories.index.get(other)
        # Nothing in an attached repository refers to one of ours.
        if other != name and _is_one(repositories, other) and registration and registration.attachment is None:
            yield other


def _is_one(repositories: Repositories, name: str) -> bool:
    """Whether a name is registered, and that of one repository that is whole."""
    registration = repositories.index.get(name)
    return registration is not None and not registration.chain and registration.remains is None
