"""Answers of services in the cache: one request for all, kept as long as declared, within the quota."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pantry.backends.admission import Admission
from pantry.backends.querying import Query, QueryOutcome, Statement
from pantry.daemon.cache.object_id import ObjectId, answers_realm
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import CacheConfig
from pantry.daemon.queries import growth
from pantry.daemon.queries.answers import Answer, Answers, Question
from pantry.daemon.transfers.health import Health
from pantry.errors import (
    CacheFullError,
    InvalidQueryError,
    LimitExceededError,
    NotCachedError,
    OriginUnavailableError,
    PantryError,
    TransientBackendError,
)

MIB = 1024 * 1024
FOREVER = float("inf")


class Scripted:
    """A query backend that writes what it is told, and waits where it is told."""

    location = "test://service"
    kinds: tuple[type[Query], ...] = (Statement,)

    def __init__(self) -> None:
        self.runs = 0
        self.cancelled = 0
        self.content: Callable[[int], bytes] = lambda run: b"answer %d" % run
        self.error: PantryError | None = None
        self.gate: trio.Event | None = None
        self.started = trio.Event()

    async def run_into(self, query: Query, fd: int) -> QueryOutcome:
        self.runs += 1
        self.started.set()
        if self.gate is not None:
            try:
                await self.gate.wait()
            except trio.Cancelled:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        content = self.content(self.runs)
        for offset in range(0, len(content), MIB):
            os.write(fd, content[offset : offset + MIB])
            await trio.sleep(growth.WATCH_S)
        return QueryOutcome(rows=1, size_bytes=len(content))

    async def aclose(self) -> None:
        pass


class Node:
    """Answers over a cache, one backend, and a question."""

    def __init__(self, cache: ObjectCache, nursery: trio.Nursery) -> None:
        self.cache = cache
        self.backend = Scripted()
        self.offline = False
        self.admission = Admission(user_limit=2, node_limit=4)
        self.answers = Answers(cache, nursery, self.admission, lambda: self.offline)
        self.health = Health("the service")

    async def ask(
        self,
        name: str = "q",
        *,
        ttl_s: float = FOREVER,
        max_bytes: int = 100 * MIB,
        uid: int = 1,
        cached_only: bool = False,
    ) -> tuple[bytes, Answer]:
        question = Question(
            ObjectId(answers_realm("s"), name.encode().hex().rjust(32, "0")),
            Statement(text=name),
            name,
            ttl_s,
            60.0,
            max_bytes,
        )
        answer = await self.answers.open(self.backend, self.health, question, uid=uid, cached_only=cached_only)
        content = os.pread(answer.fd, answer.size_bytes + 1, 0)
        os.close(answer.fd)
        return content, answer


@asynccontextmanager
async def running(directory: Path, *, quota_bytes: int = 64 * MIB) -> AsyncIterator[Node]:
    cache = ObjectCache(CacheConfig(directory=str(directory), quota_bytes=quota_bytes, keep_free_bytes=0))
    try:
        async with trio.open_nursery() as nursery:
            node = Node(cache, nursery)
            yield node
            nursery.cancel_scope.cancel()
        assert cache.reserved_bytes == 0
        assert os.listdir(cache.incoming) == []
    finally:
        cache.close()


def test_ten_users_asking_the_same_cause_one_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.gate = trio.Event()
            found: list[bytes] = []

            async def ask(uid: int) -> None:
                found.append((await node.ask(uid=uid))[0])

            async with trio.open_nursery() as nursery:
                for uid in range(10):
                    nursery.start_soon(ask, uid)
                await trio.testing.wait_all_tasks_blocked()
                node.backend.gate.set()
            assert found == [b"answer 1"] * 10
            content, answer = await node.ask(uid=11)
            assert (content, answer.was_cached, node.backend.runs) == (b"answer 1", True, 1)

    trio.run(main)


def test_what_is_kept_for_a_time_is_asked_again_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            now_ns = [1_000_000_000_000]
            monkeypatch.setattr("time.time_ns", lambda: now_ns[0])
            (first, one), (again, _) = await node.ask(ttl_s=5.0), await node.ask(ttl_s=5.0)
            assert (first, again) == (b"answer 1", b"answer 1")
            now_ns[0] += 5_000_000_000
            second, two = await node.ask(ttl_s=5.0)
            assert second == b"answer 2"
            assert one.hash != two.hash
            assert two.answered_ns == now_ns[0]
            now_ns[0] += 10**18
            assert (await node.ask())[0] == b"answer 2", "declared fixed, it holds"
            assert len(node.cache) == 1

    trio.run(main)


def test_what_is_not_kept_is_nobody_elses(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.gate = trio.Event()
            found: list[bytes] = []

            async def ask() -> None:
                found.append((await node.ask(ttl_s=0.0))[0])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                node.backend.gate.set()
            assert len(found) == node.backend.runs == 2
            assert len(node.cache) == 0
            node.cache.lingering.settle()
            assert node.cache.used_bytes == 0

    trio.run(main)


def test_a_query_that_nobody_waits_for_is_cancelled_and_one_that_somebody_does_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.gate = trio.Event()
            found: list[bytes] = []

            async def ask(scope: trio.CancelScope) -> None:
                with scope:
                    found.append((await node.ask())[0])

            first, second = trio.CancelScope(), trio.CancelScope()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, first)
                nursery.start_soon(ask, second)
                await trio.testing.wait_all_tasks_blocked()
                first.cancel()
                await trio.testing.wait_all_tasks_blocked()
                assert node.backend.cancelled == 0
                second.cancel()
                await trio.testing.wait_all_tasks_blocked()
            assert node.backend.cancelled == 1
            node.backend.gate.set()
            assert (await node.ask())[0] == b"answer 2"

    trio.run(main)


def test_an_answer_that_the_quota_has_no_room_for_is_stopped(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, quota_bytes=8 * MIB) as node:
            node.backend.content = lambda run: bytes(40 * MIB)
            with pytest.raises(CacheFullError):
                await node.ask()
            assert node.cache.used_bytes == 0
            node.backend.content = lambda run: b"small"
            assert (await node.ask())[0] == b"small"

    trio.run(main)


def test_an_answer_that_is_too_long_is_no_part_of_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.content = lambda run: bytes(3 * MIB)
            with pytest.raises(LimitExceededError, match="max_bytes"):
                await node.ask(max_bytes=2 * MIB)
            assert len(node.cache) == 0

    trio.run(main)


def test_errors_reach_all_who_wait_and_are_not_kept(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.error = InvalidQueryError("no such table")
            for _ in range(5):
                with pytest.raises(InvalidQueryError, match="no such table"):
                    await node.ask()
            node.backend.error = TransientBackendError("it is down")
            for _ in range(3):
                with pytest.raises(TransientBackendError, match="it is down"):
                    await node.ask()
            runs = node.backend.runs
            with pytest.raises(OriginUnavailableError, match="is tried again"):
                await node.ask()
            assert node.backend.runs == runs, "a service that failed is left alone for a while"

    trio.run(main)


def test_a_query_that_takes_too_long(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            node.backend.gate = trio.Event()
            with pytest.raises(LimitExceededError, match="longer than the 60 s"):
                await node.ask()
            assert node.backend.cancelled == 1

    trio.run(main, clock=trio.testing.MockClock(rate=1000))


def test_offline_and_cached_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as node:
            with pytest.raises(NotCachedError):
                await node.ask(cached_only=True)
            await node.ask()
            node.offline = True
            assert (await node.ask(cached_only=True))[0] == b"answer 1"
            assert (await node.ask())[0] == b"answer 1"
            with pytest.raises(OriginUnavailableError):
                await node.ask("another")

    trio.run(main)


def test_answers_outlive_the_daemon(tmp_path: Path) -> None:
    async def ask() -> tuple[bytes, bool]:
        async with running(tmp_path) as node:
            content, answer = await node.ask()
            return content, answer.was_cached

    assert trio.run(ask) == (b"answer 1", False)
    assert trio.run(ask) == (b"answer 1", True)
