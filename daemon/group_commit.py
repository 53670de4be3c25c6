"""Callers in several threads share a commit: whoever comes first makes it for all who wait.

An fsync takes as long for twenty changes as for one. Jobs that are given while a commit is made are
committed together by the next one. There is no thread for it: the first caller works for all, and
handing a job over to another thread would take longer than the job.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

J = TypeVar("J")


class _Waiting(Generic[J]):
    __slots__ = ("done", "job")

    def __init__(self, job: J) -> None:
        self.job = job
        self.done = False


class GroupCommit(Generic[J]):
    """Commits jobs together, in the order in which they were given.

    Parameters
    ----------
    commit : Callable[[list[J]], None]
        Commits some jobs and tells each of them how it went; one call at a time, and it never raises.
    most : int
        Jobs in one commit: bounds how long the first waits for the last.
    """

    def __init__(self, commit: Callable[[list[J]], None], *, most: int) -> None:
        self._commit = commit
        self._most = most
        # Held for moments only, and never while committing.
        self._guard = threading.Lock()
        self._jobs: deque[_Waiting[J]] = deque()
        self._closed = False
        self._committing = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many jobs are not being committed yet."""
        return len(self._jobs)

    def run(self, jobs: Sequence[J]) -> bool:
        """Return when ``jobs`` have been committed, by this thread or another; False if closed before."""
        given = [_Waiting(job) for job in jobs]
        with self._guard:
            if self._closed:
                return False
            self._jobs.extend(given)
        # In order: when the last is done, all are.
        while given and not given[-1].done:
            with self._committing:
                if not given[-1].done:
                    self._commit_some()
        return True

    def close(self) -> None:
        """Take no more jobs, and commit those that were given."""
        with self._guard:
            self._closed = True
        with self._committing:
            while self._jobs:
                self._commit_some()

    def _commit_some(self) -> None:
        with self._guard:
            some = [self._jobs.popleft() for _ in range(min(self._most, len(self._jobs)))]
        try:
            self._commit([one.job for one in some])
        finally:
            for one in some:
                one.done = True
