"""An origin that fails is left alone, and probed; what is absent is not asked for again and again."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from pantry.daemon.transfers.absent import AbsentKeys
from pantry.daemon.transfers.health import FAILURES_TO_OPEN, Health
from pantry.errors import ObjectNotFoundError, OriginUnavailableError, TransientBackendError


class Longest(random.Random):
    """No jitter: always the longest wait."""

    def uniform(self, a: float, b: float) -> float:
        return b


def timed(check: Callable[[trio.testing.MockClock], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock()
    trio.run(check, clock, clock=clock)


def fail(health: Health, retry_after_s: float | None = None) -> None:
    with pytest.raises(TransientBackendError, match="broke"), health.admit():
        raise TransientBackendError("it broke", retry_after_s=retry_after_s)


def refused(health: Health) -> OriginUnavailableError:
    with pytest.raises(OriginUnavailableError) as caught, health.admit():
        raise AssertionError("it was let in")
    return caught.value


def succeed(health: Health) -> None:
    with health.admit():
        pass


def opened() -> Health:
    health = Health("s3://b", jitter=Longest())
    for _ in range(FAILURES_TO_OPEN):
        fail(health)
    return health


def test_after_some_failures_in_a_row_nobody_passes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = Health("s3://b", jitter=Longest())
        for _ in range(2):
            fail(health)
        succeed(health)  # not in a row
        for _ in range(2):
            fail(health)
        with pytest.raises(ObjectNotFoundError), health.admit():
            raise ObjectNotFoundError("an answer")
        assert caplog.records == []
        for _ in range(3):
            fail(health)
        error = refused(health)
        assert "s3://b" in error.message
        assert "in 0.5 s" in error.message
        assert "it broke" in error.message
        assert error.fields["retry_after_s"] == 0.5
        clock.jump(0.5)
        succeed(health)
        succeed(health)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_waits_double_up_to_a_minute() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = opened()
        waits = []
        for _ in range(12):
            waits.append(refused(health).fields["retry_after_s"])
            clock.jump(float(str(waits[-1])))
            fail(health)
        assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]


def test_full_jitter() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        waits = set()
        for seed in range(50):
            health = Health("x", jitter=random.Random(seed))
            for _ in range(FAILURES_TO_OPEN):
                fail(health)
            waits.add(float(str(refused(health).fields["retry_after_s"])))
        assert len(waits) == 50
        assert min(waits) < 0.1
        assert max(waits) <= 0.5


def test_what_the_service_asks_for_is_granted() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = Health("x", jitter=Longest())
        for _ in range(3):
            fail(health, retry_after_s=7.0)
        assert refused(health).fields["retry_after_s"] == 7.0


def test_one_probe_at_a_time() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = opened()
        clock.jump(1)
        with health.admit():
            assert "again now" in refused(health).message
        succeed(health)
        with health.admit(), health.admit():
            pass


def test_a_cancelled_probe_frees_its_place() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = opened()
        clock.jump(1)
        with trio.CancelScope() as scope:
            scope.cancel()
            with health.admit():
                await trio.lowlevel.checkpoint()
        assert not health.is_well
        succeed(health)
        assert health.is_well


def test_stragglers_do_not_lengthen_the_wait() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        health = Health("x", jitter=Longest())
        stragglers = [health.admit() for _ in range(20)]
        for one in stragglers:
            one.__enter__()
        for one in stragglers:
            error = TransientBackendError("it broke")
            assert not one.__exit__(TransientBackendError, error, None)
        assert refused(health).fields["retry_after_s"] == 0.5


def test_absence_is_remembered_for_a_while() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        absent = AbsentKeys(5.0, max_keys=3)
        for key in "abcd":
            absent.remember(key, asked_at=absent.writes)
        assert [key in absent for key in "abcd"] == [False, True, True, True]
        assert len(absent) == 3
        absent.forget("b")
        assert "b" not in absent
        clock.jump(5)
        assert [key in absent for key in "cd"] == [False, False]
        assert len(absent) == 0


def test_an_answer_from_before_a_write_is_not_remembered() -> None:
    @timed
    async def check(clock: trio.testing.MockClock) -> None:
        absent = AbsentKeys(5.0)
        asked_at = absent.writes
        absent.forget("k")
        absent.remember("k", asked_at=asked_at)
        assert "k" not in absent
        never = AbsentKeys(0.0)
        never.remember("k", asked_at=never.writes)
        assert "k" not in never
