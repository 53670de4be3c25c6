"""A tract for each HEALPix pixel (Gorski et al. 2005, ApJ 622, 759), in nested order."""

from __future__ import annotations

import functools
import math
from typing import Annotated, Any

import msgspec

from pantry.client.skymaps.positions import Position, radians
from pantry.client.skymaps.skymap import SkyMap
from pantry.client.skymaps.tracts import Tract


class HealpixSkyMap(SkyMap, frozen=True, kw_only=True, rename="camel"):
    """A square tract around each pixel; its number is the pixel's in nested order.

    Attributes
    ----------
    log2_n_side : int
        Level of the pixels: there are 12 * 4**log2NSide.
    """

    log2_n_side: Annotated[int, msgspec.Meta(ge=0, le=9)]

    def __len__(self) -> int:
        """Return the number of tracts."""
        return 12 << 2 * self.log2_n_side

    def tract(self, number: int) -> Tract:
        """Return one tract."""
        self._require(number)
        center, radius = self._circle(number)
        return self._square(number, center, radius + math.radians(self.tract_overlap))

    def find_tract(self, position: Position) -> Tract:
        """Return the tract of the pixel that holds a position; see `SkyMap.find_tract`."""
        from lsst.sphgeom import LonLat, UnitVector3d

        return self.tract(_pixelization(self.log2_n_side).index(UnitVector3d(LonLat.fromRadians(*radians(position)))))

    def _circle(self, number: int) -> tuple[tuple[float, float], float]:
        """Return a circle that holds a pixel: its centre and radius, radians."""
        from lsst.sphgeom import LonLat, UnitVector3d, Vector3d

        corners = [(one.x(), one.y(), one.z()) for one in _pixelization(self.log2_n_side).pixel(number).getVertices()]
        middle = UnitVector3d(Vector3d(*(sum(axis) / len(corners) for axis in zip(*corners, strict=True))))
        nearest = min(middle.dot(UnitVector3d(*corner)) for corner in corners)
        lonlat = LonLat(middle)
        return (lonlat.getLon().asRadians(), lonlat.getLat().asRadians()), math.acos(nearest)

    def _longest_reach(self) -> float:
        # No pixel's circle is as wide as this (a test looks at all pixels of the first levels).
        return math.radians(80 / 2**self.log2_n_side + self.tract_overlap)


@functools.cache
def _pixelization(level: int) -> Any:
    from lsst.sphgeom import HealpixPixelization

    return HealpixPixelization(level)
