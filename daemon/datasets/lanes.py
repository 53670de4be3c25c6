"""Small puts into local storage, committed together: one visit to a thread for all that wait.

By itself each put would visit three threads, and pay for three fsyncs. The steps and their order are
the same for a group as for one put (see `pantry.daemon.datasets.putting`).
"""

from __future__ import annotations

import logging
import queue
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial

import trio

from pantry.backends.admission import Admission, Askers, acting_uid
from pantry.backends.contract import BatchWriting, ObjectWrite
from pantry.daemon.journal import Intent, Journal
from pantry.daemon.registry import Insert, PreparedPut, PutWish
from pantry.daemon.repositories.repository import Repository
from pantry.errors import PantryError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import MetadataValue

log = logging.getLogger(__name__)

MOST_PUTS = 64
"""Puts of one turn, in one group or several: bounds how long others wait for the thread."""


LINGER_S = 0.002
"""How long the thread waits for the next put, in seconds: it costs less than to start again for each put of a loop."""


class LanePut:
    """One put to be committed.

    Attributes
    ----------
    wish : PutWish or None
        What is to be checked first, if that has not been done.
    error : BaseException or None
        Why it failed; what it left is to be undone then.
    """

    def __init__(self, wish: PutWish | None = None) -> None:
        self.wish = wish
        self.intent: Intent
        self.write: ObjectWrite
        self.insert: Insert
        self.uid = acting_uid.get()
        self.error: BaseException | None = None
        self.finished = trio.Event()

    def make_ready(self, prepared: PreparedPut) -> None:
        """Check what is left to check and `accept`, in the lane's thread, before anything is stored."""
        raise NotImplementedError

    def accept(
        self,
        intent: Intent,
        ref: DatasetRef,
        file: StoredFile,
        source: int | bytes,
        metadata: Mapping[str, list[MetadataValue]],
    ) -> None:
        """Say what is to be stored; its content is in memory, or a descriptor's."""
        self.intent = intent
        self.write = ObjectWrite(file.path, source, file.size_bytes, intent.token)
        self.insert = (ref.run, ref.dataset_type.name, [(ref.id, ref.data_id, file)], metadata)


class CommitLane:
    """Commits the puts into one repository, in the order in which they come.

    While there are puts, a task has a turn in a thread. The thread commits those that wait as one group, lets them be
    answered, and goes on with those that have come meanwhile. All state is the trio thread's, but for the left end
    of ``_waiting``, which is the lane's thread's while it runs.

    Parameters
    ----------
    repository : Repository
        Where the datasets go.
    backend : BatchWriting
        Its storage.
    journal : Journal
        Remembers what is being stored.
    transfers : Admission
        Lets the lane into a thread, at the turn of any of those who wait.
    nursery : trio.Nursery
        Owns the task.
    """

    def __init__(
        self,
        repository: Repository,
        backend: BatchWriting,
        journal: Journal,
        transfers: Admission,
        nursery: trio.Nursery,
    ) -> None:
        self.repository = repository
        self._backend = backend
        self._journal = journal
        self._transfers = transfers
        self._nursery = nursery
        self._busy = False
        self._waiting: deque[LanePut] = deque()
        self._askers = Askers()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._listening = False

    async def commit(self, put: LanePut) -> None:
        """Return when the dataset is stored and registered, or raise why not."""
        self._waiting.append(put)
        self._askers.add(put.uid)
        if self._listening:
            self._bell.put(None)
        if not self._busy:
            self._busy = True
            self._nursery.start_soon(self._work)
        # Not interrupted: small files take milliseconds, and one group is several callers' work.
        with trio.CancelScope(shield=True):
            await put.finished.wait()
        if put.error is not None:
            raise put.error

    async def _work(self) -> None:
        """Take turns for as long as there are puts."""
        with trio.CancelScope(shield=True):
            while self._waiting:
                await self._take_turn()
            self._busy = False  # no await since the look at those who wait

    async def _take_turn(self) -> None:
        taken: list[LanePut] = []
        self._askers = Askers(put.uid for put in self._waiting)
        try:
            async with self._transfers.turn(self._askers) as turn:
                await turn.run(partial(self._commit_groups, taken, trio.lowlevel.current_trio_token()))
        except Exception as exc:
            # There was no turn, or no thread: whoever is told so is not stored later, and the others go on.
            told = [put for put in taken if not put.finished.is_set()] if taken else [self._waiting.popleft()]
            for put in told:
                put.error = put.error or exc
            _finish(told)
            if not told:
                log.error("a group of puts was stored, and cannot be tidied up", exc_info=exc)

    def _commit_groups(self, taken: list[LanePut], trio_token: trio.lowlevel.TrioToken) -> None:
        """Commit those who wait, group after group; for a worker thread.

        What tidies up after a group comes with the next one, or when there is none: at once, it would be in the way
        of the answers.
        """
        unsettled: list[LanePut] = []
        while len(taken) < MOST_PUTS and self._somebody_waits():
            group = [self._waiting.popleft() for _ in range(min(MOST_PUTS - len(taken), len(self._waiting)))]
            taken += group
            self._settle(unsettled)
            self._store(group)
            trio_token.run_sync_soon(_finish, group)
            unsettled = _going(group)
        self._settle(unsettled)

    def _somebody_waits(self) -> bool:
        """Tell whether there are puts; look again after a moment, in which a program begins its next one."""
        self._listening = True
        if not self._waiting:
            with suppress(queue.Empty):
                self._bell.get(timeout=LINGER_S)
        self._listening = False
        return bool(self._waiting)

    def _store(self, group: Sequence[LanePut]) -> None:
        try:
            self._prepare([put for put in group if put.wish is not None])
            ready = _going(group)
            self._journal.record_all([put.intent for put in ready])
            for put, failure in zip(ready, self._backend.write_batch([put.write for put in ready]), strict=True):
                put.error = failure
            stored = _going(ready)
            errors = self.repository.registry.insert_each([put.insert for put in stored])
            for put, error in zip(stored, errors, strict=True):
                put.error = error
        except Exception as exc:
            for put in _going(group):
                put.error = exc

    def _prepare(self, puts: Sequence[LanePut]) -> None:
        if not puts:
            return
        found = self.repository.registry.prepare_each([put.wish for put in puts if put.wish is not None])
        for put, prepared in zip(puts, found, strict=True):
            if isinstance(prepared, Exception):
                put.error = prepared
                continue
            try:
                put.make_ready(prepared)
            except Exception as exc:
                put.error = exc

    def _settle(self, puts: Sequence[LanePut]) -> None:
        written = [(put.write.key, put.write.token) for put in puts]
        for put, error in zip(puts, self._backend.settle_batch(written), strict=True):
            if error is None:
                self._journal.clear(put.intent.token)
            else:
                warn_unsettled(error)


def _finish(puts: Sequence[LanePut]) -> None:
    for put in puts:
        put.finished.set()


def _going(puts: Sequence[LanePut]) -> list[LanePut]:
    return [put for put in puts if put.error is None]


def warn_unsettled(error: PantryError) -> None:
    """Log that a write is committed and its proof cannot be removed; the next start tries again."""
    log.warning("a committed write cannot be settled now: %s", error.message)
