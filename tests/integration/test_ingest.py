"""Taking existing files in, by every transfer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import BackendError, DataIdValueError, DatasetExistsError, InvalidRequestError, PantryError

pytestmark = pytest.mark.req("DMS-MWBT-REQ-0008")


def files_in(directory: Path, count: int = 10) -> list[tuple[str, dict[str, Any]]]:
    directory.mkdir(exist_ok=True)
    made = []
    for number in range(1, count + 1):
        path = directory / f"file{number}.bin"
        path.write_bytes(f"content {number}".encode() * 100)
        # Two in each directory of the tree.
        data_id = {"instrument": INSTRUMENT, "exposure": (number + 1) // 2, "detector": number % 2}
        made.append((str(path), data_id))
    return made


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


@pytest.fixture
def local(daemon: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    with Butler.create("local", str(short_dir / "root"), socket=daemon.socket) as butler:
        furnish(butler)
        yield butler


@pytest.fixture
def remote(daemon: PantryDaemon, s3_root: str) -> Iterator[Butler]:
    with Butler.create("remote", s3_root, socket=daemon.socket) as butler:
        furnish(butler)
        yield butler


def check(butler: Butler, count: int = 10) -> None:
    refs = butler.query_datasets("blob", collections="u/in")
    assert len(refs) == count
    for ref in refs:
        number = 2 * ref.data_id["exposure"] - ref.data_id["detector"]
        assert butler.get(ref) == f"content {number}".encode() * 100


@pytest.mark.parametrize("transfer", ["copy", "move", "link", "hardlink", "symlink"])
def test_into_a_directory(local: Butler, short_dir: Path, transfer: Any) -> None:
    files = files_in(short_dir / "source")
    local.ingest("blob", files, run="u/in", transfer=transfer)
    check(local)
    assert all(os.path.exists(path) == (transfer != "move") for path, _ in files)
    stored = short_dir / "root" / f"u/in/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_1.bin"
    assert stored.is_symlink() == (transfer == "symlink")
    if transfer in ("link", "hardlink"):
        assert stored.samefile(files[0][0])
    assert not list((short_dir / "root").rglob(".pantry-*")), "a marker was left behind"


@pytest.mark.parametrize("transfer", ["copy", "move"])
def test_into_a_bucket(remote: Butler, short_dir: Path, transfer: Any) -> None:
    files = files_in(short_dir / "source")
    remote.ingest("blob", files, run="u/in", transfer=transfer)
    check(remote)
    assert all(os.path.exists(path) == (transfer != "move") for path, _ in files)


def test_links_into_a_bucket_are_refused(remote: Butler, short_dir: Path) -> None:
    with pytest.raises(InvalidRequestError, match="nothing can be linked"):
        remote.ingest("blob", files_in(short_dir / "source"), run="u/in", transfer="symlink")
    assert not remote.collections.query("*") or not remote.query_datasets("blob", collections="*")


def test_in_place_in_a_directory_reads_files_where_they_lie(local: Butler, short_dir: Path) -> None:
    files = files_in(short_dir / "root" / "mine")
    local.ingest("blob", files, run="u/in", transfer="in_place")
    check(local)
    assert sorted(path.name for path in (short_dir / "root").glob("*")) == [".pantry", "mine", "pantry.yaml"]


def test_in_place_in_a_bucket(remote: Butler, seaweed: Any, s3_root: str) -> None:
    bucket, prefix = s3_root.removeprefix("s3://").split("/", 1)
    client = seaweed.client()
    for number in range(1, 4):
        client.put_object(Bucket=bucket, Key=f"{prefix}/old/{number}", Body=f"content {number}".encode() * 100)
    client.close()
    files = [
        (f"old/{number}", {"instrument": INSTRUMENT, "exposure": (number + 1) // 2, "detector": number % 2})
        for number in (1, 2, 3)
    ]
    remote.ingest("blob", files, run="u/in", transfer="in_place")
    check(remote, 3)


@pytest.mark.req("DMS-MWBT-REQ-0074")
def test_all_or_none_and_no_clobber(local: Butler, short_dir: Path) -> None:
    files = files_in(short_dir / "source")
    local.ingest("blob", files[4:5], run="u/in")
    with pytest.raises(DatasetExistsError, match="1 of 10 datasets exist"):
        local.ingest("blob", files, run="u/in")
    assert len(local.query_datasets("blob", collections="u/in")) == 1
    local.ingest("blob", files, run="u/in", skip_existing=True)
    check(local)


def test_several_requests_keep_their_order_and_each_is_all_or_nothing(
    local: Butler, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.client.butler.ingesting.MAX_ITEMS", 3)
    files = files_in(short_dir / "source")
    done: list[int] = []
    ids = local.ingest("blob", files, run="u/in", progress=done.append)
    assert done == [3, 6, 9, 10]
    for id_, (path, _) in zip(ids, files, strict=True):
        assert id_ is not None
        with local.open(local.get_dataset(id_)) as file:
            assert file.read() == Path(path).read_bytes()
    # The second of four requests has a dataset that is there: it fails alone, and those beside it are whole.
    local.ingest("blob", files[4:5], run="u/again")
    with pytest.raises(DatasetExistsError, match="1 of 3 datasets exist"):
        local.ingest("blob", files, run="u/again")
    found = {ref.data_id["exposure"] * 2 - ref.data_id["detector"] for ref in local.query_datasets("blob", "u/again")}
    assert {1, 2, 3, 5} <= found
    assert not {4, 6} & found
    assert {7, 8, 9} <= found or not {7, 8, 9} & found
    assert 10 not in found


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda files: files.append(("/nonexistent", {**files[0][1], "exposure": 50})), PantryError),
        (lambda files: files.append((files[0][0], {**files[0][1], "exposure": 5000})), DataIdValueError),
        (lambda files: files.append(("/dev/null", {**files[0][1], "exposure": 50})), InvalidRequestError),
        (lambda files: files.append((os.path.dirname(files[0][0]), {**files[0][1], "exposure": 50})), PantryError),
    ],
)
def test_one_bad_file_means_none(local: Butler, short_dir: Path, spoil: Any, error: type[PantryError]) -> None:
    files = files_in(short_dir / "source")
    spoil(files)
    with pytest.raises(error):
        local.ingest("blob", files, run="u/in")
    assert "u/in" not in local.collections.query("*") or not local.query_datasets("blob", collections="u/in")
    assert not list((short_dir / "root" / "u").rglob("*.bin")) if (short_dir / "root" / "u").exists() else True


def test_a_file_in_the_way_means_none(local: Butler, short_dir: Path) -> None:
    """What was stored beside it is taken back, and no source is moved away."""
    files = files_in(short_dir / "source")
    there = short_dir / "root" / f"u/in/blob/{INSTRUMENT}/5/blob_{INSTRUMENT}_5_0.bin"  # of the last of them
    there.parent.mkdir(parents=True)
    there.write_text("somebody's")
    with pytest.raises(DatasetExistsError, match="though the registry has no such dataset"):
        local.ingest("blob", files, run="u/in", transfer="move")
    assert [path for path in (short_dir / "root" / "u").rglob("*") if path.is_file()] == [there]
    assert there.read_text() == "somebody's"
    assert all(os.path.exists(path) for path, _ in files)
    there.unlink()
    local.ingest("blob", files, run="u/in", transfer="move")
    check(local)


def test_a_path_out_of_the_root_is_refused(local: Butler, short_dir: Path) -> None:
    data_id = {"instrument": INSTRUMENT, "exposure": 1, "detector": 1}
    for path in ("../../etc/passwd", "/etc/passwd"):
        with pytest.raises(PantryError):
            local.ingest("blob", [(path, data_id)], run="u/in", transfer="in_place")
    (short_dir / "root" / "sneaky").symlink_to("/etc")
    with pytest.raises((BackendError, InvalidRequestError)):
        local.ingest("blob", [("sneaky/passwd", data_id)], run="u/in", transfer="in_place")


AS_ANOTHER = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
butler = Butler("node", run="u/in", socket=sys.argv[1])
data_id = {"instrument": "TestCam", "exposure": 1, "detector": 1}
try:
    butler.ingest("blob", [(sys.argv[2], data_id)])
except (PantryError, OSError) as exc:
    print(type(exc).__name__)
else:
    print(butler.get("blob", data_id))
"""


@pytest.mark.root
def test_nobody_ingests_what_they_cannot_read(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], short_dir: Path
) -> None:
    daemon = make_daemon(system=True)
    secret = short_dir / "secret"
    secret.write_bytes(b"root only")
    secret.chmod(0o600)
    theirs = short_dir / "theirs"
    theirs.write_bytes(b"mine")
    os.chown(theirs, 40001, 40001)
    with Butler.create("node", str(short_dir / "root"), writers="40001", socket=daemon.socket) as butler:
        furnish(butler)
    refused = run_as(40001, AS_ANOTHER, daemon.socket, str(secret))
    assert refused.stdout.strip() in ("PermissionError", "PermissionDeniedError", "InvalidRequestError"), refused.stderr
    done = run_as(40001, AS_ANOTHER, daemon.socket, str(theirs))
    assert done.stdout == "b'mine'\n", done.stderr
