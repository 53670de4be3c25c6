"""The cache's disk fills up, fails, vanishes: reads go on, the daemon says what is wrong, and recovers by itself."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.loop_disk import LoopDisk
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.daemon.cache.account import charged
from pantry.errors import PantryError
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import CacheStatus, EvictObjects, GetCacheStatus

MIB = 1024 * 1024
SIZES = (3000, 700_000, 3 * MIB, 6 * MIB)
WITHIN_S = 30.0
GIVEN_UP = (" WARNING ", " ERROR ")


class Pantry:
    """A daemon whose cache lies on a small disk, and what is stored in its repository."""

    def __init__(self, daemon: PantryDaemon, root: str) -> None:
        self.daemon = daemon
        self.butler = Butler.create("disk", root, socket=daemon.socket)
        furnish(self.butler, n_exposures=100, n_detectors=1)
        self.contents: dict[DatasetRef, bytes] = {}

    def put(self, count: int = len(SIZES)) -> list[DatasetRef]:
        """Store some datasets and evict them."""
        made: list[DatasetRef] = []
        for _ in range(count):
            number = len(self.contents) + 1
            content = os.urandom(SIZES[number % len(SIZES)])
            ref = self.butler.put(content, "blob", instrument=INSTRUMENT, exposure=number, detector=0, run="u/disk")
            self.contents[ref] = content
            made.append(ref)
            # A file that is being put takes room of its own.
            self.butler.connection.call(EvictObjects(everything=True))
        return made

    def status(self) -> CacheStatus:
        found: CacheStatus = self.butler.connection.call(GetCacheStatus())
        return found

    def check_reads(self, refs: list[DatasetRef]) -> None:
        """All of them read, as a whole and in part."""
        for ref in refs:
            content = self.contents[ref]
            with self.butler.open(ref, partial=True) as file:
                # Not in order: what completes the file is not its last chunk.
                file.seek(len(content) - 10)
                assert file.read(10) == content[-10:]
                middle = len(content) // 2
                file.seek(middle)
                assert file.read(1000) == content[middle : middle + 1000]
                file.seek(0)
                assert file.read(1000) == content[:1000]
        for ref in refs:
            assert self.butler.get(ref) == self.contents[ref]

    def wait_for(self, state: str) -> CacheStatus:
        """Poll until the disk is in a state."""
        deadline = time.monotonic() + WITHIN_S
        while (found := self.status()).disk_state != state:
            assert time.monotonic() < deadline, f"after {WITHIN_S} s the disk is {found.disk_state}, not {state}"
            time.sleep(0.05)
        return found

    def check_caches_again(self, refs: list[DatasetRef]) -> None:
        """What is read is an object in the cache afterwards, and comes from there."""
        self.wait_for("ok")
        # What is read through memory goes when its reader has closed it.
        deadline = time.monotonic() + WITHIN_S
        while self.status().memory_bytes:
            assert time.monotonic() < deadline, f"after {WITHIN_S} s memory is still taken"
            time.sleep(0.05)
        self.check_reads(refs)
        before = self.status()
        self.check_reads(refs)
        after = self.status()
        assert after.fetched_bytes == before.fetched_bytes, "it was fetched again"
        assert after.objects >= 1
        assert after.hits - before.hits >= len(refs)


@pytest.fixture
def disk(needs_root: None, short_dir: Path) -> Iterator[LoopDisk]:
    with LoopDisk(short_dir) as made:
        yield made


@pytest.fixture
def pantry(
    disk: LoopDisk, make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> Iterator[Pantry]:
    yield from make_pantry(disk.mount_point, make_daemon, storage_config, s3_root)


def make_pantry(
    directory: Path, make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> Iterator[Pantry]:
    """Let a daemon cache in a directory; the quota is larger than the disk, so that its real space counts."""
    storage_config["cache"] = {
        "quota_bytes": 1024 * MIB,
        "chunk_bytes": 256 * 1024,
        "keep_free_bytes": 4 * MIB,
        "keep_free_inodes": 16,
        "probe_interval_s": 0.2,
    }
    daemon = make_daemon(storage_config, start=False)
    daemon.cache = directory / "cache"
    daemon.start()
    made = Pantry(daemon, s3_root)
    try:
        yield made
    finally:
        made.butler.close()
        daemon.stop()


def test_a_quota_larger_than_the_disk_leaves_the_floor_free(pantry: Pantry, disk: LoopDisk) -> None:
    refs = pantry.put(36)  # about 90 MiB
    for ref in refs:
        assert pantry.butler.get(ref) == pantry.contents[ref]
        free = os.statvfs(disk.mount_point)
        # One object of slack: blocks of what was just evicted are free a moment later.
        assert free.f_bavail * free.f_frsize >= 3 * MIB
    status = pantry.wait_for("ok")
    assert status.evicted_objects >= 1
    assert status.used_bytes <= 60 * MIB
    assert pantry.status().objects >= 5


def test_a_full_disk_serves_from_memory_and_caches_again(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    disk.fill()
    pantry.check_reads(refs)
    status = pantry.status()
    assert status.disk_state == "full"
    assert status.disk_reason
    disk.give_back()
    pantry.check_caches_again(refs)


def test_what_is_cached_still_comes_from_a_full_disk(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    cached = refs[1]
    pantry.butler.get(cached)
    with pantry.butler.open(cached) as file:  # open, so that no eviction takes it to make room
        disk.fill()
        pantry.check_reads(refs)
        before = pantry.status().fetched_bytes
        assert pantry.butler.get(cached) == pantry.contents[cached]
        # The last bytes of an earlier read may be counted only now; none of this one are fetched.
        assert pantry.status().fetched_bytes - before < len(pantry.contents[cached])
        assert file.read() == pantry.contents[cached]


def test_a_disk_without_inodes_serves_from_memory_and_caches_again(
    needs_root: None,
    short_dir: Path,
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
) -> None:
    with LoopDisk(short_dir, inodes=256) as disk:
        for pantry in make_pantry(disk.mount_point, make_daemon, storage_config, s3_root):
            pantry.daemon.expected_log = GIVEN_UP
            refs = pantry.put()
            disk.fill_inodes()
            pantry.check_reads(refs)
            status = pantry.status()
            assert status.disk_state == "full"
            assert "inode" in status.disk_reason
            disk.give_back()
            pantry.check_caches_again(refs)


def test_a_disk_that_turns_read_only_serves_from_memory_and_caches_again(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    cached = refs[1]
    pantry.butler.get(cached)
    disk.freeze()
    pantry.check_reads([ref for ref in refs if ref != cached])
    assert pantry.status().disk_state == "failing"
    assert pantry.status().disk_reason
    assert pantry.butler.get(cached) == pantry.contents[cached]
    disk.thaw()
    pantry.check_caches_again(refs)


def test_a_disk_that_errs_serves_from_memory_and_a_new_one_is_taken(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    pantry.butler.get(refs[0])
    disk.break_down()
    pantry.check_reads(refs)
    assert pantry.status().disk_state == "failing"
    assert pantry.status().disk_reason
    disk.replace()
    pantry.check_caches_again(refs)


def test_a_disk_that_is_pulled_out_is_missed_and_taken_back(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    pantry.butler.get(refs[0])
    disk.pull_out()
    pantry.check_reads(refs)
    assert pantry.status().disk_state in ("gone", "failing")
    disk.thaw()
    pantry.check_caches_again(refs)


def test_a_cache_directory_that_is_removed_is_made_anew(pantry: Pantry) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    for ref in refs[:2]:
        pantry.butler.get(ref)
    with pantry.butler.open(refs[2], partial=True) as file:
        file.read(1000)
        shutil.rmtree(pantry.daemon.cache)
        # Its descriptor outlives the directory; it reads on, or says what is wrong.
        assert file.read(1000) == pantry.contents[refs[2]][1000:2000]
    pantry.check_reads(refs)
    pantry.check_caches_again(refs)
    assert pantry.status().used_bytes == sum(charged(len(pantry.contents[ref])) for ref in refs)


def test_small_puts_into_local_storage_need_no_room_in_the_cache(
    pantry: Pantry, disk: LoopDisk, tmp_path: Path
) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    local = Butler.create("local", str(tmp_path / "local"), socket=pantry.daemon.socket)
    furnish(local, n_exposures=3, n_detectors=1)
    where = {"instrument": INSTRUMENT, "detector": 0}
    local.put(b"the first tells the format", "blob", where, exposure=1, run="u/disk")
    kept = pantry.put()
    disk.fill()
    refs = [local.put(f"{number}".encode(), "blob", where, exposure=number, run="u/disk") for number in (2, 3)]
    assert [local.get(ref) for ref in refs] == [b"2", b"3"]
    disk.give_back()
    pantry.check_caches_again(kept)


def test_puts_on_a_full_disk_are_refused_clearly_or_done(pantry: Pantry, disk: LoopDisk) -> None:
    pantry.daemon.expected_log = GIVEN_UP
    refs = pantry.put()
    disk.fill()
    content = os.urandom(MIB)
    where = {"instrument": INSTRUMENT, "exposure": 90, "detector": 0}
    try:
        ref = pantry.butler.put(content, "blob", where, run="u/disk")
    except (PantryError, OSError):
        pass
    else:
        assert pantry.butler.get(ref) == content
    disk.give_back()
    pantry.check_caches_again(refs)
    assert pantry.status().reserved_bytes == 0
