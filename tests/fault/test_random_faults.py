"""Operations under random faults between the daemon and a real S3 server: right, or a clear error, in time."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.fault.proxy import Fault, FaultProxy, Request
from tests.fault.traffic import Shelf, is_whole_only, operate, read_whole
from tests.integration.observatory import furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import BackendError, InternalError, PantryError
from pantry.wire.operations import EvictObjects

MIB = 1024 * 1024
THREADS = 6
READ_TIMEOUT_S = 1
ATTEMPTS = 2
# An operation is at most a put and a read, or four parts, each of up to three rounds of requests; a request that is
# silent takes its time-out at every attempt, and trickles take a few seconds. Beyond that, it hangs.
OPERATION_S = 45.0
SIZES = (1000, 50_000, 300_000, 1 * MIB, 2 * MIB, 70_000, 5 * MIB, 8 * MIB)

_EXPOSURE = re.compile(r"_(\d+)_0\.bin")


class RandomFaults:
    """Chooses the fault of each request; the proxy asks for one request at a time."""

    def __init__(self, seed: int, share: float) -> None:
        self._random = random.Random(seed)
        self._share = share
        self.struck: Counter[str] = Counter()

    def __call__(self, request: Request) -> Fault | None:
        chosen = self._random
        if chosen.random() >= self._share:
            return None
        at = int(10 ** chosen.uniform(0, 6.5))
        kinds: dict[str, Fault] = {
            "latency": Fault(delay_s=chosen.uniform(0.05, 0.5)),
            "silence": Fault(silent=True),
            "stall": Fault(stall_after=at),
            "trickle": Fault(trickle_bytes_per_s=2 * MIB),
            "reset": Fault(cut_after=at, reset=True),
            "end": Fault(cut_after=at),
            "reset at once": Fault(cut_after=-1, reset=True),
            "short": Fault(truncate_to=at),
            "other version": Fault(etag='"0123456789abcdef0123456789abcdef"'),
            "500": Fault(status=500),
            "503": Fault(status=503, headers=(("Retry-After", "1"),)),
            "cut request": Fault(cut_request_after=at),
        }
        found = _EXPOSURE.search(request.target)
        if found and is_whole_only(int(found[1])) and request.method == "GET":
            kinds["damage"] = Fault(corrupt_at=at % 1000)
            kind = chosen.choice([*kinds, *["damage"] * len(kinds)])
        else:
            kind = chosen.choice(list(kinds))
        self.struck[kind] += 1
        return kinds[kind]


class Crowd:
    """Threads that operate, each with a Butler of its own, and what came of it."""

    def __init__(self, socket: str, shelf: Shelf, seed: int) -> None:
        self._socket = socket
        self._shelf = shelf
        self._seed = seed
        self._lock = threading.Lock()
        self.right: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.wrong: list[BaseException] = []
        self.longest_s = 0.0
        self._begun: dict[int, float] = {}

    def run(self, operations: int) -> None:
        """Operate; fail if a thread does not come back."""
        threads = [
            threading.Thread(target=self._operate, args=(number, operations // THREADS + 1), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and not self.wrong:
                thread.join(0.2)
                self._check_nobody_hangs()
        assert not self.wrong, self.wrong

    def _operate(self, number: int, operations: int) -> None:
        chosen = random.Random(self._seed * 100 + number)
        with Butler("faulty", socket=self._socket) as butler:
            for _ in range(operations):
                with self._lock:
                    self._begun[number] = time.monotonic()
                try:
                    kind = operate(butler, self._shelf, chosen)
                except InternalError as exc:
                    self.wrong.append(exc)  # a PantryError, but a defect
                except PantryError as exc:
                    self._count(self.refused, exc.code, number)
                except BaseException as exc:
                    self.wrong.append(exc)
                else:
                    self._count(self.right, kind, number)
                if self.wrong:
                    return

    def _count(self, counter: Counter[str], what: str, number: int) -> None:
        with self._lock:
            counter[what] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - self._begun.pop(number))

    def _check_nobody_hangs(self) -> None:
        with self._lock:
            late = [begun for begun in self._begun.values() if time.monotonic() - begun > OPERATION_S]
        assert not late, f"an operation hangs for more than {OPERATION_S} s"


@pytest.fixture
def faulty(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Any:
    """A daemon behind a proxy, and a Butler that made the repository."""
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {
            "endpoint_url": proxy.endpoint_url,
            "max_attempts": ATTEMPTS,
            "read_timeout_s": READ_TIMEOUT_S,
            "connect_timeout_s": READ_TIMEOUT_S,
        }
        storage_config["cache"] = {"quota_bytes": 40 * MIB, "chunk_bytes": 256 * 1024}
        daemon = make_daemon(storage_config)
        # Whatever the faults make it say; a defect is an InternalError, which fails the test.
        daemon.expected_log = (" WARNING ", "fetched bytes hash to")
        with Butler.create("faulty", s3_root, socket=daemon.socket) as butler:
            furnish(butler, n_exposures=2000, n_detectors=1)
            yield proxy, daemon, butler


@pytest.mark.parametrize(
    ("seed", "operations"),
    [(1, 150), pytest.param(2, 1000, marks=pytest.mark.soak), pytest.param(3, 1000, marks=pytest.mark.soak)],
)
def test_under_random_faults_every_read_is_right_or_a_clear_error(faulty: Any, seed: int, operations: int) -> None:
    proxy, daemon, butler = faulty
    shelf = Shelf(seed, SIZES)
    for _ in range(2 * len(SIZES)):
        shelf.put(butler)
    faults = RandomFaults(seed, share=0.25)
    crowd = Crowd(daemon.socket, shelf, seed)
    proxy.choose = faults
    crowd.run(operations)
    proxy.choose = None
    print(f"right {dict(crowd.right)}, refused {dict(crowd.refused)}, longest {crowd.longest_s:.1f} s, {faults.struck}")
    assert crowd.right.total() + crowd.refused.total() >= operations
    assert crowd.right["whole"] + crowd.right["parts"] >= operations // 10, "hardly anything was read"
    assert faults.struck.total() >= operations // 10, "hardly any fault struck"
    assert_all_reads_soon(butler, shelf)


def assert_all_reads_soon(butler: Butler, shelf: Shelf, *, within_s: float = 30.0) -> None:
    """The origin is well again: all that was held back against it ends, and everything reads."""
    butler.connection.call(EvictObjects(everything=True))
    deadline = time.monotonic() + within_s
    for stored in shelf.stored:
        while True:
            try:
                read_whole(butler, stored)
            except BackendError:
                # Held back since the origin failed lately.
                assert time.monotonic() < deadline, f"still refused {within_s} s after the last fault"
                time.sleep(0.1)
            else:
                break
