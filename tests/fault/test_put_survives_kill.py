"""``put`` is all or nothing under kill -9 (DMS-MWBT-REQ-0076): kills at random points."""

from __future__ import annotations

import os
import random
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import DaemonUnavailableError, DatasetExistsError

LANES = 4
WRITERS = 3


def content_of(exposure: int, detector: int) -> bytes:
    """What a test writes: small, or large enough for several parts."""
    size = 9_000_000 if exposure % 7 == 0 else 2000
    return random.Random(exposure * 100 + detector).randbytes(size)


class Lane(ABC):
    """One daemon, killed again and again while writers write."""

    def __init__(self, number: int, directory: Path, config: dict[str, Any], root: str) -> None:
        self.random = random.Random(number)
        self.daemon = PantryDaemon(directory, config)
        self.root = root
        self.acknowledged: dict[tuple[int, int], str] = {}
        self.next_exposure = 0
        self.lock = threading.Lock()
        self.enough = threading.Event()
        self.last_write = 0

    def run(self, kills: int) -> int:
        self.daemon.start()
        try:
            butler = Butler.create("killed", self.root, socket=self.daemon.socket)
            furnish(butler, n_exposures=5000, n_detectors=WRITERS)
            butler.close()
            for _ in range(kills):
                self.write_until_killed()
                self.daemon.start()
                self.check()
        finally:
            self.daemon.stop()
        return len(self.acknowledged)

    def write_until_killed(self) -> None:
        # Writes done choose about when the daemon dies, and so it has done some however slow the machine is; a short
        # random wait chooses the point within the next ones.
        writes, self.enough = self.random.randrange(8), threading.Event()
        self.last_write = len(self.acknowledged) + writes
        with ThreadPoolExecutor(WRITERS) as writers:
            waiting = [writers.submit(self.write, detector) for detector in range(WRITERS)]
            self.enough.wait(60)
            threading.Event().wait(self.random.random() * 0.04)
            self.daemon.kill()
            for one in waiting:
                one.result(60)

    def write(self, detector: int) -> None:
        try:
            with Butler("killed", run="u/put", socket=self.daemon.socket) as butler:
                while True:
                    with self.lock:
                        self.next_exposure += 1
                        exposure = self.next_exposure
                        if len(self.acknowledged) >= self.last_write:
                            self.enough.set()
                    ref = butler.put(
                        content_of(exposure, detector),
                        "blob",
                        instrument=INSTRUMENT,
                        exposure=exposure,
                        detector=detector,
                    )
                    with self.lock:
                        self.acknowledged[exposure, detector] = str(ref.id)
        except DaemonUnavailableError:
            self.enough.set()

    def check(self) -> None:
        """What is acknowledged is there; what is there is whole; nothing else is in the bucket."""
        with Butler("killed", collections="u/put", run="u/put", socket=self.daemon.socket) as butler:
            refs = butler.query_datasets("blob") if "u/put" in butler.collections.query("*") else []
            found = {(ref.data_id["exposure"], ref.data_id["detector"]): ref for ref in refs}
            lost = self.acknowledged.keys() - found.keys()
            assert not lost, f"acknowledged and lost: {lost}"
            for where, ref in found.items():
                if where not in self.acknowledged:
                    # Committed, and killed before the answer: it must be whole.
                    assert butler.get(ref) == content_of(*where)
                    self.acknowledged[where] = str(ref.id)
        registered = {
            f"u/put/blob/{INSTRUMENT}/{exposure}/blob_{INSTRUMENT}_{exposure}_{detector}.bin"
            for exposure, detector in found
        }
        assert self.stored() == registered

    @abstractmethod
    def stored(self) -> set[str]:
        """Return the keys that the storage really holds."""


class S3Lane(Lane):
    """Seen from outside by boto3."""

    client: Any
    seaweed: SeaweedServer

    def stored(self) -> set[str]:
        bucket, prefix = self.root.removeprefix("s3://").split("/", 1)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
        keys = {entry["Key"].removeprefix(prefix + "/") for page in pages for entry in page.get("Contents", ())}
        uploads = self.client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
        assert not uploads, f"unfinished uploads remain: {[one['Key'] for one in uploads]}"
        return keys - {"pantry.yaml"}


class PosixLane(Lane):
    """Seen from outside by the file system."""

    def stored(self) -> set[str]:
        return {
            os.path.relpath(os.path.join(directory, name), self.root)
            for directory, _, names in os.walk(self.root)
            for name in names
            if "/.pantry" not in directory
        } - {"pantry.yaml"}


@pytest.mark.req("DMS-MWBT-REQ-0076")
@pytest.mark.parametrize("kills", [60, pytest.param(200, marks=pytest.mark.soak)])
def test_nothing_is_lost_and_nothing_remains(
    seaweed: SeaweedServer, bucket: str, storage_config: dict[str, Any], short_dir: Path, kills: int
) -> None:
    storage_config["storage"][0]["options"]["multipart_size_bytes"] = 5 * 1024 * 1024
    client = seaweed.client()
    lanes: list[Lane] = []
    for number in range(LANES):
        directory = short_dir / f"lane{number}"
        directory.mkdir()
        if number < LANES - 1:
            lane: Lane = S3Lane(number, directory, storage_config, f"s3://{bucket}/killed-{number}")
            lane.client = client  # type: ignore[attr-defined]
        else:
            lane = PosixLane(number, directory, storage_config, str(directory / "root"))
        lanes.append(lane)
    with ThreadPoolExecutor(LANES) as runners:
        running = [runners.submit(lane.run, kills // LANES) for lane in lanes]
        written = [one.result() for one in running]
    client.close()
    assert all(count > kills // LANES for count in written), "the daemons died before anything was written"


@pytest.mark.req("DMS-MWBT-REQ-0074")
def test_the_same_dataset_is_never_written_twice(
    make_daemon: Any, storage_config: dict[str, Any], s3_root: str
) -> None:
    daemon = make_daemon(storage_config)
    butler = Butler.create("once", s3_root, socket=daemon.socket)
    furnish(butler)
    results: list[str] = []

    def write(number: int) -> None:
        with Butler("once", run="u/once", socket=daemon.socket) as mine:
            try:
                mine.put(bytes([number]) * 1000, "blob", instrument=INSTRUMENT, exposure=1, detector=0)
                results.append("stored")
                winner.append(number)
            except DatasetExistsError:
                results.append("refused")

    winner: list[int] = []
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(write, range(8)))
    assert sorted(results) == ["refused"] * 7 + ["stored"]
    assert (
        butler.get("blob", instrument=INSTRUMENT, exposure=1, detector=0, collections="u/once") == bytes(winner) * 1000
    )
