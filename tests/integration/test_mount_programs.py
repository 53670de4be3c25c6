"""Programs that know nothing of Pantry, on files that are there and on files that come as they are read."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.io import fits
from tests.unit.fusefs.fake import FakeDaemon, FakeDataset
from tests.unit.fusefs.mounted import can_mount, mounted, public_place

pytestmark = [pytest.mark.root, can_mount]

KINDS = {"image": ".fits", "cube": ".h5", "table": ".parquet", "note": ".txt"}
VISITS = range(1, 4)


class View(NamedTuple):
    """A run as the mount shows it, and what is in its files."""

    directory: Path
    datasets: Sequence[FakeDataset]

    def one(self, kind: str) -> tuple[Path, Path]:
        """A file of a kind, as it is mounted, and a file with the same content elsewhere."""
        dataset = next(one for one in self.datasets if one.type.name == kind)
        return self.directory / kind / dataset.name, dataset.content

    def contents(self) -> dict[str, bytes]:
        """All files by their paths below the run."""
        return {f"{one.type.name}/{one.name}": one.content.read_bytes() for one in self.datasets}


def image(visit: int) -> bytes:
    rng = np.random.default_rng(visit)
    pixels = fits.ImageHDU(rng.normal(100, 5, (700, 500)).astype("f4"), name="SCI")
    rows = fits.BinTableHDU.from_columns([fits.Column("X", "D", array=np.arange(1000.0) * visit)], name="CAT")
    hdus = fits.HDUList([fits.PrimaryHDU(), pixels, rows])
    out = io.BytesIO()
    hdus.writeto(out, checksum=True)
    return out.getvalue()


def cube(visit: int) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file.create_dataset("a/b", data=np.arange(300_000, dtype="i4") * visit, chunks=(10_000,), compression="gzip")
    return out.getvalue()


def table(visit: int) -> bytes:
    out = io.BytesIO()
    columns = {"visit": np.full(20_000, visit), "flux": np.arange(20_000) * float(visit)}
    pyarrow.parquet.write_table(pa.table(columns), out, row_group_size=2_000)
    return out.getvalue()


def note(visit: int) -> bytes:
    return b"".join(b"line %d of visit %d\n" % (line, visit) for line in range(5000))


@pytest.fixture(scope="module", params=[(), ("--no-passthrough",)], ids=["passthrough", "no-passthrough"])
def mounted_daemon(request: pytest.FixtureRequest) -> Iterator[tuple[FakeDaemon, Path]]:
    with public_place() as place:
        fake = FakeDaemon(place)
        repository = fake.repository("dp1")
        for visit in VISITS:
            for make in (image, cube, table, note):
                kind, content = make.__name__, make(visit)
                for run, partial in (("here", False), ("coming", True)):
                    repository.add(run, kind, content, extension=KINDS[kind], partial=partial, visit=visit)
        with fake.running_in_thread(), mounted(fake.socket_path, place, *request.param) as mount:
            yield fake, mount.point / "dp1"
            assert "Traceback" not in mount.log_text()


@pytest.fixture(params=["here", "coming"])
def view(request: pytest.FixtureRequest, mounted_daemon: tuple[FakeDaemon, Path]) -> View:
    daemon, repository = mounted_daemon
    return View(repository / request.param, daemon.repositories["dp1"].members[request.param])


def run(*words: object, check: bool = True) -> str:
    """Run a program; return what it prints."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def python(code: str, *words: object) -> str:
    """Run Python code in a process of its own: a page fault would keep the GIL that the fake daemon needs."""
    return run(sys.executable, "-c", code, *words)


def contents_below(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


ASTROPY = """
import hashlib, mmap, sys
import numpy as np
from astropy.io import fits
with fits.open(sys.argv[1], memmap=True) as hdus:
    data = hdus["SCI"].data
    base = data
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap), type(base)
    print(data.shape, data[300:310, 200:210].sum(), hdus["SCI"].section[5, 5], hdus["CAT"].data["X"][999])
    print(hashlib.sha256(data.tobytes()).hexdigest())
"""


def test_astropy_maps_fits_files(view: View) -> None:
    mounted_file, other = view.one("image")
    found = python(ASTROPY, mounted_file)
    assert found == python(ASTROPY, other)
    assert found.startswith("(700, 500)")


H5PY = """
import hashlib, sys, h5py
with h5py.File(sys.argv[1]) as file:
    print(file["a/b"][123456:123460], hashlib.sha256(file["a/b"][:].tobytes()).hexdigest())
"""


def test_h5py_reads_slices(view: View) -> None:
    mounted_file, other = view.one("cube")
    found = python(H5PY, mounted_file)
    assert found == python(H5PY, other)
    assert "[123456 123457 123458 123459]" in found


PYARROW = """
import sys, pyarrow.compute, pyarrow.dataset
found = pyarrow.dataset.dataset(sys.argv[1], format="parquet")
flux = found.to_table(columns=["flux"], filter=pyarrow.compute.field("visit") == 2)["flux"]
print(len(found.files), found.count_rows(), len(flux), pyarrow.compute.sum(flux))
"""


def test_pyarrow_takes_a_directory_for_a_dataset(view: View) -> None:
    total = 2.0 * 20_000 * 19_999 / 2
    assert python(PYARROW, view.directory / "table").split() == ["3", "60000", "20000", str(total)]


def test_fitsverify_finds_nothing_wrong(view: View) -> None:
    paths = sorted((view.directory / "image").iterdir())
    assert len(paths) == 3
    for line in run("fitsverify", "-q", *paths).splitlines():
        assert line.startswith("verification OK"), line


@pytest.mark.parametrize("command", ["cp -r", "cp -a", "cp -r --reflink=auto", "cp -r --sparse=always"])
def test_cp_copies_trees(view: View, tmp_path: Path, command: str) -> None:
    run(*command.split(), view.directory, tmp_path / "copy")
    assert contents_below(tmp_path / "copy") == view.contents()


def test_rsync_copies_trees_and_their_times_and_then_nothing(view: View, tmp_path: Path) -> None:
    def rsync() -> str:
        return run("rsync", "-a", "--itemize-changes", f"{view.directory}/", tmp_path / "copy")

    assert rsync().count(">f+++++++++") == len(view.datasets)
    assert contents_below(tmp_path / "copy") == view.contents()
    for dataset in view.datasets:
        copied = tmp_path / "copy" / dataset.type.name / dataset.name
        assert copied.stat().st_mtime_ns == dataset.stored.ingest_ns
    assert rsync() == ""
    assert run("rsync", "-a", "--checksum", "--itemize-changes", f"{view.directory}/", tmp_path / "copy") == ""


def test_tar_packs_trees_and_finds_no_difference(view: View, tmp_path: Path) -> None:
    archive = tmp_path / "run.tar"
    run("tar", "-C", view.directory, "-cf", archive, ".")
    run("tar", "-C", view.directory, "-df", archive)
    (tmp_path / "out").mkdir()
    run("tar", "-C", tmp_path / "out", "-xf", archive, "--no-same-owner")
    assert contents_below(tmp_path / "out") == view.contents()


def test_sha256sum_agrees(view: View, tmp_path: Path) -> None:
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {view.directory / name}\n" for name, content in view.contents().items()
    )
    (tmp_path / "sums").write_text(sums)
    assert run("sha256sum", "--check", tmp_path / "sums").count(": OK") == len(view.datasets)


def test_find_and_grep_search(view: View) -> None:
    found = run("find", view.directory, "-name", "*_2.*", "-type", "f", "-size", "+4k", "-newermt", "2020-01-01")
    assert sorted(found.split()) == sorted(
        str(view.directory / one.type.name / one.name) for one in view.datasets if one.values == (2,)
    )
    lines = run("grep", "-r", "-I", "-n", "line 4321 of visit [13]", view.directory)
    assert sorted(lines.splitlines()) == [
        f"{view.directory}/note/note_{visit}.txt:4322:line 4321 of visit {visit}" for visit in (1, 3)
    ]
    assert run("sh", "-c", f"ls -d {view.directory}/*/*_3.*").split() == sorted(
        str(view.directory / one.type.name / one.name) for one in view.datasets if one.values == (3,)
    )
