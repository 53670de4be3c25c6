"""Regions of the sky, made from what users write and decoded from what is stored; always checked.

Angles are ICRS degrees, as in the Gen3 Butler's expressions. sphgeom itself takes NaN, vectors of no length
and angles beyond the circle without complaint, and then answers nonsense.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pantry.daemon.registry.sky.boxes import box_overlaps_polygon

if TYPE_CHECKING:
    from lsst.sphgeom import Region

MAX_ENCODED_BYTES = 65_536
"""Of one region: 2,700 corners."""
MAX_CORNERS = 1_000
_UNIT = 1e-6


def decode_region(encoded: bytes) -> Region:
    """Decode ``lsst.sphgeom.Region.encode()``.

    Raises
    ------
    ValueError
        If it is none, or one that is nowhere on the sky.
    """
    from lsst.sphgeom import Region

    if len(encoded) > MAX_ENCODED_BYTES:
        raise ValueError(f"a region of {len(encoded)} bytes; at most {MAX_ENCODED_BYTES} are taken")
    try:
        found = Region.decode(encoded)
    except (RuntimeError, ValueError, TypeError) as exc:
        raise ValueError(f"not an encoded region: {exc}") from None
    _check(found)
    return found


def circle(ra: float, dec: float, radius: float) -> Region:
    """Make the circle of ``radius`` around a point."""
    from lsst.sphgeom import Angle, Circle

    if not 0 <= radius <= 180:
        raise ValueError(f"a circle's radius is from 0 to 180 degrees, not {radius}")
    return Circle(_vector(ra, dec), Angle.fromDegrees(radius))


def point(ra: float, dec: float) -> Region:
    """Make the region that is one point."""
    return circle(ra, dec, 0.0)


def box(ra: float, dec: float, width: float, height: float) -> Region:
    """Make the box around a point, with sides along circles of equal right ascension and declination.

    Parameters
    ----------
    ra, dec : float
        Its centre.
    width, height : float
        Extent in right ascension and in declination.
    """
    from lsst.sphgeom import Angle, Box, LonLat

    _vector(ra, dec)
    if not 0 <= width <= 360 or not 0 <= height <= 180:
        raise ValueError(f"a box is at most 360 degrees wide and 180 high, not {width} and {height}")
    return Box(LonLat.fromDegrees(ra, dec), Angle.fromDegrees(width / 2), Angle.fromDegrees(height / 2))


def polygon(corners: Sequence[tuple[float, float]]) -> Region:
    """Make the convex hull of corners, each (right ascension, declination), in any order."""
    from lsst.sphgeom import ConvexPolygon

    if not 3 <= len(corners) <= MAX_CORNERS:
        raise ValueError(f"a polygon has 3 to {MAX_CORNERS} corners, not {len(corners)}")
    try:
        return ConvexPolygon([_vector(ra, dec) for ra, dec in corners])
    except ValueError:
        raise ValueError("these corners are no polygon: they lie on one great circle, or all over the sky") from None


def from_pos(text: str) -> Region:
    """Make a region from a POS string of the IVOA (SIA 2.0): CIRCLE, RANGE or POLYGON and numbers."""
    from lsst.sphgeom import Region

    try:
        found = Region.from_ivoa_pos(text)
    except ValueError as exc:
        forms = "'CIRCLE ra dec radius', 'RANGE ra ra dec dec' or 'POLYGON ra dec ra dec ...'"
        raise ValueError(f"{exc}: write {forms}") from None
    _check(found)
    return found


def overlap(one: Region, other: Region) -> bool:
    """Whether two regions have a point in common; where nothing can tell (ellipses), as if they had."""
    known = one.overlaps(other)
    if known is not None:
        return known
    from lsst.sphgeom import Box, ConvexPolygon

    if isinstance(one, Box) and isinstance(other, ConvexPolygon):
        return box_overlaps_polygon(one, other)
    if isinstance(one, ConvexPolygon) and isinstance(other, Box):
        return box_overlaps_polygon(other, one)
    return True


def _vector(ra: float, dec: float) -> Any:
    from lsst.sphgeom import LonLat, UnitVector3d

    if not (math.isfinite(ra) and -360 <= ra <= 720):
        raise ValueError(f"a right ascension is from 0 to 360 degrees, not {ra}")
    if not -90 <= dec <= 90:
        raise ValueError(f"a declination is from -90 to 90 degrees, not {dec}")
    return UnitVector3d(LonLat.fromDegrees(ra, dec))


def _check(region: Region) -> None:
    """Refuse numbers that are no places."""
    from lsst.sphgeom import Box, Circle, CompoundRegion, ConvexPolygon, Ellipse

    if isinstance(region, CompoundRegion):
        for number in range(region.nOperands()):
            _check(region.cloneOperand(number))
        return
    if isinstance(region, ConvexPolygon):
        points = region.getVertices()
        numbers: list[float] = []
    elif isinstance(region, Circle):
        points, numbers = [region.getCenter()], [region.getOpeningAngle().asRadians()]
    elif isinstance(region, Ellipse):
        points = [region.getCenter(), region.getF1(), region.getF2()]
        numbers = [region.getAlpha().asRadians(), region.getBeta().asRadians()]
    elif isinstance(region, Box):
        lon, lat = region.getLon(), region.getLat()
        points = []
        numbers = [angle.asRadians() for angle in (lon.getA(), lon.getB(), lat.getA(), lat.getB())]
    else:
        raise ValueError(f"regions of the kind {type(region).__name__} are not known here")
    # Of a convex polygon, which always has points, sphgeom 30 says that it is empty.
    empty = region.isEmpty() and not isinstance(region, ConvexPolygon)
    if empty or not all(map(math.isfinite, numbers)):
        raise ValueError("a region without any point on the sky")
    if any(not abs(math.hypot(p.x(), p.y(), p.z()) - 1) < _UNIT for p in points):
        raise ValueError("a region whose corners or centre are no directions")
