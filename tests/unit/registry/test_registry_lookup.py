from __future__ import annotations

import pytest
from tests.unit.registry.world import CAMERA, DAY, EXPOSURES, exposure_record, filter_of, find_raw, put, put_raw

from pantry.daemon.registry import Registry
from pantry.errors import (
    ConflictError,
    DataIdValueError,
    DimensionNameError,
    InconsistentDataIdError,
    InvalidRequestError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionType
from pantry.model.data_id import DataIdValue
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import FindDataset, FoundDataset

FIRST: dict[str, DataIdValue] = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 94}


def find(registry: Registry, data_id: dict[str, DataIdValue], *collections: str, **options: object) -> FoundDataset:
    query = FindDataset(
        **({"repository": "r", "dataset_type": "raw", "data_id": data_id, "collections": collections} | options)  # type: ignore[arg-type]
    )
    return registry.find_dataset(query)


def test_the_first_collection_counts(registry: Registry) -> None:
    in_a, in_b = put_raw(registry, "a"), put_raw(registry, "b")
    only_c = put_raw(registry, "c", detector=2)
    assert find_raw(registry, "a", "b") == in_a
    assert find_raw(registry, "b", "a") == in_b
    assert find_raw(registry, "b", "a", "c", detector=2) == only_c
    assert find_raw(registry, "a", "b", detector=2) is None
    assert find_raw(registry, "[ab]") == in_a


def test_chains_are_searched_in_their_order_and_changes_seen(registry: Registry) -> None:
    in_a, in_b = put_raw(registry, "a"), put_raw(registry, "b")
    registry.register_collection("chain", CollectionType.CHAINED)
    assert find_raw(registry, "chain") is None
    registry.redefine_chain("chain", ["b", "a"])
    assert find_raw(registry, "chain") == in_b
    registry.redefine_chain("chain", ["a", "b"])
    assert find_raw(registry, "chain") == in_a


@pytest.mark.parametrize("count", [1, 2, 3, 5, 40])
def test_any_number_of_collections(registry: Registry, count: int) -> None:
    ids = [put_raw(registry, f"run{number:02}") for number in range(count)]
    names = [f"run{number:02}" for number in range(count)]
    assert find_raw(registry, *names) == ids[0]
    assert find_raw(registry, *names[::-1]) == ids[-1]


def test_a_found_dataset_is_complete(registry: Registry) -> None:
    id_ = put_raw(registry, "run")
    found = find(registry, FIRST, "run")
    assert found == registry.get_dataset(id_)
    assert found.ref is not None
    assert found.ref.data_id["band"] == "r"
    assert found.name == f"raw_{CAMERA}_{EXPOSURES[0]}_94.fits"


def test_other_ways_to_say_a_data_id(registry: Registry) -> None:
    id_ = put_raw(registry, "run")
    for data_id in (
        {"instrument": CAMERA, "day_obs": DAY, "seq_num": 1, "detector": 94},
        {"exposure.obs_id": f"T_{DAY}_000001", "detector.full_name": "R94_S00"},
        {**FIRST, "skymap": "elsewhere", "physical_filter": "r_01"},
    ):
        found = find(registry, data_id, "run").ref
        assert found is not None
        assert found.id == id_


def test_a_well_formed_data_id_without_records_finds_nothing(registry: Registry) -> None:
    put_raw(registry, "run")
    assert find(registry, {**FIRST, "detector": 5}, "run").ref is None


def test_mistakes_are_said(registry: Registry) -> None:
    put_raw(registry, "run")
    with pytest.raises(MissingDatasetTypeError) as caught:
        find(registry, FIRST, "run", dataset_type="rau")
    assert "raw" in caught.value.hint
    with pytest.raises(MissingCollectionError):
        find(registry, FIRST, "rum")
    with pytest.raises(InvalidRequestError, match="no collections"):
        find(registry, FIRST)
    with pytest.raises(InconsistentDataIdError):
        find(registry, {**FIRST, "band": "g"}, "run")
    with pytest.raises(DataIdValueError, match="seq_num"):
        find(registry, {"instrument": CAMERA, "seq_num": 99, "detector": 94}, "run")
    with pytest.raises(DimensionNameError):
        find(registry, {"detector": 94, "filter": "r"}, "run")


def test_no_dimensions_at_all(registry: Registry) -> None:
    id_ = put(registry, "config", "run")
    found = find(registry, {}, "run", dataset_type="config")
    assert found.ref is not None
    assert found.ref.id == id_
    assert found == registry.get_dataset(id_)
    assert found.name == "config.json"


# -- calibrations ---------------------------------------------------------------------------------


@pytest.fixture
def certified(registry: Registry) -> Registry:
    registry.register_collection("calib", CollectionType.CALIBRATION)
    for run, times in (("early", Timespan(0, 100)), ("late", Timespan(100, 200))):
        id_ = put(registry, "bias", run, instrument=CAMERA, detector=94)
        registry.certify("calib", [id_], times)
    return registry


def bias(
    registry: Registry, begin: int | None, end: int | None = None, collections: tuple[str, ...] = ("calib",)
) -> str | None:
    timespan = None if begin is None else Timespan(begin, begin + 1 if end is None else end)
    query = FindDataset(
        repository="r",
        dataset_type="bias",
        data_id={"instrument": CAMERA, "detector": 94},
        collections=collections,
        timespan=timespan,
    )
    found = registry.find_dataset(query).ref
    return found.run if found else None


def test_the_time_chooses_a_calibration(certified: Registry) -> None:
    assert [bias(certified, time) for time in (0, 99, 100, 199, 200)] == ["early", "early", "late", "late", None]


def test_without_a_time_calibrations_are_not_searched(certified: Registry) -> None:
    assert bias(certified, None) is None
    assert bias(certified, None, collections=("calib", "late")) == "late"


def test_the_order_counts_with_calibrations_too(certified: Registry) -> None:
    assert bias(certified, 0, collections=("late", "calib")) == "late"
    assert bias(certified, 0, collections=("calib", "late")) == "early"


def test_two_valid_ones_are_no_answer(certified: Registry) -> None:
    with pytest.raises(ConflictError, match="2 datasets bias"):
        bias(certified, 99, 101)


# -- the time that a data id is about -------------------------------------------------------------


def bias_for(registry: Registry, *, collections: tuple[str, ...] = ("calib",), **data_id: DataIdValue) -> str | None:
    query = FindDataset(
        repository="r",
        dataset_type="bias",
        data_id={"instrument": CAMERA, "detector": 94, **data_id},
        collections=collections,
        time_of_data_id=True,
    )
    found = registry.find_dataset(query).ref
    if found is not None:
        assert found.data_id.required == {"instrument": CAMERA, "detector": 94}
    return found.run if found else None


@pytest.fixture
def nightly(registry: Registry) -> Registry:
    """Biases valid during the first and the third exposure (see `exposure_record`)."""
    registry.register_collection("calib", CollectionType.CALIBRATION)
    for run, times in (("early", Timespan(0, 1001)), ("late", Timespan(3499, 4000))):
        registry.certify("calib", [put(registry, "bias", run, instrument=CAMERA, detector=94)], times)
    return registry


def test_the_exposure_of_a_data_id_gives_the_time(nightly: Registry) -> None:
    assert [bias_for(nightly, exposure=exposure) for exposure in EXPOSURES[:4]] == ["early", None, "late", None]


def test_the_exposure_may_be_named_in_other_ways(nightly: Registry) -> None:
    assert bias_for(nightly, **{"exposure.obs_id": f"T_{DAY}_000003"}) == "late"
    assert bias_for(nightly, day_obs=DAY, seq_num=3) == "late"
    assert (
        bias_for(nightly, exposure=EXPOSURES[2], skymap="elsewhere", physical_filter=filter_of(EXPOSURES[2])) == "late"
    )


def test_a_day_is_a_longer_time(nightly: Registry) -> None:
    with pytest.raises(ConflictError, match="2 datasets bias"):
        bias_for(nightly, day_obs=DAY)
    nightly.decertify("calib", "bias", Timespan(3499, 4000))
    assert bias_for(nightly, day_obs=DAY) == "early"


def test_no_time_at_all_is_all_times(nightly: Registry) -> None:
    with pytest.raises(ConflictError, match="2 datasets bias"):
        bias_for(nightly)
    nightly.decertify("calib", "bias", Timespan(0, 1001))
    assert bias_for(nightly) == "late"


def test_unknown_times_are_said_where_they_matter(nightly: Registry) -> None:
    nightly.insert_dimension_records([exposure_record(EXPOSURES[-1] + 1, timespan=None)])
    with pytest.raises(DataIdValueError, match="no timespan"):
        bias_for(nightly, exposure=EXPOSURES[-1] + 1)
    with pytest.raises(DataIdValueError, match="no exposure record"):
        bias_for(nightly, exposure=1)
    with pytest.raises(DataIdValueError, match="no timespan"):
        bias_for(nightly, visit=EXPOSURES[0])
    assert bias_for(nightly, exposure=1, collections=("late", "early")) == "late"


def test_an_exposure_of_no_length_is_at_a_time(nightly: Registry) -> None:
    nightly.insert_dimension_records([exposure_record(EXPOSURES[-1] + 1, timespan=Timespan(3499, 3499))])
    assert bias_for(nightly, exposure=EXPOSURES[-1] + 1) == "late"
