"""A large object is in memory once while it is put and read, and a part of it hardly at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.observatory import furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler

MIB = 1 << 20
PART_MIB = 100
"""What a process takes that reads a part, with its interpreter and the libraries."""

RUN = """
import sys
import numpy as np
from pantry.client import Butler
if sys.argv[1] != "part":
    import astropy.io.fits, astropy.table, h5py
    from astropy.nddata import CCDData

def peak_mib():
    # Not ru_maxrss: that begins with what the process had that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

what, name, side = sys.argv[1], sys.argv[2], int(sys.argv[3])
butler, data_id = Butler("d", run="run"), {"instrument": "TestCam", "exposure": 1}
before = peak_mib()
if what == "put":
    pixels = np.arange(side * side, dtype=np.float32).reshape(side, side)
    butler.put(CCDData(pixels, unit="adu") if name == "image" else pixels, name, data_id)
elif what == "get":
    found = butler.get(name, data_id)
    pixels = found.data if name == "image" else found
    assert pixels[-1, -1] == np.float32(side * side - 1)
else:
    found = butler.get(name, data_id, parameters={"bbox": (side // 2, side // 2, side // 2 + 500, side // 2 + 500)})
    assert found.shape == (500, 500)
print(before, peak_mib())
"""


TABLES = """
import sys
import numpy as np
import astropy.io.fits, h5py
import pyarrow as pa
import pyarrow.parquet
from astropy.table import Table
from pantry.client import Butler

def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

what, name, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
butler, data_id = Butler("d", run="run"), {"instrument": "TestCam", "exposure": 1}
before = peak_mib()
if what == "put":
    columns = {f"c{n}": np.arange(n, rows + n, dtype="i8" if n % 2 else "f8") for n in range(8)}
    table = pa.table(columns) if name == "catalogue" else Table(columns, copy=False)
    butler.put({"t": table} if name == "store" else table, name, data_id)
else:
    found = butler.get(name, data_id)
    table = found["t"] if name == "store" else found
    assert len(table) == rows
    assert (table["c7"][rows - 1].as_py() if name == "catalogue" else table["c7"][rows - 1]) == rows + 6
print(before, peak_mib())
"""


def run(daemon: PantryDaemon, what: str, name: str, side: int, script: str = RUN) -> tuple[float, float]:
    """Return the peak of the process's memory before and after, in MiB."""
    environment = {**os.environ, "PANTRY_SOCKET": daemon.socket}
    command = [sys.executable, "-c", script, what, name, str(side)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    before, after = map(float, done.stdout.split())
    return before, after


@pytest.mark.parametrize("side", [8192, pytest.param(16384, marks=pytest.mark.soak)], ids=["256MiB", "1GiB"])
@pytest.mark.parametrize(
    ("name", "storage_class"), [("image", "CCDData"), ("array", "FitsArray"), ("numbers", "NumpyArray")]
)
def test_at_most_a_third_more_than_the_object(
    make_daemon: Callable[..., PantryDaemon], tmp_path: Path, name: str, storage_class: str, side: int
) -> None:
    daemon = make_daemon()
    butler = Butler.create("d", str(tmp_path / "repo"), socket=daemon.socket)
    furnish(butler, 1)
    butler.register_dataset_type(name, ["exposure"], storage_class)
    size_mib = side * side * 4 / MIB
    for what in ("put", "get"):
        before, after = run(daemon, what, name, side)
        assert size_mib <= after - before + 8 < 1.3 * size_mib, f"{what}: {after - before:.0f} MiB for {size_mib:.0f}"
    if name != "numbers":
        _, after = run(daemon, "part", name, side)
        assert after < PART_MIB, f"a part took {after:.0f} MiB"
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    (daemon_kib,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert daemon_kib / 1024 < size_mib, "the daemon never has the file in memory"


@pytest.mark.parametrize(
    ("name", "storage_class", "most_put", "most_get"),
    # Arrow keeps what it has decoded from; see docs/decisions/0048.
    [("stars", "FitsTable", 1.3, 1.3), ("store", "HDF5", 1.3, 1.3), ("catalogue", "ArrowTable", 1.3, 2.0)],
)
def test_tables_are_in_memory_once(
    make_daemon: Callable[..., PantryDaemon],
    tmp_path: Path,
    name: str,
    storage_class: str,
    most_put: float,
    most_get: float,
) -> None:
    daemon = make_daemon()
    butler = Butler.create("d", str(tmp_path / "repo"), socket=daemon.socket)
    furnish(butler, 1)
    butler.register_dataset_type(name, ["exposure"], storage_class)
    rows = 256 * MIB // 64
    for what, most in (("put", most_put), ("get", most_get)):
        before, after = run(daemon, what, name, rows, TABLES)
        assert 256 <= after - before + 8 < most * 256, f"{what}: {after - before:.0f} MiB for 256"
