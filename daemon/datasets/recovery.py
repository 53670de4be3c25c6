"""Undoing the writes that a crash cut off, and finishing the removals."""

from __future__ import annotations

import logging
from functools import partial
from typing import NamedTuple
from uuid import UUID

import trio

from pantry.daemon.datasets.removing import delete_files
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.errors import PantryError, RepositoryNotFoundError, TransientBackendError

RETRY_S = 30.0
log = logging.getLogger(__name__)


class _Standing(NamedTuple):
    """A target, and whether the registry has the dataset that this write registered."""

    target: Target
    repository: Repository
    is_ours: bool


async def undo_intent(repositories: Repositories, intent: Intent) -> None:
    """Remove what is left of a write, unless every registry committed its part; or finish a removal.

    Idempotent; raises if a storage or a registry cannot be asked, and is then to be called again.
    """
    if intent.removal:
        await _finish_removal(repositories, intent)
        return
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


async def _finish_removal(repositories: Repositories, intent: Intent) -> None:
    (target,) = intent.targets
    try:
        repository = await repositories.get(target.repository)
    except RepositoryNotFoundError:
        log.warning("the removal %s was from a repository that is gone: %s", intent.token, target.repository)
        return
    repository.removals.add(intent.token)
    left = await delete_files(repository, repositories.queries)
    if left.files:
        raise TransientBackendError(left.reason)
    repository.removals.discard(intent.token)


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


async def recover(journal: Journal, repositories: Repositories) -> list[Intent]:
    """Undo every write that the journal knows as cut off, and finish every removal; return those left to do."""
    left = []
    for intent in journal.pending():
        try:
            await undo_intent(repositories, intent)
        except PantryError as exc:
            log.warning("%s: %s", _not_yet(intent), exc.message)
            left.append(intent)
        else:
            journal.clear(intent.token)
    return left


async def recover_later(journal: Journal, repositories: Repositories, left: list[Intent]) -> None:
    """Try again, for as long as it takes, what `recover` could not undo."""
    while left:
        await trio.sleep(RETRY_S)
        still = []
        for intent in left:
            try:
                await undo_intent(repositories, intent)
            except PantryError as exc:
                log.warning("%s: %s", _not_yet(intent), exc.message)
                still.append(intent)
            else:
                journal.clear(intent.token)
        left = still


def _not_yet(intent: Intent) -> str:
    if intent.removal:
        return f"files of deleted datasets of {intent.targets[0].repository} cannot be deleted yet"
    return f"the write {intent.token} cannot be undone yet"
