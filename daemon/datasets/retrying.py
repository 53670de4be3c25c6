"""Removals whose files are not gone yet: one task for each repository goes on with them until they are."""

from __future__ import annotations

import logging

import trio

from pantry.daemon.datasets.removing import delete_files
from pantry.daemon.journal import Intent, Journal
from pantry.daemon.repositories.service import Repositories
from pantry.errors import PantryError, RepositoryNotFoundError

RETRY_S = 30.0
log = logging.getLogger(__name__)


class RemovalRetries:
    """Goes on with removals, for as long as it takes; all state is the trio thread's.

    Parameters
    ----------
    journal : Journal
        Remembers them.
    repositories : Repositories
        Which they are from.
    nursery : trio.Nursery
        Owns the tasks.
    """

    def __init__(self, journal: Journal, repositories: Repositories, nursery: trio.Nursery) -> None:
        self._journal = journal
        self._repositories = repositories
        self._nursery = nursery
        self._pending: dict[str, set[str]] = {}
        self._wake: dict[str, trio.Event] = {}

    def begin(self, intent: Intent, *, at_once: bool) -> None:
        """Go on with a removal, now or in a while."""
        (target,) = intent.targets
        name = target.repository
        # From now on whoever wants one of its names finishes it.
        self._repositories.removals_from(name).tokens.add(intent.token)
        is_new = name not in self._pending
        self._pending.setdefault(name, set()).add(intent.token)
        wake = self._wake.setdefault(name, trio.Event())
        if at_once:
            wake.set()
        if is_new:
            self._nursery.start_soon(self._go_on, name)

    async def _go_on(self, name: str) -> None:
        pending = self._pending[name]
        while pending:
            with trio.move_on_after(RETRY_S):
                await self._wake[name].wait()
            self._wake[name] = trio.Event()
            try:
                await self._try(name, pending)
            except PantryError as exc:
                log.warning("files of deleted datasets of %s cannot be deleted yet: %s", name, exc.message)
        # No await since the last look: whoever begins another one starts another task.
        del self._pending[name], self._wake[name]

    async def _try(self, name: str, pending: set[str]) -> None:
        tried = set(pending)
        try:
            repository = await self._repositories.get(name)
        except RepositoryNotFoundError:
            log.warning("datasets were deleted from a repository that is gone: %s", name)
            done = tried
        else:
            left = await delete_files(repository, self._repositories.queries)
            if left.files:
                log.warning("%d files of deleted datasets of %s are left: %s", left.files, name, left.reason)
            done = tried - left.tokens
        for token in done:
            pending.discard(token)
            self._repositories.removals_from(name).tokens.discard(token)
            self._journal.clear(token)
