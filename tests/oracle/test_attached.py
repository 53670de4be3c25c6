"""Repositories of the Gen3 Butler, attached: made by it, read by us, in both of its databases."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
import yaml
from click.testing import CliRunner
from tests.oracle.asking import oracle_python
from tests.servers.mounting import PantryMount
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer

from pantry.client import Butler
from pantry.client.cli.main import cli
from pantry.daemon.registry.gen3 import Gen3Registry, read_configuration
from pantry.errors import (
    ConfigError,
    DatasetNotFoundError,
    InvalidRequestError,
    ObjectChangedError,
    PermissionDeniedError,
    RepositoryNotFoundError,
)
from pantry.wire.operations.browse import ListTree, TreeEntry
from pantry.wire.operations.registry import QueryDataIds, QueryDatasets, QueryDimensionRecords

SCRIPT = Path(__file__).with_name("gen3_repository.py")


def make_repository(directory: Path, url: str = "") -> Path:
    command = [oracle_python(), str(SCRIPT), str(directory), *([url] if url else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return directory


@pytest.fixture(scope="module")
def in_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("gen3") / "sqlite")


@pytest.fixture(scope="module")
def in_postgresql(tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlServer) -> Iterator[tuple[Path, str]]:
    with postgresql.database() as url:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            connection.execute("CREATE EXTENSION btree_gist")
        yield make_repository(tmp_path_factory.mktemp("gen3") / "postgresql", plain), url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def registry(request: pytest.FixtureRequest) -> Iterator[Gen3Registry]:
    if request.param == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('in_sqlite')}/gen3.sqlite3"
    else:
        _, url = request.getfixturevalue("in_postgresql")
    opened = Gen3Registry.attach(url, uuid="3f0d0b7e-3c09-4d0a-a8a2-5c8a2b2f8b43")
    yield opened
    opened.close()


def datasets(registry: Gen3Registry, dataset_type: str, *collections: str, **more: Any) -> list[tuple[Any, ...]]:
    query = QueryDatasets(repository="r", dataset_types=(dataset_type,), collections=collections, **more)
    return [
        (batch.runs[index], *row)
        for batch in registry.query_datasets(query)
        for index, *row in zip(batch.run_index, *batch.columns, strict=True)
    ]


def test_what_it_holds(registry: Gen3Registry) -> None:
    types = {one.name: one for one in registry.list_dataset_types()}
    assert {name: one.storage_class for name, one in types.items()} == {
        "bias": "StructuredDataDict",
        "cat": "ArrowAstropy",
        "conf": "StructuredDataDict",
        "meta": "StructuredDataDict",
    }
    assert [name for name, one in types.items() if one.is_calibration] == ["bias"]
    assert datasets(registry, "conf", "run/1") == [("run/1",)]
    assert len(datasets(registry, "meta", "run/1")) == 15
    assert len(datasets(registry, "meta", "tag")) == 3
    assert len(datasets(registry, "meta", "chain", find_first=False)) == 15
    assert datasets(registry, "cat", "chain", order_by=("-visit",), limit=2) == [
        ("run/1", "Cam", 5),
        ("run/1", "Cam", 4),
    ]


def test_calibrations_by_time(registry: Gen3Registry) -> None:
    assert datasets(registry, "bias", "calib", where="instrument = 'Cam' AND exposure = 1") == [("bias/1", "Cam", 0)]
    assert datasets(registry, "bias", "calib", where="instrument = 'Cam' AND exposure = 3") == [("bias/2", "Cam", 0)]
    assert len(datasets(registry, "bias", "calib", find_first=False)) == 2


def test_files_and_members_of_many(registry: Gen3Registry) -> None:
    query = QueryDatasets(repository="r", dataset_types=("bias",), collections=("calib",), find_first=False)
    found = [batch.ids for batch in registry.query_datasets(query)]
    ids = list(dict.fromkeys(packed[n : n + 16] for packed in found for n in range(0, len(packed), 16)))
    table = registry.describe_files("bias", ids)
    named = {one.file.path: one.name for batch in registry.query_files(query) for one in batch}
    assert dict(zip(table.paths, table.names, strict=True)) == named
    members = registry.describe_members("bias", ids, ["calib"])
    assert set(members.datasets) == set(range(len(ids)))
    assert all(
        begin is not None and end is not None and begin < end
        for begin, end in zip(members.begin_ns, members.end_ns, strict=True)
    )


def test_calibrations_in_the_mount(registry: Gen3Registry) -> None:
    def below(*parts: str, name: str = "", collection: str = "calib") -> list[TreeEntry]:
        asked = ListTree(repository="r", collection=collection, dataset_type="bias", parts=parts, name=name)
        return [entry for batch in registry.list_tree(asked) for entry in batch.entries]

    (camera,) = below()
    spans = below(camera.name)
    assert len(spans) == 2
    assert spans[0].name.startswith("open_")
    assert spans[1].name.endswith("_open")
    certified = {}
    for span in spans:
        assert below(camera.name, name=span.name) == [span]
        (file,) = below(camera.name, span.name)
        assert below(camera.name, span.name, name=file.name) == [file]
        assert file.name == "bias_Cam_0.yaml"
        assert file.id is not None
        found = registry.get_dataset(file.id).ref
        certified[span.name] = found and found.run
        assert found is not None
        assert registry.dataset_types_of([bytes(16), file.id.bytes]) == {file.id.bytes: found.dataset_type}
    assert list(certified.values()) == ["bias/1", "bias/2"]
    assert {entry.name for entry in below(camera.name, collection="chain")} == {span.name for span in spans}


def test_regions_and_times(registry: Gen3Registry) -> None:
    assert datasets(registry, "cat", "run/1", where="skymap = 'map' AND tract = 2") == [("run/1", "Cam", 2)]
    assert datasets(registry, "cat", "run/1", where="visit.region OVERLAPS CIRCLE(31, 0, 0.5)") == [("run/1", "Cam", 3)]
    assert datasets(registry, "cat", "run/1", where="visit.timespan OVERLAPS T'2025-01-01T00:06:50/tai'") == [
        ("run/1", "Cam", 4)
    ]
    asked = QueryDataIds(repository="r", dimensions=("visit", "tract"), where="instrument = 'Cam' AND skymap = 'map'")
    pairs = {
        (dict(zip(batch.required, row, strict=False))["visit"], dict(zip(batch.required, row, strict=False))["tract"])
        for batch in registry.query_data_ids(asked)
        for row in zip(*batch.columns, strict=True)
    }
    assert pairs == {(number, number) for number in range(1, 5)}


def test_records(registry: Gen3Registry) -> None:
    def of(element: str, **more: Any) -> list[Any]:
        asked = QueryDimensionRecords(repository="r", element=element, **more)
        return [one for batch in registry.query_dimension_records(asked) for one in batch.records]

    assert of("skymap")[0].hash == "01ff"
    assert [one.name for one in of("band")] == ["r"]
    [exposure] = of("exposure", where="exposure = 2")
    assert (exposure.exposure_time, exposure.can_see_sky, exposure.physical_filter) == (30.0, True, "r_1")
    begin = 1_735_689_600_000_000_000
    assert exposure.timespan.begin_ns == begin + 200_000_000_000
    assert [one.id for one in of("exposure", where="NOT exposure.can_see_sky")] == [1]
    assert of("day_obs")[0].timespan is None


def test_nothing_is_written(registry: Gen3Registry) -> None:
    from pantry.model.collections import CollectionType
    from pantry.model.datasets import DatasetType

    for write in (
        lambda: registry.register_collection("new", CollectionType.RUN),
        lambda: registry.register_dataset_type(DatasetType(name="x", dimensions=(), storage_class="YamlDict")),
        lambda: registry.insert_dimension_records([]),
        lambda: registry.prepare_put("conf", "run/1", {}),
        lambda: registry.delete_datasets([]),
    ):
        with pytest.raises(PermissionDeniedError, match="attached"):
            write()


# -- through the daemon ------------------------------------------------------------------------------


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon], monkeypatch: pytest.MonkeyPatch) -> PantryDaemon:
    made = make_daemon()
    monkeypatch.setenv("PANTRY_SOCKET", made.socket)
    return made


def attach(name: str, where: Path, *, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["repo", "attach", name, str(where)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def attached(daemon: PantryDaemon, in_sqlite: Path) -> PantryDaemon:
    assert "you may     read" in attach("old", in_sqlite / "butler.yaml")
    return daemon


def test_get_query_and_mount(attached: PantryDaemon, in_sqlite: Path, tmp_path: Path) -> None:
    before = digests(in_sqlite)
    butler = Butler("old", collections="chain")
    assert butler.get("meta", instrument="Cam", exposure=2, detector=1) == {"e": 2, "d": 1}
    assert list(butler.get("cat", instrument="Cam", visit=3)["x"]) == [0, 1, 2]
    assert butler.get("bias", instrument="Cam", detector=0, exposure=1) == {"bias": 1}
    assert butler.get("bias", instrument="Cam", detector=0, exposure=4) == {"bias": 2}
    ref = butler.query_datasets("conf")[0]
    assert butler.get(ref) == {"a": 1}
    with pytest.raises(DatasetNotFoundError):
        butler.get("cat", instrument="Cam", visit=5, collections="tag")
    with pytest.raises(PermissionDeniedError, match="attached"):
        Butler("old", run="mine").put({"a": 2}, "conf")
    with pytest.raises(InvalidRequestError, match="not registered"):
        butler.prefetch("conf")
    with PantryMount(attached.socket, tmp_path / "mounted") as mount:
        directory = mount.directory / "old" / "chain" / "meta" / "Cam" / "4"
        assert sorted(os.listdir(directory)) == [f"meta_Cam_4_{number}.yaml" for number in range(3)]
        assert yaml.safe_load((directory / "meta_Cam_4_2.yaml").read_text()) == {"e": 4, "d": 2}
        for collection in ("calib", "chain"):
            calibrations = mount.directory / "old" / collection / "bias" / "Cam"
            found = {
                path.parent.name: yaml.safe_load(path.read_text()) for path in calibrations.rglob("bias_Cam_0.yaml")
            }
            assert list(found.values()) == [{"bias": 1}, {"bias": 2}]
    assert digests(in_sqlite) == before, "the repository was changed"


def test_a_file_that_is_not_the_registered_one(attached: PantryDaemon, in_sqlite: Path) -> None:
    [path] = (in_sqlite / "run" / "1" / "conf").glob("*")
    content = path.read_bytes()
    try:
        path.write_bytes(content + b"# more\n")
        with pytest.raises(ObjectChangedError, match="in its registry"):
            Butler("old", collections="run/1").get("conf")
    finally:
        path.write_bytes(content)


def test_likely_mistakes(daemon: PantryDaemon, tmp_path: Path, in_sqlite: Path) -> None:
    assert "no Gen3 repository" in attach("x", tmp_path, code=1)
    (tmp_path / "butler.yaml").write_text("registry: 5\n")
    assert "not the butler.yaml of a repository" in attach("x", tmp_path, code=1)
    (tmp_path / "butler.yaml").write_text("registry: {db: 'sqlite:///<butlerRoot>/none.sqlite3'}\ndatastore: {}\n")
    assert "unable to open" in attach("x", tmp_path, code=1)
    attach("again", in_sqlite)
    assert "already" in attach("again", in_sqlite, code=1)


def test_unknown_managers_are_refused(tmp_path: Path, in_sqlite: Path) -> None:
    copy = tmp_path / "gen3.sqlite3"
    copy.write_bytes((in_sqlite / "gen3.sqlite3").read_bytes())
    with sqlite3.connect(copy) as connection:
        connection.execute("UPDATE butler_attributes SET value = '9.0.0' WHERE name LIKE 'version:%.ByDimensions%'")
    with pytest.raises(ConfigError, match=r"datasets .*ByDimensions\w+ 9\.0\.0"):
        Gen3Registry.attach(f"sqlite:///{copy}", uuid="x")
    empty = tmp_path / "empty.sqlite3"
    sqlite3.connect(empty).close()
    with pytest.raises(RepositoryNotFoundError):
        Gen3Registry.attach(f"sqlite:///{empty}", uuid="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not YAML"),
        ("[]", "no 'registry'"),
        (
            "registry: {db: x}\ndatastore: {cls: lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore}",
            "Chained",
        ),
        ("registry: {}\ndatastore: {}", "registry.db"),
    ],
)
def test_what_is_no_configuration(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_configuration(text, "butler.yaml")


# -- repositories of 2022 ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["comCam", "imsim", "latiss"])
def test_real_repositories(daemon: PantryDaemon, rubin_data: Path, name: str, tmp_path: Path) -> None:
    attach(name, rubin_data / name)
    butler = Butler(name, collections="*")
    [ref] = butler.query_datasets("raw", find_first=False)
    # Two of them are compressed by gzip, whatever their names say.
    [original] = (rubin_data / name / "raw").rglob("*.fits")
    with butler.open(ref) as file:
        assert file.read() == original.read_bytes()
    assert butler.get(ref)[0].header["SIMPLE"]
    for element in ("instrument", "detector", "exposure", "physical_filter", "band"):
        assert butler.query_dimension_records(element)
    with PantryMount(daemon.socket, tmp_path / "mounted") as mount:
        [path] = (mount.directory / name).glob("*/raw/all/raw/**/raw_*.fits*")
        assert path.read_bytes() == original.read_bytes()
        calibrations = butler.collections.query_info(collection_types="CALIBRATION", include_summary=True)
        certified = {kind: info.name for info in calibrations for kind in info.dataset_types}
        assert certified
        for kind, collection in certified.items():
            below = mount.directory / name / collection / kind
            named = {os.getxattr(file, "user.pantry.uuid").decode() for file in below.rglob("*") if file.is_file()}
            assert named == {str(one.id) for one in butler.query_datasets(kind, collection, find_first=False)}
