"""Regions: what overlaps what, against sphgeom asked pair by pair."""

from __future__ import annotations

import random
from typing import Any

import pytest
from lsst.sphgeom import Angle, Box, Circle, ConvexPolygon, HtmPixelization, LonLat, Region, UnitVector3d
from tests.unit.registry.world import put, record

from pantry.daemon.registry import Registry
from pantry.daemon.registry.sky.regions import overlap
from pantry.errors import DataIdValueError, InvalidQueryError
from pantry.model.datasets import DatasetType
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import EncodedRegion, QueryDataIds, QueryDatasets, QueryDimensionRecords

DETECTORS = (0, 1, 2)
VISITS = tuple(range(1, 31))


def direction(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra % 360, dec))


def square(ra: float, dec: float, side: float) -> Region:
    half = side / 2
    corners = [(ra - half, dec - half), (ra + half, dec - half), (ra + half, dec + half), (ra - half, dec + half)]
    return ConvexPolygon([direction(*corner) for corner in corners])


class Sky:
    """A few visits of three detectors around right ascension 0, near tracts of four patches."""

    def __init__(self, registry: Registry) -> None:
        chance = random.Random(7)
        self.registry = registry
        self.visits: dict[int, Region] = {}
        self.detectors: dict[tuple[int, int], Region] = {}
        self.patches: dict[tuple[int, int], Region] = {}
        self.tracts: dict[int, Region] = {}
        made = [record("instrument", name="Cam"), record("day_obs", instrument="Cam", id=20250101)]
        made.append(record("physical_filter", instrument="Cam", name="r_1", band="r"))
        made += [record("detector", instrument="Cam", id=number, full_name=f"D{number}") for number in DETECTORS]
        for visit in VISITS:
            ra, dec = chance.uniform(-4, 4), chance.uniform(-3, 3)
            self.visits[visit] = Circle(direction(ra, dec), Angle.fromDegrees(0.9))
            values = {"instrument": "Cam", "physical_filter": "r_1", "day_obs": 20250101, "name": f"v{visit}"}
            timespan = Timespan(visit * 100, visit * 100 + 30)
            made.append(record("visit", id=visit, region=self.visits[visit].encode(), timespan=timespan, **values))
            for number in DETECTORS:
                self.detectors[visit, number] = region = square(ra + 0.5 * (number - 1), dec, 0.45)
                made.append(
                    record(
                        "visit_detector_region", instrument="Cam", visit=visit, detector=number, region=region.encode()
                    )
                )
        made.append(record("skymap", name="map", hash="00"))
        for tract in range(6):
            ra, dec = -4.0 + 1.6 * tract, 0.3 * tract - 1
            self.tracts[tract] = square(ra, dec, 1.8)
            made.append(record("tract", skymap="map", id=tract, region=self.tracts[tract].encode()))
            for patch in range(4):
                x, y = patch % 2, patch // 2
                self.patches[tract, patch] = region = square(ra - 0.4 + 0.8 * x, dec - 0.4 + 0.8 * y, 0.82)
                values = {"skymap": "map", "tract": tract, "cell_x": x, "cell_y": y}
                made.append(record("patch", id=patch, region=region.encode(), **values))
        registry.insert_dimension_records(made)
        registry.register_dataset_type(
            DatasetType(name="calexp", dimensions=("visit", "detector"), storage_class="CCDData")
        )

    def data_ids(self, *dimensions: str, where: str = "", **more: Any) -> set[tuple[Any, ...]]:
        asked = QueryDataIds(repository="r", dimensions=dimensions, where=where, **more)
        rows: list[tuple[Any, ...]] = []
        for batch in self.registry.query_data_ids(asked):
            names = batch.required + batch.implied
            rows += zip(*[batch.columns[names.index(name)] for name in dimensions], strict=True)
        assert len(rows) == len(set(rows)), "a data id came twice"
        return set(rows)


@pytest.fixture
def sky(empty: Registry) -> Sky:
    return Sky(empty)


def test_visits_and_patches_are_joined_where_their_regions_overlap(sky: Sky) -> None:
    expected = {
        (visit, tract, patch)
        for visit, seen in sky.visits.items()
        for (tract, patch), region in sky.patches.items()
        if overlap(seen, region)
    }
    near = {
        (visit, tract)
        for visit, seen in sky.visits.items()
        for tract, region in sky.tracts.items()
        if overlap(seen, region)
    }
    assert 50 < len(expected) < len(VISITS) * len(sky.patches) / 2
    assert sky.data_ids("visit", "tract", "patch") == expected
    assert sky.data_ids("visit", "tract") == near


def test_the_index_alone_would_find_too_many(sky: Sky) -> None:
    pixels = HtmPixelization(7)
    shared = [
        (visit, tract)
        for visit, seen in sky.visits.items()
        for tract, region in sky.tracts.items()
        if pixels.envelope(seen).intersects(pixels.envelope(region)) and not overlap(seen, region)
    ]
    assert shared, "the sky of this test does not show that overlaps are exact"


@pytest.mark.req("DMS-MWBT-REQ-0080")
def test_which_visits_could_go_into_a_patch(sky: Sky) -> None:
    for tract, patch in ((2, 0), (3, 3), (5, 1)):
        expected = {key for key, region in sky.detectors.items() if overlap(region, sky.patches[tract, patch])}
        where = f"skymap = 'map' AND tract = {tract} AND patch = {patch}"
        assert sky.data_ids("visit", "detector", where=where, data_id={"instrument": "Cam"}) == expected
        # The most exact regions of what is asked about: of visits without a detector, the whole field.
        fields = {(visit,) for visit, region in sky.visits.items() if overlap(region, sky.patches[tract, patch])}
        assert sky.data_ids("visit", data_id={"skymap": "map", "tract": tract, "patch": patch}) == fields
        assert {(visit,) for visit, _ in expected} <= fields


def test_datasets_by_a_patch(sky: Sky) -> None:
    for visit, detector in sky.detectors:
        put(sky.registry, "calexp", "run", instrument="Cam", visit=visit, detector=detector)
    expected = {key for key, region in sky.detectors.items() if overlap(region, sky.tracts[3])}
    for find_first in (True, False):
        query = QueryDatasets(
            repository="r",
            dataset_types=("calexp",),
            collections=("run",),
            find_first=find_first,
            where="skymap = 'map' AND tract = 3",
            order_by=("-visit", "detector"),
        )
        found = [row for batch in sky.registry.query_datasets(query) for row in zip(*batch.columns[1:], strict=True)]
        assert {(visit, detector) for detector, visit in found} == expected
        assert found == sorted(found, key=lambda row: (-row[1], row[0]))


def test_limits_count_what_really_overlaps(sky: Sky) -> None:
    where = "skymap = 'map' AND tract = 3"
    everything = sky.data_ids("visit", where=where)
    for limit in (1, 2, len(everything), len(everything) + 5):
        assert len(sky.data_ids("visit", where=where, limit=limit)) == min(limit, len(everything))


SHAPES = {
    "POINT(0.3, 0.2)": Circle(direction(0.3, 0.2)),
    "CIRCLE(359.5, -0.5, 0.75)": Circle(direction(-0.5, -0.5), Angle.fromDegrees(0.75)),
    "BOX(1, 0.5, 2, 1.0)": Box(LonLat.fromDegrees(1, 0.5), Angle.fromDegrees(1), Angle.fromDegrees(0.5)),
    "POLYGON(0, 0, 1.5, 0.2, 1.0, -1.5)": ConvexPolygon([direction(0, 0), direction(1.5, 0.2), direction(1, -1.5)]),
    "REGION('CIRCLE 2.0 1.0 0.5')": Circle(direction(2, 1), Angle.fromDegrees(0.5)),
    "REGION('POLYGON 0 0 1.5 0.2 1.0 -1.5')": ConvexPolygon([direction(0, 0), direction(1.5, 0.2), direction(1, -1.5)]),
    "CIRCLE(180, 0, 100)": Circle(direction(180, 0), Angle.fromDegrees(100)),
    "CIRCLE(0, 0, 180)": Circle.full(),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_constant_regions(sky: Sky, shape: str) -> None:
    region = SHAPES[shape]
    expected = {(visit,) for visit, seen in sky.visits.items() if overlap(seen, region)}
    assert sky.data_ids("visit", where=f"visit.region OVERLAPS {shape}") == expected
    assert sky.data_ids("visit", where=f"{shape} OVERLAPS visit.region") == expected
    assert sky.data_ids("visit", where=f"NOT (visit.region OVERLAPS {shape})") == {(one,) for one in VISITS} - expected
    assert sky.data_ids("visit", where=f"visit < 10 OR visit.region OVERLAPS {shape}") == expected | {
        (one,) for one in VISITS if one < 10
    }
    detectors = {key for key, seen in sky.detectors.items() if overlap(seen, region)}
    assert sky.data_ids("visit", "detector", where=f"visit_detector_region.region OVERLAPS {shape}") == detectors


def test_a_bind_value_is_an_encoded_region(sky: Sky) -> None:
    region = square(0.5, 0.5, 1.2)
    expected = {(visit,) for visit, seen in sky.visits.items() if overlap(seen, region)}
    for name in ("here", ":here"):
        assert (
            sky.data_ids("visit", where=f"visit.region OVERLAPS {name}", bind={"here": EncodedRegion(region.encode())})
            == expected
        )
    numbers = {"ra": 0.5, "size": 0.4}
    assert sky.data_ids("visit", where="visit.region OVERLAPS CIRCLE(ra, -0.5, :size)", bind=numbers) == {
        (visit,)
        for visit, seen in sky.visits.items()
        if overlap(seen, Circle(direction(0.5, -0.5), Angle.fromDegrees(0.4)))
    }


def test_joins_that_the_expression_asks_for(sky: Sky) -> None:
    """Instead of the automatic one: the tract's regions, and not the patch's."""
    expected = {
        (visit, tract, patch)
        for visit, seen in sky.visits.items()
        for tract, region in sky.tracts.items()
        for patch in range(4)
        if overlap(seen, region)
    }
    assert sky.data_ids("visit", "tract", "patch", where="visit.region OVERLAPS tract.region") == expected


@pytest.mark.parametrize("level", [5, 7, 9])
def test_sky_pixels(sky: Sky, level: int) -> None:
    pixels = HtmPixelization(level)
    name = f"htm{level}"
    expected = {
        (visit, pixel)
        for visit, seen in sky.visits.items()
        for begin, end in pixels.envelope(seen)
        for pixel in range(begin, end)
        if visit < 5
    }
    assert sky.data_ids("visit", name, where="visit < 5") == expected
    sky.registry.register_dataset_type(DatasetType(name="stars", dimensions=(name,), storage_class="ArrowTable"))
    wanted, elsewhere = min(pixel for _, pixel in expected), pixels.index(direction(180, 50))
    assert all(elsewhere != pixel for _, pixel in expected)
    for pixel in (wanted, elsewhere):
        put(sky.registry, "stars", "refcats", **{name: pixel})
    query = QueryDatasets(
        repository="r", dataset_types=("stars",), collections=("refcats",), where="instrument = 'Cam' AND visit < 5"
    )
    assert [column for batch in sky.registry.query_datasets(query) for column in batch.columns] == [[wanted]]
    inside = QueryDatasets(
        repository="r",
        dataset_types=("stars",),
        collections=("refcats",),
        where=f"{name}.region OVERLAPS BOX(0, 0, 12, 12)",
    )
    assert [column for batch in sky.registry.query_datasets(inside) for column in batch.columns] == [[wanted]]


def test_records_by_a_region(sky: Sky) -> None:
    asked = QueryDimensionRecords(repository="r", element="patch", where="visit = 4 AND instrument = 'Cam'")
    found = {
        (one.tract, one.id, one.region)
        for batch in sky.registry.query_dimension_records(asked)
        for one in batch.records
    }
    assert found == {(*key, region.encode()) for key, region in sky.patches.items() if overlap(region, sky.visits[4])}
    assert found


def test_what_has_no_region_overlaps_nothing(sky: Sky) -> None:
    values = {"instrument": "Cam", "physical_filter": "r_1", "day_obs": 20250101}
    sky.registry.insert_dimension_records([record("visit", id=99, name="dark", **values)])
    assert (99,) not in sky.data_ids("visit", where="visit.region OVERLAPS CIRCLE(0, 0, 180)")
    assert sky.data_ids("visit", where="visit.region IS NULL") == {(99,)}


def test_records_that_are_there_already_keep_their_region(sky: Sky) -> None:
    values = {"instrument": "Cam", "physical_filter": "r_1", "day_obs": 20250101, "name": "v1"}
    moved = Circle(direction(180, 60), Angle.fromDegrees(1)).encode()
    assert (
        sky.registry.insert_dimension_records([record("visit", id=1, region=moved, **values)], skip_existing=True) == 0
    )
    assert sky.data_ids("visit", where="visit.region OVERLAPS POINT(180, 60)") == set()


def test_a_replaced_record_is_found_by_its_new_region(sky: Sky) -> None:
    values = {"instrument": "Cam", "physical_filter": "r_1", "day_obs": 20250101, "name": "v1"}
    near = "visit.region OVERLAPS CIRCLE(180, 60, 0.5)"
    before = sky.data_ids("visit", where="NOT (visit.region OVERLAPS CIRCLE(180, 60, 5))")
    moved = Circle(direction(180, 60), Angle.fromDegrees(1)).encode()
    assert sky.registry.insert_dimension_records([record("visit", id=1, region=moved, **values)], replace=True) == 1
    assert (sky.data_ids("visit", where=near), (1,) in before) == ({(1,)}, True)
    assert (1,) not in sky.data_ids("visit", where="NOT (visit.region OVERLAPS CIRCLE(180, 60, 5))")
    sky.registry.insert_dimension_records([record("visit", id=1, **values)], replace=True)
    assert sky.data_ids("visit", where=near) == set()


@pytest.mark.parametrize("region", [b"", b"somewhere", b"c" + b"\0" * 40, b"p" + b"\x7f" * 72, b"u" * 70_000])
def test_what_is_no_region_is_refused(sky: Sky, region: bytes) -> None:
    with pytest.raises(DataIdValueError, match="region of a record of tract"):
        sky.registry.insert_dimension_records([record("tract", skymap="map", id=50, region=region)])
    with pytest.raises(InvalidQueryError, match="column 23"):
        sky.data_ids("visit", where="visit.region OVERLAPS bad", bind={"bad": EncodedRegion(region)})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("visit.region OVERLAPS CIRCLE(0, 95, 1)", "declination is from -90 to 90"),
        ("visit.region OVERLAPS CIRCLE(0, 0, -1)", "radius"),
        ("visit.region OVERLAPS CIRCLE(1e30, 0, 1)", "right ascension"),
        ("visit.region OVERLAPS POLYGON(0, 0, 1, 1)", "3 to 1000 corners"),
        ("visit.region OVERLAPS POLYGON(0, 0, 1, 0, 2, 0)", "great circle"),
        ("visit.region OVERLAPS POLYGON(0, 0, 1, 1, 2)", "pairs of numbers"),
        ("visit.region OVERLAPS REGION('CIRCLE 1')", "POLYGON ra dec"),
        ("visit.region OVERLAPS REGION(5)", "takes text"),
        ("visit.region OVERLAPS CIRCLE(0, 0, visit)", "columns have no place"),
        ("visit.region OVERLAPS CIRCLE(0, 0, 'x')", "takes numbers"),
        ("visit.region OVERLAPS 5", "only overlap another region"),
        ("visit.region OVERLAPS visit.timespan", "only overlap another region"),
        ("visit.region OVERLAPS visit.region", "always overlaps itself"),
        ("CIRCLE(0, 0, 1) OVERLAPS CIRCLE(0, 0, 1)", "one side must be"),
        ("visit.region = CIRCLE(0, 0, 1)", "region"),
        ("detector.region OVERLAPS CIRCLE(0, 0, 1)", "detector.region"),
        ("visit.region OVERLAPS CIRCLE(0, 0)", "expected"),
        ("visit.region OVERLAPS BOX(0, 0, 400, 1)", "360 degrees wide"),
        ("CIRCLE(0, 0, 1)", "no place"),
    ],
)
def test_mistakes_are_explained(sky: Sky, where: str, message: str) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        sky.data_ids("visit", "detector", where=where)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_work_is_bounded(sky: Sky) -> None:
    few, many = (" OR ".join(["visit.region OVERLAPS POINT(0, 0)"] * count) for count in (10, 33))
    assert sky.data_ids("visit", where=few) == sky.data_ids("visit", where="visit.region OVERLAPS POINT(0, 0)")
    with pytest.raises(InvalidQueryError, match="more than 32 comparisons"):
        sky.data_ids("visit", where=many)
    with pytest.raises(InvalidQueryError, match="corners"):
        sky.data_ids("visit", where=f"visit.region OVERLAPS POLYGON({', '.join(['1, 2'] * 5000)})")


def test_it_must_be_clear_what_overlaps(sky: Sky) -> None:
    with pytest.raises(InvalidQueryError, match="not clear which regions"):
        sky.data_ids("visit", "patch", "htm7")
    with pytest.raises(InvalidQueryError, match="nothing says which values of htm9"):
        sky.data_ids("htm9", "band")
