"""A picture of an assembled exposure, as a PNG file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

_DPI = 120
_INCHES = (13.0, 5.7)
_SHOWN_PIXELS = 500
"""Of the image's longer side; more are averaged."""
_DETAIL_PIXELS = 400
"""Side of the part that is shown beside it, pixel by pixel."""
_STAR_SIGMAS = 10.0
"""How far above the sky a pixel of a star is."""


def draw(image: Any, path: Path, title: str) -> None:
    """Draw an image with its coordinates on the sky, and beside it the part with the most stars.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        In adu, with a celestial WCS.
    path : Path
        The PNG file; replaced in one step.
    title : str
        Above the picture.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=12)
    shown = _averaged(image.data, max(1, max(image.shape) // _SHOWN_PIXELS))
    whole = _panel(figure, 121, image, shown, extent=(-0.5, image.shape[1] - 0.5, -0.5, image.shape[0] - 0.5))
    x0, y0 = _detail_corner(image.data)
    box = (slice(y0, y0 + _DETAIL_PIXELS), slice(x0, x0 + _DETAIL_PIXELS))
    whole.add_patch(Rectangle((x0, y0), _DETAIL_PIXELS, _DETAIL_PIXELS, fill=False, edgecolor="orange", linewidth=1.2))
    whole.set_title("the sensor", fontsize=10)
    detail = _panel(figure, 122, image[box], image.data[box], extent=None)
    detail.set_title(f"{_DETAIL_PIXELS} x {_DETAIL_PIXELS} pixels of it", fontsize=10)
    detail.coords[1].set_axislabel(" ")
    detail.coords.frame.set_color("orange")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _panel(figure: Any, place: int, image: Any, pixels: Any, extent: tuple[float, float, float, float] | None) -> Any:
    """Show pixels on the sky; ``extent`` is in the image's own pixels, so that its WCS holds."""
    from astropy.visualization import AsinhStretch, ImageNormalize, ZScaleInterval

    axes = figure.add_subplot(place, projection=image.wcs)
    low, high = ZScaleInterval().get_limits(pixels)
    # The sky dark, and stars far above it still told apart.
    norm = ImageNormalize(vmin=low, vmax=low + 6 * (high - low), stretch=AsinhStretch(0.25), clip=True)
    drawn = axes.imshow(pixels, origin="lower", extent=extent, cmap="gray", norm=norm, interpolation="nearest")
    axes.coords.grid(color="deepskyblue", alpha=0.35, linewidth=0.6)
    axes.coords[0].set_axislabel("Right ascension (ICRS)")
    axes.coords[1].set_axislabel("Declination (ICRS)")
    ticks = np.round(norm.inverse(np.linspace(0, 1, 6)), -1)
    figure.colorbar(drawn, ax=axes, shrink=0.9, pad=0.02, ticks=ticks, label="adu above the bias")
    return axes


def _detail_corner(pixels: Any) -> tuple[int, int]:
    """Return x and y of the lower left corner of the box, of a grid of such boxes, with the most light in stars."""
    low, sky = np.percentile(pixels[::8, ::8], (16, 50))
    in_stars = _averaged(np.asarray(pixels > sky + _STAR_SIGMAS * (sky - low)), _DETAIL_PIXELS)
    y, x = np.unravel_index(np.argmax(in_stars), in_stars.shape)
    return int(x) * _DETAIL_PIXELS, int(y) * _DETAIL_PIXELS


def _averaged(pixels: Any, factor: int) -> Any:
    """Return the means of blocks of ``factor`` by ``factor`` pixels; what is left over at the edges is dropped."""
    height, width = (side // factor for side in pixels.shape)
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float32)
