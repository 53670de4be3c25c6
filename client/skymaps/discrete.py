"""Tracts at the places that a configuration lists (Rubin's DiscreteSkyMap)."""

from __future__ import annotations

import math

from pantry.client.skymaps.positions import Position, radians
from pantry.client.skymaps.skymap import MAX_TRACTS, SkyMap
from pantry.client.skymaps.tracts import Tract
from pantry.errors import ConfigError


class DiscreteSkyMap(SkyMap, frozen=True, kw_only=True, rename="camel"):
    """Square tracts, each at a place of its own; they need not cover the sky.

    Attributes
    ----------
    ra_list, dec_list : tuple of float
        Centres of the tracts, ICRS, degrees.
    radius_list : tuple of float
        From the centre to the middle of each edge, without the overlap, degrees.
    """

    ra_list: tuple[float, ...]
    dec_list: tuple[float, ...]
    radius_list: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse lists of different lengths, and what is not on the sky."""
        if not len(self.ra_list) == len(self.dec_list) == len(self.radius_list) or len(self.ra_list) > MAX_TRACTS:
            raise ConfigError("raList, decList and radiusList have one value each for each tract")
        if not all(map(math.isfinite, self.ra_list)) or not all(-90 <= dec <= 90 for dec in self.dec_list):
            raise ConfigError("raList and decList are degrees, decList from -90 to 90")
        if not all(0 < radius < 90 for radius in self.radius_list):
            raise ConfigError("radiusList are degrees, more than 0 and less than 90")
        super().__post_init__()

    def __len__(self) -> int:
        """Return the number of tracts."""
        return len(self.ra_list)

    def tract(self, number: int) -> Tract:
        """Return one tract."""
        self._require(number)
        center = (math.radians(self.ra_list[number]) % (2 * math.pi), math.radians(self.dec_list[number]))
        return self._square(number, center, math.radians(self.radius_list[number] + self.tract_overlap))

    def find_tract(self, position: Position) -> Tract:
        """Return the tract whose centre is nearest, which need not hold the position."""
        ra, dec = radians(position)

        def nearness(number: int) -> float:
            own_ra, own_dec = math.radians(self.ra_list[number]), math.radians(self.dec_list[number])
            return math.sin(dec) * math.sin(own_dec) + math.cos(dec) * math.cos(own_dec) * math.cos(ra - own_ra)

        return self.tract(max(range(len(self)), key=nearness))

    def _longest_reach(self) -> float:
        return math.radians(max(self.radius_list) + self.tract_overlap)
