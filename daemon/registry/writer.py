"""The one writer of a registry: a thread that commits the work of many callers together.

An fsync takes a millisecond or more; one for each put would bound the rate of all callers together.
So jobs that arrive while a transaction commits run together in the next one, each in a savepoint of
its own: a job that fails is undone alone, and the others are stored by the same fsync.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pantry.daemon.registry.engine import Database, Session, TransactionLostError
from pantry.errors import TransientBackendError

T = TypeVar("T")

# Bounds how long the first job of a transaction waits for the last one.
MAX_JOBS = 64


class _Job:
    __slots__ = ("done", "work")

    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.work = work
        self.done: Future[Any] = Future()


class Writer:
    """Runs jobs in transactions, in the order in which they were given.

    Parameters
    ----------
    database : Database
        To write to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Guards `_closed` against a job that is queued behind the end of the thread.
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="pantry-registry-writer", daemon=True)
        self._thread.start()

    def run(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is committed."""
        job = _Job(work)
        with self._lock:
            if self._closed:
                raise TransientBackendError("the registry is closed")
            self._jobs.put(job)
        return job.done.result()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Finish the jobs already given, then end the thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    def _serve(self) -> None:
        going = True
        while going:
            first = self._jobs.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < MAX_JOBS:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    going = False
                    break
                batch.append(job)
            self._commit(batch)

    def _commit(self, batch: list[_Job]) -> None:
        finished: list[tuple[_Job, Any]] = []
        failed: list[tuple[_Job, Exception]] = []
        try:
            with self._database.writing() as session:
                for job in batch:
                    try:
                        with self._database.savepoint(session):
                            result = job.work(session)
                        finished.append((job, result))
                    except TransactionLostError:
                        raise
                    except Exception as exc:
                        failed.append((job, exc))
        except BaseException as exc:
            # Nothing of this transaction is stored: it could not begin, broke, or was not committed.
            for job in batch:
                job.done.set_exception(exc)
            return
        for job, result in finished:
            job.done.set_result(result)
        for job, error in failed:
            job.done.set_exception(error)
