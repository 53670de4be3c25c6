"""Deleting datasets: the registry decides, then the files go (docs/decisions/0065)."""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import trio

from pantry.backends.admission import Admission
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.registry.file_marks import FileBeingRemovedError
from pantry.daemon.registry.removed_files import ABANDONED_NS, RemovedFile
from pantry.daemon.registry.removing import Removal, no_such_datasets
from pantry.daemon.repositories.removals import Removals
from pantry.daemon.repositories.repository import Repository
from pantry.errors import BackendError, DatasetNotFoundError, PantryError, TransientBackendError

T = TypeVar("T")

_PARALLEL_DELETIONS = 8
SLICE = 256
"""Files that are given to this daemon at once."""

SLICE_S = ABANDONED_NS / 1e9 / 10
"""How long after that the deletion of one of them may begin, in seconds: others may have them after ten times that."""

NOBODY = bytes(16)
"""In place of a dataset's id in the target of a removal."""

log = logging.getLogger(__name__)


WRITE_S = 5.0
"""How long one pass waits in all, in seconds, for other writes of its names to end."""


class Retry(Protocol):
    """Goes on with a removal; see `pantry.daemon.datasets.retrying`."""

    def __call__(self, intent: Intent, *, at_once: bool) -> None:
        """Begin now, or after a while."""
        ...


class Left(NamedTuple):
    """Files of removed datasets that could not be deleted.

    Attributes
    ----------
    files : int
        How many, of all that this daemon is to delete in a repository.
    reason : str
        Why the first could not.
    tokens : frozenset of str
        Of which removals.
    """

    files: int = 0
    reason: str = ""
    tokens: frozenset[str] = frozenset()


async def delete_files(repository: Repository, queries: Admission) -> Left:
    """Delete the files of removed datasets and free their names; say which of this daemon's could not be deleted.

    If the storage cannot be reached no more is tried. Cancelled, it leaves what is not deleted yet.

    Raises `PantryError` if the registry cannot be asked.
    """
    registry, removals = repository.registry, repository.removals
    # One after the other: who comes second finds what the first has left.
    async with removals.deleting:
        deletion = _Deletion(repository, queries)
        while not deletion.stopped:
            # Before the files are given to this daemon: within this time they are nobody else's.
            until_s = _clock_s() + SLICE_S
            claim = partial(registry.claim_removed_files, removals.wanted(), removals.claim)
            files = await queries.call(partial(claim, after=deletion.last, count=SLICE))
            if files:
                await deletion.run(files, until_s)
            if len(files) < SLICE and (not files or deletion.last == files[-1].path):
                break
        if deletion.failure is None:
            return Left()
        left = await queries.call(partial(registry.count_removed_files, removals.wanted()))
    return Left(sum(left.values()), deletion.failure.message, frozenset(left))


def _clock_s() -> float:
    # It goes on while the machine is suspended.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Deletion:
    """One pass over the files to be deleted.

    Attributes
    ----------
    last : str
        Path of the last file that was tried.
    failure : PantryError or None
        Why the first that failed did.
    stopped : bool
        Whether the storage cannot be reached.
    """

    def __init__(self, repository: Repository, queries: Admission) -> None:
        self.last = ""
        self.failure: PantryError | None = None
        self.stopped = False
        self._waits_until = math.inf
        self._repository = repository
        self._queries = queries

    async def run(self, files: Sequence[RemovedFile], until_s: float) -> None:
        """Delete files in their order, begin none after a time, and free the names of those that are gone."""
        gone: list[RemovedFile] = []
        following = iter(files)

        async def work() -> None:
            for file in following:
                self.last = file.path
                if await self._delete(file.path):
                    gone.append(file)
                if self.stopped or _clock_s() > until_s:
                    return

        try:
            async with trio.open_nursery() as nursery:
                for _ in range(min(_PARALLEL_DELETIONS, len(files))):
                    nursery.start_soon(work)
        finally:
            if gone:
                with trio.CancelScope(shield=True):
                    await self._queries.call(partial(self._repository.registry.forget_removed, gone))

    async def _delete(self, path: str) -> bool:
        names = self._repository.names
        if names.is_written(path):
            # Mostly a put that comes too late, and will soon be told so.
            self._waits_until = min(self._waits_until, trio.current_time() + WRITE_S)
            with trio.move_on_at(self._waits_until):
                await names.until_written(path)
        with names.deleting(path) as is_free:
            try:
                if not is_free:
                    raise BackendError(f"another write of {path} is under way")
                await self._repository.backend.delete(path)
            except PantryError as exc:
                self.failure = self.failure or exc
                self.stopped = self.stopped or isinstance(exc, TransientBackendError)
                return False
        return True


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
    retry : callable
        Goes on with a removal for as long as it takes.
    """

    def __init__(self, cache: ObjectCache, journal: Journal, queries: Admission, retry: Retry) -> None:
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
        removals = repository.removals
        # From here to the registry's answer it is done, whoever waits for it.
        with trio.CancelScope(shield=True):
            removals.tokens.add(token)
            try:
                remove = partial(repository.registry.remove_datasets, ids, token, missing_ok=missing_ok, spared=spared)
                removal = await self._queries.call(remove)
            except BaseException as exc:
                self._after_failure(removals, intent, exc)
                raise
        for file in removal.removed:
            self._cache.evict_one(repository.object_id(file))
        return removal, await self._delete_files(repository, intent, len(removal.removed))

    def _record(self, repository: str, ids: frozenset[bytes], intent: Intent) -> None:
        """Make the intent durable, before the others that know of these datasets; for a worker thread."""
        self._journal.record_all([*self._journal.without(repository, ids), intent])

    def _after_failure(self, removals: Removals, intent: Intent, exc: BaseException) -> None:
        if isinstance(exc, DatasetNotFoundError):
            # Nothing was committed.
            removals.tokens.discard(intent.token)
            self._journal.clear(intent.token)
            return
        # It may have committed, and the answer was lost.
        self._retry(intent, at_once=False)

    async def _delete_files(self, repository: Repository, intent: Intent, files: int) -> Left:
        try:
            left = await delete_files(repository, self._queries)
        except PantryError as exc:
            left = Left(files, exc.message, frozenset([intent.token]))
        except BaseException:
            # Nobody waits for it any more.
            self._retry(intent, at_once=True)
            raise
        if left.files:
            log.warning("%d files of deleted datasets of %s are left: %s", left.files, repository.name, left.reason)
        if intent.token in left.tokens:
            self._retry(intent, at_once=False)
        else:
            repository.removals.tokens.discard(intent.token)
            self._journal.clear(intent.token)
        return left
