"""Starts of one user's work are spaced while another user is active, and only then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from pantry.backends.admission import Admission, Askers
from pantry.backends.pace import ACTIVE_S, Pace

GREEDY, OTHER = 1, 2
INTERVAL_S = 0.01


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.pace = Pace(INTERVAL_S)
        self.admission = Admission(user_limit=4, node_limit=8, pace=self.pace)
        self.starts: list[tuple[int, float]] = []

    def ask(self, uid: int, count: int, takes_s: float = 0) -> None:
        for _ in range(count):
            self.nursery.start_soon(partial(self._work, uid, takes_s))

    async def _work(self, uid: int, takes_s: float) -> None:
        async with self.admission.turn(Askers([uid])):
            self.starts.append((uid, trio.current_time()))
            await trio.sleep(takes_s)

    def times(self, uid: int) -> list[float]:
        return [at for one, at in self.starts if one == uid]


def run(check: Callable[[World], Awaitable[None]], *, paced: bool = True) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            if paced:
                nursery.start_soon(world.pace.run)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(60):
                await check(world)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_user_who_is_alone_is_not_held_up() -> None:
    async def check(world: World) -> None:
        world.pace.saw(GREEDY)
        begun = trio.current_time()
        world.ask(GREEDY, 100)
        await trio.sleep(INTERVAL_S / 2)
        assert world.times(GREEDY) == [begun] * 100

    run(check)


def test_starts_are_spaced_while_another_user_is_active() -> None:
    async def check(world: World) -> None:
        world.pace.saw(GREEDY)
        world.pace.saw(OTHER)
        begun = trio.current_time()
        world.ask(GREEDY, 5)
        await trio.sleep(1)
        assert world.times(GREEDY) == pytest.approx([begun + number * INTERVAL_S for number in range(5)])

    run(check)


def test_everybody_is_spaced_for_himself() -> None:
    async def check(world: World) -> None:
        world.pace.saw(GREEDY)
        world.pace.saw(OTHER)
        begun = trio.current_time()
        world.ask(GREEDY, 50)
        world.ask(OTHER, 1)
        await trio.sleep(0.001)
        assert world.times(OTHER) == [begun]

    run(check)


def test_whoever_is_alone_again_goes_on_at_full_speed() -> None:
    async def check(world: World) -> None:
        world.pace.saw(OTHER)
        world.ask(GREEDY, 300)
        await trio.sleep(ACTIVE_S + 2 * INTERVAL_S)
        assert len(world.times(GREEDY)) == 300
        spaced = [at for at in world.times(GREEDY) if at < ACTIVE_S]
        assert len(spaced) == pytest.approx(ACTIVE_S / INTERVAL_S, abs=2)

    run(check)


def test_limits_hold_besides() -> None:
    async def check(world: World) -> None:
        world.pace.saw(OTHER)
        world.ask(GREEDY, 6, takes_s=1)
        await trio.sleep(0.5)
        assert len(world.times(GREEDY)) == 4
        await trio.sleep(2)
        assert len(world.times(GREEDY)) == 6

    run(check)


def test_nothing_waits_for_a_pace_that_nobody_keeps() -> None:
    async def check(world: World) -> None:
        world.pace.saw(OTHER)
        world.ask(GREEDY, 20)
        await trio.sleep(INTERVAL_S / 2)
        assert len(world.times(GREEDY)) == 20

    run(check, paced=False)


def test_what_waits_goes_on_when_the_pace_ends() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            world = World(nursery)
            scope = trio.CancelScope()

            async def keep() -> None:
                with scope:
                    await world.pace.run()

            nursery.start_soon(keep)
            await trio.testing.wait_all_tasks_blocked()
            world.pace.saw(OTHER)
            world.ask(GREEDY, 20)
            await trio.testing.wait_all_tasks_blocked()
            assert len(world.starts) == 1
            scope.cancel()

    trio.run(main, clock=trio.testing.MockClock())
