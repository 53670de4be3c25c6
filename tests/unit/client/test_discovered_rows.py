"""What rows of a discovery service become."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from lsst.sphgeom import Region

from pantry.client.discovered.mapping import COLUMNS, check_mapping, load_mapping
from pantry.client.discovered.rows import dataset_id, look_at, records_of, rows_of_answer
from pantry.model.dimensions import DimensionUniverse

UNIVERSE = DimensionUniverse(
    yaml.safe_load((Path(__file__).parents[3] / "daemon/registry/dimensions.yaml").read_text())
)
GROUP = UNIVERSE.group(["visit", "detector"])
GIVEN: dict[str, Any] = {
    "dataset_type": "image",
    "data_id": {
        "instrument": {"constant": "Cam"},
        "visit": {"template": "{obs_id}", "pattern": r"(\d+)"},
        "detector": {"column": "chip", "map": {"north": 0, "south": 1}},
        "physical_filter": {"column": "filter"},
        "day_obs": {"day_of": "t_min"},
    },
    "records": {
        "day_obs": {},
        "visit": {"name": {"column": "obs_id"}, "exposure_time": {"column": "t_exptime"}, "seq_num": {"column": "seq"}},
        "visit_detector_region": {},
    },
    "columns": {"s_region": "footprint"},
    "time_scale": "tai",
}
MAPPING = load_mapping(GIVEN)


def row(**other: Any) -> dict[str, Any]:
    made = {
        "obs_publisher_did": "ivo://x/1", "access_url": "http://x.org/1.fits", "obs_id": "v12", "chip": "north",
        "filter": "r", "t_min": 61114.25, "t_max": 61114.26, "t_exptime": 30.0, "seq": 5.0,
        "footprint": "Polygon ICRS 9 -1 10 -1 10 1 9 1",
    }  # fmt: skip
    return made | other


def test_detectors_of_a_visit() -> None:
    """The visit is around both, and as long as both; the detectors' own regions are their own."""
    check_mapping(MAPPING, UNIVERSE, GROUP)
    south = row(
        obs_publisher_did="ivo://x/2", access_url="http://x.org/2.fits", chip="south", t_max=61114.27,
        footprint=[10.0, -1.0, 11.0, -1.0, 11.0, 1.0, 10.0, 1.0],
    )  # fmt: skip
    found, refused = look_at([row(), south], MAPPING, UNIVERSE, GROUP)
    assert refused == {}
    assert [one.id for one in found] == [dataset_id("ivo://x/1"), dataset_id("ivo://x/2")]
    records, without_region = records_of(found, MAPPING, UNIVERSE)
    assert without_region == 0
    assert [one.element for one in records] == ["day_obs", "visit", "visit_detector_region", "visit_detector_region"]
    day, visit, *regions = records
    assert day.values == {"instrument": "Cam", "id": 20260314}, "the day begins at noon"
    assert visit.values == {
        "instrument": "Cam", "id": 12, "name": "v12", "exposure_time": 30.0, "seq_num": 5, "physical_filter": "r",
        "day_obs": 20260314,
    }  # fmt: skip
    assert visit.timespan is not None
    begin, end = Time([61114.25, 61114.27], format="mjd", scale="tai").unix_tai
    assert abs(visit.timespan.begin_ns - begin * 1e9) < 10_000
    assert abs(visit.timespan.end_ns - end * 1e9) < 10_000
    around = Region.decode(visit.region)
    assert all(around.contains(Region.decode(one.region)) for one in regions)
    assert regions[0].values == {"instrument": "Cam", "visit": 12, "detector": 0}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"seq": 5.5}, "visit.seq_num cannot be '5.5'"),
        ({"t_exptime": "long"}, "visit.exposure_time cannot be"),
        ({"obs_id": "none"}, "without the pattern"),
        ({"chip": "east"}, "detector"),
        ({"t_min": 1e9}, "which day_obs"),
        ({"t_min": 61114.25, "obs_id": None}, "which visit"),
    ],
)
def test_a_row_that_is_wrong(wrong: dict[str, Any], text: str) -> None:
    found, refused = look_at([row(**wrong)], MAPPING, UNIVERSE, GROUP)
    assert found == []
    assert text in refused["ivo://x/1"]


def test_what_answers_are_taken() -> None:
    masked = Table({"obs_publisher_did": ["ivo://x/1", ""], "t_min": np.ma.array([1.5, 2.5], mask=[False, True])})
    expected = [{"obs_publisher_did": "ivo://x/1", "t_min": 1.5}, {"obs_publisher_did": None, "t_min": None}]
    assert rows_of_answer(masked) == expected
    arrow = pa.table({"obs_publisher_did": ["ivo://x/1", ""], "t_min": [1.5, float("nan")]})
    assert rows_of_answer(arrow) == expected
    assert rows_of_answer([{"obs_publisher_did": b"ivo://x/1", "t_min": np.float64(1.5)}]) == expected[:1]


_VALUES = st.one_of(
    st.none(), st.text(max_size=30), st.floats(), st.integers(), st.binary(max_size=5), st.booleans(),
    st.lists(st.floats(), max_size=9),
    st.sampled_from(["http://x.org/a", "Polygon 1 2 3 4 5 6", "north", "12", 61114.0]),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*COLUMNS, *row()]), _VALUES), max_size=3))
def test_whatever_a_service_says_is_taken_or_refused(changes: list[dict[str, Any]]) -> None:
    rows = rows_of_answer([row(**change) for change in changes])
    found, refused = look_at(rows, MAPPING, UNIVERSE, GROUP)
    assert all(refused.values())
    assert len(found) + len(refused) <= len(rows)
    assert bool(found) or bool(refused) or not rows
    records_of(found, MAPPING, UNIVERSE)
