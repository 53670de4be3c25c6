"""Tracts in rings of equal declination, with one more at each pole (Rubin's RingsSkyMap)."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

from pantry.client.skymaps.boxes import PixelBox
from pantry.errors import ConfigError

if TYPE_CHECKING:
    from lsst.sphgeom import ConvexPolygon


@dataclass(frozen=True)
class RingsTract:
    """One tract: its centre (radians), its pixels and its patches."""

    id: int
    ra: float
    dec: float
    scale: float
    patches_x: int
    patches_y: int
    inner: tuple[int, int]
    border: int
    reference: tuple[float, float]

    @property
    def box(self) -> PixelBox:
        """The tract's pixels, counted from its lower left corner."""
        return PixelBox(0, 0, self.patches_x * self.inner[0], self.patches_y * self.inner[1])

    @property
    def region(self) -> ConvexPolygon:
        """The polygon of the tract's corners."""
        return self._polygon(self.box)

    def cell(self, patch: int) -> tuple[int, int]:
        """Return a patch's column and row."""
        if not 0 <= patch < self.patches_x * self.patches_y:
            raise ConfigError(f"tract {self.id} has no patch {patch}")
        row, column = divmod(patch, self.patches_x)
        return column, row

    def patch_region(self, patch: int) -> ConvexPolygon:
        """Return the polygon of a patch's outer box: the inner one and its border."""
        column, row = self.cell(patch)
        width, height = self.inner
        inner = PixelBox(column * width, row * height, (column + 1) * width, (row + 1) * height)
        return self._polygon(inner.grown_within(self.border, self.box))

    def _polygon(self, box: PixelBox) -> ConvexPolygon:
        from lsst.sphgeom import ConvexPolygon, UnitVector3d

        return ConvexPolygon([UnitVector3d(*self._direction(x, y)) for x, y in box.corners()])

    def _direction(self, x: float, y: float) -> tuple[float, float, float]:
        # Right ascension grows to the left, as one sees the sky from inside.
        east = -(x - self.reference[0]) * self.scale
        north = (y - self.reference[1]) * self.scale
        sin_ra, cos_ra = math.sin(self.ra), math.cos(self.ra)
        sin_dec, cos_dec = math.sin(self.dec), math.cos(self.dec)
        along = cos_dec - north * sin_dec
        return (
            along * cos_ra - east * sin_ra,
            along * sin_ra + east * cos_ra,
            sin_dec + north * cos_dec,
        )


@dataclass(frozen=True)
class RingsSkyMap:
    """The tiling, by the parameters that lsst.skymap names.

    Parameters
    ----------
    num_rings
        Rings between the two tracts at the poles.
    pixel_scale
        Arcseconds.
    tract_overlap
        Degrees.
    ra_start
        Degrees: the centre of each ring's first tract.
    """

    num_rings: int
    pixel_scale: float
    tract_overlap: float
    patch_inner_dimensions: tuple[int, int] = (4000, 4000)
    patch_border: int = 100
    ra_start: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what gives no tiling."""
        if self.num_rings < 1:
            raise ConfigError(f"num_rings must be at least 1, not {self.num_rings}")
        if not 0 < self.pixel_scale < math.inf:
            raise ConfigError(f"pixel_scale must be positive, not {self.pixel_scale}")
        if min(self.patch_inner_dimensions) < 1 or self.patch_border < 0:
            raise ConfigError("patches need positive dimensions and a border of at least 0")
        if not 0 <= self.tract_overlap < math.inf or self._reach >= math.pi / 2:
            raise ConfigError("tract_overlap must be at least 0, and a tract less than a hemisphere")

    @property
    def _ring_size(self) -> float:
        return math.pi / (self.num_rings + 1)

    @property
    def _reach(self) -> float:
        return self._ring_size / 2 + math.radians(self.tract_overlap)

    @cached_property
    def _ring_starts(self) -> list[int]:
        """The number of each ring's first tract, and last that of the north pole's."""
        counts = []
        for ring in range(self.num_rings):
            south = self._ring_size * (ring + 0.5) - math.pi / 2
            nearest = min(abs(south), abs(south + self._ring_size))
            counts.append(int(2 * math.pi * math.cos(nearest) / self._ring_size) + 1)
        return list(accumulate(counts, initial=1))

    def __len__(self) -> int:
        """Return the number of tracts."""
        return self._ring_starts[-1] + 1

    def tract(self, number: int) -> RingsTract:
        """Return one tract."""
        ra, dec = self._center(number)
        scale = math.radians(self.pixel_scale / 3600)
        half = math.tan(self._reach) / scale
        lower = math.floor(-half + 0.5)
        size = math.ceil(half - 0.5) - lower + 1
        width, height = self.patch_inner_dimensions
        patches_x, patches_y = -(-size // width), -(-size // height)
        reference = (
            float((patches_x * width - size) // 2 - lower),
            float((patches_y * height - size) // 2 - lower),
        )
        return RingsTract(
            id=number,
            ra=ra,
            dec=dec,
            scale=scale,
            patches_x=patches_x,
            patches_y=patches_y,
            inner=self.patch_inner_dimensions,
            border=self.patch_border,
            reference=reference,
        )

    def _center(self, number: int) -> tuple[float, float]:
        if not 0 <= number < len(self):
            raise ConfigError(f"there is no tract {number}", hint=f"the last is {len(self) - 1}")
        if number in (0, len(self) - 1):
            return 0.0, math.copysign(math.pi / 2, number - 0.5)
        starts = self._ring_starts
        ring = bisect_right(starts, number) - 1
        turn = (number - starts[ring]) / (starts[ring + 1] - starts[ring])
        ra = math.radians(self.ra_start) + 2 * math.pi * turn
        return ra % (2 * math.pi), self._ring_size * (ring + 1) - math.pi / 2
