from __future__ import annotations

from uuid import uuid4

import pytest
from tests.unit.registry.world import (
    CAMERA,
    DAY,
    DETECTORS,
    EXPOSURES,
    HASH,
    find_raw,
    put,
    put_all_raws,
    put_raw,
    rows_of,
    stored,
)

from pantry.daemon.registry import NewDataset, Registry
from pantry.errors import (
    CollectionTypeError,
    ConflictError,
    DataIdValueError,
    DatasetExistsError,
    DimensionNameError,
    InconsistentDataIdError,
    InvalidRequestError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataCoordinate

FIRST = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 94}


@pytest.mark.parametrize(
    "data_id",
    [
        FIRST,
        {"instrument": CAMERA, "exposure": str(EXPOSURES[0]), "detector": "94"},
        {"instrument": CAMERA, "day_obs": DAY, "seq_num": 1, "detector": 94},
        {"instrument": CAMERA, "exposure.obs_id": f"T_{DAY}_000001", "detector.full_name": "R94_S00"},
        {"instrument": CAMERA, "exposure": f"T_{DAY}_000001", "detector": "R94_S00"},
        {"exposure.seq_num": 1, "detector.raft": "R94"},
        FIRST | {"band": "r", "physical_filter": "r_01", "exposure.seq_num": 1, "skymap": "map"},
    ],
)
def test_a_data_id_is_written_in_many_ways(registry: Registry, data_id: dict[str, object]) -> None:
    prepared = registry.prepare_put("raw", "run", data_id)
    assert prepared.data_id.required == FIRST
    assert prepared.data_id["band"] == "r"
    assert prepared.data_id["day_obs"] == DAY
    assert prepared.path == f"run/raw/{CAMERA}/{EXPOSURES[0]}/raw_{CAMERA}_{EXPOSURES[0]}_94.fits"
    assert not prepared.run_exists


@pytest.mark.parametrize(
    ("data_id", "error", "said"),
    [
        (FIRST | {"detector": 5}, DataIdValueError, "no detector record.*detector: 5"),
        (FIRST | {"instrument": "Other"}, DataIdValueError, "no instrument record"),
        (FIRST | {"detector": "R99_S99"}, DataIdValueError, "R99_S99"),
        (FIRST | {"detector": 1.5}, DataIdValueError, "integer"),
        ({"instrument": CAMERA, "exposure": 5, "seq_num": 1, "detector": 94}, DataIdValueError, "no exposure record"),
        (FIRST | {"band": "g"}, InconsistentDataIdError, "'r', not 'g'"),
        (FIRST | {"seq_num": 2}, InconsistentDataIdError, "exposure.seq_num 1, not 2"),
        ({"instrument": CAMERA, "detector": 94}, DimensionNameError, "lacks exposure"),
        ({"instrument": CAMERA, "detector": 94, "day_obs": DAY}, DimensionNameError, "lacks exposure"),
        ({"instrument": CAMERA, "detector": 94, "observation_type": "science"}, DimensionNameError, "several records"),
        ({}, DimensionNameError, "lacks"),
        (FIRST | {"detectr": 5}, DimensionNameError, "'detectr'"),
        (FIRST | {"detector.fullname": "x"}, DimensionNameError, "fullname"),
        (FIRST | {"visit.name": "x"}, DimensionNameError, "visit"),
        (FIRST | {"seq_num": "one"}, DataIdValueError, "exposure.seq_num takes an integer"),
    ],
)
def test_what_is_wrong_with_a_data_id_is_said(
    registry: Registry, data_id: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        registry.prepare_put("raw", "run", data_id)


def test_a_put_is_prepared_once_per_run(registry: Registry) -> None:
    put_raw(registry, "run")
    with pytest.raises(DatasetExistsError, match="run"):
        registry.prepare_put("raw", "run", FIRST)
    assert registry.prepare_put("raw", "other", FIRST).path.startswith("other/")
    assert registry.prepare_put("raw", "run", FIRST | {"detector": 2}).run_exists


def test_what_cannot_be_put(registry: Registry) -> None:
    registry.register_collection("tag", CollectionType.TAGGED)
    with pytest.raises(CollectionTypeError):
        registry.prepare_put("raw", "tag", FIRST)
    with pytest.raises(InvalidRequestError):
        registry.prepare_put("raw", "../x", FIRST)
    with pytest.raises(MissingDatasetTypeError):
        registry.prepare_put("row", "run", FIRST)
    for extension in ("fits", ".x/../y", ".x\0"):
        with pytest.raises(InvalidRequestError, match="suffix"):
            registry.prepare_put("raw", "run", FIRST, extension)


def test_types_without_dimensions(registry: Registry) -> None:
    prepared = registry.prepare_put("config", "run", {})
    assert prepared.path == "run/config/config.json"
    put(registry, "config", "run")
    with pytest.raises(DatasetExistsError):
        registry.prepare_put("config", "run", {})
    with pytest.raises(DatasetExistsError):
        registry.insert_datasets("run", "config", [(uuid4(), (), stored("x"))])
    assert registry.prepare_ingest("config", "new", (), [()]).paths == ["new/config/config.json"]
    assert registry.prepare_ingest("config", "run", (), [()]).exists == [True]
    many: list[NewDataset] = [(uuid4(), (), stored("x"))] * 9
    with pytest.raises(ConflictError):
        registry.insert_datasets("new", "config", many)


def test_sky_pixels_need_no_record_but_must_exist(registry: Registry) -> None:
    from pantry.model.datasets import DatasetType

    registry.register_dataset_type(DatasetType(name="cat", dimensions=("htm7",), storage_class="ArrowTable"))
    assert registry.prepare_put("cat", "run", {"htm7": 8 << 14}).path == "run/cat/cat_131072.parq"
    put(registry, "cat", "run", htm7=8 << 14)
    with pytest.raises(DataIdValueError, match="no pixel 5"):
        registry.prepare_put("cat", "run", {"htm7": 5})
    with pytest.raises(DataIdValueError, match="no pixel"):
        registry.prepare_ingest("cat", "run", ("htm7",), [(5,)])


def test_many_are_prepared_as_one_would_be(registry: Registry) -> None:
    put_raw(registry, "run")
    rows = [(detector, exposure, CAMERA) for exposure in EXPOSURES for detector in DETECTORS]
    prepared = registry.prepare_ingest(
        "raw", "run", ("detector", "exposure", "instrument"), rows, [".fits.fz"] * len(rows)
    )
    assert prepared.exists == [row == (94, EXPOSURES[0], CAMERA) for row in rows]
    for (detector, exposure, _), values, path in zip(rows, prepared.values, prepared.paths, strict=True):
        one = registry.prepare_put(
            "raw", "elsewhere", {"instrument": CAMERA, "exposure": exposure, "detector": detector}, ".fits.fz"
        )
        assert values == one.data_id.required_values
        assert path == one.path.replace("elsewhere", "run", 1)


@pytest.mark.parametrize(
    ("dimensions", "row", "error", "said"),
    [
        (("instrument", "exposure"), (CAMERA, EXPOSURES[0]), DimensionNameError, "cannot be ingested"),
        (("instrument", "exposure", "visit"), (CAMERA, EXPOSURES[0], 1), DimensionNameError, "cannot be ingested"),
        (("instrument", "exposure", "detector"), (CAMERA, EXPOSURES[0]), DimensionNameError, "has 2 values"),
        (("instrument", "exposure", "detector"), (CAMERA, EXPOSURES[0], 5), DataIdValueError, "no detector record"),
        (("instrument", "exposure", "detector"), (CAMERA, "x", 0), DataIdValueError, "integer"),
        (
            ("instrument", "exposure", "detector", "band"),
            (CAMERA, EXPOSURES[0], 0, "g"),
            InconsistentDataIdError,
            "'r', not 'g'",
        ),
    ],
)
def test_what_cannot_be_ingested(
    registry: Registry, dimensions: tuple[str, ...], row: tuple[int | str, ...], error: type[Exception], said: str
) -> None:
    good = {"instrument": CAMERA, "exposure": EXPOSURES[1], "detector": 1, "visit": 1, "band": "g"}
    with pytest.raises(error, match=said):
        registry.prepare_ingest("raw", "run", dimensions, [tuple(good[name] for name in dimensions), row])


def test_an_inserted_dataset_is_found_with_its_file(registry: Registry) -> None:
    id_ = put_raw(registry, "run")
    found = registry.get_dataset(id_)
    assert found.ref is not None
    assert found.file is not None
    assert (found.ref.id, found.ref.run, found.ref.dataset_type.name) == (id_, "run", "raw")
    assert found.ref.data_id.mapping == FIRST | {
        "band": "r",
        "physical_filter": "r_01",
        "group": "group 1",
        "day_obs": DAY,
    }
    assert found.file == stored(f"run/raw/{CAMERA}/{EXPOSURES[0]}/raw_{CAMERA}_{EXPOSURES[0]}_94.fits")
    assert found.file.hash == HASH
    assert found.name == f"raw_{CAMERA}_{EXPOSURES[0]}_94.fits"
    assert registry.get_dataset(uuid4()).ref is None


@pytest.mark.parametrize("others", [0, 2, 600])
def test_types_of_many_datasets_by_one_question(registry: Registry, others: int) -> None:
    ids = [one.bytes for one in put_all_raws(registry, "run")]
    asked = [*[uuid4().bytes for _ in range(others)], *ids]
    found = registry.dataset_types_of(asked)
    assert {id_: kind.name for id_, kind in found.items()} == dict.fromkeys(ids, "raw")
    assert registry.dataset_types_of([]) == {}


@pytest.mark.parametrize("count", [2, 20])
def test_insertion_is_all_or_nothing(registry: Registry, count: int) -> None:
    put_raw(registry, "run")
    rows = [(CAMERA, exposure, detector) for exposure in EXPOSURES for detector in reversed(DETECTORS)]
    values = [(instrument, detector, exposure) for instrument, exposure, detector in rows][:count]
    new: list[NewDataset] = [(uuid4(), one, stored(f"x/{number}")) for number, one in enumerate(values)]
    with pytest.raises(DatasetExistsError):
        registry.insert_datasets("run", "raw", new)
    assert len(rows_of(registry)) == 1
    registry.insert_datasets("run2", "raw", new)
    assert len(rows_of(registry, collections=("run2",))) == count
    with pytest.raises(ConflictError, match="id"):
        registry.insert_datasets("run3", "raw", new)


@pytest.mark.parametrize("count", [2, 20])
def test_two_of_the_same_data_id_are_refused(registry: Registry, count: int) -> None:
    new: list[NewDataset] = [(uuid4(), (CAMERA, 94, EXPOSURES[0]), stored("x")) for _ in range(count)]
    with pytest.raises(DatasetExistsError, match="same data id"):
        registry.insert_datasets("run", "raw", new)
    with pytest.raises(Exception, match="no collection"):
        rows_of(registry)


@pytest.mark.parametrize("count", [1, 20])
def test_a_value_without_record_is_refused_at_insertion_too(registry: Registry, count: int) -> None:
    new: list[NewDataset] = [(uuid4(), (CAMERA, 1000 + number, EXPOSURES[0]), stored("x")) for number in range(count)]
    with pytest.raises(DataIdValueError, match="detector: 1000"):
        registry.insert_datasets("run", "raw", new)


def test_data_ids_are_taken_in_any_form(registry: Registry) -> None:
    reordered = DataCoordinate(("exposure", "detector", "instrument"), (EXPOSURES[1], 2, CAMERA))
    registry.insert_datasets("run", "raw", [(uuid4().bytes, reordered, stored("x"))])
    assert find_raw(registry, "run", exposure=EXPOSURES[1], detector=2)
    for bad in ((CAMERA, 1), DataCoordinate.of(instrument=CAMERA, detector=1)):
        with pytest.raises(DimensionNameError):
            registry.insert_datasets("run", "raw", [(uuid4(), bad, stored("x"))])
    for wrong in (b"short",):
        with pytest.raises(InvalidRequestError):
            registry.insert_datasets("run", "raw", [(wrong, (CAMERA, 0, EXPOSURES[0]), stored("x"))])


def test_deleted_datasets_leave_every_collection(registry: Registry) -> None:
    registry.register_collection("tag", CollectionType.TAGGED)
    ids = put_all_raws(registry, "run")
    registry.associate("tag", ids)
    files = registry.delete_datasets([*ids[:3], uuid4()])
    assert sorted(file.path for file in files)[0].startswith(f"run/raw/{CAMERA}/{EXPOSURES[0]}/")
    assert len(files) == 3
    for name in ("run", "tag"):
        assert {row["id"] for row in rows_of(registry, collections=(name,))} == set(ids[3:])
    assert registry.delete_datasets(ids[:3]) == []
    put_all = registry.prepare_ingest("raw", "run", ("instrument", "exposure", "detector"), [(CAMERA, EXPOSURES[0], 0)])
    assert put_all.exists == [False]


def test_nothing_to_insert_still_makes_the_run(registry: Registry) -> None:
    registry.insert_datasets("run", "raw", [])
    assert rows_of(registry) == []
