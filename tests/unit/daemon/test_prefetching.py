from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.datasets.prefetching import AT_ONCE, MOST_FAILURES, PrefetchRun, choose
from pantry.daemon.datasets.selecting import SelectedFile
from pantry.errors import BackendError, CacheFullError
from pantry.model.datasets import StoredFile
from pantry.wire.operations import PrefetchProgress


def file(name: str, size: int = 10) -> SelectedFile:
    stored = StoredFile(path=name, size_bytes=size, hash=name, formatter="bytes", ingest_ns=1)
    return SelectedFile(ObjectId("realm", name), stored, f"run/{name}")


class FakeCache:
    def __init__(self, *there: str) -> None:
        self.there = {ObjectId("realm", name) for name in there}
        self.leases: set[ObjectId] = set()

    def __contains__(self, object_id: ObjectId) -> bool:
        return object_id in self.there

    @contextlib.contextmanager
    def leased(self, object_id: ObjectId) -> Iterator[None]:
        self.leases.add(object_id)
        try:
            yield
        finally:
            self.leases.discard(object_id)


def test_all_or_nothing_unless_a_part_will_do() -> None:
    cache = FakeCache("c")
    blocks = 4096
    files = [file("a", 4 * blocks), file("b", 5 * blocks), file("c", 3 * blocks), file("d", 5)]
    assert choose(cache, files, room_bytes=13 * blocks, partial=False) == (files, [])
    with pytest.raises(CacheFullError, match=f"4 files need {13 * blocks} bytes; the cache has room for 53247"):
        choose(cache, files, room_bytes=13 * blocks - 1, partial=False)
    chosen, left_out = choose(cache, files, room_bytes=8 * blocks, partial=True)
    assert [one.file.path for one in chosen] == ["c", "a", "d"], "what is there already stays"
    assert [one.file.path for one in left_out] == ["b"]


def test_files_are_fetched_side_by_side_and_stay_leased() -> None:
    files = [file(f"f{number}") for number in range(100)]
    cache = FakeCache()
    told: list[PrefetchProgress] = []
    under_way = most = 0

    async def fetch(one: SelectedFile) -> bool:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        assert one.object_id in cache.leases
        await trio.sleep(1)
        under_way -= 1
        assert len(cache.leases) >= under_way
        return one.name != "run/f3"

    async def emit(progress: PrefetchProgress) -> None:
        told.append(progress)

    async def main() -> None:
        begun = trio.current_time()
        await PrefetchRun(cache, files, [file("x", 7)]).run(fetch, emit)
        assert trio.current_time() - begun == pytest.approx(-(-100 // AT_ONCE), abs=0.2)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert most == AT_ONCE
    assert cache.leases == set()
    first, last = told[0], told[-1]
    assert (first.files_done, first.files_total, first.bytes_total) == (0, 100, 1000)
    assert (last.files_done, last.bytes_done, last.fetched_files, last.fetched_bytes) == (100, 1000, 99, 990)
    assert (last.left_out_files, last.left_out_bytes) == (1, 7)
    assert 4 <= len(told) <= 8, "told as it goes on, but not for every file"


def test_failures_do_not_stop_the_others_and_a_hundred_are_told() -> None:
    files = [file(f"f{number}") for number in range(150)] + [file("good")]
    told: list[PrefetchProgress] = []

    async def fetch(one: SelectedFile) -> bool:
        await trio.sleep(1)
        if one.name != "run/good":
            raise BackendError(f"no {one.name}")
        return True

    async def emit(progress: PrefetchProgress) -> None:
        told.append(progress)

    async def main() -> None:
        await PrefetchRun(FakeCache(), files, []).run(fetch, emit)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    failures = [failure for progress in told for failure in progress.failures]
    assert len(failures) == len({one.name for one in failures}) == MOST_FAILURES
    assert failures[0].code == "backend"
    assert failures[0].message.startswith("no run/f")
    assert told[-1].failed_files == 150
    assert told[-1].files_done == 151
    assert told[-1].fetched_files == 1


def test_cancelled_with_the_request_also_while_nobody_reads() -> None:
    cache = FakeCache()

    async def fetch(one: SelectedFile) -> bool:
        await trio.sleep(0.3)
        return True

    calls = 0

    async def emit(_: PrefetchProgress) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            await trio.sleep_forever()

    async def main() -> None:
        with trio.move_on_after(5) as scope:
            await PrefetchRun(cache, [file(f"f{number}") for number in range(1000)], []).run(fetch, emit)
        assert scope.cancelled_caught
        assert trio.current_time() - scope.deadline < 1

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert cache.leases == set()


def test_a_peer_that_went_away_is_no_group_of_errors() -> None:
    cache = FakeCache()
    calls = 0

    async def fetch(one: SelectedFile) -> bool:
        await trio.sleep(0.3)
        return True

    async def emit(_: PrefetchProgress) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise BrokenPipeError

    async def main() -> None:
        with pytest.raises(BrokenPipeError):
            await PrefetchRun(cache, [file(f"f{number}") for number in range(1000)], []).run(fetch, emit)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert cache.leases == set()
