"""The lane of small puts when the turn of the one who works for all fails."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
import trio.testing

from pantry.daemon.datasets.lanes import CommitLane, LanePut
from pantry.errors import LimitExceededError


class Turns:
    """Gives turns, but the first asker none: it fails when another one waits too."""

    def __init__(self) -> None:
        self.asked = 0
        self.others_wait = trio.Event()

    @asynccontextmanager
    async def turn(self, askers: Any) -> AsyncIterator[Any]:
        self.asked += 1
        if self.asked == 1:
            await self.others_wait.wait()
            raise LimitExceededError("no turn")
        yield self

    async def run(self, work: Any) -> None:
        work()


class Put(LanePut):
    """Notes that it was to be stored."""

    def __init__(self, name: str, stored: list[str]) -> None:
        super().__init__()
        self._name, self._stored = name, stored

    def make_ready(self) -> None:
        self._stored.append(self._name)
        raise ValueError("enough seen")


def test_whoever_fails_is_not_stored_later_and_the_next_one_goes_on() -> None:
    stored: list[str] = []
    failed: list[str] = []

    async def main() -> None:
        turns = Turns()
        nothing: Any = Nothing()
        with trio.fail_after(30):
            await both(turns, nothing)

    async def both(turns: Turns, nothing: Any) -> None:
        async with trio.open_nursery() as nursery:
            lane = CommitLane(nothing, nothing, nothing, turns, nursery)  # type: ignore[arg-type]

            async def commit(name: str) -> None:
                try:
                    await lane.commit(Put(name, stored))
                except (LimitExceededError, ValueError) as exc:
                    failed.append(f"{name}: {exc}")

            nursery.start_soon(commit, "first")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(commit, "second")
            await trio.testing.wait_all_tasks_blocked()
            turns.others_wait.set()

    trio.run(main)
    assert stored == ["second"], "what the first caller was told has failed is never stored"
    assert sorted(failed) == ["first: no turn", "second: enough seen"]


class Nothing:
    """Storage, journal and registry of a lane in which nothing gets so far."""

    @property
    def registry(self) -> Nothing:
        return self

    def insert_each(self, inserts: Any) -> list[Any]:
        assert inserts == []
        return []

    def record_all(self, intents: Any) -> None:
        assert intents == []

    def write_batch(self, writes: Any) -> list[Any]:
        assert writes == []
        return []

    def settle_batch(self, written: Any) -> list[Any]:
        assert written == []
        return []
