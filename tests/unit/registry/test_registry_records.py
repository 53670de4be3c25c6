from __future__ import annotations

import pytest
from tests.unit.registry.world import CAMERA, DAY, EXPOSURES, REGION, exposure_record, record, records

from pantry.daemon.registry import Registry
from pantry.errors import ConflictError, DataIdValueError, DimensionNameError
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import QueryDimensionRecords


def query(registry: Registry, element: str, **options: object) -> list[DimensionRecord]:
    asked = QueryDimensionRecords(repository="r", element=element, **options)  # type: ignore[arg-type]
    return [found for batch in registry.query_dimension_records(asked) for found in batch.records]


def test_records_come_back_as_they_were_given(registry: Registry) -> None:
    (found,) = query(registry, "exposure", data_id={"exposure": EXPOSURES[2]})
    given = exposure_record(EXPOSURES[2])
    assert {name: found.values[name] for name in given.values} == given.values
    assert found.timespan == given.timespan
    assert found.can_see_sky is True
    assert found.tracking_ra is None
    assert list(found.values)[:3] == ["instrument", "id", "obs_id"]


def test_order_of_records_does_not_matter(empty: Registry) -> None:
    given = records()
    assert empty.insert_dimension_records(reversed(given)) == len(given)


def test_bands_come_with_filters_and_may_be_given_too(registry: Registry) -> None:
    assert sorted(found.values["name"] for found in query(registry, "band")) == ["g", "r"]
    assert registry.insert_dimension_records([record("band", name="r"), record("band", name="z")]) == 1


def test_a_region_is_kept(registry: Registry) -> None:
    assert query(registry, "visit", limit=1)[0].region == REGION


def test_existing_records_conflict_or_are_left(registry: Registry) -> None:
    changed = exposure_record(EXPOSURES[0], exposure_time=1.0)
    with pytest.raises(ConflictError, match=f"exposure: {EXPOSURES[0]}"):
        registry.insert_dimension_records([changed])
    with pytest.raises(ConflictError, match="group"):
        registry.insert_dimension_records([record("group", instrument=CAMERA, name="group 1")])
    assert registry.insert_dimension_records([changed], skip_existing=True) == 0
    assert query(registry, "exposure", data_id={"exposure": EXPOSURES[0]})[0].exposure_time == 15.0


def test_records_are_replaced_whole(registry: Registry) -> None:
    first, second = EXPOSURES[:2]
    changed = exposure_record(first, exposure_time=1.0, target_name="M 1", physical_filter="g.2")
    new = exposure_record(EXPOSURES[0] + 77)
    assert registry.insert_dimension_records([changed, new], replace=True) == 2
    (found,) = query(registry, "exposure", data_id={"exposure": first})
    assert (found.exposure_time, found.target_name, found.values["physical_filter"]) == (1.0, "M 1", "g.2")
    assert query(registry, "exposure", data_id={"exposure": second})[0].exposure_time == 30.0
    # What is not said any more is not there any more.
    registry.insert_dimension_records([exposure_record(first)], replace=True)
    (found,) = query(registry, "exposure", data_id={"exposure": first})
    assert (found.exposure_time, found.target_name) == (15.0, None)
    with pytest.raises(ConflictError, match="two exposure records"):
        registry.insert_dimension_records([changed, exposure_record(first)], replace=True)
    with pytest.raises(DataIdValueError, match="physical_filter: 'z'"):
        registry.insert_dimension_records([exposure_record(first, physical_filter="z")], replace=True)
    assert registry.insert_dimension_records([record("band", name="r")], replace=True) == 0


def test_all_or_none(registry: Registry) -> None:
    with pytest.raises(ConflictError):
        registry.insert_dimension_records([record("tract", skymap="map", id=99), record("tract", skymap="map", id=7)])
    assert len(query(registry, "tract")) == 2
    with pytest.raises(ConflictError):
        registry.insert_dimension_records([record("tract", skymap="map", id=99), record("tract", skymap="map", id=99)])


@pytest.mark.parametrize("skip_existing", [False, True])
def test_an_alternate_key_is_unique(registry: Registry, skip_existing: bool) -> None:
    with pytest.raises(ConflictError, match="full_name"):
        registry.insert_dimension_records(
            [record("detector", instrument=CAMERA, id=55, full_name="R94_S00")], skip_existing=skip_existing
        )


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record("detector", instrument="Other", id=1, full_name="x"), "instrument: 'Other'"),
        (exposure_record(5, physical_filter="z"), "physical_filter: 'z'"),
        (exposure_record(5, day_obs=DAY + 1), "day_obs record"),
        (record("visit_definition", instrument=CAMERA, exposure=EXPOSURES[0], visit=5), "visit: 5"),
    ],
)
def test_a_missing_record_is_named(registry: Registry, bad: DimensionRecord, said: str) -> None:
    with pytest.raises(DataIdValueError, match=said):
        registry.insert_dimension_records([bad])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (record("detector", instrument=CAMERA, full_name="x"), "lacks 'id'"),
        (record("detector", instrument=CAMERA, id=5), "lacks 'full_name'"),
        (record("detector", instrument=CAMERA, id="five", full_name="x"), "integer"),
        (record("detector", instrument=CAMERA, id=5, full_name="x" * 33), "32 characters"),
        (exposure_record(5, exposure_time="long"), "exposure.exposure_time takes a number"),
        (exposure_record(5, can_see_sky=1), "true or false"),
        (record("patch", skymap="map", tract=7, id=9, cell_x=1), "lacks 'cell_y'"),
    ],
)
def test_values_are_checked(registry: Registry, bad: DimensionRecord, said: str) -> None:
    with pytest.raises(DataIdValueError, match=said):
        registry.insert_dimension_records([bad])


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (exposure_record(5, exposure_tme=1.0), "exposure_time"),
        (record("detector", instrument=CAMERA, id=5, full_name="x", timespan=Timespan(0, 1)), "timespan"),
        (record("detector", instrument=CAMERA, id=5, full_name="x", region=b""), "region"),
        (record("htm7", id=5), "no records"),
        (record("telescope", name="x"), "telescope"),
    ],
)
def test_names_are_checked(registry: Registry, bad: DimensionRecord, said: str) -> None:
    with pytest.raises(DimensionNameError, match=said):
        registry.insert_dimension_records([bad])


def test_not_a_number_is_no_value(registry: Registry) -> None:
    registry.insert_dimension_records(
        [exposure_record(5, obs_id="x", tracking_ra=float("nan"), tracking_dec=float("inf"))]
    )
    (found,) = query(registry, "exposure", data_id={"exposure": 5})
    assert found.tracking_ra is None
    assert found.tracking_dec == float("inf")


def test_records_are_queried(registry: Registry) -> None:
    found = query(registry, "exposure", where="band = 'r' AND exposure.seq_num > 1", order_by=("-seq_num",))
    assert [one.values["seq_num"] for one in found] == [5, 3]
    assert [one.id for one in query(registry, "exposure", data_id={"seq_num": 4})] == [EXPOSURES[3]]
    assert [one.id for one in query(registry, "detector", order_by=("detector",), limit=2)] == [0, 1]
    assert len(query(registry, "visit_definition", where="exposure.observation_type = 'science'")) == 4
    with pytest.raises(DimensionNameError):
        query(registry, "healpix3")
