"""What the disk does not keep is found, put aside, and not handed out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
import xxhash

from pantry.daemon.cache import quarantine
from pantry.daemon.cache.account import charged
from pantry.daemon.cache.damage import damage
from pantry.daemon.cache.index import CacheIndex, Remembered
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.scrub import Scrub
from pantry.daemon.cache.verifying import BLOCK_BYTES, Verdict
from pantry.daemon.config import CacheConfig
from pantry.errors import InvalidRequestError

QUOTA = 100 * 1024 * 1024


def config_in(directory: Path, **more: object) -> CacheConfig:
    return CacheConfig(
        directory=str(directory / "cache"),
        quota_bytes=QUOTA,
        keep_free_bytes=0,
        keep_free_inodes=0,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., ObjectCache]]:
    made: list[ObjectCache] = []

    def make_one(**more: object) -> ObjectCache:
        made.append(ObjectCache(config_in(tmp_path, **more)))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def store(cache: ObjectCache, content: bytes) -> ObjectId:
    """Make an object the way that transfers do."""
    reservation = cache.reserve(len(content))
    path = os.path.join(cache.incoming, "one")
    Path(path).write_bytes(content)
    reservation.use(reservation.left_bytes)
    object_id = ObjectId("realm", xxhash.xxh3_128_hexdigest(content))
    cache.publish(path, object_id, len(content), name="a/b")
    cache.came_from(object_id, "repo", "a/b")
    return object_id


def verify(cache: ObjectCache, object_id: ObjectId) -> Verdict:
    return trio.run(cache.verifier.verify, object_id)


def read(cache: ObjectCache, object_id: ObjectId) -> bytes | None:
    fd = trio.run(cache.open, object_id)
    if fd is None:
        return None
    with open(fd, "rb") as file:
        return file.read()


SIZES = (0, 1, 4095, 4096, 10_000, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES + 12345)


@pytest.mark.parametrize("size", SIZES)
def test_sound_objects_of_all_lengths_are_whole(make: Callable[..., ObjectCache], size: int) -> None:
    cache = make()
    one = store(cache, os.urandom(size))
    assert verify(cache, one) is Verdict.WHOLE
    assert one in cache
    assert cache.disk.usable
    assert (cache.counters.verified_objects, cache.counters.verified_bytes) == (1, size)


@pytest.mark.parametrize(
    ("how", "at"), [("flip", 0), ("flip", 99_999), ("zero", 50_000), ("truncate", 5), ("truncate", 0)]
)
def test_damage_is_found_and_put_aside(make: Callable[..., ObjectCache], how: str, at: int) -> None:
    cache = make()
    one = store(cache, os.urandom(100_000))
    with open(cache.path_of(one), "rb") as reader:
        damage(cache.path_of(one), how, at)  # type: ignore[arg-type]
        assert verify(cache, one) is Verdict.DAMAGED
        assert one not in cache
        assert read(cache, one) is None
        reader.read()
    assert len(os.listdir(cache.disk.quarantine)) == 1
    assert cache.counters.quarantined_objects == 1
    # What is put aside takes room, and is the first to make some.
    assert cache.used_bytes == charged(100_000)
    assert cache.evict(1) == charged(100_000)
    assert (cache.used_bytes, os.listdir(cache.disk.quarantine)) == (0, [])


def test_a_file_that_became_shorter_or_longer_is_not_handed_out(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    for length in (10, 2000):
        one = store(cache, os.urandom(1000))
        os.chmod(cache.path_of(one), 0o600)
        os.truncate(cache.path_of(one), length)
        assert read(cache, one) is None
        assert one not in cache


def test_damage_beyond_the_end_or_without_effect_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    for how, at in (("flip", 8192), ("truncate", 9000), ("zero", 0)):
        with pytest.raises(InvalidRequestError):
            damage(str(path), how, at)  # type: ignore[arg-type]
    assert path.read_bytes() == bytes(8192)


def test_few_damaged_files_are_kept_the_newest(
    make: Callable[..., ObjectCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST_FILES", 3)
    cache = make()
    made = [store(cache, os.urandom(1000)) for _ in range(5)]
    for one in made:
        damage(cache.path_of(one), "flip", 0)
        assert verify(cache, one) is Verdict.DAMAGED
    kept = {name.rsplit("-", 1)[1] for name in os.listdir(cache.disk.quarantine)}
    assert kept == {one.hash for one in made[2:]}
    assert cache.used_bytes == cache.quarantine.size_bytes == 3 * charged(1000)


def test_a_damaged_file_that_is_too_large_is_removed(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    one = store(cache, os.urandom(int(QUOTA * quarantine.SHARE) + 1))
    damage(cache.path_of(one), "flip", 0)
    assert verify(cache, one) is Verdict.DAMAGED
    assert (cache.used_bytes, os.listdir(cache.disk.quarantine)) == (0, [])


def test_quarantined_files_are_counted_after_a_restart(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    one = store(cache, os.urandom(1000))
    damage(cache.path_of(one), "flip", 0)
    verify(cache, one)
    cache.close()
    again = make()
    assert again.used_bytes == again.quarantine.size_bytes == charged(1000)
    assert one not in again


def test_whoever_is_in_a_hurry_joins_the_slow_reading(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    one = store(cache, os.urandom(3 * BLOCK_BYTES))

    async def run() -> list[Verdict]:
        found: list[Verdict] = []

        async def slow() -> None:
            # At this rate it takes half a day.
            found.append(await cache.verifier.verify(one, bytes_per_s=BLOCK_BYTES // 40_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(30):
                found.append(await cache.verifier.verify(one))
        return found

    assert trio.run(run) == [Verdict.WHOLE] * 2
    assert cache.counters.verified_objects == 1


def test_the_scrub_goes_by_age_and_has_damage_fetched_again(make: Callable[..., ObjectCache]) -> None:
    cache = make(scrub_interval_s=3600.0)
    made = [store(cache, os.urandom(1000 + number)) for number in range(4)]
    fetched: list[tuple[ObjectId, str, str]] = []

    async def refetch(object_id: ObjectId, known: Remembered) -> None:
        fetched.append((object_id, known.repository, known.key))

    scrub = Scrub(cache, refetch)
    assert scrub.find_due() == []
    for age, one in enumerate(reversed(made[:3])):
        entry = cache.entry(one)
        assert entry is not None
        entry.verified_ns = time.time_ns() - (4000 + age) * 10**9
    assert scrub.find_due() == made[:3]
    assert scrub.due == 3
    damage(cache.path_of(made[1]), "flip", 7)
    for one in scrub.find_due():
        trio.run(scrub.scrub_one, one, 10**9)
    assert scrub.due == 0
    assert scrub.find_due() == []
    assert fetched == [(made[1], "repo", "a/b")]


def test_the_scrub_keeps_its_rate(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    one = store(cache, os.urandom(5 * BLOCK_BYTES))

    async def run() -> float:
        begun = trio.current_time()
        await cache.verifier.verify(one, bytes_per_s=BLOCK_BYTES)
        return trio.current_time() - begun

    # The clock jumps over waiting only. The last block needs no wait after it.
    assert trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0)) == pytest.approx(4, abs=0.5)


def test_what_is_known_of_objects_survives_a_restart(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    made = [store(cache, os.urandom(1000)) for _ in range(3)]
    trio.run(cache.write_index)
    before = dict(cache.items())
    cache.drop(made[0])
    cache.close()
    again = make()
    assert dict(again.items()) == {one: before[one] for one in made[1:]}
    assert before[made[1]].repository == "repo"


def crash(cache: ObjectCache) -> None:
    """End without writing anything, as kill -9 does."""
    cache.disk.close()
    cache.close = lambda: None  # type: ignore[method-assign]


def test_after_a_crash_of_the_machine_what_the_index_does_not_name_is_read_first(
    make: Callable[..., ObjectCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make()
    named = store(cache, os.urandom(1000))
    trio.run(cache.write_index)
    sound, lost = store(cache, os.urandom(1000)), store(cache, os.urandom(1000))
    crash(cache)
    monkeypatch.setattr("pantry.daemon.cache.index._boot_id", lambda: "another")
    again = make()
    assert {one: entry.verified for one, entry in again.items()} == {named: True, sound: False, lost: False}
    damage(again.path_of(lost), "zero", 0)
    assert read(again, lost) is None
    assert read(again, sound) is not None
    assert again.counters.verified_objects == 1


def test_after_a_kill_of_the_daemon_the_tree_is_believed(make: Callable[..., ObjectCache]) -> None:
    cache = make()
    one = store(cache, os.urandom(1000))
    crash(cache)
    again = make()
    entry = again.entry(one)
    assert entry is not None
    assert entry.verified
    assert again.used_bytes == charged(1000)


def test_an_index_of_an_older_version_or_of_rubbish_is_made_anew(
    tmp_path: Path, make: Callable[..., ObjectCache]
) -> None:
    cache = make()
    one = store(cache, os.urandom(1000))
    cache.close()
    path = tmp_path / "cache" / "index.sqlite3"
    path.write_bytes(b"rubbish" * 1000)
    assert one in CacheIndex(str(tmp_path / "cache")).load()
    import sqlite3

    with sqlite3.connect(path) as db:
        db.executescript("DROP TABLE object; CREATE TABLE object (x); PRAGMA user_version = 1")
    assert one in CacheIndex(str(tmp_path / "cache")).load()


def test_a_new_object_is_synced_before_its_row_and_a_read_is_not(
    make: Callable[..., ObjectCache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make()
    told: list[bool] = []
    write = cache._index.write
    monkeypatch.setattr(cache._index, "write", lambda *a, **k: (told.append(k["synced"]), write(*a, **k)))
    one = store(cache, os.urandom(1000))
    trio.run(cache.write_index)
    read(cache, one)
    trio.run(cache.write_index)
    trio.run(cache.write_index)
    assert told == [False, True]
