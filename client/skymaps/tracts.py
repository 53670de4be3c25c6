"""A tract: a square of the sky on one tangent plane, divided into patches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from pantry.client.skymaps.boxes import PixelBox
from pantry.client.skymaps.positions import Position, radians
from pantry.errors import InvalidRequestError

if TYPE_CHECKING:
    from lsst.sphgeom import ConvexPolygon


class PatchLayout(NamedTuple):
    """How a tract is divided.

    Attributes
    ----------
    inner : tuple of int
        Width and height of a patch without its border, in pixels.
    border : int
        By how many pixels a patch reaches into its neighbours.
    clipped : bool
        Whether patches end with the tract, as those of the tract builder ``legacy`` do.
    """

    inner: tuple[int, int]
    border: int
    clipped: bool = True


class Patch(NamedTuple):
    """One patch of a tract.

    Attributes
    ----------
    id : int
        Its number in the tract: ``cell_y * patches_x + cell_x``.
    cell_x, cell_y : int
        Column and row, from 0.
    inner, outer : PixelBox
        Without and with its border.
    region : lsst.sphgeom.ConvexPolygon
        The polygon of the outer box.
    """

    id: int
    cell_x: int
    cell_y: int
    inner: PixelBox
    outer: PixelBox
    region: ConvexPolygon


class Tract(msgspec.Struct, frozen=True, kw_only=True):
    """One tract of a sky map.

    Attributes
    ----------
    id : int
        Its number in the sky map.
    ra, dec : float
        Its centre, ICRS, radians.
    scale : float
        Size of a pixel at the centre, radians.
    patches_x, patches_y : int
        Columns and rows of patches.
    layout : PatchLayout
        Sizes of the patches.
    reference : tuple of float
        The pixel of the centre, counted from 0.
    """

    id: int
    ra: float
    dec: float
    scale: float
    patches_x: int
    patches_y: int
    layout: PatchLayout
    reference: tuple[float, float]

    @classmethod
    def square(cls, number: int, center: tuple[float, float], reach: float, scale: float, layout: PatchLayout) -> Tract:
        """Make the tract of whole patches that reaches so far from its centre.

        Parameters
        ----------
        number : int
            Its id.
        center : tuple of float
            Right ascension and declination, radians.
        reach : float
            From the centre to the middle of each edge, at least; radians, less than a quarter of a circle.
        scale : float
            Size of a pixel, radians.
        layout : PatchLayout
            Sizes of the patches.
        """
        half = math.tan(reach) / scale
        lower = math.floor(-half + 0.5)
        size = math.ceil(half - 0.5) - lower + 1
        width, height = layout.inner
        patches_x, patches_y = -(-size // width), -(-size // height)
        reference = (
            float((patches_x * width - size) // 2 - lower),
            float((patches_y * height - size) // 2 - lower),
        )
        return cls(
            id=number,
            ra=center[0],
            dec=center[1],
            scale=scale,
            patches_x=patches_x,
            patches_y=patches_y,
            layout=layout,
            reference=reference,
        )

    def __len__(self) -> int:
        """Return the number of patches."""
        return self.patches_x * self.patches_y

    def __iter__(self) -> Iterator[Patch]:
        """Give the patches in the order of their numbers."""
        return (self.patch(number) for number in range(len(self)))

    @property
    def box(self) -> PixelBox:
        """The tract's pixels, counted from its lower left corner."""
        return PixelBox(0, 0, self.patches_x * self.layout.inner[0], self.patches_y * self.layout.inner[1])

    @property
    def region(self) -> ConvexPolygon:
        """The polygon of the tract's corners."""
        return self._polygon(self.box)

    @property
    def wcs(self) -> Any:
        """The tract's projection as an `astropy.wcs.WCS`; its pixels are counted from 0 by `PixelBox`."""
        from astropy.wcs import WCS

        found = WCS(naxis=2)
        found.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        found.wcs.crval = [math.degrees(self.ra), math.degrees(self.dec)]
        found.wcs.crpix = [self.reference[0] + 1, self.reference[1] + 1]
        found.wcs.cdelt = [-math.degrees(self.scale), math.degrees(self.scale)]
        found.wcs.radesys = "ICRS"
        found.array_shape = (self.box.y_end, self.box.x_end)
        found.wcs.set()
        return found

    def cell(self, patch: int) -> tuple[int, int]:
        """Return a patch's column and row."""
        if not 0 <= patch < len(self):
            raise InvalidRequestError(f"tract {self.id} has no patch {patch}", hint=f"the last is {len(self) - 1}")
        row, column = divmod(patch, self.patches_x)
        return column, row

    def patch(self, number: int) -> Patch:
        """Return one patch, by its number."""
        column, row = self.cell(number)
        width, height = self.layout.inner
        inner = PixelBox(column * width, row * height, (column + 1) * width, (row + 1) * height)
        outer = inner.grown(self.layout.border)
        if self.layout.clipped:
            outer = outer.within(self.box)
        return Patch(number, column, row, inner, outer, self._polygon(outer))

    def find_patch(self, position: Position) -> Patch:
        """Return the patch whose inner box holds a position on the sky.

        Raises
        ------
        InvalidRequestError
            If it is not on this tract.
        """
        ra, dec = radians(position)
        x, y = self._pixel(ra, dec) or (-1.0, -1.0)
        column, row = math.floor((x + 0.5) / self.layout.inner[0]), math.floor((y + 0.5) / self.layout.inner[1])
        if not (0 <= column < self.patches_x and 0 <= row < self.patches_y):
            raise InvalidRequestError(
                f"({math.degrees(ra):.6f}, {math.degrees(dec):.6f}) deg is not on tract {self.id}",
                hint="the sky map's find_tract says which tract it is on",
            )
        return self.patch(row * self.patches_x + column)

    def _pixel(self, ra: float, dec: float) -> tuple[float, float] | None:
        cos_away = math.sin(self.dec) * math.sin(dec) + math.cos(self.dec) * math.cos(dec) * math.cos(ra - self.ra)
        if cos_away <= 0:
            return None  # on the other half of the sky
        east = math.cos(dec) * math.sin(ra - self.ra) / cos_away
        north = math.cos(self.dec) * math.sin(dec) - math.sin(self.dec) * math.cos(dec) * math.cos(ra - self.ra)
        return self.reference[0] - east / self.scale, self.reference[1] + north / cos_away / self.scale

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
