"""Spaces the starts of one user's work while other users are active.

Threads of one process share one interpreter: thousands of small reads of one user, though only a few
at a time, keep it so busy that a read of another user, which needs no thread at all, takes many times
as long. What is spaced leaves gaps for the others. A user who is alone is never held up.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

ACTIVE_S = 1.0
"""A user who asked for something within this time counts as active, in seconds."""


class Pace:
    """When a user's work may start.

    Parameters
    ----------
    interval_s : float
        Time between two starts of one user's work in each of the `Admission` that share this pace, in
        seconds, while another user is active.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._seen: dict[int, float] = {}
        self._running = False
        self._wake_at = float("inf")
        self._wanted = trio.Event()
        self._serve: list[Callable[[], None]] = []

    def saw(self, uid: int) -> None:
        """Note that a user asks for something now."""
        # Moved to the end: the last two tell whether anybody else is active.
        self._seen.pop(uid, None)
        self._seen[uid] = trio.current_time()

    def spaces(self, uid: int) -> bool:
        """Whether this user's work has to be spaced now."""
        if not self._running:
            return False
        for other in reversed(self._seen):
            if other != uid:
                return self._seen[other] > trio.current_time() - ACTIVE_S
        return False

    def next_start(self, uid: int, last_start: float) -> float:
        """Return when work may start whose predecessor started at ``last_start``, on trio's clock."""
        return last_start + self._interval_s if self.spaces(uid) else last_start

    def join(self, serve: Callable[[], None]) -> None:
        """Let ``serve`` be called when a time that `wake` was told has come."""
        self._serve.append(serve)

    def wake(self, at: float) -> None:
        """Call all that joined at this time."""
        if at < self._wake_at:
            self._wake_at = at
            self._wanted.set()

    async def run(self) -> None:
        """Keep the time, for ever; without this nothing is spaced."""
        self._running = True
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                with trio.move_on_at(self._wake_at):
                    await self._wanted.wait()  # an earlier time
                    continue
                self._wake_at = float("inf")
                self._forget()
                self._call()
        finally:
            self._running = False
            self._call()

    def _call(self) -> None:
        for serve in self._serve:
            serve()

    def _forget(self) -> None:
        for uid, seen in list(self._seen.items()):
            if seen > trio.current_time() - ACTIVE_S:
                return
            del self._seen[uid]
