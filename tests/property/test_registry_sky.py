"""A box against a polygon: the answer must be that of a fine raster of points."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hypothesis import assume, given
from hypothesis import strategies as st
from lsst.sphgeom import Angle, Box, ConvexPolygon, LonLat, UnitVector3d

from pantry.daemon.registry.sky.boxes import box_overlaps_polygon
from pantry.daemon.registry.sky.regions import overlap

_STEPS = 60


def direction(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra % 360, dec))


@st.composite
def polygons(draw: st.DrawFn) -> ConvexPolygon:
    ra, dec = draw(st.floats(-20, 20)), draw(st.floats(-85, 85))
    size = draw(st.floats(1, 20))
    angles = draw(st.lists(st.floats(0, math.tau), min_size=3, max_size=7, unique=True))
    centre = direction(ra, dec)
    # Around its centre, so that it is convex and small enough.
    east = UnitVector3d.orthogonalTo(centre)
    north = centre.cross(east)
    corners = []
    for angle in angles:
        rise = math.tan(math.radians(size))
        corners.append(UnitVector3d(centre + (east * math.cos(angle) + north * math.sin(angle)) * rise))
    try:
        return ConvexPolygon(corners)
    except ValueError:
        assume(False)
        raise


@given(
    polygon=polygons(),
    ra=st.floats(-40, 40),
    dec=st.floats(-80, 80),
    width=st.floats(0.5, 60),
    height=st.floats(0.5, 30),
)
def test_boxes_and_polygons(polygon: ConvexPolygon, ra: float, dec: float, width: float, height: float) -> None:
    box = Box(LonLat.fromDegrees(ra % 360, dec), Angle.fromDegrees(width / 2), Angle.fromDegrees(height / 2))
    found = box_overlaps_polygon(box, polygon)
    lon, lat = box.getLon(), box.getLat()
    wide, high = (lon.getB() - lon.getA()).asRadians() % math.tau, (lat.getB() - lat.getA()).asRadians()
    common = any(
        polygon.contains(
            UnitVector3d(
                LonLat.fromRadians(
                    (lon.getA().asRadians() + wide * column / _STEPS) % math.tau,
                    lat.getA().asRadians() + high * row / _STEPS,
                )
            )
        )
        for column in range(_STEPS + 1)
        for row in range(_STEPS + 1)
    )
    if common:
        assert found
    # Where sphgeom is certain, it is right.
    certain = box.overlaps(polygon)
    assert certain is None or certain == found
    assert overlap(box, polygon) == overlap(polygon, box) == found
    if found and not common:
        # A sliver between the points of the raster: then the polygon's boundary comes near the box.
        lat_margin, lon_margin = Angle.fromDegrees(0.3), Angle.fromDegrees(0.3 / math.cos(math.radians(85)))
        near = box.dilatedBy(lon_margin, lat_margin)
        assert any(near.contains(point) for point in boundary(polygon))


def boundary(polygon: ConvexPolygon, steps: int = 200) -> Iterator[UnitVector3d]:
    vertices = polygon.getVertices()
    for begin, end in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        for step in range(steps):
            yield UnitVector3d(begin * (1 - step / steps) + end * (step / steps))
