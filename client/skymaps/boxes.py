"""Boxes of whole pixels on a tract's plane."""

from __future__ import annotations

from typing import NamedTuple


class PixelBox(NamedTuple):
    """Pixels from the first of each direction up to, not including, the last."""

    x_begin: int
    y_begin: int
    x_end: int
    y_end: int

    def corners(self) -> list[tuple[float, float]]:
        """Return the outer edges' corners; a pixel's centre has whole coordinates."""
        left, bottom = self.x_begin - 0.5, self.y_begin - 0.5
        right, top = self.x_end - 0.5, self.y_end - 0.5
        return [(left, bottom), (right, bottom), (right, top), (left, top)]

    def grown(self, border: int) -> PixelBox:
        """Return this box with a border on each side."""
        return PixelBox(self.x_begin - border, self.y_begin - border, self.x_end + border, self.y_end + border)

    def within(self, limit: PixelBox) -> PixelBox:
        """Return what of this box lies in another."""
        return PixelBox(
            max(self.x_begin, limit.x_begin),
            max(self.y_begin, limit.y_begin),
            min(self.x_end, limit.x_end),
            min(self.y_end, limit.y_end),
        )
