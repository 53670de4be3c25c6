"""From ``s_region`` (STC-S, or numbers as DALI has them), or position and field of view, to a `lsst.sphgeom.Region`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_FRAMES = {"ICRS", "J2000", "UNKNOWNFRAME", "BARYCENTER", "GEOCENTER", "TOPOCENTER", "UNKNOWNREFPOS", "SPHERICAL2"}
MAX_CORNERS = 1000
"""Most corners of a polygon."""


def region_of(row: Mapping[str, Any]) -> Any | None:
    """Return the region of a row with ObsCore's columns.

    A polygon becomes the convex polygon around it, so that it is found wherever it lies. What cannot be read, as a
    union, is replaced by the circle of ``s_ra``, ``s_dec`` and ``s_fov``.

    Parameters
    ----------
    row : Mapping
        ``s_region``, ``s_ra``, ``s_dec``, ``s_fov`` in ICRS degrees, as far as they are there.

    Returns
    -------
    lsst.sphgeom.Region or None
        None if the row does not say where it is.
    """
    shape = _shape(row.get("s_region"))
    found = _region(*shape) if shape is not None else None
    if found is not None:
        return found
    ra, dec, fov = (_number(row.get(name)) for name in ("s_ra", "s_dec", "s_fov"))
    if ra is None or dec is None or fov is None:
        return None
    return _region("circle", [ra, dec, fov / 2])


def around(regions: Sequence[Any]) -> Any:
    """Return one region that has several in it: a convex polygon of polygons, else a circle."""
    from lsst.sphgeom import ConvexPolygon

    first = regions[0]
    if all(one == first for one in regions):
        return first
    if all(isinstance(one, ConvexPolygon) for one in regions):
        return ConvexPolygon.convexHull([corner for one in regions for corner in one.getVertices()])
    circle = first.getBoundingCircle()
    for one in regions[1:]:
        circle.expandTo(one.getBoundingCircle())
    return circle


def _shape(said: Any) -> tuple[str, list[float]] | None:
    """Return which shape a value of ``s_region`` means, and its numbers."""
    if isinstance(said, str):
        name, *words = said.replace(",", " ").replace("(", " ").replace(")", " ").split() or [""]
        while words and words[0].upper() in _FRAMES:
            words.pop(0)
        kind, given = name.lower(), words
    elif hasattr(said, "__len__"):
        given = list(said)
        kind = "circle" if len(given) == 3 else "polygon"
    else:
        return None
    if kind not in ("circle", "polygon") or len(given) > 2 * MAX_CORNERS:
        return None
    numbers = [number for one in given if (number := _number(one)) is not None]
    return (kind, numbers) if len(numbers) == len(given) else None


def _region(kind: str, numbers: Sequence[float]) -> Any | None:
    from lsst.sphgeom import Angle, Circle, ConvexPolygon, LonLat, UnitVector3d

    places = list(zip(numbers[::2], numbers[1::2], strict=False))
    if any(not (-360 <= ra <= 720 and -90 <= dec <= 90) for ra, dec in places[: 1 if kind == "circle" else None]):
        return None
    corners = [UnitVector3d(LonLat.fromDegrees(ra, dec)) for ra, dec in places[: 1 if kind == "circle" else None]]
    if kind == "circle":
        is_circle = len(numbers) == 3 and 0 < numbers[2] <= 180
        return Circle(corners[0], Angle.fromDegrees(numbers[2])) if is_circle else None
    if len(numbers) % 2 or len(corners) < 3:
        return None
    try:
        return ConvexPolygon.convexHull(corners)
    except (ValueError, RuntimeError):  # they lie on a line, or around half of the sky
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
