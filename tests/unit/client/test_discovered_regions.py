"""Regions of ObsCore, in the forms that services write them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from lsst.sphgeom import Circle, ConvexPolygon, LonLat, UnitVector3d

from pantry.client.discovered.regions import around, region_of


def at(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra, dec))


SQUARE = [9.0, -1.0, 11.0, -1.0, 11.0, 1.0, 9.0, 1.0]


@pytest.mark.parametrize(
    "said",
    [
        "Polygon ICRS 9 -1 11 -1 11 1 9 1",
        "POLYGON 9 -1 9 1 11 1 11 -1",
        "Polygon ICRS TOPOCENTER 9.0 -1.0 11.0 -1.0 11.0 1.0 9.0 1.0",
        "polygon((9,-1),(11,-1),(11,1),(9,1))",
        SQUARE,
    ],
)
def test_polygons(said: Any) -> None:
    region = region_of({"s_region": said})
    assert isinstance(region, ConvexPolygon)
    assert region.contains(at(10, 0))
    assert region.contains(at(10.9, 0.9))
    assert not region.contains(at(11.2, 0))


@pytest.mark.parametrize("said", ["Circle ICRS 10 0 1.5", "CIRCLE 10 0 1.5", [10.0, 0.0, 1.5]])
def test_circles(said: Any) -> None:
    region = region_of({"s_region": said})
    assert isinstance(region, Circle)
    assert region.getOpeningAngle().asDegrees() == pytest.approx(1.5)


@pytest.mark.parametrize(
    "said",
    [
        None, "", "Union ICRS (Circle 1 2 3 Circle 4 5 6)", "Polygon GALACTIC 9 -1 11 -1 11 1", "Polygon ICRS 9 -1 11",
        "Circle ICRS 10 nan 1", "Circle ICRS 10 0", "Circle 10 0 -1", "Polygon 1 1 1 1 1 1", "Polygon 0 99 1 99 2 99",
        [1.0, 2.0], [], 5, "Polygon " + "1 2 " * 2000, "Polygon 0 0 120 0 240 0",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_replaced_by_position_and_field(said: Any) -> None:
    region = region_of({"s_region": said, "s_ra": 10.0, "s_dec": 0.0, "s_fov": 2.0})
    assert isinstance(region, Circle)
    assert region.getOpeningAngle().asDegrees() == pytest.approx(1.0)
    assert region_of({"s_region": said, "s_ra": 10.0, "s_dec": math.nan, "s_fov": 2.0}) is None
    assert region_of({"s_region": said, "s_ra": 10.0, "s_dec": 0.0}) is None


def test_around_several() -> None:
    one, other = region_of({"s_region": SQUARE}), region_of({"s_region": "Polygon 11 -1 13 -1 13 1 11 1"})
    assert around([one, one]) == one
    both = around([one, other])
    assert isinstance(both, ConvexPolygon)
    assert both.contains(one)
    assert both.contains(other)
    circle = region_of({"s_region": "Circle 20 0 1"})
    assert around([one, circle]).contains(at(20, 0.5))
