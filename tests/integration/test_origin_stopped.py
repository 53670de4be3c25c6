"""The origin is gone: everything that is complete in the cache reads, by every way, also after a restart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import BackendError
from pantry.wire.operations import EvictObjects

MIB = 1024 * 1024
COUNT = 4
BACK_WITHIN_S = 30.0


class Stopped:
    """A daemon with a filled cache whose origin no longer answers."""

    def __init__(self, daemon: PantryDaemon, proxy: FaultProxy, root: str) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self.contents = {exposure: os.urandom(exposure * 700_000) for exposure in range(1, COUNT + 1)}
        with Butler.create("stopped", root, socket=daemon.socket) as butler:
            furnish(butler, n_exposures=COUNT + 1, n_detectors=1)
            for exposure, content in (self.contents | {COUNT + 1: b"not cached"}).items():
                butler.put(content, "blob", instrument=INSTRUMENT, exposure=exposure, detector=0, run="u/s")
            butler.connection.call(EvictObjects(everything=True))
            for exposure in self.contents:
                assert self.get(butler, exposure) == self.contents[exposure]
        proxy.refusing = True

    def get(self, butler: Butler, exposure: int) -> bytes:
        found: bytes = butler.get("blob", instrument=INSTRUMENT, exposure=exposure, detector=0, collections="u/s")
        return found

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pantry.client.cli.main", *words],
            env={**os.environ, "PANTRY_SOCKET": self.daemon.socket},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(params=["running", "restarted", "killed"])
def stopped(
    request: pytest.FixtureRequest,
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
) -> Iterator[Stopped]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {
            "endpoint_url": proxy.endpoint_url,
            "max_attempts": 1,
            "connect_timeout_s": 2,
            "read_timeout_s": 2,
        }
        daemon = make_daemon(storage_config)
        # That the origin does not answer may be said.
        daemon.expected_log = (" WARNING ",)
        made = Stopped(daemon, proxy, s3_root)
        if request.param != "running":
            (daemon.stop if request.param == "restarted" else daemon.kill)()
            daemon.start()
        yield made


@pytest.mark.req("DMS-MWBT-REQ-0058")
def test_cached_data_reads_by_the_butler(stopped: Stopped) -> None:
    with Butler("stopped", collections="u/s", socket=stopped.daemon.socket) as butler:
        refs = butler.query_datasets("blob")
        assert len(refs) == COUNT + 1
        for exposure, content in stopped.contents.items():
            assert stopped.get(butler, exposure) == content
            where = {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}
            with butler.open("blob", where, partial=True) as file:
                file.seek(1000)
                assert file.read(5000) == content[1000:6000]
        with pytest.raises(BackendError):
            stopped.get(butler, COUNT + 1)
        assert stopped.get(butler, 1) == stopped.contents[1], "one that is not cached spoilt those that are"


def test_cached_data_is_staged(stopped: Stopped, tmp_path: Path) -> None:
    words = ["stage", "stopped", str(tmp_path / "staged"), "blob", "-c", "u/s", "--where", f"exposure <= {COUNT}"]
    done = stopped.command(*words)
    assert done.returncode == 0, done.stderr
    for exposure, content in stopped.contents.items():
        path = tmp_path / f"staged/u/s/blob/{INSTRUMENT}/{exposure}/blob_{INSTRUMENT}_{exposure}_0.bin"
        assert path.read_bytes() == content
    where = [f"instrument={INSTRUMENT}", "exposure=2", "detector=0"]
    done = stopped.command("get", "stopped", "blob", *where, "-c", "u/s", "-o", str(tmp_path / "got"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got").read_bytes() == stopped.contents[2]


@pytest.mark.root
def test_cached_data_reads_in_the_mount(needs_root: None, stopped: Stopped, short_dir: Path) -> None:
    with PantryMount(stopped.daemon.socket, short_dir / "mount") as mount:
        directory = mount.directory / "stopped/u/s/blob" / INSTRUMENT
        assert sorted(os.listdir(directory)) == [str(number) for number in range(1, COUNT + 2)]
        for exposure, content in stopped.contents.items():
            assert (directory / f"{exposure}/blob_{INSTRUMENT}_{exposure}_0.bin").read_bytes() == content


def test_the_origin_comes_back(stopped: Stopped) -> None:
    with Butler("stopped", collections="u/s", socket=stopped.daemon.socket) as butler:
        with pytest.raises(BackendError):
            stopped.get(butler, COUNT + 1)
        stopped.proxy.refusing = False
        deadline = time.monotonic() + BACK_WITHIN_S
        while True:
            try:
                assert stopped.get(butler, COUNT + 1) == b"not cached"
            except BackendError:
                # Held back, since the origin failed just now.
                assert time.monotonic() < deadline, f"the origin is not asked {BACK_WITHIN_S} s after it came back"
                time.sleep(0.1)
            else:
                break
