"""The lane of small puts: who is committed with whom, and what is told when the turn or the thread fails."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from pantry.daemon.datasets import lanes
from pantry.daemon.datasets.lanes import CommitLane, LanePut
from pantry.errors import LimitExceededError
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile

KIND = DatasetType(name="log", dimensions=(), storage_class="StructuredDataDict")


class Turns:
    """Gives turns when ``gate`` is open; the first ``refused`` get none, and fail."""

    def __init__(self, refused: int = 0) -> None:
        self.asked = 0
        self.gate = trio.Event()
        self.askers: list[Any] = []
        self.fail_in_thread: Exception | None = None
        self._refused = refused

    @asynccontextmanager
    async def turn(self, askers: Any) -> AsyncIterator[Any]:
        self.asked += 1
        self.askers.append(askers)
        asked = self.asked
        await self.gate.wait()
        if asked <= self._refused:
            raise LimitExceededError("no turn")
        yield self

    async def run(self, work: Callable[[], None]) -> None:
        await trio.to_thread.run_sync(work)
        if self.fail_in_thread is not None:
            raise self.fail_in_thread


class Services:
    """Journal, storage and registry in one, which note what they are asked."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.settled: list[str] = []
        self.cleared: list[str] = []
        self.at_journal: Callable[[], None] = lambda: None

    @property
    def registry(self) -> Services:
        return self

    def record_all(self, intents: Any) -> None:
        self.groups.append([one.token for one in intents])
        self.at_journal()

    def write_batch(self, writes: Any) -> list[None]:
        return [None for _ in writes]

    def insert_each(self, inserts: Any) -> list[None]:
        return [None for _ in inserts]

    def settle_batch(self, written: Any) -> list[None]:
        self.settled += [token for _, token in written]
        return [None for _ in written]

    def clear(self, token: str) -> None:
        self.cleared.append(token)


def make_put(name: str, uid: int = 1) -> LanePut:
    put = LanePut()
    put.uid = uid
    nowhere = DataCoordinate((), ())
    ref = DatasetRef(id=uuid.uuid5(uuid.NAMESPACE_URL, name), dataset_type=KIND, data_id=nowhere, run="r")
    file = StoredFile(path=name, size_bytes=1, hash="0" * 32, formatter="json", ingest_ns=1)
    put.accept(lanes.Intent(name, ()), ref, file, b"x", {})
    return put


class World:
    """A lane, and what became of puts."""

    def __init__(self, nursery: trio.Nursery, refused: int) -> None:
        self.turns = Turns(refused)
        self.services = Services()
        one: Any = self.services
        self.lane = CommitLane(one, one, one, self.turns, nursery)  # type: ignore[arg-type]
        self.told: dict[str, str] = {}
        self.nursery = nursery

    async def begin(self, *names: str, uid: int = 1) -> None:
        for name in names:
            self.nursery.start_soon(self._commit, name, uid)
            await trio.testing.wait_all_tasks_blocked()

    async def _commit(self, name: str, uid: int) -> None:
        try:
            await self.lane.commit(make_put(name, uid))
        except (LimitExceededError, OSError) as exc:
            self.told[name] = str(exc)
        else:
            self.told[name] = "stored"


def in_world(use: Callable[[World], Awaitable[None]], refused: int = 0) -> World:
    made: list[World] = []

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                made.append(World(nursery, refused))
                await use(made[0])

    trio.run(main)
    return made[0]


def test_whoever_gets_no_turn_is_not_stored_later_and_the_next_one_goes_on() -> None:
    async def use(world: World) -> None:
        await world.begin("first", "second")
        world.turns.gate.set()

    world = in_world(use, refused=1)
    assert world.told == {"first": "no turn", "second": "stored"}
    assert world.services.groups == [["second"]], "what the first caller was told has failed is never stored"


def test_those_who_wait_are_one_group_and_those_who_come_meanwhile_the_next_of_the_same_turn() -> None:
    async def use(world: World) -> None:
        await world.begin("a", "b")

        def more() -> None:
            world.services.at_journal = lambda: None
            trio.from_thread.run(world.begin, "c", "d")

        world.services.at_journal = more
        world.turns.gate.set()

    world = in_world(use)
    assert world.services.groups == [["a", "b"], ["c", "d"]]
    assert world.turns.asked == 1
    assert set(world.told.values()) == {"stored"}
    assert world.services.settled == world.services.cleared == ["a", "b", "c", "d"]


def test_a_turn_is_given_up_after_so_many_puts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "MOST_PUTS", 3)

    async def use(world: World) -> None:
        await world.begin(*"abcdefg")
        world.turns.gate.set()

    world = in_world(use)
    assert world.services.groups == [["a", "b", "c"], ["d", "e", "f"], ["g"]]
    assert world.turns.asked == 3
    assert sorted(world.services.settled) == sorted("abcdefg")


def test_nobody_is_told_that_it_is_stored_when_the_thread_did_not_run() -> None:
    async def use(world: World) -> None:
        async def no_thread(work: Callable[[], None]) -> None:
            raise OSError("can't start new thread")

        world.turns.run = no_thread  # type: ignore[method-assign]
        await world.begin("a", "b")
        world.turns.gate.set()

    world = in_world(use)
    assert world.told == {"a": "can't start new thread", "b": "can't start new thread"}
    assert world.services.groups == []


def test_what_is_stored_stays_stored_when_the_thread_fails_afterwards(caplog: pytest.LogCaptureFixture) -> None:
    async def use(world: World) -> None:
        world.turns.fail_in_thread = OSError("the tidying up failed")
        await world.begin("a", "b")
        world.turns.gate.set()

    world = in_world(use)
    assert world.told == {"a": "stored", "b": "stored"}
    assert "cannot be tidied up" in caplog.text
    caplog.clear()


def test_answers_are_given_before_anything_is_tidied_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(world: World) -> None:
        settled_at: list[dict[str, str]] = []
        settle = world.services.settle_batch

        def noting(written: Any) -> list[None]:
            if written:
                settled_at.append(dict(world.told))
            return settle(written)

        world.services.settle_batch = noting  # type: ignore[method-assign]
        monkeypatch.setattr(lanes, "LINGER_S", 20.0)
        await world.begin("a")
        world.turns.gate.set()
        while "a" not in world.told:
            await trio.lowlevel.checkpoint()
        assert settled_at == []
        world.services.at_journal = lambda: monkeypatch.setattr(lanes, "LINGER_S", 0.0)
        await world.begin("b")
        while "b" not in world.told:
            await trio.lowlevel.checkpoint()
        assert settled_at[0] == {"a": "stored"}
        assert world.services.groups == [["a"], ["b"]]

    world = in_world(use)
    assert world.turns.asked == 1, "the thread waited for the next put"


def test_a_user_who_comes_while_the_turn_is_waited_for_asks_for_it_too() -> None:
    async def use(world: World) -> None:
        await world.begin("a", uid=1)
        await world.begin("b", uid=2)
        assert list(world.turns.askers[0]) == [1, 2]
        world.turns.gate.set()

    assert in_world(use).told == {"a": "stored", "b": "stored"}
