"""Several repositories read as one, through a real daemon."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from astropy.table import Table
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.unit.fusefs.mounted import can_mount

from pantry.client import Butler
from pantry.errors import (
    ConflictError,
    DatasetNotFoundError,
    InvalidRequestError,
    MissingCollectionError,
    RepositoryNotFoundError,
)
from pantry.wire.operations import EvictObjects, ListPins, PinDatasets, VerifyObjects


@pytest.fixture
def both(
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    s3_root: str,
    tmp_path: Path,
) -> Iterator[Butler]:
    """A local repository before one in S3, whose exposures 1 to 4 and 3 to 6 have a config; the run is called alike."""
    daemon = make_daemon(storage_config)
    for name, root, exposures in (("mine", str(tmp_path / "repo"), (1, 2, 3, 4)), ("release", s3_root, (3, 4, 5, 6))):
        with Butler.create(name, root, socket=daemon.socket) as one:
            furnish(one, 6)
            for exposure in exposures:
                one.put({"from": name, "n": exposure}, "config", instrument=INSTRUMENT, exposure=exposure, run="run")
    with Butler.create("other", str(tmp_path / "other"), socket=daemon.socket):
        pass
    with Butler(["mine", "release"], collections="run", socket=daemon.socket) as butler:
        yield butler


def _where(refs: list[Any]) -> list[tuple[int, str]]:
    return [(ref.data_id["exposure"], ref.repository) for ref in refs]


@pytest.mark.req("DMS-MWBT-REQ-0081")
def test_two_repositories_read_as_one(both: Butler) -> None:
    expected = [(1, "mine"), (2, "mine"), (3, "mine"), (4, "mine"), (5, "release"), (6, "release")]
    found = both.query_datasets("config")
    assert sorted(_where(found)) == expected
    for ref in found:
        assert both.get(ref) == {"from": ref.repository, "n": ref.data_id["exposure"]}
        assert both.get_deferred(ref).get()["from"] == ref.repository
        assert both.get("config", ref.data_id)["from"] == ref.repository
        one = both.find_dataset("config", ref.data_id)
        assert one == ref
        assert one is not None
        assert one.repository == ref.repository
    assert _where(both.query_datasets("config", order_by="-exposure")) == expected[::-1]
    assert _where(both.query_datasets("config", order_by="-exposure", limit=3)) == expected[:2:-1]
    assert len(both.query_datasets("config", limit=5)) == 5
    assert both.count_datasets("config") == 6
    assert both.count_datasets("config", where="exposure > 4") == 2
    with pytest.raises(DatasetNotFoundError, match="release"):
        both.get("config", instrument=INSTRUMENT, exposure=77)


@pytest.mark.req("DMS-MWBT-REQ-0082")
def test_the_same_dataset_side_by_side(both: Butler) -> None:
    found = both.query_datasets("config", exposure=3, find_first=False)
    assert {ref.repository: both.get(ref)["from"] for ref in found} == {"mine": "mine", "release": "release"}
    assert both.count_datasets("config", find_first=False) == 8
    ordered = both.query_datasets("config", find_first=False, order_by="exposure", limit=4)
    assert _where(ordered) == [(1, "mine"), (2, "mine"), (3, "mine"), (3, "release")]


def test_records_data_ids_collections_and_types_of_all(both: Butler) -> None:
    assert [one["exposure"] for one in both.query_data_ids("exposure", order_by="-exposure")] == [6, 5, 4, 3, 2, 1]
    have = both.query_data_ids("exposure", dataset_types="config", collections="run")
    assert sorted(one["exposure"] for one in have) == [1, 2, 3, 4, 5, 6]
    records = both.query_dimension_records("exposure", order_by="-exposure.obs_id", limit=2)
    assert [record.obs_id for record in records] == ["T_6", "T_5"]
    assert len(both.query_dimension_records("detector")) == 2
    assert [(one.name, one.repository) for one in both.collections.query_info("*")] == [
        ("run", "mine"),
        ("run", "release"),
    ]
    assert {kind.name for kind in both.query_dataset_types()} == {"blob", "config"}


def test_what_only_one_has_is_found(both: Butler) -> None:
    with Butler("release", socket=both.connection.socket_path) as release:
        release.register_dataset_type("special", ["instrument"], "StructuredDataDict")
        release.put({"a": 1}, "special", instrument=INSTRUMENT, run="only/there")
    assert both.get("special", instrument=INSTRUMENT, collections="only/there") == {"a": 1}
    assert [ref.repository for ref in both.query_datasets("special", "only/there")] == ["release"]
    assert both.count_datasets(["special", "config"], ["run", "only/there"]) == 7
    with pytest.raises(MissingCollectionError, match="nowhere"):
        both.query_datasets("special", "nowhere")


def test_writing_goes_to_the_first(both: Butler) -> None:
    ref = both.put({"new": 1}, "config", instrument=INSTRUMENT, exposure=5, run="new")
    assert both.get(ref) == {"new": 1}
    assert both.find_dataset("config", instrument=INSTRUMENT, exposure=5, collections="new").repository == "mine"
    with Butler("release", socket=both.connection.socket_path) as release:
        assert [one.name for one in release.collections.query_info("*")] == ["run"]


def test_a_named_chain_and_the_command_line(both: Butler) -> None:
    made = pantry(both, "repo", "chain", "analysis", "mine", "release")
    assert "chain of    mine, release" in made.stdout, made
    listed = json.loads(pantry(both, "repo", "list", "--json").stdout)
    assert [(one["name"], one["chain"]) for one in listed if one["chain"]] == [("analysis", ["mine", "release"])]
    shown = pantry(both, "query-datasets", "analysis", "config", "-c", "run", "--order-by", "exposure").stdout
    assert [line.split()[1] for line in shown.splitlines()[1:]] == ["mine"] * 4 + ["release"] * 2
    # A chain of a chain: each repository once.
    with Butler(["other", "analysis", "release"], collections="run", socket=both.connection.socket_path) as deep:
        assert deep.info.chain == ("other", "mine", "release")
        assert deep.count_datasets("config") == 6
    with pytest.raises(ConflictError, match="analysis"):
        Butler.create("analysis", "/tmp/never-made", socket=both.connection.socket_path)


def test_mistakes_are_told(both: Butler) -> None:
    socket = both.connection.socket_path
    with pytest.raises(RepositoryNotFoundError, match="nonesuch"):
        Butler("mine,nonesuch", socket=socket)
    with pytest.raises(InvalidRequestError, match="bad repository name ''"):
        Butler("mine,", socket=socket)
    result = pantry(both, "repo", "chain", "alone", "mine")
    assert result.returncode == 1
    assert "two repositories at least" in result.stderr
    assert pantry(both, "repo", "chain", "loop", "mine", "loop").returncode != 0


def test_records_come_with_the_rows(both: Butler) -> None:
    for order_by in ((), ("-exposure",)):
        found = both.query_datasets("config", order_by=order_by, with_dimension_records=True)
        assert len(found) == 6
        for ref in found:
            assert ref.data_id.records["exposure"] is not None
            assert ref.data_id.exposure.id == ref.data_id["exposure"]
            assert ref.data_id.instrument.name == INSTRUMENT
    data_ids = both.query_data_ids("exposure", with_dimension_records=True, order_by="exposure")
    assert [one.exposure.id for one in data_ids] == [1, 2, 3, 4, 5, 6]
    [ref] = both.query_datasets("config", where="exposure = 5 AND ingest_date > T'2020-01-01'")
    again = both.get_dataset(ref.id, dimension_records=True)
    assert again is not None
    assert again.data_id.records == both.find_dataset("config", ref.data_id, dimension_records=True).data_id.records  # type: ignore[union-attr]


@pytest.mark.root
@can_mount
@pytest.mark.req("DMS-MWBT-REQ-0081")
def test_the_mount_shows_a_chain_as_it_is_read(both: Butler, tmp_path: Path, short_dir: Path) -> None:
    socket = both.connection.socket_path
    assert pantry(both, "repo", "chain", "both", "mine", "release").returncode == 0
    own, far = (Butler(name, socket=socket) for name in ("mine", "release"))
    # The same data id with another suffix is the same data id.
    own.register_dataset_type("table", ["instrument", "exposure"], "StructuredDataDict")
    far.register_dataset_type("table", ["instrument", "exposure"], "ArrowAstropy")
    for exposure in (1, 2):
        far.put(Table({"a": [exposure]}), "table", instrument=INSTRUMENT, exposure=exposure, run="run")
    own.put({"a": 0}, "table", instrument=INSTRUMENT, exposure=1, run="run")
    for butler, number in ((own, 1), (far, 2)):
        butler.register_dataset_type("bias", ["instrument", "detector"], "Bytes", is_calibration=True)
        butler.collections.register("calib", "CALIBRATION")
        made = butler.put(b"%d" % number, "bias", instrument=INSTRUMENT, detector=0, run="made")
        butler.certify("calib", [made], (None, None))
    far.certify("calib", [far.put(b"3", "bias", instrument=INSTRUMENT, detector=1, run="made")], (None, None))
    with PantryMount(socket, short_dir / "mnt") as mount:
        assert sorted(os.listdir(mount.directory)) == ["both", "mine", "other", "release"]
        for name in ("both", "mine,release"):
            configs = mount.directory / name / "run" / "config" / INSTRUMENT
            found = {path.name: json.loads(path.read_bytes()) for path in configs.iterdir()}
            assert found == {
                f"config_{INSTRUMENT}_{n}.json": {"from": "mine" if n < 5 else "release", "n": n} for n in range(1, 7)
            }
            tables = mount.directory / name / "run" / "table" / INSTRUMENT
            names = [f"table_{INSTRUMENT}_1.json", f"table_{INSTRUMENT}_2.parq"]
            assert sorted(os.listdir(tables)) == names
            assert not (tables / f"table_{INSTRUMENT}_1.parq").exists()
            in_calib = mount.directory / name / "calib" / "bias" / INSTRUMENT / "open_open"
            assert {path.name: path.read_bytes() for path in in_calib.iterdir()} == {
                f"bias_{INSTRUMENT}_0.bin": b"1",
                f"bias_{INSTRUMENT}_1.bin": b"3",
            }
            (far_ref,) = far.query_datasets("config", "run", exposure=6)
            by_id = mount.directory / name / ".by-id" / str(far_ref.id) / f"config_{INSTRUMENT}_6.json"
            paths = [
                by_id,
                configs / by_id.name,
                mount.directory / "release" / "run" / "config" / INSTRUMENT / by_id.name,
            ]
            assert len({path.stat().st_ino for path in paths}) == 1
            assert os.getxattr(paths[1], "user.pantry.uuid").decode() == str(far_ref.id)
            assert os.getxattr(paths[1], "user.pantry.origin").startswith(b"s3://")
    with PantryMount(socket, short_dir / "part", repositories=("both",)) as mount:
        assert os.listdir(mount.directory) == ["both"]
        assert not (mount.directory / "mine").exists()
        path = mount.directory / "both" / "run" / "config" / INSTRUMENT / f"config_{INSTRUMENT}_6.json"
        assert json.loads(path.read_bytes())["from"] == "release"


@pytest.mark.req("DMS-MWBT-REQ-0081")
def test_a_chain_is_prefetched_pinned_verified_and_evicted(both: Butler) -> None:
    daemon = both.connection
    query: dict[str, Any] = {"repository": "mine,release", "dataset_types": ("config",), "collections": ("run",)}
    daemon.call(EvictObjects(everything=True))
    done = both.prefetch("config", where="exposure > 2")
    # Of a data id that several have, all are fetched, as of several collections.
    assert (done.files_done, done.fetched_files, done.failed_files) == (6, 6, 0)
    pinned = daemon.call(PinDatasets(**query, where="exposure > 4"))
    assert (pinned.objects, pinned.cached_objects) == (2, 2)
    (pin,) = daemon.call(ListPins()).pins
    assert (pin.repository, pin.problem) == ("mine,release", "")
    *_, told = daemon.stream(VerifyObjects(**query))
    assert (told.objects_total, told.objects_done, told.damaged_objects) == (6, 6, 0)
    assert daemon.call(EvictObjects(**query)).objects == 4
    # The files of one without the collection are not asked for; a collection that none has is an error.
    with Butler("other,mine", collections="run", socket=daemon.socket_path) as lacking:
        assert lacking.prefetch("config").files_done == 4
        with pytest.raises(MissingCollectionError, match="nowhere"):
            lacking.prefetch("config", "nowhere")


@pytest.mark.req("DMS-MWBT-REQ-0081", "DMS-MWBT-REQ-0091")
def test_metadata_comes_from_the_first_that_has_the_dataset(both: Butler) -> None:
    for name in ("mine", "release"):
        with Butler(name, run="notes", socket=both.connection.socket_path) as one:
            one.register_dataset_type(
                "note", ["instrument", "exposure"], "StructuredDataDict", metadata=["by:string=by", "n:int=n"]
            )
            for exposure in (1, 2, 3) if name == "mine" else (3, 4):
                one.put({"by": name, "n": exposure}, "note", instrument=INSTRUMENT, exposure=exposure)
    found = {(ref.repository, *values.values()) for ref, values in both.query_metadata("note", "notes")}
    assert found == {("mine", "mine", 1), ("mine", "mine", 2), ("mine", "mine", 3), ("release", "release", 4)}
    every = both.query_metadata("note", "notes", entries="n", find_first=False, where="note.n > 2")
    assert sorted((ref.repository, values["n"]) for ref, values in every) == [
        ("mine", 3),
        ("release", 3),
        ("release", 4),
    ]
    # The limit is of the whole, and what an earlier one has does not count twice.
    assert len(list(both.query_metadata("note", "notes", limit=4))) == 4
    assert len(list(both.query_metadata("note", "notes", limit=2))) == 2
    with pytest.raises(InvalidRequestError, match="in order"):
        list(both.query_metadata("note", "notes", order_by="exposure"))
    shown = pantry(both, "query-datasets", "mine,release", "note", "-c", "notes", "--metadata", "n").stdout
    assert sorted(line.split()[-1] for line in shown.splitlines()[1:]) == ["1", "2", "3", "4"]
