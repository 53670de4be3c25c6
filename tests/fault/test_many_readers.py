"""Many readers of one object cost one transfer, and a greedy user hardly delays another one's warm read."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import start_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.wire.operations import EvictObjects, GetCacheStatus

MIB = 1024 * 1024
PROCESSES = 20
THREADS = 10
GREEDY = 41001
PATIENT = 41002
WARM_READS = 1000
AT_ONCE = 16
"""Transfers of one user, as the daemon has it if nothing else is configured."""

READERS = """
import hashlib, sys, threading
from concurrent.futures import ThreadPoolExecutor
from pantry.client import Butler
socket, threads, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
butlers = [Butler("crowd", collections="u/crowd", socket=socket) for _ in range(threads)]
print("ready", flush=True)
sys.stdin.readline()
def read(number):
    butler = butlers[number]
    digest = hashlib.sha256()
    # Half of them as a whole, half as it comes.
    with butler.open("blob", instrument="TestCam", exposure=1, detector=0, partial=(number + seed) % 2 == 0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
with ThreadPoolExecutor(threads) as pool:
    print(" ".join(sorted(set(pool.map(read, range(threads))))), flush=True)
"""

GREEDY_USER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pantry.client import Butler
socket, first, last, at_once = sys.argv[1], *map(int, sys.argv[2:5])
# No connection carries more than 256 requests at once.
butlers = [Butler("crowd", collections="u/crowd", socket=socket) for _ in range(at_once // 200 + 1)]
butlers[0].get("blob", instrument="TestCam", exposure=first, detector=0)
print("ready", flush=True)
sys.stdin.readline()
def read(exposure):
    return len(butlers[exposure % len(butlers)].get("blob", instrument="TestCam", exposure=exposure, detector=0))
with ThreadPoolExecutor(at_once) as pool:
    done = pool.map(read, range(first + 1, last))
    print("asked", flush=True)
    print(sum(done), flush=True)
"""

PATIENT_USER = """
import json, sys, time
from pantry.client import Butler
socket, reads = sys.argv[1], int(sys.argv[2])
butler = Butler("crowd", collections="u/crowd", socket=socket)
def once():
    begun = time.perf_counter()
    butler.get("blob", instrument="TestCam", exposure=1, detector=0)
    return time.perf_counter() - begun
for _ in range(20):
    once()
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps([once() for _ in range(reads)]), flush=True)
"""


class Node:
    """A daemon for all users behind a proxy, and a repository that everybody may read."""

    def __init__(self, daemon: PantryDaemon, proxy: FaultProxy, root: str) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self.butler = Butler.create("crowd", root, readers="*", socket=daemon.socket)

    def put(self, exposure: int, content: bytes) -> None:
        self.butler.put(content, "blob", instrument=INSTRUMENT, exposure=exposure, detector=0, run="u/crowd")

    def evict(self) -> None:
        self.butler.connection.call(EvictObjects(everything=True))
        assert self.butler.connection.call(GetCacheStatus()).used_bytes == 0
        self.proxy.clear()


@pytest.fixture
def make_node(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Iterator[Callable[[bool], Node]]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = proxy.endpoint_url
        storage_config["cache"] = {"chunk_bytes": MIB}
        made: list[Node] = []

        def make(system: bool) -> Node:
            made.append(Node(make_daemon(storage_config, system=system), proxy, s3_root))
            return made[-1]

        yield make
        for node in made:
            node.butler.close()


@pytest.mark.req("DMS-MWBT-REQ-0058")
@pytest.mark.parametrize("size", [24 * MIB, pytest.param(256 * MIB, marks=pytest.mark.soak)])
def test_two_hundred_cold_readers_cost_one_transfer(make_node: Callable[[bool], Node], size: int) -> None:
    node = make_node(False)
    furnish(node.butler, n_exposures=1, n_detectors=1)
    content = os.urandom(size)
    node.put(1, content)
    node.evict()
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READERS, node.daemon.socket, str(THREADS), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for reader in readers:
            assert line_of(reader) == "ready"
        for reader in readers:
            tell(reader)
        expected = hashlib.sha256(content).hexdigest()
        for reader in readers:
            out, err = reader.communicate(timeout=300)
            assert out.strip() == expected, err
    finally:
        end(readers)
    came = node.proxy.bytes_answered()
    assert size <= came <= 1.02 * size, f"{came} bytes came for an object of {size}"
    assert node.butler.connection.call(GetCacheStatus()).objects == 1


@pytest.mark.root
@pytest.mark.quiet
@pytest.mark.parametrize("files", [400, pytest.param(2000, marks=pytest.mark.soak)])
def test_a_user_who_opens_many_files_hardly_delays_another_ones_warm_read(
    needs_root: None, make_node: Callable[[bool], Node], files: int
) -> None:
    node = make_node(True)
    furnish(node.butler, n_exposures=files + 2, n_detectors=1)
    for exposure in range(1, files + 3):
        node.put(exposure, exposure.to_bytes(4, "big") * 1000)
    node.evict()
    patient = start_as(PATIENT, PATIENT_USER, node.daemon.socket, str(WARM_READS))
    greedy = start_as(GREEDY, GREEDY_USER, node.daemon.socket, "2", str(files + 3), str(files))
    try:
        for user in (patient, greedy):
            assert line_of(user) == "ready"
        quiet = measured(patient)
        # Ten times as long as the reads took, so that on any machine much is still to be done when they are over.
        node.proxy.inject(Fault(method="GET", times=-1, delay_s=max(0.05, AT_ONCE * 10 * sum(quiet) / files)))
        tell(greedy)
        assert line_of(greedy) == "asked"
        busy = measured(patient)
        gets = node.proxy.count("GET")
        node.proxy.clear()
        out, err = greedy.communicate(timeout=300)
        assert out.split() == [str(files * 4000)], err
    finally:
        end([patient, greedy])
    assert gets < files, "all was over before anything was measured"
    ratio = statistics.median(busy) / statistics.median(quiet)
    print(f"quiet {statistics.median(quiet) * 1e3:.2f} ms, busy {statistics.median(busy) * 1e3:.2f} ms, {ratio:.2f}")
    assert ratio <= 3, f"{ratio:.1f} times the quiet median"


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that a process says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate(timeout=30)[1])
    return line.strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def measured(process: subprocess.Popen[str]) -> list[float]:
    """Let the patient user read, and return how long each read took, in seconds."""
    tell(process)
    found: list[float] = json.loads(line_of(process))
    return found


def end(processes: list[subprocess.Popen[str]]) -> None:
    """Let them end, and wait for it."""
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()
