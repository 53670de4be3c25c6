"""Exports of the Gen3 Butler, imported through a real daemon with their files; into directories and S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, DatasetExistsError, DatasetNotFoundError, InvalidRequestError, NotFoundError
from pantry.wire.operations import ListTree

EXPORT = """\
description: Butler Data Repository Export
version: 1.0.2
universe_version: 7
universe_namespace: daf_butler
data:
- type: dimension
  element: instrument
  records:
  - {name: Cam, visit_max: 9, visit_system: 1, exposure_max: 9, detector_max: 9, class_name: obs.Cam}
- type: dimension
  element: detector
  records:
  - {instrument: Cam, id: 0, full_name: D0, name_in_raft: a, raft: A, purpose: SCIENCE}
  - {instrument: Cam, id: 1, full_name: D1, name_in_raft: b, raft: A, purpose: SCIENCE}
  - {instrument: Cam, id: 2, full_name: D2, name_in_raft: c, raft: A, purpose: SCIENCE}
- {type: collection, collection_type: RUN, name: run/1, host: null, timespan_begin: null, timespan_end: null}
- {type: collection, collection_type: CALIBRATION, name: calib}
- {type: collection, collection_type: CHAINED, name: chain, children: [run/1, calib]}
- {type: dataset_type, name: info, dimensions: [instrument, detector], storage_class: StructuredDataDict,
   is_calibration: true}
- type: dataset
  dataset_type: info
  run: run/1
  records:
  - dataset_id: [!uuid 00000000-0000-4000-8000-000000000000]
    data_id: [{instrument: Cam, detector: 0}]
    path: info/0.json
    formatter: lsst.daf.butler.formatters.json.JsonFormatter
  - dataset_id: [!uuid 00000000-0000-4000-8000-000000000001, !uuid 00000000-0000-4000-8000-000000000002]
    data_id: [{instrument: Cam, detector: 1}, {instrument: Cam, detector: 2}]
    path: info/both.json
    formatter: lsst.daf.butler.formatters.json.JsonFormatter
- type: associations
  collection: calib
  collection_type: CALIBRATION
  validity_ranges:
  - timespan: !<!lsst.daf.butler.Timespan> {begin: null, end: !butler_time/tai/iso '2020-01-01 00:00:00'}
    dataset_ids: [!uuid 00000000-0000-4000-8000-000000000001]
"""


@pytest.fixture
def night(short_dir: Path) -> Path:
    """An export with its files."""
    directory = short_dir / "night"
    (directory / "info").mkdir(parents=True)
    (directory / "export.yaml").write_text(EXPORT)
    (directory / "info" / "0.json").write_text('{"n":0}')
    (directory / "info" / "both.json").write_text('{"n":12}')
    return directory


@pytest.fixture
def node(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any]) -> PantryDaemon:
    return make_daemon(storage_config)


@pytest.fixture(params=["directory", "s3"])
def butler(request: pytest.FixtureRequest, node: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    root = str(short_dir / "root") if request.param == "directory" else request.getfixturevalue("s3_root")
    with Butler.create("r", root, socket=node.socket) as made:
        yield made


@pytest.fixture
def local(node: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    with Butler.create("r", str(short_dir / "root"), socket=node.socket) as made:
        yield made


def info(butler: Butler, detector: int, collections: str = "run/1") -> Any:
    return butler.get("info", instrument="Cam", detector=detector, collections=collections)


def ids(butler: Butler) -> set[UUID]:
    return {ref.id for ref in butler.query_datasets("info", collections="run/1")}


def nothing_is_there(butler: Butler) -> bool:
    definitions = butler.query_dataset_types() or butler.collections.query()
    return not definitions and not butler.query_dimension_records("detector")


def test_files_and_ids_come_along(butler: Butler, night: Path) -> None:
    done = butler.import_(directory=night)
    assert (done.datasets, done.files, done.without_file, done.members) == (3, 2, 0, 1)
    assert ids(butler) == {UUID(int=(0x4000 << 64) + (0x8000 << 48) + number) for number in range(3)}
    assert [info(butler, number)["n"] for number in range(3)] == [0, 12, 12]
    assert list(butler.collections.get_info("chain").children) == ["run/1", "calib"]
    again = butler.import_(directory=night)
    assert (again.datasets, again.files, again.present, again.members, again.dimension_records) == (0, 0, 3, 0, 0)


@pytest.mark.parametrize("transfer", ["move", "hardlink", "symlink"])
def test_transfers(local: Butler, night: Path, transfer: Any) -> None:
    local.import_(directory=night, transfer=transfer)
    assert [info(local, number)["n"] for number in range(3)] == [0, 12, 12]
    assert (night / "info" / "0.json").exists() is (transfer != "move")
    # What was moved is not missed by a second time.
    assert local.import_(directory=night, transfer=transfer).present == 3


def test_in_place(local: Butler, night: Path, short_dir: Path) -> None:
    (night / "info").rename(short_dir / "root" / "info")
    done = local.import_(filename=night / "export.yaml", transfer="in_place")
    assert (done.files, [info(local, number)["n"] for number in range(3)]) == (2, [0, 12, 12])
    assert (short_dir / "root" / "info" / "0.json").exists()


def test_missing_files_stop_it_before_anything_is_written(local: Butler, night: Path) -> None:
    (night / "info" / "both.json").rename(night / "both.json")
    with pytest.raises(NotFoundError, match=r"1 files of the export are missing, the first in line 29: .*both.json"):
        local.import_(directory=night)
    assert nothing_is_there(local)
    done = local.import_(directory=night, allow_missing=True)
    assert (done.datasets, done.files, done.without_file) == (3, 1, 2)
    assert info(local, 0) == {"n": 0}
    with pytest.raises(DatasetNotFoundError, match="without a file"):
        info(local, 1)
    assert len(ids(local)) == 3
    (night / "both.json").rename(night / "info" / "both.json")
    later = local.import_(directory=night)
    assert (later.datasets, later.files, later.present) == (0, 1, 1)
    assert [info(local, number)["n"] for number in range(3)] == [0, 12, 12]


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("full_name: D1", "full_name: other", ConflictError, "detector record {instrument: 'Cam', detector: 1} is"),
        (
            "children: [run/1, calib]",
            "children: [calib]",
            InvalidRequestError,
            "the chain 'chain' is run/1, calib here",
        ),
        ("8000-000000000000", "8000-00000000000f", ConflictError, "has another info for"),
        ("detector: 0}]", "detector: 3}]", ConflictError, "the id 00000000-0000-4000-8000-000000000000 is that of"),
        ("name: calib}", "name: calib2}", InvalidRequestError, "neither in the export nor here"),
        ("storage_class: StructuredDataDict", "storage_class: YamlDict", InvalidRequestError, "storage_class"),
        ("'2020-01-01 00:00:00'", "'2020-01-02 00:00:00'", ConflictError, "'calib' has this info valid"),
    ],
)
def test_what_contradicts_is_named(local: Butler, night: Path, old: str, new: str, error: Any, said: str) -> None:
    local.import_(directory=night)
    assert old in EXPORT
    one = "  - {instrument: Cam, id: 2"
    changed = EXPORT.replace(one, f"  - {{instrument: Cam, id: 3, full_name: x}}\n{one}")
    if "calib2" in new:
        changed = changed.replace("children: [run/1, calib]", "children: [run/1, calib3]")
    (night / "export.yaml").write_text(changed.replace(old, new))
    with pytest.raises(error) as caught:
        local.import_(directory=night)
    assert said in caught.value.message
    assert error is ConflictError or "export.yaml, line " in caught.value.message
    assert info(local, 0) == {"n": 0}


def test_skip_dimensions_keeps_what_is_there(local: Butler, night: Path) -> None:
    local.import_(directory=night)
    (night / "export.yaml").write_text(EXPORT.replace("full_name: D1", "full_name: other"))
    assert local.import_(directory=night, skip_dimensions=["detector"]).present == 3
    assert [one.full_name for one in local.query_dimension_records("detector")] == ["D0", "D1", "D2"]


def test_a_request_that_fails_leaves_no_file(local: Butler, night: Path, short_dir: Path) -> None:
    target = short_dir / "root" / "run" / "1" / "info" / "Cam" / "info_Cam_1.json"
    target.parent.mkdir(parents=True)
    target.write_text("in the way")
    with pytest.raises(DatasetExistsError, match="info_Cam_1.json"):
        local.import_(directory=night)
    assert sorted(path.name for path in target.parent.iterdir()) == ["info_Cam_1.json"]
    assert ids(local) == set()
    target.unlink()
    assert local.import_(directory=night).datasets == 3


def test_a_file_that_completes_a_dataset_is_undone_too(local: Butler, night: Path, short_dir: Path) -> None:
    local.import_(directory=night, without_datastore=True)
    target = short_dir / "root" / "run" / "1" / "info" / "Cam" / "info_Cam_1.json"
    target.parent.mkdir(parents=True)
    target.write_text("in the way")
    with pytest.raises(DatasetExistsError, match="info_Cam_1.json"):
        local.import_(directory=night)
    # The dataset is registered; the file of the other one must go nevertheless.
    assert sorted(path.name for path in target.parent.iterdir()) == ["info_Cam_1.json"]
    target.unlink()
    assert local.import_(directory=night).files == 2
    assert [info(local, number)["n"] for number in range(3)] == [0, 12, 12]


def test_datasets_without_files_are_not_in_the_mount_nor_prefetched(local: Butler, night: Path) -> None:
    local.import_(directory=night, without_datastore=True)
    asked = ListTree(repository="r", collection="run/1", dataset_type="info", parts=("Cam",))
    assert [one for batch in local.connection.stream(asked) for one in batch.entries] == []
    assert local.prefetch("info", collections="run/1").files_total == 0


def command(node: PantryDaemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pantry.client.cli.main", "repo", "import", *words],
        env={**os.environ, "PANTRY_SOCKET": node.socket},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command(node: PantryDaemon, local: Butler, night: Path) -> None:
    export = str(night / "export.yaml")
    done = command(node, "r", export, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["datasets"] == 3
    assert "there before               3" in command(node, "r", export).stdout
    assert "there is no export" in command(node, "r", "nowhere.yaml").stderr
    assert "you may not" not in command(node, "r", export, "--storage-class", "X").stderr
    assert command(node, "r", export, "--storage-class", "X").returncode == 2


@pytest.mark.root
def test_another_user_imports_what_that_user_can_read(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], night: Path, short_dir: Path
) -> None:
    daemon = make_daemon(system=True)
    Butler.create("r", str(short_dir / "root"), writers=["4242"], readers=["4243"], socket=daemon.socket)
    (night / "info" / "0.json").chmod(0o600)
    code = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
try:
    done = Butler("r", socket=sys.argv[1]).import_(filename=sys.argv[2])
except PantryError as exc:
    print(exc.code, exc.message)
else:
    print(done.datasets, done.files)
"""
    words = (daemon.socket, str(night / "export.yaml"))
    refused = run_as(4243, code, *words).stdout
    assert refused.startswith("permission_denied you may not write")
    asked = run_as(4242, code, *words)
    unreadable = asked.stdout + asked.stderr
    assert "0.json" in unreadable, unreadable
    os.chown(night / "info" / "0.json", 4242, 4242)
    done = run_as(4242, code, *words)
    assert done.stdout == "3 2\n", done.stderr
