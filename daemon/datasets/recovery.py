"""Undoing the writes that a crash cut off."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple
from uuid import UUID

import trio

from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.errors import PantryError, RepositoryNotFoundError

RETRY_S = 30.0
log = logging.getLogger(__name__)


class _Standing(NamedTuple):
    """A target, and whether the registry has the dataset that this write registered."""

    target: Target
    repository: Repository
    is_ours: bool


async def undo_intent(repositories: Repositories, intent: Intent) -> None:
    """Remove what is left of a write, unless every registry committed its part.

    Idempotent; raises if a storage or a registry cannot be asked, and is then to be called again.
    """
    standings = await _standings(repositories, intent)
    # A registry commits its part in one transaction: one of its rows proves the others, which may be deleted since.
    told = {one.repository.name for one in standings}
    finished = not intent.failed and told == {one.repository.name for one in standings if one.is_ours}
    for target, repository, is_ours in standings:
        if is_ours and not finished and target.ingest_ns:
            await repositories.queries.call(partial(repository.registry.delete_datasets, [target.dataset]))
            log.info("took back a part of a write: %s in %s", target.key, target.repository)
        elif is_ours:
            await repository.backend.settle_write(target.key, token=intent.token)
            continue
        if await repository.backend.undo_write(target.key, token=intent.token):
            log.info("undid a write that was cut off: %s in %s", target.key, target.repository)


async def _standings(repositories: Repositories, intent: Intent) -> list[_Standing]:
    found = []
    for target in intent.targets:
        try:
            repository = await repositories.get(target.repository)
        except RepositoryNotFoundError:
            log.warning("the write %s was to a repository that is gone: %s", intent.token, target.repository)
            continue
        found.append(_Standing(target, repository, await _is_ours(repositories, repository, target)))
    return found


async def _is_ours(repositories: Repositories, repository: Repository, target: Target) -> bool:
    found = await repositories.queries.call(partial(repository.registry.get_dataset, UUID(bytes=target.dataset)))
    # By its key: an import gives a file to a dataset that is registered already.
    if found.file is None or found.file.path != target.key:
        return False
    return not target.ingest_ns or found.file.ingest_ns == target.ingest_ns


async def recover(journal: Journal, repositories: Repositories, writes: Sequence[Intent]) -> list[Intent]:
    """Undo writes that were cut off; return those left to do."""
    left = []
    for intent in writes:
        try:
            await undo_intent(repositories, intent)
        except PantryError as exc:
            log.warning("the write %s cannot be undone yet: %s", intent.token, exc.message)
            left.append(intent)
        else:
            journal.clear(intent.token)
    return left


async def recover_later(journal: Journal, repositories: Repositories, left: list[Intent]) -> None:
    """Try again, for as long as it takes, what `recover` could not undo."""
    while left:
        await trio.sleep(RETRY_S)
        left = await recover(journal, repositories, left)
