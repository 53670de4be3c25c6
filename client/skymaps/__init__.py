"""Tilings of the sky: tracts and their patches, with their regions.

lsst-sphgeom is imported when the first region is made, not before.
"""

from pantry.client.skymaps.boxes import PixelBox
from pantry.client.skymaps.rings import RingsSkyMap, RingsTract

__all__ = ["PixelBox", "RingsSkyMap", "RingsTract"]
