"""The cache under kill -9 at random moments: no wrong byte afterwards, and the account is what lies in the tree."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.fault.proxy import FaultProxy
from tests.fault.traffic import Shelf, Stored, operate, read_parts, read_whole
from tests.integration.observatory import furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.daemon.cache.account import charged
from pantry.daemon.cache.record import ChunkRecord
from pantry.errors import BackendError, CacheFullError, DaemonUnavailableError, IntegrityError
from pantry.wire.operations import CacheStatus, EvictObjects, GetCacheStatus, ListCache

MIB = 1024 * 1024
LANES = 3
WORKERS = 4
QUOTA = 48 * MIB
SIZES = (10_000, 200_000, 1 * MIB, 3 * MIB, 60_000, 8 * MIB, 20 * MIB)


class Tree:
    """What really lies in a cache directory.

    Attributes
    ----------
    objects : dict of (str, str) to int
        Sizes of complete objects by realm and hash.
    partials : dict of (str, str) to int
        Bytes of noted chunks of incomplete ones.
    stray : list of str
        Files that belong to neither.
    """

    def __init__(self, cache: Path) -> None:
        self.objects = {
            (path.parent.parent.name, path.name): path.stat().st_size
            for path in (cache / "objects").glob("*/*/*")
            if path.is_file()
        }
        self.partials: dict[tuple[str, str], int] = {}
        known: set[Path] = set()
        incoming = [path for path in (cache / "incoming").rglob("*") if path.is_file()]
        for path in incoming:
            data = path.with_suffix("")
            if path.suffix != ".chunks" or not data.is_file():
                continue
            found = ChunkRecord.load(str(path))
            if found is None:
                continue
            record, digests = found
            told = record.description
            known |= {path, data}
            self.partials[told.realm, told.hash] = sum(
                min(told.chunk_bytes, told.size_bytes - number * told.chunk_bytes)
                for number, digest in enumerate(digests)
                if digest
            )
        self.stray = [str(path.relative_to(cache)) for path in incoming if path not in known]

    @property
    def used_bytes(self) -> int:
        return sum(map(charged, self.objects.values())) + sum(map(charged, self.partials.values()))


class Lane:
    """One daemon, killed again and again under mixed traffic."""

    def __init__(self, number: int, directory: Path, config: dict[str, Any], root: str) -> None:
        self.random = random.Random(number)
        self.daemon = PantryDaemon(directory, config)
        self.root = root
        self.shelf = Shelf(number, SIZES)
        self.done = 0

    def run(self, kills: int) -> None:
        self.daemon.start()
        try:
            with Butler.create("lane", self.root, socket=self.daemon.socket) as butler:
                furnish(butler, n_exposures=4000, n_detectors=1)
                for _ in range(len(SIZES)):
                    self.shelf.put(butler)
            for _ in range(kills):
                self.work_until_killed()
                self.daemon.start()
                self.check()
        finally:
            self.daemon.stop()

    def work_until_killed(self) -> None:
        begun = threading.Barrier(WORKERS + 1)
        with ThreadPoolExecutor(WORKERS) as workers:
            waiting = [workers.submit(self.work, number, begun) for number in range(WORKERS)]
            begun.wait(60)
            # The one random wait: it chooses the moment at which the daemon dies.
            threading.Event().wait(self.random.random() * 0.4)
            self.daemon.kill()
            for one in waiting:
                one.result(120)

    def work(self, number: int, begun: threading.Barrier) -> None:
        chosen = random.Random(self.random.random())
        with Butler("lane", socket=self.daemon.socket) as butler:
            begun.wait(60)
            with contextlib.suppress(DaemonUnavailableError):
                while True:
                    with contextlib.suppress(CacheFullError):  # all open at once is more than the quota
                        operate(butler, self.shelf, chosen)
                    self.done += 1

    def check(self) -> None:
        with Butler("lane", socket=self.daemon.socket) as butler:
            check_account(butler, self.daemon.cache)
            for _ in range(3):
                read_whole(butler, self.shelf.one(self.random))
                stored = self.shelf.one(self.random)
                if not stored.whole_only:
                    read_parts(butler, stored, self.random)
            # What was there before the kill, in whatever state, is the most interesting.
            listed = {one.hash for batch in butler.connection.stream(ListCache()) for one in batch.objects}
            for stored in [one for one in self.shelf.stored if one.hash in listed][-6:]:
                read_whole(butler, stored)


def check_account(butler: Butler, cache: Path) -> None:
    """The daemon's figures and list are what lies in the tree; nothing else does; the quota holds."""
    status: CacheStatus = butler.connection.call(GetCacheStatus())
    tree = Tree(cache)
    listed = {(one.realm, one.hash): one for batch in butler.connection.stream(ListCache()) for one in batch.objects}
    assert not tree.stray, f"files that belong to nothing: {tree.stray}"
    assert listed.keys() == tree.objects.keys() | tree.partials.keys()
    assert {key: one.cached_bytes for key, one in listed.items()} == tree.objects | tree.partials
    assert status.used_bytes == tree.used_bytes
    assert status.reserved_bytes == 0
    assert status.used_bytes <= status.quota_bytes


@pytest.mark.parametrize("kills", [30, pytest.param(300, marks=pytest.mark.soak)])
def test_after_kills_at_random_moments_no_byte_is_wrong_and_the_account_is_the_tree(
    kills: int, bucket: str, storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    storage_config["cache"] = {"quota_bytes": QUOTA, "chunk_bytes": 256 * 1024}
    lanes: list[Lane] = []
    for number in range(LANES):
        directory = short_dir / f"lane{number}"
        directory.mkdir()
        lanes.append(Lane(number, directory, storage_config, f"{s3_root}/{number}"))
    with ThreadPoolExecutor(LANES) as runners:
        running = [runners.submit(lane.run, kills // LANES) for lane in lanes]
        for one in running:
            one.result()
    done = sum(lane.done for lane in lanes)
    print(f"{done} operations between {kills} kills")
    assert done >= 2 * kills, "the daemons died before anything was done"


def test_chunks_that_came_before_a_kill_are_not_fetched_again(
    make_daemon: Any, seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> None:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = proxy.endpoint_url
        storage_config["cache"] = {"chunk_bytes": 256 * 1024}
        daemon = make_daemon(storage_config)
        shelf = Shelf(7, [8 * MIB])
        with Butler.create("lane", s3_root, socket=daemon.socket) as butler:
            furnish(butler, n_exposures=10, n_detectors=1)
            stored = shelf.put(butler)
            butler.connection.call(EvictObjects(everything=True))
            read_range(butler, stored, 0, 3 * MIB)
            before = butler.connection.call(GetCacheStatus()).used_bytes
            assert before >= 3 * MIB
        daemon.kill()
        daemon.start()
        with Butler("lane", socket=daemon.socket) as butler:
            check_account(butler, daemon.cache)
            assert butler.connection.call(GetCacheStatus()).used_bytes == before
            proxy.clear()
            read_range(butler, stored, 0, 3 * MIB)
            assert proxy.bytes_answered() <= 64 * 1024, "what was there came again"
            read_whole(butler, stored)
            assert proxy.bytes_answered() <= len(stored.content) - before + 64 * 1024
            check_account(butler, daemon.cache)


def test_a_chunk_that_was_damaged_while_the_daemon_was_dead_is_fetched_again(
    make_daemon: Any, seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> None:
    storage_config["cache"] = {"chunk_bytes": 256 * 1024}
    daemon = make_daemon(storage_config)
    # What is found damaged may be said.
    daemon.expected_log = (" WARNING ",)
    shelf = Shelf(8, [4 * MIB])
    with Butler.create("lane", s3_root, socket=daemon.socket) as butler:
        furnish(butler, n_exposures=10, n_detectors=1)
        stored = shelf.put(butler)
        butler.connection.call(EvictObjects(everything=True))
        read_range(butler, stored, 0, 2 * MIB)
    daemon.kill()
    (partial,) = (daemon.cache / "incoming").rglob("*.partial")
    partial.chmod(0o600)
    with partial.open("r+b") as file:
        file.seek(MIB + 5)
        byte = file.read(1)
        file.seek(MIB + 5)
        file.write(bytes([byte[0] ^ 0xFF]))
    daemon.start()
    with Butler("lane", socket=daemon.socket) as butler:
        read_range(butler, stored, 0, 2 * MIB)
        read_whole(butler, stored)


def test_a_version_that_changed_while_the_daemon_was_dead_is_never_mixed(
    make_daemon: Any, seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> None:
    storage_config["cache"] = {"chunk_bytes": 256 * 1024}
    daemon = make_daemon(storage_config)
    daemon.expected_log = (" WARNING ", " ERROR ")
    outside = seaweed.client()
    shelf = Shelf(9, [4 * MIB])
    with Butler.create("lane", s3_root, socket=daemon.socket) as butler:
        furnish(butler, n_exposures=10, n_detectors=1)
        stored = shelf.put(butler)
        butler.connection.call(EvictObjects(everything=True))
        read_range(butler, stored, 0, MIB)
        bucket, prefix = s3_root.removeprefix("s3://").split("/", 1)
        key = f"{prefix}/u/traffic/blob/TestCam/1/blob_TestCam_1_0.bin"
    daemon.kill()
    try:
        outside.put_object(Bucket=bucket, Key=key, Body=bytes(len(stored.content)))
        daemon.start()
        with Butler("lane", socket=daemon.socket) as butler:
            with pytest.raises((BackendError, IntegrityError)):
                read_whole(butler, stored)
            outside.put_object(Bucket=bucket, Key=key, Body=stored.content)
            deadline = time.monotonic() + 20
            while True:
                try:
                    read_whole(butler, stored)
                    break
                except (BackendError, IntegrityError):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
    finally:
        outside.close()


def read_range(butler: Butler, stored: Stored, start: int, stop: int) -> None:
    """Read one range and check it."""
    with butler.open(stored.ref, partial=True) as file:
        file.seek(start)
        assert file.read(stop - start) == stored.content[start:stop]
