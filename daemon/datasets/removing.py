"""Deleting datasets: the registry decides, then the files go (docs/decisions/0065)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import trio

from pantry.backends.admission import Admission
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.registry.removing import FileBeingRemovedError, Removal, RemovedFile, no_such_datasets
from pantry.daemon.repositories.repository import Repository
from pantry.errors import DatasetNotFoundError, PantryError, TransientBackendError

T = TypeVar("T")

_PARALLEL_DELETIONS = 8
NOBODY = bytes(16)
"""In place of a dataset's id in the target of a removal."""

log = logging.getLogger(__name__)


class Left(NamedTuple):
    """Files of removed datasets that could not be deleted.

    Attributes
    ----------
    files : int
        How many.
    reason : str
        Why the first could not.
    """

    files: int = 0
    reason: str = ""


async def delete_files(repository: Repository, queries: Admission) -> Left:
    """Delete the files of removed datasets and free their names; say which of this daemon's could not be deleted.

    Raises `PantryError` if the registry cannot be asked.
    """
    registry = repository.registry
    failed: list[PantryError] = []
    # One after the other: who comes second finds what the first has left.
    async with repository.deleting_files:
        files = await queries.call(partial(registry.removed_files, list(repository.removals)))
        gone: list[RemovedFile] = []
        limit = trio.CapacityLimiter(_PARALLEL_DELETIONS)

        async def delete(file: RemovedFile) -> None:
            async with limit:
                try:
                    await repository.backend.delete(file.path)
                except PantryError as exc:
                    failed.append(exc)
                else:
                    gone.append(file)

        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(delete, file)
        if gone:
            with trio.CancelScope(shield=True):
                await queries.call(partial(registry.forget_removed, gone))
    return Left(len(failed), failed[0].message if failed else "")


async def with_free_names(repository: Repository, queries: Admission, write: Callable[[], Awaitable[T]]) -> T:
    """Prepare a write, or do it; if files that are being deleted have the names that it wants, delete these before.

    Raises
    ------
    TransientBackendError
        They cannot be deleted now.
    """
    try:
        return await write()
    except FileBeingRemovedError:
        left = await delete_files(repository, queries)
    try:
        return await write()
    except FileBeingRemovedError as exc:
        if not left.files:
            raise
        raise TransientBackendError(
            f"{exc.message}, and this fails: {left.reason}", hint="try again when the storage answers"
        ) from None


class Remover:
    """Deletes datasets.

    Parameters
    ----------
    cache : ObjectCache
        Lets go of what they were.
    journal : Journal
        Remembers the removals whose files are not gone.
    queries : Admission
        Lets calls to registries into threads.
    retry : Callable
        Goes on with a removal for as long as it takes.
    """

    def __init__(
        self, cache: ObjectCache, journal: Journal, queries: Admission, retry: Callable[[Intent], None]
    ) -> None:
        self._cache = cache
        self._journal = journal
        self._queries = queries
        self._retry = retry

    async def plan(
        self, repository: Repository, ids: Sequence[bytes], *, missing_ok: bool, spared: Collection[str] = ()
    ) -> Removal:
        """Say what `remove` would do, and change nothing; raises as it would."""
        found = await self._queries.call(partial(repository.registry.plan_removal, ids, spared=spared))
        if found.missing and not missing_ok:
            raise no_such_datasets(found.missing, len(ids))
        return found

    async def remove(
        self, repository: Repository, ids: Sequence[bytes], *, missing_ok: bool, spared: Collection[str] = ()
    ) -> tuple[Removal, Left]:
        """Delete datasets for good, all or none, and then their files, but for those whose paths are ``spared``.

        Returns
        -------
        Removal
            What went.
        Left
            The files that could not be deleted yet; that is tried again, also after a restart.

        Raises
        ------
        DatasetNotFoundError
            One is not there; nothing was deleted.
        """
        token = uuid.uuid4().hex
        intent = Intent(token, (Target(repository.name, "", NOBODY),), removal=True)
        await trio.to_thread.run_sync(self._record, repository.name, frozenset(ids), intent)
        # From here on it is done, whoever waits for it.
        with trio.CancelScope(shield=True):
            repository.removals.add(token)
            try:
                remove = partial(repository.registry.remove_datasets, ids, token, missing_ok=missing_ok, spared=spared)
                removal = await self._queries.call(remove)
            except BaseException as exc:
                self._after_failure(repository, intent, exc)
                raise
            for file in removal.removed:
                self._cache.evict_one(repository.object_id(file))
            left = await self._delete_files(repository, intent, len(removal.removed))
        return removal, left

    def _record(self, repository: str, ids: frozenset[bytes], intent: Intent) -> None:
        """Make the intent durable, before the others that know of these datasets; for a worker thread."""
        self._journal.record_all([*self._journal.without(repository, ids), intent])

    def _after_failure(self, repository: Repository, intent: Intent, exc: BaseException) -> None:
        if isinstance(exc, DatasetNotFoundError):
            # Nothing was committed.
            repository.removals.discard(intent.token)
            self._journal.clear(intent.token)
            return
        # It may have committed, and the answer was lost.
        self._retry(intent)

    async def _delete_files(self, repository: Repository, intent: Intent, files: int) -> Left:
        try:
            left = await delete_files(repository, self._queries)
        except PantryError as exc:
            left = Left(files, exc.message)
        if left.files:
            log.warning("%d files of deleted datasets of %s are left: %s", left.files, repository.name, left.reason)
            self._retry(intent)
        else:
            repository.removals.discard(intent.token)
            self._journal.clear(intent.token)
        return left
