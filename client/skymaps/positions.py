"""Positions on the sky, as people give them."""

from __future__ import annotations

import math
from typing import Any

from pantry.errors import InvalidRequestError

Position = Any
"""An `astropy.coordinates.SkyCoord` of one position, or a pair (right ascension, declination) in degrees, ICRS."""


def radians(position: Position) -> tuple[float, float]:
    """Return right ascension and declination, ICRS, in radians."""
    if hasattr(position, "icrs"):
        position = (position.icrs.ra.deg, position.icrs.dec.deg)
    try:
        ra, dec = (float(angle) for angle in position)
    except (TypeError, ValueError):
        raise InvalidRequestError(
            f"{position!r} is no position on the sky", hint="give a SkyCoord, or (ra, dec) in degrees"
        ) from None
    if not (math.isfinite(ra) and -90 <= dec <= 90):
        raise InvalidRequestError(f"({ra}, {dec}) is no position on the sky", hint="dec is from -90 to 90 degrees")
    return math.radians(ra) % (2 * math.pi), math.radians(dec)
