"""Regions on the sky: stored with their pixels, compared exactly (docs/decisions/0015-sky.md).

lsst-sphgeom is imported when the first region is met, not before.
"""

from pantry.daemon.registry.sky.matches import SkyMatches
from pantry.daemon.registry.sky.pixels import Pixels
from pantry.daemon.registry.sky.regions import decode_region

__all__ = ["Pixels", "SkyMatches", "decode_region"]
