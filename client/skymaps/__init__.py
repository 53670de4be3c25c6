"""Tilings of the sky: tracts and their patches, with their regions.

lsst-sphgeom is imported when the first region is made, not before.
"""

from pantry.client.skymaps.boxes import PixelBox
from pantry.client.skymaps.configuration import KINDS, NamedSkyMap, dump_skymap, load_skymap
from pantry.client.skymaps.discrete import DiscreteSkyMap
from pantry.client.skymaps.healpix import HealpixSkyMap
from pantry.client.skymaps.rings import RingsSkyMap
from pantry.client.skymaps.skymap import SkyMap
from pantry.client.skymaps.tracts import Patch, PatchLayout, Tract

__all__ = [
    "KINDS",
    "DiscreteSkyMap",
    "HealpixSkyMap",
    "NamedSkyMap",
    "Patch",
    "PatchLayout",
    "PixelBox",
    "RingsSkyMap",
    "SkyMap",
    "Tract",
    "dump_skymap",
    "load_skymap",
]
