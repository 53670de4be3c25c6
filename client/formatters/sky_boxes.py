"""Which box of pixels of an image the read parameters mean: one in pixels, and through its WCS a part of the sky."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pantry.errors import FormatterError

if TYPE_CHECKING:
    from astropy.wcs import WCS
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""Columns and rows: x0, y0, x1, y1, counted from 0, half-open."""

SKY_PARAMETERS = ("circle", "sky_box")
"""Read parameters of images that name a part of the sky."""

BOX_PARAMETERS = ("bbox", *SKY_PARAMETERS)
"""Read parameters of images that name a part of them."""

_POINTS = 64
"""On the circle, and on each side of the box."""

_SAME_DEG = 1e-6


def pixel_box(
    name: str, parameters: Mapping[str, object], wcs: Callable[[], WCS | None], shape: Sequence[int]
) -> Box | None:
    """Return the box of pixels that the read parameters select.

    Parameters
    ----------
    name : str
        Of the image, for messages.
    parameters : Mapping
        ``bbox``: x0, y0, x1, y1 in whole pixels. ``circle``: right ascension, declination and radius; ``sky_box``:
        smallest and largest right ascension, smallest and largest declination. These in degrees, ICRS, or as quantities
        of astropy: the box around them, as far as it is in the image. What ``bbox`` has beside them is what both have.
    wcs : callable
        Gives the WCS of the image; asked only for a part of the sky.
    shape : sequence of int
        Of the image; the last two axes are height and width.

    Returns
    -------
    Box or None
        None if the parameters name no part.

    Raises
    ------
    FormatterError
        There are no such pixels, or the image has no celestial WCS.
    """
    box = _bbox(name, parameters.get("bbox"), shape)
    asked = [one for one in SKY_PARAMETERS if parameters.get(one) is not None]
    if not asked:
        return box
    if len(asked) > 1:
        raise FormatterError(f"{name}: circle and sky_box are two parts of the sky", hint="give one of them")
    found = wcs()
    if found is None or not found.has_celestial:
        raise FormatterError(f"{name} has no celestial WCS, and so no {asked[0]}", hint="give bbox, in pixels")
    around = _around(name, asked[0], parameters[asked[0]], found.celestial, shape)
    return around if box is None else _common(name, box, around)


def _bbox(name: str, bbox: object, shape: Sequence[int]) -> Box | None:
    if bbox is None:
        return None
    numbers = tuple(bbox) if isinstance(bbox, Sequence) else ()
    if len(numbers) != 4 or not all(hasattr(number, "__index__") for number in numbers):
        raise FormatterError(f"{name}: bbox={bbox!r} is not (x0, y0, x1, y1) in whole pixels")
    x0, y0, x1, y1 = (int(number.__index__()) for number in numbers)
    height, width = shape[-2:]
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise FormatterError(
            f"{name}: bbox {(x0, y0, x1, y1)} is empty or not within the image",
            hint=f"the image has x from 0 to {width}, y from 0 to {height}, the ends excluded",
        )
    return x0, y0, x1, y1


def _common(name: str, one: Box, other: Box) -> Box:
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    if x0 >= x1 or y0 >= y1:
        raise FormatterError(f"{name}: bbox {one} and the part of the sky, {other}, have no pixel in common")
    return x0, y0, x1, y1


def _around(name: str, asked: str, given: object, wcs: WCS, shape: Sequence[int]) -> Box:
    region = _circle(name, given) if asked == "circle" else _box(name, given)
    height, width = int(shape[-2]), int(shape[-1])
    pixels = _pixels(wcs, region.points)
    if len(pixels) < len(region.points) and region.has(*_middle(wcs, width, height)):
        return 0, 0, width, height  # it reaches beyond what the projection has
    if not len(pixels):
        raise _outside(name, asked)
    x0, y0 = np.floor(pixels.min(axis=0) + 0.5)
    x1, y1 = np.floor(pixels.max(axis=0) + 0.5) + 1
    box = (int(max(x0, 0)), int(max(y0, 0)), int(min(x1, width)), int(min(y1, height)))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise _outside(name, asked)
    return box


class _Region(NamedTuple):
    """Points around a part of the sky, right ascension and declination in degrees, and whether it has a position."""

    points: NDArray[np.float64]
    has: Callable[[float, float], bool]


def _middle(wcs: WCS, width: int, height: int) -> tuple[float, float]:
    sky = wcs.pixel_to_world(width / 2, height / 2).icrs
    return float(sky.ra.deg), float(sky.dec.deg)


def _outside(name: str, asked: str) -> FormatterError:
    return FormatterError(f"{name}: no pixel of it is in this {asked}", hint="its component wcs says where it is")


def _numbers(name: str, asked: str, given: Any, meaning: str, count: int) -> list[float]:
    try:
        numbers = [float(one.to_value("deg")) if hasattr(one, "to_value") else float(one) for one in given]
    except (TypeError, ValueError):  # astropy's error of units is both
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all() or isinstance(given, str):
        raise FormatterError(f"{name}: {asked}={given!r} is not {meaning}", hint="in degrees, ICRS")
    return numbers


def _circle(name: str, given: object) -> _Region:
    ra, dec, radius = _numbers(name, "circle", given, "(ra, dec, radius)", 3)
    if not (-90 <= dec <= 90 and 0 < radius < 90):
        raise FormatterError(f"{name}: circle={given!r}: dec is within 90 degrees, the radius between 0 and 90")
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    angles = np.linspace(0, 360, _POINTS, endpoint=False)
    # Of the circle around the polygon of these points, so that it is inside of the polygon.
    wide = np.degrees(np.arctan(np.tan(np.radians(radius)) / np.cos(np.pi / _POINTS)))
    around = SkyCoord(ra, dec, unit="deg").directional_offset_by(angles * u.deg, wide * u.deg)
    points = np.column_stack([np.append(around.ra.deg, ra), np.append(around.dec.deg, dec)])
    middle = SkyCoord(ra, dec, unit="deg")
    return _Region(points, lambda lon, lat: bool(middle.separation(SkyCoord(lon, lat, unit="deg")).deg <= radius))


def _box(name: str, given: object) -> _Region:
    ra0, ra1, dec0, dec1 = _numbers(name, "sky_box", given, "(ra_min, ra_max, dec_min, dec_max)", 4)
    if not -90 <= dec0 < dec1 <= 90:
        raise FormatterError(f"{name}: sky_box={given!r}: dec_min is less than dec_max, both within 90 degrees")
    across = (ra1 - ra0) % 360 or 360.0
    ra = ra0 + np.linspace(0, across, _POINTS)
    dec = np.linspace(dec0, dec1, _POINTS)
    sides = [(ra, np.full_like(ra, dec0)), (ra, np.full_like(ra, dec1))]
    sides += [(np.full_like(dec, end), dec) for end in (ra0, ra0 + across)]
    points = np.column_stack([np.concatenate([side[0] for side in sides]), np.concatenate([side[1] for side in sides])])
    return _Region(points, lambda lon, lat: (lon - ra0) % 360 <= across and dec0 <= lat <= dec1)


def _pixels(wcs: WCS, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pixel coordinates of ICRS positions; without those that the projection does not have."""
    from astropy.coordinates import SkyCoord
    from astropy.wcs.utils import wcs_to_celestial_frame

    sky = SkyCoord(points[:, 0] % 360, points[:, 1], unit="deg").transform_to(wcs_to_celestial_frame(wcs))
    lon, lat = sky.spherical.lon.deg, sky.spherical.lat.deg
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        x, y = wcs.all_world2pix(lon, lat, 0, quiet=True)
        back_lon, back_lat = wcs.all_pix2world(x, y, 0)
        # A tangential projection has the far side of the sky in the same place as the near one.
        off = np.hypot(((back_lon - lon + 180) % 360 - 180) * np.cos(np.radians(lat)), back_lat - lat)
    good = np.isfinite(x) & np.isfinite(y) & (off < _SAME_DEG)
    return np.column_stack([x[good], y[good]])
