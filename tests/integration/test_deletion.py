"""Datasets are deleted: by whom, with what, and what stays (DMS-MWBT-REQ-0004)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import DatasetExistsError, DatasetNotFoundError, OriginUnavailableError, PermissionDeniedError
from pantry.model.provenance import Quantum
from pantry.wire.operations import ImportDatasets, ListCache, RemovedDatasets, SetOffline
from pantry.wire.operations.importing import ImportItem

WRITER, READER, STRANGER = 4711, 4712, 4713


class Stored:
    """A repository, and what its storage really holds."""

    def __init__(self, butler: Butler, root: str, client: Any) -> None:
        self.butler = butler
        self.root = root
        self.client = client

    def files(self) -> set[str]:
        if not self.root.startswith("s3:"):
            found = {str(path.relative_to(self.root)) for path in Path(self.root).rglob("*") if path.is_file()}
        else:
            bucket, prefix = self.root.removeprefix("s3://").split("/", 1)
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
            found = {one["Key"].removeprefix(prefix + "/") for page in pages for one in page.get("Contents", ())}
        return {one for one in found if one.startswith(("u/", "their/")) and ".pantry-" not in one}

    def place(self, key: str, content: bytes) -> None:
        """Put a file there by other means."""
        if not self.root.startswith("s3:"):
            path = Path(self.root, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return
        bucket, prefix = self.root.removeprefix("s3://").split("/", 1)
        self.client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=content)


@pytest.fixture(params=["POSIX", "S3"])
def stored(
    request: pytest.FixtureRequest,
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    make_daemon: Callable[..., PantryDaemon],
    short_dir: Path,
) -> Iterator[Stored]:
    root = str(short_dir / "root") if request.param == "POSIX" else request.getfixturevalue("s3_root")
    client = seaweed.client()
    with Butler.create("demo", root, socket=make_daemon(storage_config).socket) as butler:
        furnish(butler, n_exposures=5)
        yield Stored(butler, root, client)
    client.close()


def where(exposure: int, detector: int = 0) -> dict[str, Any]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": detector}


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_a_dataset_is_deleted_and_its_place_is_free(stored: Stored) -> None:
    butler = stored.butler
    refs = [butler.put(b"old" * 100, "blob", where(number), run="u/run") for number in (1, 2)]
    butler.collections.register("u/tag", "TAGGED")
    butler.collections.register("u/chain", "CHAINED")
    butler.collections.redefine_chain("u/chain", ["u/tag", "u/run"])
    butler.associate("u/tag", refs)
    before = stored.files()
    with butler.open(refs[0]) as file:
        planned = butler.delete(refs[:1], dry_run=True)
        assert stored.files() == before
        assert butler.get(refs[0]) == b"old" * 100
        done = butler.delete(refs[:1])
        assert done == planned
        assert (done.datasets, done.files, done.size_bytes, done.kept, done.left) == (1, 1, 300, 0, 0)
        assert file.read() == b"old" * 100, "whoever has it open keeps it"
    assert stored.files() == {one for one in before if "blob_TestCam_2_0" in one}
    for collection in ("u/run", "u/tag", "u/chain"):
        assert butler.query_datasets("blob", collection) == refs[1:]
        assert not butler.exists("blob", where(1), collections=collection)
    with pytest.raises(DatasetNotFoundError):
        butler.get(refs[0])
    with pytest.raises(DatasetNotFoundError, match=r"1 of 2 datasets are not there(.|\n)*missing_ok"):
        butler.delete(refs)
    assert butler.get(refs[1]) == b"old" * 100, "all or none"
    new = butler.put(b"new", "blob", where(1), run="u/run")
    assert (butler.get(new), new.id == refs[0].id) == (b"new", False)
    done = butler.delete([refs[0], refs[1]], missing_ok=True)
    assert (done.datasets, done.missing) == (1, 1)
    assert butler.get("blob", where(1), collections="u/run") == b"new"


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_the_cache_lets_go_and_provenance_stays(stored: Stored) -> None:
    butler = stored.butler
    parent = butler.put(b"parent", "blob", where(1), run="u/run")
    child = butler.put(b"child", "blob", where(2), run="u/run")
    quantum = Quantum(id=uuid4(), task="copy", run="u/run", actual_inputs=(parent.id,), outputs=(child.id,))
    butler.record_quanta([quantum])
    butler.get(parent)

    def cached() -> set[int]:
        return {one.size_bytes for batch in butler.connection.stream(ListCache()) for one in batch.objects}

    assert cached() >= {6, 5} or not stored.root.startswith("s3:")
    butler.delete([parent])
    assert 6 not in cached()
    assert [one.id for one in butler.ancestors(child)] == [parent.id]


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_files_in_place_stay(stored: Stored) -> None:
    butler = stored.butler
    stored.place("their/file.bin", b"theirs")
    butler.ingest("blob", [("their/file.bin", where(1))], run="u/in", transfer="in_place")
    (ref,) = butler.query_datasets("blob", "u/in")
    done = butler.delete([ref])
    assert (done.datasets, done.files, done.kept) == (1, 0, 1)
    assert stored.files() == {"their/file.bin"}
    # So that it can be taken in again.
    butler.ingest("blob", [("their/file.bin", where(1))], run="u/in", transfer="in_place")
    assert butler.get("blob", where(1), collections="u/in") == b"theirs"


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_what_was_taken_in_goes_and_its_source_stays(stored: Stored, short_dir: Path) -> None:
    # Nothing can be linked into S3.
    links: tuple[Any, ...] = () if stored.root.startswith("s3:") else ("hardlink", "symlink", "link")
    for transfer in ("copy", *links, "move"):
        source = short_dir / "source.bin"
        source.write_bytes(b"source")
        stored.butler.ingest("blob", [(str(source), where(1))], run="u/in", transfer=transfer)
        assert len(stored.files()) == 1
        stored.butler.delete(stored.butler.query_datasets("blob", "u/in"))
        assert stored.files() == set()
        assert source.exists() is (transfer != "move"), transfer


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_a_file_that_stays_for_others_is_named_when_it_is_in_the_way(stored: Stored, short_dir: Path) -> None:
    butler = stored.butler
    source = short_dir / "shared.bin"
    source.write_bytes(b"shared")
    ids = [uuid4() for _ in range(2)]
    butler.connection.call(
        ImportDatasets(
            repository="demo",
            dataset_type="blob",
            run="u/in",
            transfer="copy",
            dimensions=("instrument", "exposure", "detector"),
            items=tuple(ImportItem(str(source), (INSTRUMENT, number, 0)) for number in (1, 2)),
            ids=b"".join(one.bytes for one in ids),
        )
    )
    first, second = butler.query_datasets("blob", "u/in")
    done = butler.delete([first])
    assert (done.datasets, done.files, done.kept) == (1, 0, 1)
    with pytest.raises(
        DatasetExistsError, match=r"it is the file of 1 other datasets(.|\n)*another run, or delete those"
    ):
        butler.put(b"new", "blob", where(1), run="u/in")
    source.write_bytes(b"other")
    with pytest.raises(DatasetExistsError, match="it is the file of 1 other datasets"):
        butler.ingest("blob", [(str(source), where(1))], run="u/in", transfer="copy")
    assert butler.get(second) == b"shared"
    butler.delete([second])
    assert butler.get(butler.put(b"new", "blob", where(1), run="u/in")) == b"new"


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_deletions_and_puts_of_one_data_id_at_once(stored: Stored) -> None:
    """Whatever the order: what was acknowledged is there, with its own content, until it is deleted."""
    rounds, lost, failures = 12, [], []
    start = threading.Barrier(2)

    def work(number: int) -> None:
        with Butler("demo", run="u/run", socket=stored.butler.connection.socket_path) as butler:
            start.wait()
            for turn in range(rounds):
                content = f"{number} {turn}".encode() * 50
                while True:
                    try:
                        ref = butler.put(content, "blob", where(1))
                        break
                    except DatasetExistsError:
                        continue  # the other's turn
                if butler.get(ref) != content:
                    lost.append(content)
                butler.delete([ref])

    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(work, number) for number in range(2)]:
            failure = one.exception(120)
            if failure is not None:
                failures.append(failure)
    assert not failures
    assert not lost
    assert stored.files() == set()


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_on_the_command_line(stored: Stored) -> None:
    butler = stored.butler
    for number in (1, 2, 3):
        butler.put(b"content", "blob", where(number), run="u/run")
    base = ("delete", "demo", "blob", "-c", "u/run", "-w", "exposure > 1")
    done = pantry(butler, *base, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would be deleted: 2 datasets, 2 files" in done.stderr
    assert done.stdout.split() == ["type", "run", "datasets", "blob", "u/run", "2"]
    refused = pantry(butler, *base)
    assert refused.returncode != 0, "nobody said yes"
    assert "Delete 2 datasets, 2 files" in refused.stderr
    assert "deleted: " not in refused.stderr
    assert len(butler.query_datasets("blob", "u/run")) == 3
    done = pantry(butler, *base, "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert '"datasets": 2' in done.stdout
    assert [ref.data_id["exposure"] for ref in butler.query_datasets("blob", "u/run")] == [1]
    done = pantry(butler, *base, "--yes")
    assert (done.returncode, "nothing is deleted" in done.stderr) == (0, True)


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_components_go_with_their_composite(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], short_dir: Path
) -> None:
    formats = {"dataset_types": {"bag": {"disassembled": True}}}
    root = short_dir / "root"
    with Butler.create("demo", str(root), formats=formats, socket=make_daemon(storage_config).socket) as butler:
        furnish(butler, n_exposures=2)
        butler.register_dataset_type("bag", ["exposure"], "StructuredDataDict")
        refs = [
            butler.put({"a": [1], "b": {"n": 2}}, "bag", instrument=INSTRUMENT, exposure=number, run="u/run")
            for number in (1, 2)
        ]
        done = butler.delete(refs[:1])
        assert (done.datasets, done.files) == (3, 3)
        assert {ref.data_id["exposure"] for ref in butler.query_datasets("bag*", "u/run")} == {2}
        assert butler.get(refs[1]) == {"a": [1], "b": {"n": 2}}
        butler.put({"a": [3], "b": {"n": 4}}, "bag", instrument=INSTRUMENT, exposure=1, run="u/run")


def test_many_are_deleted_by_several_requests(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    butler = stored.butler
    refs = [butler.put(b"x", "blob", where(number, detector), run="u/run") for number in (1, 2) for detector in (0, 1)]
    monkeypatch.setattr("pantry.wire.operations.MAX_REMOVED", 3)
    done = butler.delete(refs)
    assert (done.datasets, done.files, done.size_bytes) == (4, 4, 4)
    assert stored.files() == set()


def test_what_is_left_is_what_each_repository_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"a": [4, 1], "b": [3]}

    def call(asked: Any) -> RemovedDatasets:
        return RemovedDatasets(datasets=1, missing=0, files=1, size_bytes=1, kept=0, left=said[asked.repository].pop(0))

    monkeypatch.setattr("pantry.wire.operations.MAX_REMOVED", 1)
    butler: Any = SimpleNamespace(connection=SimpleNamespace(call=call), repository="a", _writing=lambda: None)
    refs: list[Any] = [SimpleNamespace(repository=name, id=uuid4()) for name in ("a", "b", "a")]
    assert Butler.delete(butler, refs).left == 1 + 3


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_offline_nothing_is_deleted(stored: Stored) -> None:
    butler = stored.butler
    ref = butler.put(b"x", "blob", where(1), run="u/run")
    butler.connection.call(SetOffline(offline=True))
    with pytest.raises(OriginUnavailableError, match="works offline"):
        butler.delete([ref])
    butler.connection.call(SetOffline(offline=False))
    assert butler.delete([ref]).files == 1


def test_a_read_only_butler_deletes_nothing(stored: Stored) -> None:
    ref = stored.butler.put(b"x", "blob", where(1), run="u/run")
    with Butler("demo", writeable=False, socket=stored.butler.connection.socket_path) as butler:
        assert butler.delete([ref], dry_run=True).datasets == 1
        with pytest.raises(PermissionDeniedError, match="made read-only"):
            butler.delete([ref])


DELETE = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
try:
    butler = Butler("shared", collections="u/run", socket=sys.argv[1])
    refs = butler.query_datasets("blob")
    for dry_run in (True, False):
        try:
            print(butler.delete(refs, dry_run=dry_run).datasets)
        except PantryError as exc:
            print(exc.code, exc.message)
except PantryError as exc:
    print(exc.code, exc.message)
"""


@pytest.mark.root
@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_who_may_write_may_delete_and_nobody_else(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> None:
    daemon = make_daemon(storage_config, system=True)
    owner = Butler.create("shared", s3_root, readers=[str(READER)], writers=[str(WRITER)], socket=daemon.socket)
    furnish(owner)
    ref = owner.put(os.urandom(1000), "blob", where(1), run="u/run")
    refused = run_as(READER, DELETE, daemon.socket)
    said = f"permission_denied user {READER} may not write to the repository 'shared'"
    assert refused.stdout.splitlines() == [said] * 2, refused.stderr
    refused = run_as(STRANGER, DELETE, daemon.socket)
    assert refused.stdout.startswith("permission_denied"), refused.stderr
    assert owner.exists(ref)
    done = run_as(WRITER, DELETE, daemon.socket)
    assert done.stdout.split() == ["1", "1"], done.stderr
    assert not owner.exists(ref)
