from __future__ import annotations

import pytest
from tests.unit.registry.world import CAMERA, DAY, DETECTORS, EXPOSURES, put, put_all_raws, put_raw, rows_of

from pantry.daemon.registry import Registry
from pantry.errors import (
    CollectionTypeError,
    DimensionNameError,
    InvalidQueryError,
    InvalidRequestError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import QueryDataIds, QueryDatasets


@pytest.fixture
def raws(registry: Registry) -> Registry:
    put_all_raws(registry, "run")
    return registry


def data_ids(registry: Registry, *dimensions: str, **options: object) -> list[dict[str, object]]:
    query = QueryDataIds(**({"repository": "r", "dimensions": dimensions} | options))  # type: ignore[arg-type]
    return [
        dict(zip(batch.required + batch.implied, row, strict=True))
        for batch in registry.query_data_ids(query)
        for row in zip(*batch.columns, strict=True)
    ]


def test_all_of_a_run(raws: Registry) -> None:
    rows = rows_of(raws)
    assert {(row["exposure"], row["detector"]) for row in rows} == {(e, d) for e in EXPOSURES for d in DETECTORS}
    assert {row["run"] for row in rows} == {"run"}
    assert "band" not in rows[0]


def test_expansion_gives_implied_values(raws: Registry) -> None:
    for row in rows_of(raws, with_dimension_records=True):
        assert row["band"] == ("r" if int(str(row["exposure"])) % 2 else "g")
        assert row["day_obs"] == DAY


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({"data_id": {"exposure": EXPOSURES[1]}}, 4),
        ({"data_id": {"band": "r", "detector": 94}}, 3),
        ({"data_id": {"detector": "R94_S00", "seq_num": 3}}, 1),
        ({"data_id": {"detector.raft": "R01"}}, 6),
        ({"data_id": {"instrument": "Other"}}, 0),
        ({"where": "exposure.seq_num IN (1..5:2) AND detector != 94"}, 9),
        ({"where": "visible AND detector = :d", "bind": {"visible": True, "d": 0}}, 6),
        ({"where": "can_see_sky AND band = 'g'"}, 8),
        ({"where": "exposure.tracking_ra IS NULL"}, 24),
        ({"where": "timespan.begin >= T'1970-01-01T00:00:00.000003/tai'"}, 16),
        ({"where": "GLOB(physical_filter, 'g.*')"}, 12),
        ({"where": "GLOB(physical_filter, 'g?2') AND NOT GLOB(detector.full_name, 'r*')"}, 12),
        ({"limit": 5}, 5),
        ({"limit": 0}, 0),
    ],
)
def test_constraints(raws: Registry, arguments: dict[str, object], count: int) -> None:
    assert len(rows_of(raws, **arguments)) == count


def test_order_and_limit(raws: Registry) -> None:
    rows = rows_of(raws, order_by=("-exposure.seq_num", "detector"), limit=5)
    assert [(row["exposure"], row["detector"]) for row in rows] == [
        *[(EXPOSURES[-1], detector) for detector in DETECTORS],
        (EXPOSURES[-2], DETECTORS[0]),
    ]
    with pytest.raises(InvalidQueryError, match="order_by.*'exposur'") as caught:
        rows_of(raws, order_by=("exposur",))
    assert "exposure" in caught.value.hint


@pytest.mark.parametrize("records", [False, True])
def test_the_first_collection_shadows_the_others(raws: Registry, records: bool) -> None:
    replaced = put_raw(raws, "redo")
    options: dict[str, object] = {"with_dimension_records": records, "order_by": ("exposure",)}
    rows = rows_of(raws, collections=("redo", "run"), **options)
    assert len(rows) == 24
    assert [row["id"] for row in rows if row["run"] == "redo"] == [replaced]
    assert {row["run"] for row in rows_of(raws, collections=("run", "redo"), **options)} == {"run"}
    assert len(rows_of(raws, collections=("run", "redo"), find_first=False, **options)) == 25


def test_find_all_gives_each_dataset_once(raws: Registry) -> None:
    raws.register_collection("tag", CollectionType.TAGGED)
    raws.associate("tag", [row["id"] for row in rows_of(raws, limit=3)])  # type: ignore[misc]
    assert len(rows_of(raws, collections=("tag", "run"), find_first=False)) == 24


def test_calibrations_that_are_valid_when_an_exposure_was_taken(raws: Registry) -> None:
    raws.register_collection("calib", CollectionType.CALIBRATION)
    early, late = (put(raws, "bias", run, instrument=CAMERA, detector=0) for run in ("b1", "b2"))
    # Exposure n begins at 1000 n and ends at 1000 n + 500.
    raws.certify("calib", [early], Timespan(0, 2200))
    raws.certify("calib", [late], Timespan(2200, 3001))
    arguments: dict[str, object] = {"dataset_types": ("bias",), "collections": ("calib",)}

    def of(*exposures: int, **more: object) -> list[object]:
        where = f"exposure IN ({', '.join(str(EXPOSURES[number - 1]) for number in exposures)})"
        return sorted((row["run"] for row in rows_of(raws, where=where, **arguments | more)), key=str)

    assert of(1) == ["b1"]
    assert of(3) == ["b2"]
    assert of(4) == []
    assert of(1, 3) == of(1, 3, find_first=False) == ["b1", "b2"]
    with pytest.raises(CollectionTypeError, match="depends on the time"):
        of(2)
    assert of(2, find_first=False) == ["b1", "b2"]
    # In a chain, a run before it wins whatever the time.
    raws.register_collection("chain", CollectionType.CHAINED)
    raws.redefine_chain("chain", ["b2", "calib"])
    assert of(1, collections=("chain",)) == ["b2"]
    there = data_ids(raws, "exposure", "detector", dataset_types=("bias",), collections=("calib",))
    assert {row["exposure"] for row in there} == {EXPOSURES[0], EXPOSURES[1], EXPOSURES[2]}
    assert len(there) == 3


def test_globs_over_types_and_collections(raws: Registry) -> None:
    put(raws, "config", "other")
    put(raws, "coadd", "other", skymap="map", tract=7, patch=1, band="r")
    everything = rows_of(raws, dataset_types=("*",), collections=("*",))
    assert [row["type"] for row in everything] == ["coadd", "config", *["raw"] * 24]
    # A type that has not the dimension is passed over if a glob brought it, and an error if it was named.
    options: dict[str, object] = {"collections": ("*",), "where": "detector = 94"}
    assert {row["type"] for row in rows_of(raws, dataset_types=("*",), **options)} == {"raw"}
    with pytest.raises(InvalidQueryError, match="detector"):
        rows_of(raws, dataset_types=("coadd", "raw*"), **options)
    with pytest.raises(DimensionNameError, match="detector"):
        rows_of(raws, dataset_types=("coadd",), collections=("*",), data_id={"detector": 94})
    with pytest.raises(InvalidQueryError, match="nothing"):
        rows_of(raws, dataset_types=("*",), collections=("*",), where="nothing = 94")
    assert len(rows_of(raws, dataset_types=("*",), collections=("*",), limit=4)) == 4


def test_what_is_named_must_exist(raws: Registry) -> None:
    with pytest.raises(MissingDatasetTypeError):
        rows_of(raws, dataset_types=("row",))
    with pytest.raises(MissingCollectionError):
        rows_of(raws, collections=("rum",))
    with pytest.raises(InvalidRequestError, match="no collections"):
        rows_of(raws, collections=())
    with pytest.raises(InvalidRequestError, match="negative"):
        rows_of(raws, limit=-1)
    assert rows_of(raws, collections=("none*",)) == []


def test_calibrations_have_a_first_if_there_is_one(raws: Registry) -> None:
    raws.register_collection("calib", CollectionType.CALIBRATION)
    bias = put(raws, "bias", "b", instrument=CAMERA, detector=0)
    for begin in (0, 10):
        raws.certify("calib", [bias], Timespan(begin, begin + 5))
    arguments: dict[str, object] = {"dataset_types": ("bias",), "collections": ("calib",)}
    assert [row["id"] for row in rows_of(raws, **arguments)] == [bias], "valid twice, but there is only this one"
    newer = put(raws, "bias", "b2", instrument=CAMERA, detector=0)
    raws.certify("calib", [newer], Timespan(2000, 2600))
    with pytest.raises(CollectionTypeError, match="depends on the time"):
        rows_of(raws, **arguments)
    assert {row["id"] for row in rows_of(raws, find_first=False, **arguments)} == {bias, newer}
    raws.decertify("calib", "bias", Timespan(2000, 2600))
    assert [
        row["id"] for row in rows_of(raws, find_first=False, dataset_types=("bias",), collections=("calib", "b"))
    ] == [bias]
    assert rows_of(raws, dataset_types=("b*",), collections=("calib",)) == []


def test_batches_are_of_one_type_and_bounded(raws: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.daemon.registry.searching.BATCH_ROWS", 10)
    query = QueryDatasets(repository="r", dataset_types=("raw",), collections=("run",))
    assert [len(batch.run_index) for batch in raws.query_datasets(query)] == [10, 10, 4]


def test_an_open_iterator_sees_one_state_and_gives_its_connection_back(
    raws: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.daemon.registry.searching.BATCH_ROWS", 10)
    database = raws._database
    before = database.connections_in_use
    query = QueryDatasets(repository="r", dataset_types=("raw",), collections=("run",))
    running = raws.query_datasets(query)
    seen = len(next(running).run_index)
    raws.delete_datasets([row["id"] for row in rows_of(raws)])  # type: ignore[misc]
    seen += sum(len(batch.run_index) for batch in running)
    assert seen == 24
    running = raws.query_datasets(query)
    assert next(running, None) is None
    put_raw(raws, "run")
    running = raws.query_datasets(query)
    next(running)
    assert database.connections_in_use == before + 1
    running.close()  # type: ignore[attr-defined]
    assert database.connections_in_use == before


def test_data_ids_over_records(registry: Registry) -> None:
    rows = data_ids(registry, "exposure", "detector", where="exposure.seq_num < 3", order_by=("exposure", "-detector"))
    assert [(row["exposure"], row["detector"]) for row in rows] == [
        (e, d) for e in EXPOSURES[:2] for d in reversed(DETECTORS)
    ]
    assert rows[0]["band"] == "r"
    assert len(data_ids(registry, "exposure", "visit")) == len(EXPOSURES)
    assert len(data_ids(registry, "patch", "band")) == 8
    assert len(data_ids(registry, "patch", "band", data_id={"tract": 7, "band": "r"})) == 2
    assert data_ids(registry, "physical_filter", order_by=("band",), limit=1) == [
        {"instrument": CAMERA, "physical_filter": "g.2", "band": "g"}
    ]


def test_data_ids_with_datasets(raws: Registry) -> None:
    put(raws, "calexp", "cal", instrument=CAMERA, visit=EXPOSURES[3], detector=2)
    there: dict[str, object] = {"dataset_types": ("calexp",), "collections": ("cal",)}
    assert [row["visit"] for row in data_ids(raws, "visit", **there)] == [EXPOSURES[3]]
    rows = data_ids(raws, "visit", "exposure", dataset_types=("calexp", "raw"), collections=("*",))
    assert [(row["visit"], row["exposure"]) for row in rows] == [(EXPOSURES[3], EXPOSURES[3])]
    assert data_ids(raws, "detector", dataset_types=("bias",), collections=("*",)) == []
    with pytest.raises(InvalidRequestError, match="no collections"):
        data_ids(raws, "detector", dataset_types=("raw",))


def test_pixels_alone_are_no_answer(registry: Registry) -> None:
    with pytest.raises(InvalidQueryError, match="which values of htm7"):
        data_ids(registry, "htm7")
    with pytest.raises(DimensionNameError):
        data_ids(registry)


def test_values_that_no_database_holds(raws: Registry) -> None:
    with pytest.raises(InvalidRequestError, match="cannot hold"):
        rows_of(raws, limit=2**64)
    with pytest.raises(InvalidRequestError, match="cannot hold"):
        rows_of(raws, where="band = b", bind={"b": "\ud800"})
    with pytest.raises(InvalidQueryError, match="NUL"):
        rows_of(raws, where="band = 'a\0'")


def test_files_of_a_query_are_those_of_its_datasets(raws: Registry) -> None:
    put_raw(raws, "other")
    for records in (False, True):
        asked = QueryDatasets(
            repository="r",
            dataset_types=("raw",),
            collections=("other", "run"),
            where="detector = 94",
            with_dimension_records=records,
        )
        found = {named.name: named.file for batch in raws.query_files(asked) for named in batch}
        expected = {}
        for row in rows_of(raws, collections=("other", "run"), where="detector = 94"):
            one = raws.get_dataset(row["id"])  # type: ignore[arg-type]
            expected[f"{row['run']}/raw/{CAMERA}/{row['exposure']}/{one.name}"] = one.file
        assert len(found) == len(EXPOSURES)
        assert found == expected


@pytest.mark.parametrize("tried", [1, 5, 1000])
def test_the_first_in_order_whether_data_ids_are_tried_or_not(
    raws: Registry, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few data ids are tried first, the answers are those of the whole sorted."""
    monkeypatch.setattr("pantry.daemon.registry.nearest.TRIED", tried)
    # Data ids of runs that are not searched come first in both directions.
    for exposure in (EXPOSURES[0], EXPOSURES[-1]):
        put(raws, "raw", "elsewhere", instrument=CAMERA, exposure=exposure, detector=2)
    put_raw(raws, "other", exposure=EXPOSURES[2])
    for order_by in (("exposure", "detector"), ("-exposure", "detector"), ("-detector", "exposure")):
        for collections in (("run",), ("other", "run"), ("elsewhere", "run"), ("elsewhere",)):
            for find_first in (True, False):
                asked = {"order_by": order_by, "collections": collections, "find_first": find_first}
                whole = [(row["exposure"], row["detector"], row["id"]) for row in rows_of(raws, **asked)]
                for limit in (1, 3, 100):
                    rows = rows_of(raws, limit=limit, **asked)
                    found = [(row["exposure"], row["detector"], row["id"]) for row in rows]
                    if find_first:
                        assert found == whole[:limit], (order_by, collections, limit)
                    assert [row[:2] for row in found] == [row[:2] for row in whole[:limit]]
