"""The one transaction in which a registry is written: the work of many callers is committed together.

An fsync takes a millisecond or more; one for each put would bound the rate of all callers together.
So jobs that arrive while a transaction commits run together in the next one, each in a savepoint of
its own: a job that fails is undone alone, and the others are stored by the same fsync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from pantry.daemon.group_commit import GroupCommit
from pantry.daemon.registry.engine import Database, Session, TransactionLostError
from pantry.errors import TransientBackendError

T = TypeVar("T")

MAX_JOBS = 64


class _Job:
    __slots__ = ("error", "result", "work")

    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Runs jobs in transactions, in the order in which they were given, in a thread of one of the callers.

    Parameters
    ----------
    database : Database
        To write to.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._group = GroupCommit(self._commit, most=MAX_JOBS)

    @property
    def waiting(self) -> int:
        """How many jobs stand behind the transaction that is being made."""
        return self._group.waiting

    def run(self, work: Callable[[Session], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is committed."""
        (job,) = self._run([work])
        if job.error is not None:
            raise job.error
        return cast(T, job.result)

    def run_each(self, works: Sequence[Callable[[Session], Any]]) -> list[BaseException | None]:
        """Run several jobs in one transaction and tell of each what went wrong; a failed one is undone alone."""
        return [job.error for job in self._run(works)]

    def _run(self, works: Sequence[Callable[[Session], Any]]) -> list[_Job]:
        jobs = [_Job(work) for work in works]
        if not self._group.run(jobs):
            raise TransientBackendError("the registry is closed")
        return jobs

    def close(self) -> None:
        """Finish the jobs already given, and take no more."""
        self._group.close()

    def _commit(self, batch: list[_Job]) -> None:
        try:
            with self._database.writing() as session:
                if len(batch) == 1:  # the transaction is its own
                    batch[0].result = batch[0].work(session)
                    return
                for job in batch:
                    try:
                        with self._database.savepoint(session):
                            job.result = job.work(session)
                    except TransactionLostError:
                        raise
                    except Exception as exc:
                        job.error = exc
        except BaseException as exc:
            # Nothing of this transaction is stored: it could not begin, broke, or was not committed.
            for job in batch:
                job.error = exc
