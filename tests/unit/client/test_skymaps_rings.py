"""The rings tiling: against records of hsc_rings_v1, and the whole sky is covered."""

from __future__ import annotations

import base64
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsst.sphgeom import ConvexPolygon, LonLat, UnitVector3d

from pantry.client.skymaps import RingsSkyMap
from pantry.errors import ConfigError, InvalidRequestError

HSC = RingsSkyMap(num_rings=120, pixel_scale=0.168, tract_overlap=1 / 60)
SMALL = RingsSkyMap(
    num_rings=8,
    pixel_scale=30.0,
    tract_overlap=0.1,
    patch_inner_dimensions=(500, 700),
    patch_border=10,
    ra_start=20.0,
)

# Regions of hsc_rings_v1, from hsc-rc2-subset-v0.yaml in lsst-daf-butler's test data.
TRACT_9615 = (
    "70cfa95156d710eabf1f176fc00990e2bfa9d5478c457b5bbfc902fc7aae82e9bfde6fb7609751e3bf39a6c891457b5bbf"
    "1466693c2b80e9bf9e286deebe4fe3bf0a8a61be754c9c3f3616a317540eeabfd2f04b4e318ee2bfc3d4b6b8754c9c3f"
)
TRACT_9813 = (
    "706d49172fb089ebbf7a416963e047e03f04da8d4822dd983f748955c6dc00ecbfd7f213e3c3eede3f6f79884d22dd983f"
    "55833497bef8ebbf15b3fe207ce5de3fae43c0300f6eab3fd5c00f009281ebbf37cf35823c43e03f9417422b0f6eab3f"
)
PATCH_9615_14 = (
    "7013c53e857be2e9bfa64c2ee879d0e2bfd0b07c20ce8c583f5de995f6f7d1e9bff202744a1de7e2bf9066ce0ee08c583f"
    "3b6ef779e5d1e9bff66300940fe7e2bf182e2051dd25743fdb74b22c69e2e9bf7d930d006cd0e2bf041cb299ce25743f"
)


def _off_by_pixels(region: ConvexPolygon, encoded: str) -> float:
    real = ConvexPolygon.decode(bytes.fromhex(encoded)).getVertices()
    ours = region.getVertices()
    assert len(ours) == len(real) == 4
    pixel = math.radians(0.168 / 3600)
    return max(min((a - b).getNorm() for b in ours) for a in real) / pixel


@pytest.mark.parametrize(("number", "encoded"), [(9615, TRACT_9615), (9813, TRACT_9813)])
def test_a_tract_is_that_of_hsc_rings(number: int, encoded: str) -> None:
    assert _off_by_pixels(HSC.tract(number).region, encoded) < 0.01


def test_a_patch_is_that_of_hsc_rings() -> None:
    tract = HSC.tract(9615)
    assert tract.cell(14) == (5, 1)
    assert HSC.tract(9813).cell(72) == (0, 8)
    assert _off_by_pixels(tract.patch(14).region, PATCH_9615_14) < 0.01


@given(ra=st.floats(0, 360), z=st.floats(-1, 1))
def test_every_direction_lies_in_a_tract_and_a_patch(ra: float, z: float) -> None:
    direction = UnitVector3d(LonLat.fromDegrees(ra, math.degrees(math.asin(z))))
    tracts = [SMALL.tract(n) for n in range(len(SMALL))]
    holding = [t for t in tracts if t.region.contains(direction)]
    assert holding
    for tract in holding:
        assert any(patch.region.contains(direction) for patch in tract)
    assert SMALL.find_tract((ra, math.degrees(math.asin(z)))) in holding


def test_the_hash_is_that_of_lsst_skymap() -> None:
    # Of the record of hsc_rings_v1 in hsc-rc2-subset-v0.yaml, there in base64.
    assert HSC.sha1 == base64.b64decode("4p/p8QCONZ82o2d+fWnMQ5N20eY=").hex()
    assert len(HSC) == 18938  # its tract_max


def test_what_gives_no_tiling_is_refused() -> None:
    for wrong in ({"pixel_scale": 0.0}, {"pixel_scale": math.nan}, {"tract_overlap": 90.0}):
        with pytest.raises(ConfigError):
            RingsSkyMap(**{"num_rings": 8, "pixel_scale": 30.0, "tract_overlap": 0.1} | wrong)
    with pytest.raises(InvalidRequestError, match="no tract"):
        SMALL.tract(len(SMALL))
    with pytest.raises(InvalidRequestError, match="no patch"):
        SMALL.tract(3).cell(-1)
