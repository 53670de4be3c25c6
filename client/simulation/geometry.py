"""Where the sixteen amplifiers of a simulated sensor read out, and how the sensor looks at the sky."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from astropy.wcs import WCS

PIXEL_SCALE_ARCSEC = 0.2
_SENSOR_PITCH_DEG = 0.235
"""Distance of neighbouring sensors' centres on the sky."""

SEGMENTS = [f"Segment1{i}" for i in range(8)] + [f"Segment0{i}" for i in reversed(range(8))]
"""Names of the segments in the order of their HDUs."""


class Amplifiers(msgspec.Struct, frozen=True):
    """Sizes of the amplifiers of one sensor, in pixels.

    Attributes
    ----------
    width, height : int
        The light-sensitive part.
    prescan : int
        Columns read before it.
    full_width, full_height : int
        All that is read, with overscan.
    """

    width: int
    height: int
    prescan: int
    full_width: int
    full_height: int

    @classmethod
    def of_shape(cls, width: int, height: int) -> Amplifiers:
        """Divide an amplifier of this many pixels, overscan and all, as a 576 by 2048 one is divided."""
        if width < 32 or height < 32:
            raise ValueError(f"amplifiers of {width} x {height} pixels are too small; at least 32 x 32")
        return cls(width * 509 // 576, height * 2000 // 2048, 3, width, height)

    @property
    def sensor_shape(self) -> tuple[int, int]:
        """Height and width of the assembled sensor."""
        return 2 * self.height, 8 * self.width

    def origin(self, index: int) -> tuple[int, int, bool]:
        """Return x and y of a segment's lower left corner on the sensor, and whether it is in the upper half."""
        upper = index >= 8
        column = 15 - index if upper else index
        return column * self.width, self.height if upper else 0, upper

    def sections(self, index: int) -> dict[str, str]:
        """Return the section keywords of a segment, counted from 1 as in IRAF."""
        x, y, upper = self.origin(index)
        # Every amplifier reads against x; the upper half against y too.
        rows = f"{y + self.height}:{y + 1}" if upper else f"{y + 1}:{y + self.height}"
        sensor_height, sensor_width = self.sensor_shape
        return {
            "DATASEC": f"[{self.prescan + 1}:{self.prescan + self.width},1:{self.height}]",
            "BIASSEC": f"[{self.prescan + self.width + 1}:{self.full_width},1:{self.height}]",
            "DETSEC": f"[{x + self.width}:{x + 1},{rows}]",
            "DETSIZE": f"[1:{sensor_width},1:{sensor_height}]",
        }

    def segment_to_sensor(self, index: int) -> tuple[float, float, float, float]:
        """Return (ax, bx, ay, by): sensor x is ax * segment x + bx, with FITS pixels counted from 1; y likewise."""
        x, y, upper = self.origin(index)
        bx = x + self.width + 1 + self.prescan
        return (-1.0, bx, -1.0, y + self.height + 1) if upper else (-1.0, bx, 1.0, y)


def sensor_wcs(
    amplifiers: Amplifiers, raft: str, sensor: str, ra_deg: float, dec_deg: float, rotation_deg: float
) -> WCS:
    """Return the TAN projection of a whole sensor, its place in the focal plane in CRPIX."""
    import numpy as np
    from astropy.wcs import WCS

    height, width = amplifiers.sensor_shape
    # A smaller sensor has larger pixels, so that it covers the same sky.
    scale = PIXEL_SCALE_ARCSEC / 3600.0 * 4072 / width
    column = 3 * int(raft[2]) + int(sensor[-1]) - 7
    row = 3 * int(raft[1]) + (int(sensor[1]) if sensor[1].isdecimal() else 1) - 7
    angle = np.deg2rad(rotation_deg)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval = [ra_deg, dec_deg]
    pitch = _SENSOR_PITCH_DEG / scale
    wcs.wcs.crpix = [width / 2 + 0.5 - column * pitch, height / 2 + 0.5 - row * pitch]
    wcs.wcs.cd = scale * np.array([[-cos, sin], [sin, cos]])
    wcs.array_shape = (height, width)
    return wcs


def segment_wcs_cards(amplifiers: Amplifiers, index: int, sensor: WCS) -> list[tuple[str, Any]]:
    """Return the keywords of the same projection in the pixels of one segment as read out."""
    ax, bx, ay, by = amplifiers.segment_to_sensor(index)
    cd, crpix, crval = sensor.wcs.cd, sensor.wcs.crpix, sensor.wcs.crval
    return [
        ("WCSAXES", 2),
        ("CTYPE1", "RA---TAN"),
        ("CTYPE2", "DEC--TAN"),
        ("CUNIT1", "deg"),
        ("CUNIT2", "deg"),
        ("RADESYS", "ICRS"),
        ("CRVAL1", float(crval[0])),
        ("CRVAL2", float(crval[1])),
        ("CRPIX1", (float(crpix[0]) - bx) / ax),
        ("CRPIX2", (float(crpix[1]) - by) / ay),
        ("CD1_1", float(cd[0, 0]) * ax),
        ("CD1_2", float(cd[0, 1]) * ay),
        ("CD2_1", float(cd[1, 0]) * ax),
        ("CD2_2", float(cd[1, 1]) * ay),
    ]
