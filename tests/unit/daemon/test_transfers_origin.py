"""Reads from an origin with copies: failing over, going on, giving up, for whom it is counted."""

from __future__ import annotations

import os
import random
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest
import trio
import trio.testing

from pantry.backends import admission as admission_module
from pantry.backends.admission import Admission, Askers, acting_uid
from pantry.backends.contract import ByteRange, ObjectBackend, SinkError
from pantry.backends.flaky import Cut, FlakyBackend, Hold
from pantry.backends.memory import MemoryBackend
from pantry.backends.progress import Progress
from pantry.backends.suite_calls import pattern
from pantry.daemon.cache.counters import Counters
from pantry.daemon.transfers import origin as module
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.origin import Origin
from pantry.errors import (
    BackendAccessError,
    ObjectChangedError,
    ObjectNotFoundError,
    OriginUnavailableError,
    PantryError,
    TransientBackendError,
)

CONTENT = pattern(5_000_000)
SIZE = len(CONTENT)
DOWN = TransientBackendError("it is down")


def flaky(*faults: object, content: bytes | None = CONTENT) -> FlakyBackend:
    return FlakyBackend(MemoryBackend({} if content is None else {"k": content}), faults)  # type: ignore[arg-type]


class Node:
    """An origin, and what it counts."""

    def __init__(self, *replicas: ObjectBackend, user_limit: int = 4) -> None:
        self.offline = False
        self.admission = Admission(user_limit=user_limit, node_limit=8)
        self.counters = Counters()
        self.origin = Origin(
            replicas,
            self.admission,
            absent=AbsentKeys(5.0),
            counters=self.counters,
            offline=lambda: self.offline,
            jitter=random.Random(1),
        )

    async def read(
        self,
        start: int = 0,
        stop: int = SIZE,
        *,
        if_version: str | None = None,
        askers: Askers | None = None,
        on_progress: Progress | None = None,
    ) -> bytes:
        with tempfile.TemporaryFile() as file:
            await self.origin.read_into(
                "k",
                ByteRange(start, stop),
                file.fileno(),
                if_version=if_version,
                askers=askers,
                on_progress=on_progress,
            )
            return os.pread(file.fileno(), stop - start, start)


def timed(check: Callable[[trio.testing.MockClock], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock()
    trio.run(check, clock, clock=clock)


@pytest.fixture(autouse=True)
def no_descriptor_is_lost() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def reads(backend: FlakyBackend) -> int:
    return sum(call.method == "read_into" for call in backend.calls)


async def version_of(backend: FlakyBackend) -> str:
    return (await backend.inner.stat("k")).version


def test_the_root_is_asked_first() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root, copy = flaky(), flaky()
        node = Node(root, copy)
        acting_uid.set(7)
        assert await node.read(10, 20) == CONTENT[10:20]
        assert (await node.origin.stat("k")).size_bytes == SIZE
        assert (len(root.calls), len(copy.calls)) == (2, 0)
        assert node.counters.fetches == {(root.location, 7): 1}
        assert node.counters.fetched_bytes == {(root.location, 7): 10}
        assert not node.counters.failures
        assert node.origin.location == root.location
        assert node.origin.primary.location == root.location


@pytest.mark.parametrize("error", [DOWN, BackendAccessError("no"), ObjectNotFoundError("no"), ObjectChangedError("no")])
def test_a_copy_is_asked_when_the_root_fails(error: PantryError) -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root, copy = flaky(error), flaky()
        node = Node(root, copy)
        assert await node.read() == CONTENT
        assert (reads(root), reads(copy)) == (1, 1)
        assert node.counters.failures.total() == isinstance(error, TransientBackendError | BackendAccessError)


def test_a_copy_of_the_same_version_goes_on_where_the_root_failed() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky(Cut(2_500_000, DOWN))
        copy = FlakyBackend(root.inner)
        node = Node(root, copy)
        told: list[int] = []
        version = await version_of(root)
        assert await node.read(100, SIZE, if_version=version, on_progress=told.append) == CONTENT[100:]
        assert told == sorted(set(told))
        assert told[-1] == SIZE
        assert node.counters.fetched_bytes.total() == SIZE - 100


def test_without_a_version_a_copy_begins_again() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root, copy = flaky(Cut(2_500_000, DOWN)), flaky(content=CONTENT[::-1])
        node = Node(root, copy)
        told: list[int] = []
        assert await node.read(on_progress=told.append) == CONTENT[::-1]
        assert told == sorted(set(told))
        assert node.counters.fetched_bytes.total() == SIZE + 2_500_000


@pytest.mark.parametrize(
    ("first", "second", "error"),
    [
        (ObjectChangedError("1"), DOWN, ObjectChangedError),
        (DOWN, ObjectChangedError("2"), ObjectChangedError),
        (DOWN, ObjectNotFoundError("2"), TransientBackendError),
        (ObjectNotFoundError("1"), BackendAccessError("2"), BackendAccessError),
        (ObjectNotFoundError("1"), ObjectNotFoundError("2"), ObjectNotFoundError),
    ],
)
def test_the_error_that_matters_most(first: PantryError, second: PantryError, error: type[PantryError]) -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        node = Node(flaky(first), flaky(second))
        with pytest.raises(error):
            await node.read()
        with pytest.raises(error) if error is ObjectNotFoundError else pytest.raises(AssertionError, match="fine"):
            assert await node.read() != CONTENT, "fine"


def test_absence_is_believed_until_it_is_written() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky(content=None)
        node = Node(root)
        for _ in range(10):
            with pytest.raises(ObjectNotFoundError):
                await node.read()
            with pytest.raises(ObjectNotFoundError):
                await node.origin.stat("k")
        assert len(root.calls) == 1
        clock.jump(5)
        with pytest.raises(ObjectNotFoundError):
            await node.read()
        assert len(root.calls) == 2
        root.inner.put("k", CONTENT)  # type: ignore[attr-defined]
        node.origin.absent.forget("k")
        assert await node.read() == CONTENT


def test_a_queue_of_reads_of_what_is_absent_is_no_storm() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky(content=None)
        node = Node(root, user_limit=2)
        absent: list[PantryError] = []

        async def one() -> None:
            try:
                await node.read()
            except ObjectNotFoundError as exc:
                absent.append(exc)

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        assert len(absent) == 100
        assert len(root.calls) <= 2  # as many as may run at once


def test_one_absence_is_not_believed_while_a_copy_is_down() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        node = Node(flaky(content=None), flaky(DOWN))
        with pytest.raises(TransientBackendError):
            await node.read()
        assert await node.read() == CONTENT


def test_a_queue_of_reads_of_a_dead_origin_is_no_storm() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky(*[DOWN] * 1000)
        node = Node(root, user_limit=4)
        failed: list[PantryError] = []

        async def one(uid: int) -> None:
            acting_uid.set(uid)
            try:
                await node.read()
            except PantryError as exc:
                failed.append(exc)

        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(one, number % 5)
        assert len(failed) == 500
        assert sum(isinstance(one, OriginUnavailableError) for one in failed) >= 490
        assert len(root.calls) <= 8  # as many as may run at once
        clock.jump(60)
        before = len(root.calls)
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(one, number % 5)
        assert len(root.calls) - before <= 2


def test_a_root_that_is_left_alone_is_passed_over_and_comes_back() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root, copy = flaky(*[DOWN] * 3), flaky()
        node = Node(root, copy)
        for _ in range(10):
            assert await node.read() == CONTENT
        assert (reads(root), reads(copy)) == (3, 10)
        clock.jump(1)
        for _ in range(5):
            assert await node.read() == CONTENT
        assert (reads(root), reads(copy)) == (8, 10)


def test_offline_nothing_is_asked() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky()
        node = Node(root)
        node.offline = True
        with pytest.raises(OriginUnavailableError, match="offline"):
            await node.read()
        with pytest.raises(OriginUnavailableError, match="offline"):
            await node.origin.stat("k")
        assert root.calls == []


def test_the_read_is_charged_to_the_asker_whose_turn_came() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        hold = Hold(trio.Event(), trio.Event())
        root = flaky(hold)
        node = Node(root, user_limit=1)
        askers = Askers([1])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(node.read, askers=Askers([1])))
            await hold.reached.wait()
            nursery.start_soon(partial(node.read, 0, 9, askers=askers))
            await trio.testing.wait_all_tasks_blocked()
            assert len(root.calls) == 1
            askers.add(2)
            await trio.testing.wait_all_tasks_blocked()
            assert node.counters.fetched_bytes == {(root.location, 2): 9}
            hold.release.set()
        assert node.counters.fetched_bytes == {(root.location, 1): SIZE, (root.location, 2): 9}


def test_a_read_that_does_not_move_is_given_up() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        hold = Hold(trio.Event(), trio.Event())
        root, copy = flaky(hold, hold), flaky()
        node = Node(root, copy)
        read: list[bytes] = []

        async def one() -> None:
            read.append(await node.read())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await hold.reached.wait()
            clock.jump(module.STALL_S - 1)
            await trio.testing.wait_all_tasks_blocked()
            assert not read
            clock.jump(2)
        assert read == [CONTENT]
        assert node.counters.failures == {root.location: 1}


class Hanging(MemoryBackend):
    """Reads in a thread, and hangs in the middle until the gate opens, deaf to cancellation."""

    def __init__(self, admission: Admission) -> None:
        super().__init__({"k": CONTENT})
        self.admission = admission
        self.gate = threading.Event()
        self.reached = trio.Event()
        self.late: list[str] = []

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        token = trio.lowlevel.current_trio_token()
        assert on_progress is not None

        def read() -> None:
            os.pwrite(fd, CONTENT[:1000], 0)
            on_progress(1000)
            token.run_sync_soon(self.reached.set)
            self.gate.wait()
            os.pwrite(fd, b"late", 0)
            self.late.append("wrote")
            on_progress(2000)
            self.late.append("told")

        await self.admission.call(read)


def test_a_thread_that_hangs_can_do_no_harm_when_it_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "GRACE_S", 1.0)

    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        node = Node(flaky(), user_limit=1)
        root = Hanging(node.admission)
        node.origin._replicas.insert(0, module._Replica(root, None))
        told: list[int] = []
        read: list[bytes] = []

        async def one() -> None:
            with tempfile.TemporaryFile() as file:
                await node.origin.read_into("k", ByteRange(0, SIZE), file.fileno(), on_progress=told.append)
                read.append(os.pread(file.fileno(), SIZE, 0))
                root.gate.set()
                while node.origin._replicas[0].hanging:
                    await trio.lowlevel.checkpoint()
                read.append(os.pread(file.fileno(), SIZE, 0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await root.reached.wait()
            while not root.gate.is_set():  # the stall, and then the grace
                clock.jump(1)
                await trio.testing.wait_all_tasks_blocked()
        assert read == [CONTENT, CONTENT]
        assert root.late == ["wrote"]
        assert told == sorted(set(told))
        assert node.admission.running_total == 0


def test_a_replica_in_which_many_threads_hang_is_not_asked() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky()
        node = Node(root)
        node.origin._replicas[0].hanging = module.MAX_HANGING
        with pytest.raises(OriginUnavailableError, match="hang"):
            await node.read()
        assert root.calls == []


def test_the_callers_own_errors_are_no_failures_of_the_origin() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        root = flaky()
        node = Node(root)
        full = os.open("/dev/full", os.O_RDWR)
        try:
            for _ in range(5):
                with pytest.raises(SinkError):
                    await node.origin.read_into("k", ByteRange(0, SIZE), full)
        finally:
            os.close(full)

        def refuse(position: int) -> None:
            raise KeyError(position)

        for _ in range(5):
            with pytest.raises(KeyError):
                await node.read(on_progress=refuse)
        assert not node.counters.failures
        assert await node.read() == CONTENT


def test_a_cancelled_read_gives_everything_back() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        hold = Hold(trio.Event(), trio.Event())
        node = Node(flaky(hold))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.read)
            await hold.reached.wait()
            nursery.cancel_scope.cancel()
        assert node.admission.running_total == 0
        assert await node.read() == CONTENT
