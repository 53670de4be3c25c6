"""What is counted of an origin, and its limit, which keeps no thread of the node's waiting."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from functools import partial

import pytest
import trio
import trio.testing

from pantry.backends.admission import Admission
from pantry.backends.contract import ObjectStat
from pantry.backends.flaky import FlakyBackend, Hold
from pantry.backends.memory import MemoryBackend
from pantry.daemon.cache.counters import Counters
from pantry.daemon.transfers import traffic as module
from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.health import FAILURES_TO_OPEN, Circuit, Health
from pantry.daemon.transfers.metered import MeteredBackend
from pantry.daemon.transfers.origin import Origin
from pantry.daemon.transfers.traffic import MOST_TEXT, Traffic
from pantry.errors import (
    BackendAccessError,
    InvalidQueryError,
    ObjectNotFoundError,
    OriginUnavailableError,
    PantryError,
    TransientBackendError,
)


class Clock:
    """Moves when it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    @staticmethod
    def time_ns() -> int:
        return 17


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_median_and_99th_percentile_of_the_last_thousand(clock: Clock) -> None:
    traffic = Traffic()
    assert traffic.latency_s(0.5) is None
    for number in range(1, 2001):
        with traffic.request():
            clock.now += number
    # 1001 to 2000 are left.
    assert (traffic.latency_s(0.5), traffic.latency_s(0.99)) == (1500, 1990)
    assert (traffic.requests, traffic.under_way) == (2000, 0)


def test_a_latency_ends_with_the_first_piece(clock: Clock) -> None:
    traffic = Traffic()
    with traffic.request() as asked:
        assert traffic.under_way == 1
        clock.now += 1
        asked.answered()
        clock.now += 100
        asked.answered()
    with traffic.request(timed=False):
        clock.now += 1000
    assert traffic.latency_s(0.99) == 1


def test_what_is_a_failure_and_what_an_answer(clock: Clock) -> None:
    traffic = Traffic()

    def fail(error: PantryError) -> None:
        with traffic.request():
            clock.now += 1
            raise error

    for error in (
        ObjectNotFoundError("no such"),
        InvalidQueryError("a user's own fault"),
        TransientBackendError("gone"),
        TransientBackendError("gone again"),
        BackendAccessError("x" * 1000),
    ):
        with pytest.raises(PantryError):
            fail(error)
    assert traffic.errors == {"backend_transient": 2, "backend_access": 1}
    assert (traffic.last_error, traffic.last_error_code) == ("x" * MOST_TEXT, "backend_access")
    assert traffic.last_error_ns == 17
    assert traffic.requests == 5
    assert traffic.latency_s(1.0) == 1


def test_a_circuit_is_closed_open_and_half_open() -> None:
    async def main() -> None:
        health = Health("s3://b")
        assert health.circuit is Circuit.CLOSED
        for _ in range(FAILURES_TO_OPEN):
            with pytest.raises(TransientBackendError), health.admit():
                raise TransientBackendError("no", retry_after_s=5.0)
        assert (health.circuit, health.retry_in_s) == (Circuit.OPEN, 5.0)
        with pytest.raises(OriginUnavailableError), health.admit():
            pass
        await trio.sleep(5)
        assert health.circuit is Circuit.HALF_OPEN
        with health.admit():
            assert health.circuit is Circuit.HALF_OPEN
            with pytest.raises(OriginUnavailableError), health.admit():
                pass
        assert health.circuit is Circuit.CLOSED
        # Those that were refused were no requests.
        assert health.traffic.requests == FAILURES_TO_OPEN + 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Slow(MemoryBackend):
    """Answers when it may; counts how many wait."""

    def __init__(self) -> None:
        super().__init__({"k": b"x"})
        self.may = trio.Event()
        self.under_way = 0
        self.most = 0

    async def stat(self, key: str) -> ObjectStat:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.may.wait()
        self.under_way -= 1
        return await super().stat(key)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        yield await self.stat("k")


def test_a_limit_holds_for_reads_and_listings_and_keeps_no_thread_waiting() -> None:
    async def main() -> None:
        node = Admission(user_limit=3, node_limit=3)
        limit = Admission(user_limit=2, node_limit=2)

        def origin(backend: MemoryBackend, limit: Admission | None = None) -> Origin:
            return Origin(
                [backend], node, absent=AbsentKeys(0), counters=Counters(), offline=lambda: False, limit=limit
            )

        slow, other = Slow(), Slow()
        other.may.set()
        limited, shares, free = origin(slow, limit), origin(slow, limit), origin(other)
        done = 0

        async def read(one: Origin) -> None:
            nonlocal done
            await one.stat("k")
            done += 1

        async def list_all() -> None:
            nonlocal done
            assert [one.key async for one in limited.primary.list_keys("")] == ["k"]
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(read, limited)
                nursery.start_soon(read, shares)
            nursery.start_soon(list_all)
            await trio.testing.wait_all_tasks_blocked()
            assert (slow.under_way, limit.waiting_total) == (2, 7)
            # The node's third thread is free for others.
            await free.stat("k")
            slow.may.set()
        assert (done, slow.most) == (9, 2)
        assert sum(one.health.traffic.requests for origin in (limited, shares) for one in origin.states()) == 9

    trio.run(main)


def test_a_slow_reader_of_a_listing_keeps_no_place() -> None:
    async def main() -> None:
        node, limit = Admission(user_limit=3, node_limit=3), Admission(user_limit=1, node_limit=1)
        backend = MemoryBackend({"a": b"x", "b": b"y"})
        origin = Origin([backend], node, absent=AbsentKeys(0), counters=Counters(), offline=lambda: False, limit=limit)
        found = []
        async for one in origin.primary.list_keys(""):
            with trio.fail_after(1):
                found.append((one.key, (await origin.stat(one.key)).size_bytes))
            assert limit.held is None
        assert sorted(found) == [("a", 1), ("b", 1)]
        assert limit.running_total == 0

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_writes_are_within_the_limit_that_reads_have() -> None:
    """One place: while something is written nothing else is asked, and it waits with no thread of the node's."""
    hold = Hold(trio.Event(), trio.Event())
    backend = FlakyBackend(MemoryBackend({"old": b"1", "kept": b"2"}), [hold])
    admission, limit = Admission(user_limit=4, node_limit=4), Admission(user_limit=1, node_limit=1)
    origin = Origin(
        [backend], admission, absent=AbsentKeys(5.0), counters=Counters(), offline=lambda: False, limit=limit
    )
    (state,) = origin.states()

    async def write(key: str) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"12345")
            file.flush()
            await origin.primary.write_from(key, file.fileno(), 5, token=key)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, "first")
            await hold.reached.wait()
            nursery.start_soon(write, "second")
            nursery.start_soon(partial(origin.primary.undo_write, "third", token="third"))
            nursery.start_soon(partial(origin.primary.settle_write, "fourth", token="fourth"))
            nursery.start_soon(origin.primary.delete, "old")
            nursery.start_soon(origin.stat, "kept")
            await trio.testing.wait_all_tasks_blocked()
            assert [one.key for one in backend.calls] == ["first"]
            assert (limit.running_total, limit.waiting_total) == (1, 5)
            assert admission.running_total == 0
            hold.release.set()
        assert sorted(one.method for one in backend.calls) == sorted(
            ["write_from", "write_from", "undo_write", "settle_write", "delete", "stat"]
        )
        assert (limit.running_total, limit.waiting_total) == (0, 0)
        assert state.health.traffic.requests == 6

    trio.run(main)


def test_a_write_that_fails_gives_its_place_back_and_is_counted() -> None:
    backend = FlakyBackend(MemoryBackend({"old": b"1"}), [TransientBackendError("x")])
    limit = Admission(user_limit=1, node_limit=1)
    traffic = Traffic()
    metered = MeteredBackend(backend, traffic, limit)

    async def main() -> None:
        with pytest.raises(TransientBackendError):
            await metered.delete("old")
        assert limit.running_total == 0
        await metered.delete("old")
        assert (traffic.requests, traffic.under_way, dict(traffic.errors)) == (2, 0, {"backend_transient": 1})

    trio.run(main)
