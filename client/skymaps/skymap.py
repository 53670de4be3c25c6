"""What all sky maps that a configuration describes have in common."""

from __future__ import annotations

import hashlib
import math
import struct
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec

from pantry.client.skymaps.positions import Position
from pantry.client.skymaps.tracts import PatchLayout, Tract
from pantry.errors import ConfigError, InvalidRequestError

Pixels = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Border = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]

MAX_TRACTS = 10_000_000


class SkyMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A tiling of the sky by tracts, which are divided into patches (DMS-MWBT-REQ-0020).

    The parameters have the names that Rubin's ``lsst.skymap`` gives them.

    Attributes
    ----------
    pixel_scale : float
        Size of a pixel at a tract's centre, arcseconds.
    tract_overlap : float
        How far a tract reaches beyond its own part of the sky, degrees.
    patch_inner_dimensions, patch_border : tuple of int, int
        Size of a patch without its border, and its border, in pixels.
    tract_builder : str
        ``legacy``: patches of that size, which end with the tract. ``cells``: patches of whole cells.
    cell_inner_dimensions, cell_border, num_cells_per_patch_inner, num_cells_in_patch_border
        Of ``cells``, in pixels and in cells.
    projection, rotation : str, float
        ``TAN`` and 0: others are not known.
    """

    pixel_scale: float
    tract_overlap: float = 1.0
    patch_inner_dimensions: tuple[Pixels, Pixels] = (4000, 4000)
    patch_border: Border = 100
    tract_builder: Literal["legacy", "cells"] = "legacy"
    cell_inner_dimensions: tuple[Pixels, Pixels] = (150, 150)
    cell_border: Border = 50
    num_cells_per_patch_inner: Pixels = 20
    num_cells_in_patch_border: Border = 1
    projection: Literal["TAN"] = "TAN"
    rotation: Literal[0] = 0

    def __post_init__(self) -> None:
        """Refuse what gives no tiling."""
        if not 0 < self.pixel_scale < math.inf:
            raise ConfigError(f"pixelScale must be positive, not {self.pixel_scale}")
        if not 0 <= self.tract_overlap < math.inf:
            raise ConfigError(f"tractOverlap must be at least 0, not {self.tract_overlap}")
        if not 0 < len(self) <= MAX_TRACTS:
            raise ConfigError(f"{len(self)} tracts are not between 1 and {MAX_TRACTS}")
        if not 0 < self._longest_reach() < math.pi / 2:
            raise ConfigError("a tract must be less than a hemisphere", hint="more tracts, or a smaller tractOverlap")

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of tracts."""

    @abstractmethod
    def tract(self, number: int) -> Tract:
        """Return one tract."""

    @abstractmethod
    def find_tract(self, position: Position) -> Tract:
        """Return the tract to whose own part of the sky a position belongs.

        Parameters
        ----------
        position : SkyCoord or tuple of float
            Right ascension and declination in degrees, ICRS.
        """

    @abstractmethod
    def _longest_reach(self) -> float:
        """Return the largest distance from a tract's centre to the middle of an edge, radians."""

    def __iter__(self) -> Iterator[Tract]:
        """Give the tracts in the order of their numbers."""
        return (self.tract(number) for number in range(len(self)))

    @property
    def layout(self) -> PatchLayout:
        """Sizes of the patches."""
        if self.tract_builder == "legacy":
            return PatchLayout(self.patch_inner_dimensions, self.patch_border)
        width, height = self.cell_inner_dimensions
        cells = self.num_cells_per_patch_inner
        border = self.num_cells_in_patch_border * width + self.cell_border
        return PatchLayout((cells * width, cells * height), border, clipped=False)

    @property
    def sha1(self) -> str:
        """What tells this sky map from all others, as hex text; that of lsst.skymap for ``rings``."""
        return hashlib.sha1(self._identity(), usedforsecurity=False).hexdigest()

    def _identity(self) -> bytes:
        """Return what makes two sky maps equal."""
        return b"pantry" + type(self).__name__.encode() + msgspec.json.encode(_described(self))

    def _packed(self) -> bytes:
        """Return the parameters of the base class in the form in which lsst.skymap hashes them."""
        common = struct.pack("<dd3sd", self.tract_overlap, self.pixel_scale, self.projection.encode(), self.rotation)
        if self.tract_builder == "legacy":
            return struct.pack("<iii", *self.patch_inner_dimensions, self.patch_border) + common
        cells = (self.cell_border, self.num_cells_per_patch_inner, self.num_cells_in_patch_border)
        return struct.pack("<iiiii", *self.cell_inner_dimensions, *cells) + common

    def _square(self, number: int, center: tuple[float, float], reach: float) -> Tract:
        return Tract.square(number, center, reach, math.radians(self.pixel_scale / 3600), self.layout)

    def _require(self, number: int) -> None:
        if not 0 <= number < len(self):
            raise InvalidRequestError(f"there is no tract {number}", hint=f"the last is {len(self) - 1}")


def _described(skymap: SkyMap) -> dict[str, Any]:
    """Return the parameters that are not the defaults, so that one more parameter changes no sky map."""
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(type(skymap))}
    return {key: value for key, value in msgspec.to_builtins(skymap).items() if defaults[key] != _as_given(value)}


def _as_given(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
