"""Small puts into local storage, committed together: one visit to a thread for all that wait.

By itself each put would visit three threads, and pay for three fsyncs. The steps and their order are
the same for a batch as for one put (see `pantry.daemon.datasets.putting`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import trio

from pantry.backends.admission import Admission, Askers, acting_uid
from pantry.backends.contract import BatchWriting, ObjectWrite
from pantry.daemon.journal import Intent, Journal
from pantry.daemon.registry import Insert
from pantry.daemon.repositories.repository import Repository
from pantry.errors import PantryError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import MetadataValue

log = logging.getLogger(__name__)

MOST_PUTS = 64
"""Puts of one batch: bounds how long the first of them waits for the last."""

SETTLE_AFTER_S = 0.05
"""How long a batch waits, in seconds, for the next one to tidy up after it; at once would be in the answer's way."""


class LanePut:
    """One put to be committed.

    Attributes
    ----------
    error : BaseException or None
        Why it failed; what it left is to be undone then.
    taken, finished : bool
        Whether it is in a batch, and whether that has been tried.
    """

    def __init__(self) -> None:
        self.intent: Intent
        self.write: ObjectWrite
        self.insert: Insert
        self.uid = acting_uid.get()
        self.error: BaseException | None = None
        self.taken = False
        self.finished = False
        # Set when it is finished, or when it may be its turn to work for all who wait.
        self.woken = trio.Event()

    def make_ready(self) -> None:
        """Check what is left to check and `accept`, in the lane's thread, before anything is stored."""

    def accept(
        self, intent: Intent, ref: DatasetRef, file: StoredFile, fd: int, metadata: Mapping[str, list[MetadataValue]]
    ) -> None:
        """Say what is to be stored."""
        self.intent = intent
        self.write = ObjectWrite(file.path, fd, file.size_bytes, intent.token)
        self.insert = (ref.run, ref.dataset_type.name, [(ref.id, ref.data_id, file)], metadata)


class CommitLane:
    """Commits the puts into one repository, in the order in which they come; all state is the trio thread's.

    There is no task for it: of those who wait, the first works for all, and then hands over to the next.

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
        Owns what is still to be tidied up after an answer.
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
        self._waiting: list[LanePut] = []
        self._unsettled: list[LanePut] = []
        self._settling = False

    async def commit(self, put: LanePut) -> None:
        """Return when the dataset is stored and registered, or raise why not."""
        self._waiting.append(put)
        # Not interrupted: small files take milliseconds, and one batch is several callers' work.
        with trio.CancelScope(shield=True):
            try:
                while not put.finished:
                    if not self._busy and not put.taken:
                        await self._commit_those_who_wait()
                    else:
                        await put.woken.wait()
                        put.woken = trio.Event()
            finally:
                if not put.taken:
                    # Its turn failed: whoever works next must not store what the caller is told has failed.
                    self._waiting.remove(put)
                    if self._waiting and not self._busy:
                        self._waiting[0].woken.set()
        if put.error is not None:
            raise put.error

    async def _commit_those_who_wait(self) -> None:
        self._busy = True
        batch: list[LanePut] = []
        try:
            async with self._transfers.turn(Askers(put.uid for put in self._waiting)) as turn:
                batch, self._waiting = self._waiting[:MOST_PUTS], self._waiting[MOST_PUTS:]
                for put in batch:
                    put.taken = True
                settled, self._unsettled = self._unsettled, []
                await turn.run(partial(self._store, batch, settled))
        finally:
            self._busy = False
            for put in batch:
                put.finished = True
                put.woken.set()
            self._unsettled += _going(batch)
            if self._waiting:
                self._waiting[0].woken.set()
            if self._unsettled and not self._settling:
                self._settling = True
                self._nursery.start_soon(self._settle_rest)

    def _store(self, batch: Sequence[LanePut], settled: Sequence[LanePut]) -> None:
        """Commit a batch, and tidy up after the one before; for a worker thread."""
        self._settle(settled)
        for put in batch:
            try:
                put.make_ready()
            except Exception as exc:
                put.error = exc
        try:
            ready = _going(batch)
            self._journal.record_all([put.intent for put in ready])
            for put, failure in zip(ready, self._backend.write_batch([put.write for put in ready]), strict=True):
                put.error = failure
            stored = _going(ready)
            errors = self.repository.registry.insert_each([put.insert for put in stored])
            for put, error in zip(stored, errors, strict=True):
                put.error = error
        except Exception as exc:
            for put in _going(batch):
                put.error = exc

    async def _settle_rest(self) -> None:
        """Tidy up after the last batch, unless another one has come that does it."""
        try:
            await trio.sleep(SETTLE_AFTER_S)
        finally:
            self._settling = False
            settled, self._unsettled = self._unsettled, []
            if settled:
                with trio.CancelScope(shield=True):
                    async with self._transfers.turn(Askers(put.uid for put in settled)) as turn:
                        await turn.run(partial(self._settle, settled))

    def _settle(self, puts: Sequence[LanePut]) -> None:
        written = [(put.write.key, put.write.token) for put in puts]
        for put, error in zip(puts, self._backend.settle_batch(written), strict=True):
            if error is None:
                self._journal.clear(put.intent.token)
            else:
                warn_unsettled(error)


def _going(puts: Sequence[LanePut]) -> list[LanePut]:
    return [put for put in puts if put.error is None]


def warn_unsettled(error: PantryError) -> None:
    """Log that a write is committed and its proof cannot be removed; the next start tries again."""
    log.warning("a committed write cannot be settled now: %s", error.message)
