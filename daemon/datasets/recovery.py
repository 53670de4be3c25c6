"""Undoing the writes that a crash cut off."""

from __future__ import annotations

import logging
from functools import partial
from uuid import UUID

import trio

from pantry.daemon.journal import Intent, Journal
from pantry.daemon.repositories.service import Repositories
from pantry.errors import PantryError, RepositoryNotFoundError

RETRY_S = 30.0
log = logging.getLogger(__name__)


async def undo_intent(repositories: Repositories, intent: Intent) -> None:
    """Remove from the storages whatever of ``intent`` the registries did not commit.

    Idempotent; raises if a storage or a registry cannot be asked, and is then to be called again.
    """
    for target in intent.targets:
        try:
            repository = await repositories.get(target.repository)
        except RepositoryNotFoundError:
            log.warning("the write %s was to a repository that is gone: %s", intent.token, target.repository)
            continue
        found = await repositories.queries.call(partial(repository.registry.get_dataset, UUID(bytes=target.dataset)))
        # By its key: an import gives a file to a dataset that is registered already.
        if found.file is not None and found.file.path == target.key:
            await repository.backend.settle_write(target.key, token=intent.token)
        elif await repository.backend.undo_write(target.key, token=intent.token):
            log.info("undid a write that was cut off: %s in %s", target.key, target.repository)


async def recover(journal: Journal, repositories: Repositories) -> list[Intent]:
    """Undo every write that the journal knows as cut off; return those that could not be undone yet."""
    left = []
    for intent in journal.pending():
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
        still = []
        for intent in left:
            try:
                await undo_intent(repositories, intent)
            except PantryError as exc:
                log.warning("the write %s still cannot be undone: %s", intent.token, exc.message)
                still.append(intent)
            else:
                journal.clear(intent.token)
        left = still
