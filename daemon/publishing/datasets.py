"""Datasets as the publisher needs them: from the registries, through the cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import trio

from pantry.daemon.datasets.holding import hold
from pantry.daemon.datasets.opening import Opener
from pantry.daemon.prefixes.service import Prefixes
from pantry.daemon.publishing.documents import Opened
from pantry.daemon.publishing.outbox import NewEntry
from pantry.daemon.publishing.target import Target
from pantry.daemon.registry.references import reference_in
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.server.identity import Identity, identity_of
from pantry.errors import (
    DatasetNotFoundError,
    InvalidRequestError,
    PermissionDeniedError,
    PublishError,
)
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.remote_files import remote_file


class PublishableDatasets:
    """Finds and opens datasets for the publisher.

    Parameters
    ----------
    repositories : Repositories
        Where they are.
    opener, prefixes : Opener, Prefixes
        By which they are read.
    """

    def __init__(self, repositories: Repositories, opener: Opener, prefixes: Prefixes) -> None:
        self._repositories = repositories
        self._opener = opener
        self._prefixes = prefixes

    async def open(self, repository: str, id_: UUID, uid: int) -> Opened:
        """Open a dataset that a user wants to be published; the caller closes its descriptor.

        Raises
        ------
        DatasetNotFoundError
            It is not registered, or has no file.
        PermissionDeniedError
            It is in a view, and the user may not read the repository that holds the file.
        PublishError
            Its file lies in another archive.
        """
        holder = await self._repositories.get(repository)
        ref, file = await self._find(holder, id_)
        if reference_in(file.path) is not None:
            who = await trio.to_thread.run_sync(identity_of, uid)

            async def look_up(other: Repository, id_: UUID) -> StoredFile:
                return (await self._find(other, id_))[1]

            holder, file = await hold(self._repositories, holder, id_, file, who, look_up)
        if (remote := remote_file(file.path)) is not None:
            raise PublishError(
                f"{ref} is not published: its file is {remote.url}",
                hint="whoever should have it can be told the URL; a subset has a copy of the file",
            )
        if file.hash:
            opened = await self._opener.open(holder, file, name=file.path, partial=False)
        else:
            _, _, opened = await self._prefixes.of_repository(holder).open(
                file.path, partial=False, name=file.path, size_bytes=file.size_bytes
            )
        return Opened(ref, repository, file, opened.fd)

    async def _find(self, repository: Repository, id_: UUID) -> tuple[DatasetRef, StoredFile]:
        found = await self._repositories.queries.call(partial(repository.registry.get_dataset, id_))
        if found.ref is None or found.file is None:
            raise DatasetNotFoundError(f"the repository {repository.name!r} has no dataset {id_} with a file")
        return found.ref, found.file

    async def exists(self, repository: str, id_: UUID) -> bool:
        """Tell whether a dataset is registered."""
        holder = await self._repositories.get(repository)
        found = await self._repositories.queries.call(partial(holder.registry.get_dataset, id_))
        return found.ref is not None

    async def entries(self, target: Target, repository: str, ids: Sequence[UUID], who: Identity) -> list[NewEntry]:
        """Check that somebody may publish datasets to a target, and describe them for the outbox.

        Raises
        ------
        PermissionDeniedError
            Not by this user.
        DatasetNotFoundError
            One of them is not registered.
        InvalidRequestError
            One of them is of a type that does not go there.
        """
        found = await self._repositories.readable_all(repository, who)
        members = [found] if isinstance(found, Repository) else found.members
        left = [one.bytes for one in dict.fromkeys(ids)]
        entries = []
        for holder in members:
            kinds = await self._repositories.queries.call(partial(holder.registry.dataset_types_of, left))
            if not kinds:
                continue
            require_publish(target, holder, who)
            for kind in {one.name for one in kinds.values()}:
                require_taken(target, kind, holder.name)
            entries += [NewEntry(target.name, id_, holder.name, kind.name, who.uid) for id_, kind in kinds.items()]
            left = [one for one in left if one not in kinds]
        if left:
            raise DatasetNotFoundError(
                f"no dataset has the id {UUID(bytes=left[0])} in {', '.join(one.name for one in members)}",
                hint="`pantry query-datasets` shows what there is",
            )
        return entries


def require_taken(target: Target, dataset_type: str, repository: str) -> None:
    """Raise unless datasets of this type may go there from this repository."""
    if not target.takes(dataset_type, repository):
        config = target.config
        only = f" from {', '.join(config.repositories)}" if config.repositories else ""
        raise InvalidRequestError(
            f"{target.name!r} does not take {dataset_type} of {repository!r}",
            hint=f"it takes {', '.join(config.dataset_types)}{only}, as its operator configured",
        )


def require_publish(target: Target, holder: Repository, who: Identity) -> None:
    """Raise unless a user who may read a repository may publish what it has."""
    if holder.uid is not None:
        raise PermissionDeniedError(
            f"datasets of {holder.name!r} are not published from here: it is read with the rights of each user",
            hint="what is published is sent by the daemon itself, later",
        )
    publishers = target.config.publishers
    if who.uid == 0 or (who.matches(publishers) if publishers else holder.access.may_write(who)):
        return
    raise PermissionDeniedError(
        f"user {who.user_name} may not publish datasets of {holder.name!r} to {target.name!r}",
        hint="its operator names those who may under 'publishers'"
        if publishers
        else f"those may who may write to {holder.name!r}, unless its operator names others under 'publishers'",
    )
