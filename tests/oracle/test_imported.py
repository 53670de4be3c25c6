"""After the same exports were imported, our repository has what the Gen3 Butler's has: every column of everything."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.oracle.asking import oracle_python
from tests.oracle.worlds import EXPORTS, exports, running_daemon
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer

from pantry.client import Butler
from pantry.errors import DatasetNotFoundError, InvalidRequestError
from pantry.model.dimensions import DimensionUniverse
from pantry.wire.operations import GetDimensions

OLD = """\
description: Butler Data Repository Export
version: 0
data:
  - type: dimension
    element: instrument
    records:
      - &cam {name: Old, visit_max: 9, exposure_max: 9, detector_max: 9, class_name: obs.Old}
  - type: dimension
    element: detector
    records:
      - {instrument: Old, id: 1, full_name: D1, name_in_raft: '1', raft: R, purpose: SCIENCE}
      - {instrument: Old, detector: 2, full_name: D2, name_in_raft: '2', raft: R, purpose: SCIENCE}
  - type: dimension
    element: physical_filter
    records:
      - {instrument: Old, name: g1, band: g}
  - type: dimension
    element: visit_system
    records:
      - {instrument: Old, id: 0, name: one-to-one}
  - type: dimension
    element: exposure
    records:
      - {instrument: Old, id: 5, physical_filter: g1, obs_id: O5, exposure_time: 30, dark_time: null, day_obs: 20200102,
         group_name: G, group_id: 77, observation_type: science, seq_num: 5,
         datetime_begin: 2020-01-02 03:04:05.678901, datetime_end: 2020-01-02 03:04:35}
      - {instrument: Old, id: 6, physical_filter: g1, obs_id: O6, exposure_time: 0.0, day_obs: 20200102,
         group_name: G, group_id: 77, observation_type: bias, seq_num: 6,
         datetime_begin: !butler_time/tai/iso '2020-01-02 03:05:05.123456789',
         datetime_end: !butler_time/tai/iso '2020-01-02 03:05:05.123456789'}
  - type: dimension
    element: visit
    records:
      - {instrument: Old, id: 5, physical_filter: g1, visit_system: 0, name: V5, exposure_time: 30.0, seeing: 1.5,
         datetime_begin: 2020-01-02 23:59:40, datetime_end: null}
  - {type: run, name: old/run}
  - {type: run, name: old/empty}
  - {type: collection, collection_type: TAGGED, name: old/tag}
  - {type: collection, collection_type: CALIBRATION, name: old/calib, doc: Validity.}
  - {type: collection, collection_type: CHAINED, name: old/chain, children: [old/tag, [old/run, bias], old/empty]}
  - {type: dataset_type, name: bias, dimensions: [instrument, detector], storage_class: Exposure, is_calibration: true}
  - {type: dataset_type, name: cat, dimensions: [instrument, visit, visit_system], storage_class: ArrowAstropy}
  - type: dataset
    dataset_type: bias
    run: old/run
    records:
      - {dataset_id: 7, data_id: {instrument: Old, detector: 1}, path: a, formatter: lsst.daf.butler.Formatter}
      - {dataset_id: [8], data_id: [{detector: 2, instrument: Old}], path: b, formatter: lsst.daf.butler.Formatter}
  - type: dataset
    dataset_type: cat
    run: old/run
    records:
      - {dataset_id: 9, data_id: {instrument: Old, visit: 5, visit_system: 0}, path: c,
         formatter: lsst.daf.butler.Formatter}
  - {type: associations, collection: old/tag, collection_type: TAGGED, dataset_ids: [8, 9]}
  - type: associations
    collection: old/calib
    collection_type: CALIBRATION
    validity_ranges:
      - {begin: null, end: &then !butler_time/tai/iso '2020-06-01 00:00:00', dataset_ids: [7]}
      - timespan: !<!lsst.daf.butler.Timespan> {begin: *then, end: null}
        dataset_ids: [7, 8]
"""
"""Of the first version and universe: numbers as ids, UTC times, and what later became dimensions as columns."""


OLD_UNIVERSES = [("old", "daf_butler_universe2"), ("old", "daf_butler_universe5")]
OLD_UNIVERSES += [("hsc_rc2", f"daf_butler_universe{version}") for version in (1, 3, 6)]
"""Which exports are also imported into repositories of older universes."""

Expected = dict[tuple[str, str], dict[str, Any]]


def ask_gen3(requests: list[list[str]], directory: Path) -> list[dict[str, Any]]:
    path = directory / "requests.json"
    path.write_text(json.dumps(requests))
    script = Path(__file__).with_name("imports.py")
    done = subprocess.run([oracle_python(), str(script), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """The exports by world: those that the oracle ships, an old one, and one that it wrote just now, with files."""
    directory = tmp_path_factory.mktemp("exports")
    found = {name: [exports() / f"{one}.yaml" for one in parts] for name, parts in EXPORTS.items()}
    (directory / "old.yaml").write_text(OLD)
    ask_gen3([["export", str(directory / "gen3"), str(directory / "written")]], directory)
    return {**found, "old": [directory / "old.yaml"], "written": [directory / "written" / "export.yaml"]}


@pytest.fixture(scope="module")
def expected(files: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> Expected:
    directory = tmp_path_factory.mktemp("gen3")
    wanted = [(name, "") for name in files] + OLD_UNIVERSES
    requests = [
        ["import", str(directory / f"{name}{universe}"), universe, *map(str, files[name])] for name, universe in wanted
    ]
    return dict(zip(wanted, ask_gen3(requests, directory), strict=True))


@pytest.fixture(scope="module")
def node() -> Iterator[PantryDaemon]:
    with running_daemon() as daemon:
        yield daemon


_names = (f"r{number}" for number in itertools.count())


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/registry.sqlite3"
        return
    postgresql: PostgresqlServer = request.getfixturevalue("postgresql")
    with postgresql.database() as made:
        yield made


def dump(butler: Butler, url: str) -> dict[str, Any]:
    """Say what `imports.dump` says of a repository of ours."""
    universe = DimensionUniverse(butler.connection.call(GetDimensions(repository=butler.repository)).config)
    records = {}
    for name, element in universe.elements.items():
        if name in universe.skypix or element.implied_union_target is not None:
            continue
        rows = []
        for record in butler.query_dimension_records(name):
            row = dict(record.values)
            if element.temporal:
                row["timespan"] = None if record.timespan is None else list(_ends(record.timespan))
            if element.spatial:
                row["region"] = None if record.region is None else record.region.hex()
            rows.append(row)
        if rows:
            records[name] = rows
    datasets = [
        [str(ref.id), ref.dataset_type.name, ref.run, ref.data_id.required]
        for ref in butler.query_datasets("*", collections="*", find_first=False)
    ]
    return {
        "records": records,
        "types": sorted([one.name, list(one.dimensions), one.is_calibration] for one in butler.query_dataset_types()),
        "collections": sorted(
            [one.name, str(one.type), list(one.children), one.doc] for one in butler.collections.query_info("*")
        ),
        "datasets": sorted({json.dumps(one): one for one in datasets}.values()),
        "members": sorted(members(url)),
    }


def _ends(span: Any) -> tuple[int, int]:
    return span.begin_ns, span.end_ns


def members(url: str) -> list[list[Any]]:
    """Read the members of TAGGED and CALIBRATION collections past the registry."""
    engine = sa.create_engine(url)
    tables = sa.MetaData()
    tables.reflect(engine, only=["collection", "dataset", "membership", "calibration"])
    collection, dataset, member, valid = (
        tables.tables[name] for name in ("collection", "dataset", "membership", "calibration")
    )
    nothing = sa.literal(0)
    found = []
    for link, span in ((member, (nothing, nothing)), (valid, (valid.c.begin_ns, valid.c.end_ns))):
        statement = (
            sa.select(collection.c.name, dataset.c.uuid, *span)
            .join_from(link, collection, collection.c.id == link.c.collection_id)
            .join(dataset, dataset.c.id == link.c.dataset_id)
            .where(collection.c.type != "RUN")
        )
        with engine.connect() as connection:
            found += [[name, str(UUID(bytes=bytes(id_))), *ends] for name, id_, *ends in connection.execute(statement)]
    engine.dispose()
    return found


def alike(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare two dumps; keys are in any order, and what one leaves out the other has as None."""
    assert set(found["records"]) == set(expected["records"])
    for element, rows in expected["records"].items():
        ours = [{name: value for name, value in row.items() if value is not None} for row in found["records"][element]]
        theirs = [{name: value for name, value in row.items() if value is not None} for row in rows]
        key = lambda row: json.dumps(row, sort_keys=True)  # noqa: E731
        assert sorted(ours, key=key) == sorted(theirs, key=key), element
    types = [[name, set(dimensions), calibration] for name, dimensions, calibration in found["types"]]
    assert types == [[name, set(dimensions), calibration] for name, dimensions, calibration in expected["types"]]
    for part in ("collections", "datasets", "members"):
        assert found[part] == expected[part], part


@pytest.mark.parametrize(
    ("world", "universe"), [*[(name, "") for name in [*EXPORTS, "old", "written"]], *OLD_UNIVERSES]
)
def test_everything_is_as_after_the_import_of_gen3(
    world: str,
    universe: str,
    files: dict[str, list[Path]],
    expected: Expected,
    node: PantryDaemon,
    url: str,
    tmp_path: Path,
) -> None:
    theirs = expected[world, universe]
    dimensions = json.dumps(theirs["dimensions"])
    root = str(tmp_path / "repo")
    with Butler.create(next(_names), root, registry=url, dimensions=dimensions, socket=node.socket) as butler:
        if "refused" in theirs:
            # Columns that this universe has not.
            assert "Invalid fields" in theirs["refused"]
            with pytest.raises(InvalidRequestError, match=r"line \d+: records of \w+ have no"):
                butler.import_(filename=files[world][0], without_datastore=True)
            return
        for again in (False, True):
            for path in files[world]:
                done = butler.import_(filename=path, without_datastore=True, storage_classes={"SkyMap": "Bytes"})
                assert (done.dimension_records + done.definitions + done.datasets + done.members == 0) is again
            alike(dump(butler, url), theirs)


def test_files_come_with_their_datasets(
    files: dict[str, list[Path]], expected: Expected, node: PantryDaemon, url: str, tmp_path: Path
) -> None:
    (export,) = files["written"]
    with Butler.create(next(_names), str(tmp_path / "repo"), registry=url, socket=node.socket) as butler:
        before = butler.import_(filename=export, without_datastore=True)
        assert (before.files, before.without_file) == (0, before.datasets)
        (ref,) = butler.query_datasets("cat", "run/1", where="visit = 3 AND instrument = 'Cam'")
        with pytest.raises(DatasetNotFoundError, match="without a file"):
            butler.get(ref)
        after = butler.import_(directory=export.parent)
        assert (after.datasets, after.files, after.without_file) == (0, before.datasets, 0)
        alike(dump(butler, url), expected["written", ""])
        assert list(butler.get(ref)["x"]) == [0, 1, 2]
        assert butler.get("meta", instrument="Cam", exposure=4, detector=2, collections="run/1") == {"e": 4, "d": 2}
        assert butler.get("bias", instrument="Cam", detector=0, exposure=1, collections="calib") == {"bias": 1}
        assert butler.get("bias", instrument="Cam", detector=0, exposure=4, collections="chain") == {"bias": 2}
