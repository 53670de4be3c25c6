"""Limits per user on connections and requests, so that nobody stops anybody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

from pantry.errors import LimitExceededError


class UserLimits:
    """Counts what each Unix user has open and under way.

    Parameters
    ----------
    connections : int
        Most open connections of one user.
    requests : int
        Most requests of one user under way.
    saw : callable
        Told of each user who asks for something.
    """

    def __init__(self, *, connections: int, requests: int, saw: Callable[[int], None]) -> None:
        self._saw = saw
        self._most_connections = connections
        self._most_requests = requests
        self.open_connections: Counter[int] = Counter()
        self.open_requests: Counter[int] = Counter()
        self.requests_answered = 0
        self._idle = trio.Event()

    @contextmanager
    def connection(self, uid: int) -> Iterator[None]:
        """Count one connection; `LimitExceededError` if the user has too many."""
        with _counted(self.open_connections, uid, self._most_connections, "connections"):
            yield

    @contextmanager
    def request(self, uid: int) -> Iterator[None]:
        """Count one request; `LimitExceededError` if the user has too many under way."""
        self._saw(uid)
        try:
            with _counted(self.open_requests, uid, self._most_requests, "requests under way"):
                yield
        finally:
            self.requests_answered += 1
            if not self.open_requests:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return when no request is under way."""
        while self.open_requests:
            self._idle = trio.Event()
            await self._idle.wait()


@contextmanager
def _counted(counter: Counter[int], uid: int, most: int, what: str) -> Iterator[None]:
    if counter[uid] >= most:
        raise LimitExceededError(f"uid {uid} has {most} {what}", hint="end some, or ask the node's administrator")
    counter[uid] += 1
    try:
        yield
    finally:
        counter[uid] -= 1
        if not counter[uid]:
            del counter[uid]
