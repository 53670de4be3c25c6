"""Whether a box in longitude and latitude overlaps a convex polygon: what sphgeom leaves open.

Two sides of a box are arcs of small circles, so that it is no polygon. If neither holds a corner of the other,
the two overlap only where their boundaries cross; the crossings of an edge, which is an arc of a great circle,
with a parallel and with a meridian are computed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lsst.sphgeom import Box, ConvexPolygon

Vector = tuple[float, float, float]


def box_overlaps_polygon(box: Box, polygon: ConvexPolygon) -> bool:
    """Whether the two have a point in common."""
    from lsst.sphgeom import LonLat, UnitVector3d

    vertices = polygon.getVertices()
    if any(box.contains(vertex) for vertex in vertices):
        return True
    lon, lat = box.getLon(), box.getLat()
    west, east, south, north = (angle.asRadians() for angle in (lon.getA(), lon.getB(), lat.getA(), lat.getB()))
    if any(
        polygon.contains(UnitVector3d(LonLat.fromRadians(ra, dec))) for ra in (west, east) for dec in (south, north)
    ):
        return True
    corners = [(vertex.x(), vertex.y(), vertex.z()) for vertex in vertices]
    for begin, end in zip(corners, corners[1:] + corners[:1], strict=True):
        for dec in (south, north):
            if any(_within(math.atan2(y, x), west, east) for x, y, _ in _at_latitude(begin, end, dec)):
                return True
        for ra in (west, east):
            if any(south <= math.asin(max(-1.0, min(1.0, z))) <= north for _, _, z in _at_longitude(begin, end, ra)):
                return True
    return False


def _arc(begin: Vector, end: Vector) -> tuple[Vector, float]:
    """Give the direction in which an arc of a great circle begins, and its length in radians."""
    cosine = sum(a * b for a, b in zip(begin, end, strict=True))
    across = [b - cosine * a for a, b in zip(begin, end, strict=True)]
    sine = math.hypot(*across)
    x, y, z = (part / sine for part in across) if sine else begin
    return (x, y, z), math.atan2(sine, cosine)


def _points(begin: Vector, along: Vector, length: float, angles: list[float]) -> Iterator[Vector]:
    for angle in angles:
        distance = angle % math.tau
        if distance <= length:
            x, y, z = (a * math.cos(distance) + b * math.sin(distance) for a, b in zip(begin, along, strict=True))
            yield x, y, z


def _at_latitude(begin: Vector, end: Vector, dec: float) -> Iterator[Vector]:
    along, length = _arc(begin, end)
    highest, reach = math.hypot(begin[2], along[2]), math.sin(dec)
    if highest == 0 or abs(reach) > highest:
        return iter(())
    top, off = math.atan2(along[2], begin[2]), math.acos(reach / highest)
    return _points(begin, along, length, [top - off, top + off])


def _at_longitude(begin: Vector, end: Vector, ra: float) -> Iterator[Vector]:
    along, length = _arc(begin, end)
    side, ahead = (y * math.cos(ra) - x * math.sin(ra) for x, y, _ in (begin, along))
    first = math.atan2(-side, ahead)
    found = _points(begin, along, length, [first, first + math.pi])
    # A great circle meets the meridian's plane on its other half too.
    return (point for point in found if point[0] * math.cos(ra) + point[1] * math.sin(ra) > 0)


def _within(ra: float, west: float, east: float) -> bool:
    # The interval may go through 0.
    return (ra - west) % math.tau <= (east - west) % math.tau or (east - west) >= math.tau
