"""A picture of an assembled exposure, as a PNG file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

_DPI = 120
_SIDE_INCHES = 8.5
_SHOWN_PIXELS = 1000
"""Of the image's longer side; more are averaged."""


def draw(image: Any, path: Path, title: str) -> None:
    """Draw an image with its coordinates on the sky.

    Parameters
    ----------
    image : `~astropy.nddata.CCDData`
        In adu, with a celestial WCS.
    path : Path
        The PNG file; replaced in one step.
    title : str
        Above the picture.
    """
    from astropy.visualization import AsinhStretch, ImageNormalize, ZScaleInterval
    from matplotlib.figure import Figure

    height, width = image.shape
    shown = _averaged(image.data, max(1, max(image.shape) // _SHOWN_PIXELS))
    low, high = ZScaleInterval(contrast=0.15).get_limits(shown)
    norm = ImageNormalize(vmin=low, vmax=low + 3 * (high - low), stretch=AsinhStretch(0.2), clip=True)
    figure = Figure(figsize=(_SIDE_INCHES, _SIDE_INCHES * 0.94), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot(projection=image.wcs)
    # In the pixels of the whole image, so that the WCS holds.
    drawn = axes.imshow(
        shown,
        origin="lower",
        extent=(-0.5, width - 0.5, -0.5, height - 0.5),
        cmap="gray",
        norm=norm,
        interpolation="nearest",
    )
    axes.coords.grid(color="deepskyblue", alpha=0.35, linewidth=0.6)
    axes.coords[0].set_axislabel("Right ascension (ICRS)")
    axes.coords[1].set_axislabel("Declination (ICRS)")
    axes.set_title(title, fontsize=11)
    figure.colorbar(drawn, ax=axes, shrink=0.86, pad=0.02, label="adu above the bias")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _averaged(pixels: Any, factor: int) -> Any:
    """Return the means of blocks of ``factor`` by ``factor`` pixels; what is left over at the edges is dropped."""
    height, width = (side // factor for side in pixels.shape)
    blocks = pixels[: height * factor, : width * factor].reshape(height, factor, width, factor)
    return blocks.mean(axis=(1, 3), dtype=np.float32)
