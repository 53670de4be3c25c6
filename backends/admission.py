"""Blocking SDK calls are let into threads fairly: a turn for each user, never more than a user's share.

A *turn* is the right to keep one thread busy. Users queue apart from one another, and whoever was
served longest ago comes next: a newcomer's first call has the next free thread, however long the
queues of others are, and nobody waits for more starts than there are users. All state is the trio
thread's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TypeVar, cast

import trio

from pantry.backends.pace import Pace

T = TypeVar("T")

acting_uid: ContextVar[int] = ContextVar("acting_uid", default=-1)
"""The Unix user on whose behalf the current task works; set by the daemon's dispatcher."""

QUIET_S = 5.0
"""A turn that may be left behind and has not moved for so long is taken back if somebody waits, in seconds."""

GRACE_S = 5.0
"""How long a thread of a turn that may be left behind has to notice that it was cancelled, in seconds."""


class Askers:
    """The users who wait for the same work, which stands in all their queues.

    Parameters
    ----------
    uids : Iterable[int]
        To begin with.
    """

    def __init__(self, uids: Iterable[int] = ()) -> None:
        self._uids = dict.fromkeys(uids)
        self.places: list[_Place] = []

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._uids))

    def __len__(self) -> int:
        return len(self._uids)

    def __contains__(self, uid: int) -> bool:
        return uid in self._uids

    def add(self, uid: int) -> None:
        """Add a user; work that waits for its turn joins the end of this user's queue too."""
        if uid not in self._uids:
            self._uids[uid] = None
            for place in tuple(self.places):
                place.join(uid)


class _Threads:
    """The threads of one turn, in the role of trio's limiter: it never lets wait, it only counts.

    trio gives a place back when the thread has ended, also one that was left behind.
    """

    def __init__(self) -> None:
        self.running = 0
        self.idle = trio.Event()
        self.when_idle: list[Callable[[], None]] = []

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        self.running += 1
        self.idle = trio.Event()

    def release_on_behalf_of(self, borrower: object) -> None:
        self.running -= 1
        if not self.running:
            self.idle.set()
            waiting, self.when_idle = self.when_idle, []
            for func in waiting:
                func()


class Turn:
    """One turn that was given, and the threads that it started; made by `Admission.turn`.

    Attributes
    ----------
    uid : int
        The user to whom it is charged.
    over : bool
        Whether others may have its place; its thread may go on (see `Admission.turn`).
    moved_s : float
        When it last began a call or was told of progress, by trio's clock.
    when_over : Callable, optional
        Called if it ends while a thread of it runs, to count that one.
    """

    def __init__(self, admission: Admission, uid: int, outer: Turn | None, *, leave_behind: bool) -> None:
        self.uid = uid
        self.over = False
        self.moved_s = trio.current_time()
        self.when_over: Callable[[], None] | None = None
        self._admission = admission
        self._outer = outer
        self._leave_behind = leave_behind
        self._one = trio.Lock()
        self._threads = _Threads()

    @property
    def hanging(self) -> int:
        """How many threads of it still run; after a call, those that were left behind."""
        return self._threads.running

    @property
    def may_be_taken_back(self) -> bool:
        """Whether it can end before its thread does."""
        return self._leave_behind and not self.over and self.hanging > 0

    def moved(self) -> None:
        """Note progress."""
        self.moved_s = trio.current_time()

    def end(self) -> None:
        """Give the place to others, whether or not a thread still runs; once."""
        if not self.over:
            self.over = True
            if self.hanging and self.when_over is not None:
                self.when_over()
            self._admission._end(self)

    def when_idle(self, func: Callable[[], None]) -> None:
        """Call ``func`` in the trio thread as soon as no thread of this turn runs: now, if none does."""
        if self.hanging:
            self._threads.when_idle.append(func)
        else:
            func()

    def of(self, admission: Admission) -> Turn | None:
        """Return this turn, or one around it, if it is of ``admission`` and not over."""
        turn: Turn | None = self
        while turn is not None and (turn._admission is not admission or turn.over):
            turn = turn._outer
        return turn

    async def run(self, func: Callable[[], T]) -> T:
        """Run ``func`` in a thread; tasks that were started inside the turn take it one after the other."""
        async with self._one:
            self.moved()
            try:
                return await trio.to_thread.run_sync(
                    func, abandon_on_cancel=self._leave_behind, limiter=cast(trio.CapacityLimiter, self._threads)
                )
            except trio.Cancelled:
                if self.hanging:
                    # It has been told, and mostly ends soon; one in a dead file system does not hear it.
                    with trio.CancelScope(shield=True), trio.move_on_after(GRACE_S):
                        await self._threads.idle.wait()
                raise


class _Place:
    """A place in the queues of all users who ask for the same work."""

    def __init__(self, admission: Admission, number: int) -> None:
        self.number = number
        self.uids: list[int] = []
        self.given = trio.Event()
        self.charged: int | None = None
        self._admission = admission

    def join(self, uid: int) -> None:
        """Stand in the queue of one more user."""
        self._admission._join(self, uid)


_turn: ContextVar[Turn | None] = ContextVar("_turn", default=None)


class Admission:
    """Runs blocking functions in threads, at most so many for each user and for the node.

    Parameters
    ----------
    user_limit : int
        Threads that one Unix user may occupy at once.
    node_limit : int
        Threads in all.
    pace : Pace, optional
        Spaces the turns of one user while others are active.
    """

    def __init__(self, *, user_limit: int, node_limit: int, pace: Pace | None = None) -> None:
        self._user_limit = user_limit
        self._node_limit = node_limit
        self._running: dict[int, int] = {}
        self._running_total = 0
        self._queues: dict[int, OrderedDict[_Place, None]] = {}
        self._served: dict[int, int] = {}
        self._number = 0
        self._pace = pace
        self._started: dict[int, float] = {}
        self._turns: set[Turn] = set()
        if pace is not None:
            pace.join(self._serve)

    def running(self, uid: int) -> int:
        """Return how many turns are charged to a user now."""
        return self._running.get(uid, 0)

    def waiting(self, uid: int) -> int:
        """Return how many places are in a user's queue; work that several users ask for is in all of theirs."""
        return len(self._queues.get(uid, ()))

    @property
    def waiting_total(self) -> int:
        """Places in all queues; work that several users ask for is one."""
        return len({place for queue in self._queues.values() for place in queue})

    @property
    def node_limit(self) -> int:
        """Turns that there are in all."""
        return self._node_limit

    @property
    def running_total(self) -> int:
        """Turns that are taken now."""
        return self._running_total

    @property
    def held(self) -> Turn | None:
        """The turn that the current task has, if any."""
        around = _turn.get()
        return around.of(self) if around is not None else None

    async def call(self, func: Callable[[], T]) -> T:
        """Run blocking ``func`` in a thread: in the turn that the task has, else in one for `acting_uid`.

        Not left behind on cancellation, unless the turn says so.
        """
        held = self.held
        if held is not None:
            return await held.run(func)
        async with self.turn() as turn:
            return await turn.run(func)

    @asynccontextmanager
    async def turn(self, askers: Askers | None = None, *, leave_behind: bool = False) -> AsyncIterator[Turn]:
        """Wait for a turn; calls made inside by the same task do not queue again, nor at the same time.

        Parameters
        ----------
        askers : Askers, optional
            Who wait for this work, to be charged to whichever's turn comes first; else `acting_uid`.
        leave_behind : bool
            When cancelled, wait at most `GRACE_S` for a thread to end. It may go on afterwards, and is
            counted no more: `Turn.hanging` tells, and `Turn.when_idle` when none is left. The turn is
            also taken back when somebody waits and it has not moved for `QUIET_S` (`Turn.moved`):
            `Turn.over` tells, and the caller bounds how many such threads there are.
        """
        uid = await self._enter(askers)
        turn = Turn(self, uid, _turn.get(), leave_behind=leave_behind)
        self._turns.add(turn)
        before = _turn.set(turn)
        try:
            yield turn
        finally:
            _turn.reset(before)
            turn.end()

    def _end(self, turn: Turn) -> None:
        self._turns.discard(turn)
        self._leave(turn.uid)

    def _take_back_quiet(self) -> float:
        """Take turns back of which nothing comes; return when there may be more to do, by trio's clock."""
        now = trio.current_time()
        next_s = now + QUIET_S
        for turn in [one for one in self._turns if one.may_be_taken_back]:
            if turn.moved_s + QUIET_S <= now:
                turn.end()
            else:
                next_s = min(next_s, turn.moved_s + QUIET_S)
        return next_s

    async def _enter(self, askers: Askers | None) -> int:
        self._number += 1
        place = _Place(self, self._number)
        if askers is not None:
            askers.places.append(place)
        try:
            for uid in tuple(askers or (acting_uid.get(),)):
                self._join(place, uid)
            while True:
                with trio.move_on_at(self._take_back_quiet()):
                    await place.given.wait()
                    break
        except BaseException:
            self._forget(place)
            if place.charged is not None:
                self._leave(place.charged)
            raise
        finally:
            if askers is not None:
                askers.places.remove(place)
        assert place.charged is not None  # noqa: S101 - set with `given`
        return place.charged

    def _join(self, place: _Place, uid: int) -> None:
        if place.charged is None:
            self._queues.setdefault(uid, OrderedDict())[place] = None
            place.uids.append(uid)
            self._serve()

    def _forget(self, place: _Place) -> None:
        for uid in place.uids:
            queue = self._queues[uid]
            del queue[place]
            if not queue:
                del self._queues[uid]
        place.uids.clear()

    def _serve(self) -> None:
        """Give out all turns that can be; always called when one may have become free, or wanted."""
        while self._running_total < self._node_limit:
            ready = [uid for uid in self._queues if self.running(uid) < self._user_limit]
            if self._pace is not None:
                ready = self._in_pace(self._pace, ready)
            if not ready:
                return
            self._give(min(ready, key=self._order))

    def _in_pace(self, pace: Pace, ready: list[int]) -> list[int]:
        """Choose those whose last turn was long enough ago, and see that the others are looked at in time."""
        now = trio.current_time()
        starts = {uid: pace.next_start(uid, self._started[uid]) for uid in ready if uid in self._started}
        early = [at for at in starts.values() if at > now]
        if early:
            pace.wake(min(early))
        return [uid for uid in ready if starts.get(uid, now) <= now]

    def _give(self, uid: int) -> None:
        place = next(iter(self._queues[uid]))
        self._forget(place)
        self._running[uid] = self.running(uid) + 1
        self._running_total += 1
        self._number += 1
        self._served[uid] = self._number
        if self._pace is not None:
            self._started[uid] = trio.current_time()
        place.charged = uid
        place.given.set()

    def _order(self, uid: int) -> tuple[int, int]:
        # Who was never served, or longest ago; of newcomers, who came first.
        return self._served.get(uid, 0), next(iter(self._queues[uid])).number

    def _leave(self, uid: int) -> None:
        self._running_total -= 1
        if self.running(uid) > 1:
            self._running[uid] -= 1
        else:
            del self._running[uid]
        self._serve()
        if not self._running_total:
            self._served.clear()  # nobody waits: there is nothing to be fair about
