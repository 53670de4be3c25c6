from __future__ import annotations

import pytest
import trio
import trio.testing

from pantry.fusefs.expiring import ExpiringMap


class Source:
    def __init__(self) -> None:
        self.asked = 0
        self.takes_s = 0.1

    async def fetch(self) -> int:
        self.asked += 1
        number = self.asked
        await trio.sleep(self.takes_s)
        return number


def run(scenario: object) -> None:
    trio.run(scenario, clock=trio.testing.MockClock(autojump_threshold=0))  # type: ignore[arg-type]


def test_many_ask_and_one_fetches_until_it_is_too_old() -> None:
    async def scenario() -> None:
        kept, source = ExpiringMap[str, int](2.0), Source()
        found: list[int] = []

        async def ask() -> None:
            found.append(await kept.get("k", source.fetch))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(ask)
        assert found == [1] * 10
        await trio.sleep(1.9)
        await ask()
        assert source.asked == 1
        await trio.sleep(0.2)
        await ask()
        assert source.asked == 2

    run(scenario)


def test_whoever_waited_for_a_cancelled_fetch_fetches_itself() -> None:
    async def scenario() -> None:
        kept, source = ExpiringMap[str, int](2.0), Source()
        found: list[int] = []

        async def ask() -> None:
            found.append(await kept.get("k", source.fetch))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(0.05):
                async with trio.open_nursery() as impatient:
                    impatient.start_soon(ask)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    nursery.start_soon(ask)
        assert found == [2]

    run(scenario)


def test_errors_are_not_kept() -> None:
    async def fail() -> int:
        raise ValueError("no")

    async def scenario() -> None:
        kept, source = ExpiringMap[str, int](2.0), Source()
        with pytest.raises(ValueError, match="no"):
            await kept.get("k", fail)
        assert await kept.get("k", source.fetch) == 1

    run(scenario)


def test_a_slow_source_is_asked_less_often_and_the_map_is_bounded() -> None:
    async def scenario() -> None:
        kept, source = ExpiringMap[str, int](2.0, most=2), Source()
        source.takes_s = 1.0
        await kept.get("k", source.fetch)
        await trio.sleep(9.5)
        await kept.get("k", source.fetch)
        assert source.asked == 1
        for key in "ab":
            await kept.get(key, source.fetch)
        await kept.get("k", source.fetch)
        assert source.asked == 4

    run(scenario)


def test_what_is_there_is_given_at_once_until_it_is_too_old() -> None:
    async def scenario() -> None:
        kept, source = ExpiringMap[str, int](2.0), Source()
        assert kept.at_once("k") is None
        await kept.get("k", source.fetch)
        await trio.sleep(1.9)
        assert kept.at_once("k") == 1
        await trio.sleep(0.2)
        assert kept.at_once("k") is None
        assert source.asked == 1

    run(scenario)
