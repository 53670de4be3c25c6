"""The mount on the real daemon: names against what the registry says, traffic against what was read."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.verifying_readers import READERS, longest_pause_s, readers
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer
from tests.unit.fusefs.mounted import can_mount, wait_until

from pantry.client import Butler
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import EvictObjects

pytestmark = [pytest.mark.root, can_mount]

MIB = 1 << 20
SIZE = 24 * MIB + 77


class Node(NamedTuple):
    daemon: PantryDaemon
    proxy: FaultProxy
    butler: Butler
    mount: Path

    def evict(self) -> None:
        self.butler.connection.call(EvictObjects(everything=True))
        self.proxy.clear()

    def put(self, content: Any, dataset_type: str = "blob", run: str = "u/one", **data_id: int) -> DatasetRef:
        return self.butler.put(content, dataset_type, instrument=INSTRUMENT, run=run, **data_id)


@pytest.fixture
def node(
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
) -> Iterator[Node]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = proxy.endpoint_url
        daemon = make_daemon(storage_config)
        butler = Butler.create("repo", s3_root, socket=daemon.socket)
        furnish(butler, n_exposures=30)
        with PantryMount(daemon.socket, short_dir / "mnt") as mount:
            yield Node(daemon, proxy, butler, mount.directory / "repo")


def files_below(directory: Path) -> dict[str, Path]:
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def test_names_sizes_and_attributes_are_the_registrys(node: Node) -> None:
    refs = [node.put(os.urandom(100 + number), exposure=number, detector=1) for number in range(1, 6)]
    other = node.put({"a": 1}, "config", run="u/one/more", exposure=3)
    expected = {f"u/one/blob/{INSTRUMENT}/{n}/blob_{INSTRUMENT}_{n}_1.bin": 100 + n for n in range(1, 6)}

    def sizes() -> dict[str, int]:
        return {name: path.stat().st_size for name, path in files_below(node.mount).items() if "blob" in name}

    wait_until(lambda: sizes() == expected)
    (config,) = [path for name, path in files_below(node.mount).items() if name.startswith("u/one/more/config/")]
    assert json.loads(config.read_bytes()) == {"a": 1}
    assert os.getxattr(config, "user.pantry.uuid").decode() == str(other.id)
    assert json.loads(os.getxattr(config, "user.pantry.data_id")) == {"instrument": INSTRUMENT, "exposure": 3}
    assert os.getxattr(config, "user.pantry.run") == b"u/one/more"
    for name, path in files_below(node.mount).items():
        if name in expected:
            dataset = os.getxattr(path, "user.pantry.uuid").decode()
            assert dataset in {str(ref.id) for ref in refs}
            by_id = node.mount / ".by-id" / dataset / path.name
            assert os.path.samefile(by_id, path)
            assert os.listdir(by_id.parent) == [path.name]
            origin = os.getxattr(path, "user.pantry.origin").decode()
            assert origin.startswith("s3://")
            assert origin.endswith(name)


def test_looking_causes_no_traffic_and_reading_no_more_than_it_needs(node: Node) -> None:
    content = random.Random(7).randbytes(SIZE)
    node.put(content, exposure=1, detector=0)
    node.evict()
    wait_until(lambda: len(files_below(node.mount)) == 1)
    (path,) = files_below(node.mount).values()
    assert path.stat().st_size == SIZE
    assert os.getxattr(path, "user.pantry.cached") == b"no"
    assert node.proxy.count("GET") == 0

    with path.open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 1000, 13 * MIB) == content[13 * MIB : 13 * MIB + 1000]
        assert os.getxattr(path, "user.pantry.cached") == b"partial"
        assert 1 <= node.proxy.count("GET") <= 2
        assert file.read() == content
    wait_until(lambda: os.getxattr(path, "user.pantry.cached") == b"complete")
    node.proxy.clear()
    assert path.read_bytes() == content
    assert node.proxy.count("GET") == 0


def test_an_open_file_outlives_the_daemon_and_an_incomplete_one_its_restart(node: Node) -> None:
    content = random.Random(8).randbytes(SIZE)
    node.put(content, exposure=1, detector=0)
    node.put(content[::-1], exposure=2, detector=0)
    wait_until(lambda: len(files_below(node.mount)) == 2)
    warm, cold = sorted(files_below(node.mount).values())
    node.evict()
    assert warm.read_bytes() == content
    wait_until(lambda: os.getxattr(warm, "user.pantry.cached") == b"complete")
    with warm.open("rb", buffering=0) as warm_file, cold.open("rb", buffering=0) as cold_file:
        assert cold_file.read(10) == content[::-1][:10]
        os.posix_fadvise(warm_file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        node.daemon.kill()
        assert warm_file.read() == content
        with pytest.raises(OSError, match="Host is down"):
            os.pread(cold_file.fileno(), 10, SIZE - 10)
        node.daemon.start()
        wait_until(lambda: _reads(cold_file.fileno()))
        assert os.pread(cold_file.fileno(), SIZE, 0) == content[::-1]


@pytest.mark.quiet
@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=pytest.mark.soak)])
def test_readers_do_not_notice_that_the_daemon_is_killed(node: Node, kills: int) -> None:
    """Half of what they read is not in the cache at first, and is dropped from it again and again."""
    rng = random.Random(9)
    contents = {exposure: rng.randbytes(2 * MIB + exposure) for exposure in range(1, 11)}
    for exposure, content in contents.items():
        node.put(content, exposure=exposure, detector=0)
    wait_until(lambda: len(files_below(node.mount)) == len(contents))
    hashes = {len(content): hashlib.sha256(content).hexdigest() for content in contents.values()}
    files = [(str(path), hashes[path.stat().st_size]) for path in files_below(node.mount).values()]
    node.evict()
    with readers(files) as results:
        pids = {node.daemon.pid}
        for kill in range(kills):
            node.daemon.kill()
            time.sleep(rng.random() * 0.5)  # how long the node is without a daemon is what varies
            node.daemon.start()
            pids.add(node.daemon.pid)
            path, digest = files[kill % len(files)]
            assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest
            node.butler.connection.call(EvictObjects(everything=True))
    assert len(results) == READERS
    assert len(pids) == kills + 1
    assert min(rounds for rounds, _ in results) > 0
    assert sum(rounds for rounds, _ in results) > READERS
    assert max(longest for _, longest in results) < longest_pause_s(kills)


def _reads(fd: int) -> bool:
    try:
        return len(os.pread(fd, 10, SIZE - 10)) == 10
    except OSError:
        return False


def test_a_chain_and_a_tag_are_directories_too(node: Node) -> None:
    first = node.put(b"first", run="u/one", exposure=1, detector=0)
    second = node.put(b"second", run="u/two", exposure=1, detector=0)
    only = node.put(b"only", run="u/one", exposure=2, detector=0)
    node.butler.collections.register("chain", "CHAINED")
    node.butler.collections.redefine_chain("chain", ["u/two", "u/one"])
    node.butler.collections.register("tag", "TAGGED")
    node.butler.associate("tag", [first])
    chain = node.mount / "chain" / "blob" / INSTRUMENT
    tagged = node.mount / "tag" / "blob" / INSTRUMENT / "1" / f"blob_{INSTRUMENT}_1_0.bin"
    wait_until(lambda: chain.is_dir() and tagged.is_file())
    assert tagged.read_bytes() == b"first"
    found = {path.name: path.read_bytes() for path in chain.rglob("*.bin")}
    assert sorted(found.values()) == [b"only", b"second"]
    assert {os.getxattr(path, "user.pantry.uuid").decode() for path in chain.rglob("*.bin")} == {
        str(second.id),
        str(only.id),
    }


def test_calibrations_are_below_their_times_of_validity(node: Node) -> None:
    node.butler.register_dataset_type("bias", ["instrument", "detector"], "Bytes", is_calibration=True)
    node.butler.collections.register("calib", "CALIBRATION")
    old = [node.put(b"old %d" % number, "bias", run="made/1", detector=number) for number in (0, 1)]
    new = node.put(b"new 1", "bias", run="made/2", detector=1)
    node.butler.certify("calib", old[:1], (None, None))
    node.butler.certify("calib", old[1:], (None, "2026-03-15"))
    node.butler.certify("calib", [new], ("2026-03-15", "2026-03-15T12:00:00.5"))
    expected = {
        f"calib/bias/{INSTRUMENT}/open_open/bias_{INSTRUMENT}_0.bin": b"old 0",
        f"calib/bias/{INSTRUMENT}/open_20260315T000000/bias_{INSTRUMENT}_1.bin": b"old 1",
        f"calib/bias/{INSTRUMENT}/20260315T000000_20260315T120000.500000000/bias_{INSTRUMENT}_1.bin": b"new 1",
    }

    def found() -> dict[str, bytes] | None:
        below = files_below(node.mount)
        try:
            return {name: path.read_bytes() for name, path in below.items() if name.startswith("calib/")}
        except FileNotFoundError:
            return None  # a name may be listed for a moment after it went

    wait_until(lambda: found() == expected)
    in_calib = node.mount / next(name for name in expected if "open_open" in name)
    in_run = node.mount / "made" / "1" / "bias" / INSTRUMENT / in_calib.name
    assert in_run.stat().st_ino == in_calib.stat().st_ino
    node.butler.decertify("calib", "bias", (None, None))
    wait_until(lambda: found() == {})
    assert in_run.read_bytes() == b"old 0"
