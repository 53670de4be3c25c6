"""The publications of one target: which is sent next, and when."""

from __future__ import annotations

import logging
import random
import time
from collections import deque

import trio

from pantry.daemon.publishing.outbox import Entry, Outbox
from pantry.daemon.publishing.sending import Outcome
from pantry.daemon.publishing.target import Target

_AHEAD = 64
_LOOK_S = 60.0
log = logging.getLogger(__name__)


class Lane:
    """The way to one target.

    While the service fails, one publication at a time is tried, at growing intervals; the others are left alone.

    Parameters
    ----------
    target : Target
        Where it leads to.
    outbox : Outbox
        What waits.

    Attributes
    ----------
    problem : str
        Why nothing is sent at the moment; empty if nothing is known to be wrong.
    in_hand : set of int
        Publications that are being sent.
    """

    def __init__(self, target: Target, outbox: Outbox) -> None:
        self.target = target
        self.problem = ""
        self.in_hand: set[int] = set()
        self.slots = trio.Semaphore(target.config.connections)
        self.threads = trio.CapacityLimiter(2 * target.config.connections)
        self._outbox = outbox
        self._failures = 0
        self._not_before = 0.0
        self._queue: deque[Entry] = deque()
        self._wake = trio.Event()

    def poke(self) -> None:
        """Look again at what waits."""
        self._wake.set()

    def forgive(self) -> None:
        """Try at once, however often it failed."""
        self._failures = 0
        self._not_before = 0.0
        self._queue.clear()
        self.poke()

    async def next(self) -> Entry:
        """Return the next publication to be sent, when it is time, and take it in hand."""
        while True:
            wait_s = self._not_before - trio.current_time()
            if wait_s > 0:
                await self._sleep(wait_s)
            elif self._failures and self.in_hand:
                await self._sleep(None)
            elif (entry := await self._due()) is not None:
                self.in_hand.add(entry.id)
                return entry

    async def _due(self) -> Entry | None:
        # One instant for both questions: what becomes due between them must not be missed by both.
        now_ns = time.time_ns()
        if not self._queue:
            found = await self._outbox.due(self.target.name, now_ns, _AHEAD + len(self.in_hand))
            self._queue.extend(one for one in found if one.id not in self.in_hand)
        if self._queue:
            return self._queue.popleft()
        next_ns = await self._outbox.next_due_ns(self.target.name, now_ns)
        await self._sleep(None if next_ns is None else max(0.0, (next_ns - time.time_ns()) / 1e9) + 0.001)
        return None

    async def _sleep(self, seconds: float | None) -> None:
        # Never for long: what is due is decided by the clock on the wall, which may be set.
        with trio.move_on_after(_LOOK_S if seconds is None else min(seconds, _LOOK_S)):
            await self._wake.wait()
        self._wake = trio.Event()

    def delay_s(self, failures: int) -> float:
        """Return how long to wait after so many failures, in seconds; not the same for all who wait."""
        config = self.target.config
        longest = min(config.retry_most_s, config.retry_first_s * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def succeeded(self) -> None:
        """Tell that the service works."""
        if self._failures:
            log.info("publishing to %s goes on", self.target.name)
        self._failures = 0
        self.problem = ""

    def failed(self, outcome: Outcome) -> None:
        """Tell that others would meet with the same: leave the service alone for a while."""
        now = trio.current_time()
        self.problem = outcome.problem
        if now < self._not_before:
            return  # the others of those that were under way together
        if not self._failures:
            log.warning("publishing to %s is held up: %s", self.target.name, outcome.problem)
        self._failures += 1
        self._not_before = now + max(self.delay_s(self._failures), outcome.retry_after_s)
        self._queue.clear()
