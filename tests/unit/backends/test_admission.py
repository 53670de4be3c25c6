"""Threads are given out fairly: who was served longest ago comes next."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.backends import admission as module
from pantry.backends.admission import Admission, Askers, Turn, acting_uid


def is_at_rest(admission: Admission) -> bool:
    return not (admission._running or admission._running_total or admission._queues or admission._served)


def test_one_user_does_not_take_all_threads() -> None:
    async def check() -> None:
        admission = Admission(user_limit=2, node_limit=3)
        gate = threading.Event()
        started: list[int] = []
        both = trio.Event()

        def block() -> None:
            started.append(acting_uid.get())
            if len(started) == 2:
                trio.from_thread.run_sync(both.set)
            gate.wait()

        async def act(uid: int) -> None:
            acting_uid.set(uid)
            await admission.call(block)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(act, 1)
            await both.wait()
            assert (admission.running(1), admission.waiting(1), admission.running_total) == (2, 3, 2)
            acting_uid.set(2)
            # Three of user 1 wait, and yet the thread that is left is user 2's at once.
            assert await admission.call(lambda: list(started)) == [1, 1]
            gate.set()
        assert len(started) == 5
        assert is_at_rest(admission)

    trio.run(check)


class Works:
    """Turns that last until they are told to end, in the order in which they began."""

    def __init__(self, admission: Admission, nursery: trio.Nursery) -> None:
        self.admission = admission
        self.nursery = nursery
        self.began: list[tuple[str, int]] = []
        self.ends: dict[str, trio.Event] = {}

    async def start(self, name: str, *uids: int, askers: Askers | None = None) -> trio.CancelScope:
        scope = trio.CancelScope()
        self.ends[name] = trio.Event()
        self.nursery.start_soon(self._work, name, askers or Askers(uids), scope)
        await trio.testing.wait_all_tasks_blocked()
        return scope

    async def _work(self, name: str, askers: Askers, scope: trio.CancelScope) -> None:
        with scope:
            async with self.admission.turn(askers) as turn:
                self.began.append((name, turn.uid))
                await self.ends[name].wait()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await trio.testing.wait_all_tasks_blocked()

    @property
    def names(self) -> str:
        return "".join(name for name, _ in self.began)


def working(user_limit: int, node_limit: int) -> Callable[[Callable[[Works], object]], None]:
    def run(check: Callable[[Works], object]) -> None:
        async def body() -> None:
            admission = Admission(user_limit=user_limit, node_limit=node_limit)
            async with trio.open_nursery() as nursery:
                works = Works(admission, nursery)
                await check(works)  # type: ignore[misc]
                for event in works.ends.values():
                    event.set()
            assert is_at_rest(admission)

        trio.run(body)

    return run


def test_a_newcomer_has_the_next_free_thread() -> None:
    @working(2, 2)
    async def check(works: Works) -> None:
        for name in "abcdefgh":
            await works.start(name, 1)
        for name in "ijk":
            await works.start(name, 2)
        await works.start("n", 3)
        assert works.names == "ab"
        await works.end("a", "b")
        assert works.names == "abin"
        await works.end("i", "n", "c", "j")
        assert works.names == "abincjdk"


def test_who_comes_again_is_no_newcomer() -> None:
    @working(1, 1)
    async def check(works: Works) -> None:
        await works.start("a", 1)
        await works.start("b", 1)
        await works.start("x", 2)
        await works.end("a")
        await works.start("y", 3)
        await works.end("x")
        await works.start("X", 2)  # user 2 and 3 ask without end, one after the other
        await works.end("y")
        await works.start("Y", 3)
        assert works.names == "axyb"
        await works.end("b")
        assert works.names == "axybX"


def test_work_of_several_users_starts_with_the_first_of_them() -> None:
    @working(1, 2)
    async def check(works: Works) -> None:
        await works.start("a", 1)
        askers = Askers([1])
        await works.start("s", askers=askers)
        await works.start("b", 1)
        assert works.names == "a"
        assert works.admission.waiting(2) == 0
        askers.add(2)
        askers.add(2)
        await trio.testing.wait_all_tasks_blocked()
        assert works.began[-1] == ("s", 2)
        assert list(askers) == [1, 2]
        assert (works.admission.waiting(1), works.admission.waiting(2)) == (1, 0)
        await works.end("a")
        assert works.began[-1] == ("b", 1)
        askers.add(3)  # nothing waits any more
        assert works.admission.waiting(3) == 0


def test_a_cancelled_wait_leaves_all_queues() -> None:
    @working(1, 1)
    async def check(works: Works) -> None:
        await works.start("a", 1)
        scope = await works.start("s", 1, 2, 3)
        await works.start("b", 3)
        assert [works.admission.waiting(uid) for uid in (1, 2, 3)] == [1, 1, 2]
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert [works.admission.waiting(uid) for uid in (1, 2, 3)] == [0, 0, 1]
        await works.end("a")
        assert works.names == "ab"


def test_a_turn_that_came_with_the_cancellation_is_given_back() -> None:
    @working(1, 1)
    async def check(works: Works) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with works.admission.turn(Askers([1])):
                raise AssertionError("cancelled before")
        assert scope.cancelled_caught
        assert works.admission.running_total == 0


def test_calls_in_a_turn_do_not_queue_again() -> None:
    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        other = Admission(user_limit=1, node_limit=1)
        at_once: list[int] = []
        most: list[int] = []

        def count() -> None:
            at_once.append(1)
            most.append(len(at_once))
            at_once.pop()

        with trio.fail_after(30):
            async with admission.turn() as outer:
                await admission.call(count)
                async with other.turn():
                    assert await admission.call(lambda: admission.running_total) == 1
                    assert other.running_total == 1
                async with trio.open_nursery() as nursery:
                    for _ in range(10):
                        nursery.start_soon(admission.call, count)
            assert max(most) == 1
            assert outer.over
            await admission.call(count)
        assert is_at_rest(admission)
        assert is_at_rest(other)

    trio.run(check)


def test_tasks_inside_a_turn_take_it_one_after_the_other() -> None:
    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        gate = threading.Event()
        first = trio.Event()
        started: list[int] = []

        def block() -> None:
            started.append(1)
            trio.from_thread.run_sync(first.set)
            gate.wait()

        async with admission.turn(), trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(admission.call, block)
            await first.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            seen = (list(started), admission.waiting(-1))
            gate.set()
        assert seen == ([1], 0)
        assert started == [1, 1, 1]

    trio.run(check)


def test_a_task_that_outlives_its_turn_queues() -> None:
    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        go = trio.Event()

        async def later() -> None:
            await go.wait()
            assert await admission.call(lambda: admission.running_total) == 1

        async with trio.open_nursery() as nursery:
            async with admission.turn():
                nursery.start_soon(later)
                await trio.testing.wait_all_tasks_blocked()
            go.set()

    trio.run(check)


def test_a_thread_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.01)

    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        gate = threading.Event()
        ended = trio.Event()
        left: list[Turn] = []
        with trio.CancelScope() as scope:

            def hang() -> None:
                trio.from_thread.run_sync(scope.cancel)
                gate.wait()

            async with admission.turn(leave_behind=True) as turn:
                left.append(turn)
                await admission.call(hang)
        assert scope.cancelled_caught
        assert left[0].hanging
        assert await admission.call(lambda: 5) == 5
        left[0].when_idle(ended.set)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended.is_set()
        gate.set()
        await ended.wait()
        assert not left[0].hanging

    trio.run(check)


def test_a_thread_that_hears_of_its_cancellation_is_waited_for() -> None:
    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        ended: list[bool] = []
        with trio.CancelScope() as scope:

            def work() -> None:
                trio.from_thread.run_sync(scope.cancel)
                try:
                    while True:
                        trio.from_thread.check_cancelled()
                finally:
                    ended.append(True)

            async with admission.turn(leave_behind=True) as turn:
                await admission.call(work)
        assert scope.cancelled_caught
        assert ended
        assert not turn.hanging

    trio.run(check)


class WatchedAdmission(Admission):
    """Counts, for every user who waits and could start, the starts of others meanwhile."""

    longest_wait = 0

    def __init__(self, *, user_limit: int, node_limit: int) -> None:
        super().__init__(user_limit=user_limit, node_limit=node_limit)
        self._waited: Counter[int] = Counter()

    def _give(self, uid: int) -> None:
        could = {other for other in self._queues if other != uid and self.running(other) < self._user_limit}
        super()._give(uid)
        self._waited.update(could & self._queues.keys())
        self.longest_wait = max(self.longest_wait, *self._waited.values(), 0)
        self._waited[uid] = 0

    def _forget(self, place: Any) -> None:
        super()._forget(place)
        for other in self._waited.keys() - self._queues.keys():
            self._waited[other] = 0


@settings(max_examples=150)
@given(
    user_limit=st.integers(1, 3),
    node_limit=st.integers(1, 4),
    jobs=st.lists(
        st.tuples(
            st.lists(st.integers(1, 4), min_size=1, max_size=3),  # askers; the later ones join later
            st.integers(0, 6),  # begins after so many steps
            st.integers(0, 4),  # works for so many
            st.none() | st.integers(0, 8),  # is cancelled after so many
            st.booleans(),  # in a thread
        ),
        max_size=25,
    ),
)
def test_nothing_is_lost_and_nobody_starves(
    user_limit: int, node_limit: int, jobs: list[tuple[list[int], int, int, int | None, bool]]
) -> None:
    admission = WatchedAdmission(user_limit=user_limit, node_limit=node_limit)
    running: Counter[int] = Counter()
    done: list[int] = []
    cancelled: list[int] = []

    def note_start(uid: int) -> None:
        running[uid] += 1
        assert running[uid] <= user_limit
        assert running.total() <= node_limit

    async def steps(count: int) -> None:
        for _ in range(count):
            await trio.lowlevel.checkpoint()

    async def one(number: int, job: tuple[list[int], int, int, int | None, bool], nursery: trio.Nursery) -> None:
        uids, begins, works, cancel_after, in_thread = job
        askers = Askers(uids[:1])
        await steps(begins)

        async def join() -> None:
            for uid in uids[1:]:
                await steps(1)
                askers.add(uid)

        async def stop() -> None:
            assert cancel_after is not None
            await steps(cancel_after)
            scope.cancel()

        nursery.start_soon(join)
        with trio.CancelScope() as scope:
            if cancel_after is not None:
                nursery.start_soon(stop)
            async with admission.turn(askers) as turn:
                assert turn.uid in askers
                note_start(turn.uid)
                try:
                    await steps(works)
                    if in_thread:
                        await admission.call(lambda: None)
                finally:
                    running[turn.uid] -= 1
            done.append(number)
        if scope.cancelled_caught:
            cancelled.append(number)

    async def check() -> None:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for number, job in enumerate(jobs):
                    nursery.start_soon(one, number, job, nursery)

    trio.run(check)
    assert admission.longest_wait < 4  # there are four users
    assert sorted(done + cancelled) == list(range(len(jobs)))
    assert all(jobs[number][3] is not None for number in cancelled)
    assert is_at_rest(admission)


def test_a_turn_that_does_not_move_is_taken_back_for_whoever_waits() -> None:
    """Its thread goes on, and is told of; one that moves keeps its turn."""
    release, told = threading.Event(), []

    async def hang(admission: Admission) -> None:
        async with admission.turn(leave_behind=True) as turn:
            turn.when_over = lambda: told.append(turn.hanging)
            await admission.call(release.wait)
            assert turn.over

    async def check() -> None:
        admission = Admission(user_limit=1, node_limit=1)
        clock = trio.lowlevel.current_clock()
        assert isinstance(clock, trio.testing.MockClock)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hang, admission)
            await trio.testing.wait_all_tasks_blocked()
            done = trio.Event()

            async def other() -> None:
                await admission.call(lambda: None)
                done.set()

            nursery.start_soon(other)
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(module.QUIET_S - 0.5)
            await trio.testing.wait_all_tasks_blocked()
            assert not done.is_set()
            assert told == []
            clock.jump(1)
            await done.wait()
            assert told == [1]
            assert admission.running_total == 0
            release.set()

    trio.run(check, clock=trio.testing.MockClock())
