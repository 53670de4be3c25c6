"""The cache leaves the file system's floors alone, and tells when it cannot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pantry.daemon.cache.disk import DiskState, mount_point
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import CacheConfig
from pantry.errors import CacheDiskError, CacheFullError

KIB = 1024
FLOOR = 100 * KIB
SIZE = 12 * KIB


class Disk:
    """A file system of a size, as far as `statvfs` tells: files take whole blocks of 1 KiB."""

    def __init__(self, cache: Path, *, free_bytes: int, free_inodes: int = 1_000_000) -> None:
        self._cache = cache
        self.free_bytes = free_bytes
        self.free_inodes = free_inodes

    def statvfs(self, path: str) -> SimpleNamespace:
        files = [one for one in (self._cache / "objects").rglob("*") if one.is_file()]
        taken = sum(one.stat().st_size for one in files)
        return SimpleNamespace(
            f_bavail=(self.free_bytes - taken) // KIB,
            f_frsize=KIB,
            f_files=2_000_000,
            f_favail=self.free_inodes - len(files),
        )


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ObjectCache]:
    config = CacheConfig(
        directory=str(tmp_path / "cache"), quota_bytes=1 << 40, keep_free_bytes=FLOOR, keep_free_inodes=10
    )
    made = ObjectCache(config)
    yield made
    made.close()


def store(cache: ObjectCache, number: int) -> ObjectId:
    """Make an object the way that transfers do."""
    reservation = cache.reserve(SIZE)
    cache.make_room_for_files(1)
    path = os.path.join(cache.incoming, "one")
    with open(path, "wb") as file:
        file.write(bytes(SIZE))
    reservation.use(reservation.left_bytes)
    object_id = ObjectId("realm", f"{number:032x}")
    cache.publish(path, object_id, SIZE)
    return object_id


def test_least_recently_read_objects_give_way_to_the_floor(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Path(cache.directory), free_bytes=FLOOR + 3 * SIZE)
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    made = [store(cache, number) for number in range(6)]
    assert [one in cache for one in made] == [False] * 3 + [True] * 3
    assert cache.used_bytes == 3 * SIZE
    assert cache.disk.state is DiskState.OK


def test_promised_bytes_count_as_taken(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Path(cache.directory), free_bytes=FLOOR + 3 * SIZE)
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    held = [cache.reserve(SIZE) for _ in range(3)]
    with pytest.raises(CacheDiskError, match="full"):
        cache.reserve(SIZE)
    assert cache.disk.state is DiskState.FULL
    for one in held:
        one.release()


def test_what_others_take_is_given_way_to(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Path(cache.directory), free_bytes=FLOOR + 5 * SIZE)
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    made = [store(cache, number) for number in range(4)]
    disk.free_bytes -= 3 * SIZE
    cache.keep_floors()
    assert [one in cache for one in made] == [False, False, True, True]
    disk.free_bytes = FLOOR - SIZE
    cache.keep_floors()
    assert len(cache) == 0
    assert cache.disk.state is DiskState.FULL
    assert "floor" in cache.disk.reason


def test_inodes_have_a_floor_too(cache: ObjectCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(Path(cache.directory), free_bytes=1 << 40, free_inodes=13)
    monkeypatch.setattr(os, "statvfs", disk.statvfs)
    made = [store(cache, number) for number in range(5)]
    assert [one in cache for one in made] == [False, False, True, True, True]
    disk.free_inodes = 9
    with pytest.raises(CacheDiskError, match="inodes"):
        cache.make_room_for_files(1)
    assert cache.disk.state is DiskState.FULL


def test_nothing_is_promised_while_the_disk_is_not_usable(cache: ObjectCache) -> None:
    cache.disk.failed(OSError(5, "Input/output error"))
    assert cache.disk.state is DiskState.FAILING
    with pytest.raises(CacheDiskError, match="failing: Input/output error"):
        cache.reserve(1)
    with pytest.raises(CacheDiskError):
        cache.make_room_for_files(1)
    assert cache.reserved_bytes == 0


def test_running_out_of_descriptors_is_not_the_disks_fault(cache: ObjectCache) -> None:
    cache.disk.failed(OSError(24, "Too many open files"))
    assert cache.disk.state is DiskState.OK


def test_a_quota_is_told_apart_from_the_disk(tmp_path: Path) -> None:
    cache = ObjectCache(CacheConfig(directory=str(tmp_path / "cache"), quota_bytes=100, keep_free_bytes=0))
    with pytest.raises(CacheFullError, match="quota"):
        cache.reserve(101)
    assert cache.disk.state is DiskState.OK
    cache.close()


def test_a_mount_point_is_found_also_for_what_does_not_exist(tmp_path: Path) -> None:
    assert mount_point("/proc/self/nothing/here") == "/proc"
    assert os.path.ismount(mount_point(str(tmp_path / "a" / "b")))
