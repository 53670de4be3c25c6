"""Tracts in rings of equal declination, with one more at each pole (Rubin's RingsSkyMap)."""

from __future__ import annotations

import functools
import math
import struct
from bisect import bisect_right
from itertools import accumulate
from typing import Annotated

import msgspec

from pantry.client.skymaps.positions import Position, radians
from pantry.client.skymaps.skymap import SkyMap
from pantry.client.skymaps.tracts import Tract


class RingsSkyMap(SkyMap, frozen=True, kw_only=True, rename="camel"):
    """Tracts in rings around the poles.

    Attributes
    ----------
    num_rings : int
        Rings between the two tracts at the poles.
    ra_start : float
        The centre of each ring's first tract, degrees.
    """

    num_rings: Annotated[int, msgspec.Meta(ge=1, le=5000)]
    ra_start: Annotated[float, msgspec.Meta(ge=-360, le=360)] = 0.0

    def __len__(self) -> int:
        """Return the number of tracts."""
        return _ring_starts(self.num_rings)[-1] + 1

    def tract(self, number: int) -> Tract:
        """Return one tract."""
        self._require(number)
        return self._square(number, self._center(number), self._longest_reach())

    def find_tract(self, position: Position) -> Tract:
        """Return the tract to whose own part of the sky a position belongs; see `SkyMap.find_tract`."""
        ra, dec = radians(position)
        starts = _ring_starts(self.num_rings)
        ring = math.floor((dec + math.pi / 2) / self._ring_size + 0.5) - 1
        if ring < 0:
            return self.tract(0)
        if ring >= self.num_rings:
            return self.tract(len(self) - 1)
        count = starts[ring + 1] - starts[ring]
        turn = (ra - math.radians(self.ra_start)) / (2 * math.pi)
        return self.tract(starts[ring] + math.floor(turn * count + 0.5) % count)

    @property
    def _ring_size(self) -> float:
        return math.pi / (self.num_rings + 1)

    def _longest_reach(self) -> float:
        return self._ring_size / 2 + math.radians(self.tract_overlap)

    def _identity(self) -> bytes:
        return b"RingsSkyMap" + self._packed() + struct.pack("<id", self.num_rings, self.ra_start)

    def _center(self, number: int) -> tuple[float, float]:
        if number in (0, len(self) - 1):
            return 0.0, math.copysign(math.pi / 2, number - 0.5)
        starts = _ring_starts(self.num_rings)
        ring = bisect_right(starts, number) - 1
        turn = (number - starts[ring]) / (starts[ring + 1] - starts[ring])
        ra = math.radians(self.ra_start) + 2 * math.pi * turn
        return ra % (2 * math.pi), self._ring_size * (ring + 1) - math.pi / 2


@functools.cache
def _ring_starts(num_rings: int) -> list[int]:
    """Return the number of each ring's first tract, and last that of the north pole's."""
    size = math.pi / (num_rings + 1)
    counts = []
    for ring in range(num_rings):
        south = size * (ring + 0.5) - math.pi / 2
        nearest = min(abs(south), abs(south + size))
        counts.append(int(2 * math.pi * math.cos(nearest) / size) + 1)
    return list(accumulate(counts, initial=1))
