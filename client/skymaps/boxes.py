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

    def grown_within(self, border: int, limit: PixelBox) -> PixelBox:
        """Return this box with a border on each side, cut off at the limit."""
        return PixelBox(
            max(self.x_begin - border, limit.x_begin),
            max(self.y_begin - border, limit.y_begin),
            min(self.x_end + border, limit.x_end),
            min(self.y_end + border, limit.y_end),
        )
