"""Staging from real repositories: links, clones and copies that are really these, damage, a full disk, kill -9."""

from __future__ import annotations

import array
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.loop_disk import LoopDisk
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, DatasetRef
from pantry.errors import (
    BackendError,
    ConflictError,
    DatasetNotFoundError,
    IntegrityError,
    InvalidRequestError,
    LimitExceededError,
    NotCachedError,
    PermissionDeniedError,
)
from pantry.wire.operations import GetCacheStatus

_FIEMAP = 0xC020660B
_SHARED = 0x2000


def extents(path: Path) -> list[int]:
    """Flags of the extents of a file, as the file system tells them."""
    asked = array.array("B", (0).to_bytes(8, "little") + (1 << 62).to_bytes(8, "little"))
    # FIEMAP_FLAG_SYNC, no count yet, room for 64 extents of 56 bytes.
    asked.frombytes((1).to_bytes(4, "little") + bytes(4) + (64).to_bytes(4, "little") + bytes(4 + 64 * 56))
    with path.open("rb") as file:
        fcntl.ioctl(file.fileno(), _FIEMAP, asked, True)
    count = int.from_bytes(asked[20:24].tobytes(), "little")
    return [int.from_bytes(asked[32 + 56 * n + 40 : 32 + 56 * n + 44].tobytes(), "little") for n in range(count)]


def fill(butler: Butler, count: int, size: int = 100_000) -> list[DatasetRef]:
    return [
        butler.put(os.urandom(size), "blob", instrument=INSTRUMENT, exposure=n + 1, detector=0, run="u/one")
        for n in range(count)
    ]


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    with Butler.create("d", str(short_dir / "repo"), socket=make_daemon().socket) as made:
        furnish(made, 20)
        yield made


def test_the_repositorys_own_files_are_linked(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 5)
    done = butler.stage(refs, short_dir / "out", transfer="hardlink")
    assert (done.hardlinks, done.size_bytes) == (5, 500_000)
    for ref, path in zip(refs, done.paths, strict=True):
        stored = short_dir / "repo" / path.relative_to(short_dir / "out")
        assert path.stat().st_ino == stored.stat().st_ino
        assert path.read_bytes() == butler.get(ref)
    again = butler.stage(refs, short_dir / "out", transfer="hardlink")
    assert (again.present, again.paths) == (5, done.paths)


def test_auto_links_only_what_nobody_may_write_to(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 2)
    [first, _] = butler.stage(refs, short_dir / "names").paths
    (short_dir / "repo" / first.relative_to(short_dir / "names")).chmod(0o444)
    done = butler.stage(refs, short_dir / "out")
    assert done.hardlinks == 1
    stored = [short_dir / "repo" / path.relative_to(short_dir / "out") for path in done.paths]
    assert [path.samefile(own) for path, own in zip(done.paths, stored, strict=True)] == [True, False]
    # The copy is the user's, to do with as they please.
    done.paths[1].write_bytes(b"changed")
    assert len(butler.get(refs[1])) == 100_000


def test_links_and_clones_that_cannot_be_had(butler: Butler, short_dir: Path, tmp_path: Path) -> None:
    refs = fill(butler, 1)
    elsewhere = Path("/dev/shm") / short_dir.name
    try:
        for transfer in ("hardlink", "reflink"):
            with pytest.raises(InvalidRequestError, match=f"cannot be a (hard link|{transfer})"):
                butler.stage(refs, elsewhere, transfer=transfer)  # type: ignore[arg-type]
        assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
        assert butler.stage(refs, elsewhere).copies == 1
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
@pytest.mark.root
def test_blocks_are_shared(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path, kind: str
) -> None:
    with LoopDisk(short_dir, size_bytes=400 << 20, kind=kind) as disk:
        daemon = make_daemon()
        with Butler.create("d", str(disk.mount_point / "repo"), socket=daemon.socket) as butler:
            furnish(butler, 20)
            refs = fill(butler, 8, size=4 << 20)
            os.sync()
            before = os.statvfs(disk.mount_point).f_bfree
            done = butler.stage(refs, disk.mount_point / "out")
            os.sync()
            taken = (before - os.statvfs(disk.mount_point).f_bfree) * os.statvfs(disk.mount_point).f_frsize
            assert done.reflinks == 8
            assert taken < 2 << 20, "32 MiB of content"
            for ref, path in zip(refs, done.paths, strict=True):
                assert path.stat().st_nlink == 1
                assert all(flags & _SHARED for flags in extents(path))
                assert path.read_bytes() == butler.get(ref)
            done.paths[0].write_bytes(b"changed")
            assert len(butler.get(refs[0])) == 4 << 20
        daemon.stop()


def test_what_is_missing_or_damaged_is_made_again(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 4)
    paths = butler.stage(refs, short_dir / "out").paths
    times = [path.stat().st_mtime_ns for path in paths]
    damaged = bytearray(paths[2].read_bytes())
    damaged[77] ^= 1
    paths[2].write_bytes(damaged)
    with pytest.raises(ConflictError, match="other content"):
        butler.stage(refs, short_dir / "out")
    paths[1].unlink()
    done = butler.stage(refs, short_dir / "out", overwrite=True)
    assert (done.present, done.copies + done.reflinks) == (2, 2)
    assert [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)] == [
        True,
        False,
        False,
        True,
    ]
    assert [path.read_bytes() for path in paths] == [butler.get(ref) for ref in refs]


def test_a_damaged_repository_is_noticed(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 3)
    path = next((short_dir / "repo" / "u").rglob("blob_*_2_*"))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    for transfer in ("copy", "hardlink"):
        with pytest.raises(IntegrityError, match="hash"):
            butler.stage(refs, short_dir / "out", transfer=transfer)  # type: ignore[arg-type]
    assert not list((short_dir / "out").rglob("*_2_*"))


@pytest.mark.root
def test_a_full_disk(needs_root: None, butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 12, size=1 << 20)
    with LoopDisk(short_dir) as disk:
        disk.fill(leave_bytes=5 << 20)
        out = disk.mount_point / "out"
        with pytest.raises(LimitExceededError, match="the disk is full") as caught:
            butler.stage(refs, out)
        assert "run it again" in caught.value.hint
        there = [path for path in out.rglob("*") if path.is_file()]
        assert 1 <= len(there) < 12
        assert {path.stat().st_size for path in there} == {1 << 20}, "no half files, and none with other names"
        disk.give_back()
        done = butler.stage(refs, out)
        assert (done.present, done.copies) == (len(there), 12 - len(there))


def test_killed_and_run_again(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 20, size=3 << 20)
    code = """
import os, sys
from pantry.client import Butler
butler = Butler("d", socket=sys.argv[1])
butler.stage(butler.query_datasets("blob", "u/one"), sys.argv[2], transfer="copy",
             progress=lambda done, total: done > 4 << 20 and os.kill(os.getpid(), 9))
"""
    died = subprocess.run(
        [sys.executable, "-c", code, butler.connection.socket_path, str(short_dir / "out")], check=False
    )
    assert died.returncode == -signal.SIGKILL
    there = [path for path in (short_dir / "out").rglob("*") if path.is_file()]
    assert there
    assert {path.stat().st_size for path in there} == {3 << 20}
    done = butler.stage(refs, short_dir / "out")
    assert done.present == len(there)
    assert [path.read_bytes() for path in done.paths] == [butler.get(ref) for ref in refs]


@pytest.mark.req("DMS-MWBT-REQ-0052")
def test_inputs_of_a_planned_run(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    """A graph made before the run says what is staged from S3, by names that are the repository's."""
    daemon = make_daemon(storage_config)
    with Butler.create("s", s3_root, socket=daemon.socket) as butler:
        furnish(butler, 20)
        refs = fill(butler, 6)
        graph = butler.query_graph("blob", collections="u/one", where="exposure IN (2..4)")
        (short_dir / "graph.json").write_bytes(graph.to_json())
        command = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.socket]
        command += ["stage", "s", str(short_dir / "out"), "--graph", str(short_dir / "graph.json"), "--json"]
        done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert done["copies"] == 3
        assert [str(Path(path).relative_to(short_dir / "out")) for path in done["files"]] == [
            f"u/one/blob/{INSTRUMENT}/{n}/blob_{INSTRUMENT}_{n}_0.bin" for n in (2, 3, 4)
        ]
        assert [Path(path).read_bytes() for path in done["files"]] == [butler.get(ref) for ref in refs[1:4]]
        with pytest.raises(InvalidRequestError, match="hard links"):
            butler.stage(refs, short_dir / "out", transfer="hardlink")


def test_what_cannot_be_staged(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 1)
    with pytest.raises(InvalidRequestError, match="unknown transfer"):
        butler.stage(refs, short_dir / "out", transfer="symlink")  # type: ignore[arg-type]
    (short_dir / "file").write_text("")
    with pytest.raises(ConflictError, match="in the way"):
        butler.stage(refs, short_dir / "file" / "out")
    with pytest.raises(PermissionDeniedError if os.geteuid() else OSError):
        butler.stage(refs, "/proc/out")
    lost = type(refs[0])(
        id=type(refs[0].id)(int=7), dataset_type=refs[0].dataset_type, data_id=refs[0].data_id, run="u/one"
    )
    with pytest.raises(DatasetNotFoundError, match="there is no blob with the id"):
        butler.stage([*refs, lost], short_dir / "out")


@pytest.mark.req("DMS-MWBT-REQ-0054")
def test_a_missing_file_is_an_error_at_once_by_configuration(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is asked of the object store, whose files are all there."""
    daemon = make_daemon(storage_config)
    with Butler.create("s", s3_root, socket=daemon.socket) as butler:
        furnish(butler, 20)
        refs = fill(butler, 3)
        evict = [sys.executable, "-m", "pantry.client.cli.main", "--socket", daemon.socket, "cache", "evict", "--all"]
        subprocess.run(evict, check=True, capture_output=True)
        butler.get(refs[0])
        before = butler.connection.call(GetCacheStatus()).fetches
        monkeypatch.setenv("PANTRY_MISSING", "error")
        with Butler("s", collections="u/one", socket=daemon.socket) as strict:
            assert strict.get(refs[0]) == strict.clone().get_deferred("blob", refs[0].data_id).get()
            for read in (
                lambda: strict.get(refs[1]),
                lambda: strict.get("blob", refs[1].data_id),
                lambda: strict.get_deferred(refs[1]).get(),
                lambda: strict.open(refs[1], partial=True),
                lambda: strict.stage(refs, short_dir / "out"),
            ):
                with pytest.raises(NotCachedError, match="not complete in the cache"):
                    read()
            assert strict.exists(refs[1]), "the registry has it"
        assert butler.connection.call(GetCacheStatus()).fetches == before
        monkeypatch.setenv("PANTRY_MISSING", "perhaps")
        with pytest.raises(InvalidRequestError, match="PANTRY_MISSING is 'perhaps'"):
            Butler("s", socket=daemon.socket)
        # The argument wins.
        with Butler("s", missing="fetch", socket=daemon.socket) as usual:
            assert usual.get(refs[1]) == butler.get(refs[1])


def test_files_of_a_directory_are_on_this_node(butler: Butler, short_dir: Path) -> None:
    refs = fill(butler, 2)
    evict = [sys.executable, "-m", "pantry.client.cli.main", "--socket", butler.connection.socket_path]
    subprocess.run([*evict, "cache", "evict", "--all"], check=True, capture_output=True)
    with Butler("d", missing="error", socket=butler.connection.socket_path) as strict:
        assert len(strict.get(refs[0])) == 100_000
        next((short_dir / "repo" / "u").rglob("blob_*_2_*")).unlink()
        with pytest.raises(BackendError):
            strict.get(refs[1])
