"""Sky pixels: which of them a region touches, at the level of the index or any other."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pantry.errors import ConfigError

if TYPE_CHECKING:
    from lsst.sphgeom import Pixelization, Region

    from pantry.model.dimensions import DimensionUniverse

MAX_PIXELS = 1_000_000
"""Of one region at one level; the whole sky at htm7 has 131,072."""


class Pixels:
    """The pixelisations of a universe.

    Parameters
    ----------
    universe : DimensionUniverse
        Its ``skypix`` says which systems there are and which level all regions are indexed at.
    """

    def __init__(self, universe: DimensionUniverse) -> None:
        self.common: str = universe.common_skypix

    def covering(self, region: Region, name: str | None = None) -> list[tuple[int, int]]:
        """Give the pixels that a region touches, as half-open ranges in ascending order.

        Parameters
        ----------
        region : Region
            Where.
        name : str, optional
            Dimension of the pixels, as ``htm9``; by default that of the index.

        Raises
        ------
        ValueError
            If there are more than `MAX_PIXELS`.
        """
        ranges = list(pixelization(name or self.common).envelope(region))
        if sum(end - begin for begin, end in ranges) > MAX_PIXELS:
            raise ValueError(f"the region has more than {MAX_PIXELS} pixels of {name or self.common}")
        return ranges

    def about(self, region: Region, most: int) -> list[tuple[int, int]]:
        """Give at most ``most`` ranges of the index's pixels with all that a region touches, and perhaps others."""
        return list(pixelization(self.common).envelope(region, maxRanges=most))


@functools.cache
def pixelization(name: str) -> Pixelization:
    """Return the pixelisation of a dimension such as ``htm7`` or ``healpix9``."""
    from lsst.sphgeom import HealpixPixelization, HtmPixelization, Mq3cPixelization

    kinds = {"htm": HtmPixelization, "healpix": HealpixPixelization, "mq3c": Mq3cPixelization}
    system = name.rstrip("0123456789")
    if system not in kinds or system == name:
        raise ConfigError(f"{name!r} is no pixelisation of the sky", hint=f"there are {', '.join(kinds)} and a level")
    found: Pixelization = kinds[system](int(name.removeprefix(system)))
    return found
