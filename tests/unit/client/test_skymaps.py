"""Sky maps of other kinds, their configuration, and what all kinds can do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st
from lsst.sphgeom import HealpixPixelization, LonLat, UnitVector3d

from pantry.client.skymaps import DiscreteSkyMap, HealpixSkyMap, NamedSkyMap, RingsSkyMap, dump_skymap, load_skymap
from pantry.errors import ConfigError, InvalidRequestError

RINGS = "kind: rings\nname: r\nnumRings: 12\npixelScale: 2.0\n"
HEALPIX = HealpixSkyMap(log2_n_side=1, pixel_scale=30.0, tract_overlap=0.1, patch_inner_dimensions=(1500, 1000))
DISCRETE = DiscreteSkyMap(
    pixel_scale=1.0, tract_overlap=0.0, ra_list=(10.0, 350.0), dec_list=(-30.0, 60.0), radius_list=(1.0, 2.0)
)


def direction(ra: float, dec: float) -> UnitVector3d:
    return UnitVector3d(LonLat.fromDegrees(ra, dec))


@given(ra=st.floats(0, 360), z=st.floats(-1, 1))
def test_every_direction_lies_in_the_tract_and_patch_that_are_found(ra: float, z: float) -> None:
    dec = math.degrees(math.asin(z))
    tract = HEALPIX.find_tract((ra, dec))
    assert tract.id == HealpixPixelization(1).index(direction(ra, dec))
    assert tract.region.contains(direction(ra, dec))
    assert tract.find_patch((ra, dec)).region.contains(direction(ra, dec))


@pytest.mark.parametrize("level", range(5))
def test_healpix_tracts_hold_their_pixels(level: int) -> None:
    skymap = HealpixSkyMap(log2_n_side=level, pixel_scale=60.0, tract_overlap=0.0)
    pixels = HealpixPixelization(level)
    assert len(skymap) == 12 * 4**level
    for tract in skymap:
        assert all(tract.region.contains(corner) for corner in pixels.pixel(tract.id).getVertices())
        assert (
            math.tan(skymap._longest_reach()) >= tract.box.y_end / 2 * tract.scale - tract.layout.inner[1] * tract.scale
        )


def test_discrete_tracts_are_where_the_lists_say() -> None:
    first, second = DISCRETE
    assert first.region.contains(direction(10, -30.99))
    assert not first.region.contains(direction(10, -30 - 1.2))
    assert DISCRETE.find_tract(SkyCoord(349, 61, unit="deg")) == second
    with pytest.raises(InvalidRequestError, match="not on tract 0"):
        first.find_patch((190, 30))


@given(st.integers(0, len(HEALPIX) - 1), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_the_wcs_and_the_regions_agree(number: int, along: float, up: float) -> None:
    tract = HEALPIX.tract(number)
    x, y = (1 + along) / 2 * tract.box.x_end, (1 + up) / 2 * tract.box.y_end
    ra, dec = tract.wcs.pixel_to_world_values(x, y)
    assert np.allclose(tract._pixel(math.radians(ra), math.radians(dec)), (x, y), atol=1e-6)
    patch = tract.find_patch((float(ra), float(dec)))
    assert patch.inner.x_begin - 0.5 <= x + 1e-6
    assert x - 1e-6 <= patch.inner.x_end - 0.5
    assert patch.inner.y_begin - 0.5 <= y + 1e-6
    assert y - 1e-6 <= patch.inner.y_end - 0.5


def test_patches_of_cells_reach_over_the_edge() -> None:
    legacy = RingsSkyMap(num_rings=40, pixel_scale=2.0, tract_overlap=0.1)
    cells = RingsSkyMap(num_rings=40, pixel_scale=2.0, tract_overlap=0.1, tract_builder="cells")
    # The numbers of Rubin's lsst_cells: 3000 pixels and a border of 200.
    assert cells.tract(5).patch(0).outer == (-200, -200, 3200, 3200)
    assert legacy.tract(5).patch(0).outer == (0, 0, 4100, 4100)
    assert cells.sha1 != legacy.sha1


@pytest.mark.parametrize("skymap", [HEALPIX, DISCRETE, load_skymap(RINGS, source="r").skymap], ids=str)
def test_a_written_sky_map_reads_back(skymap: HealpixSkyMap) -> None:
    again = load_skymap(dump_skymap(NamedSkyMap("n", skymap)), source="again")
    assert again == NamedSkyMap("n", skymap)
    assert again.skymap.sha1 == skymap.sha1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("numRings: 3", "there is no 'kind'"),
        ("kind: [", "not YAML"),
        ("kind: spiral\n", "unknown kind of sky map 'spiral'"),
        (RINGS + "numRngs: 3\n", "r.yaml:5: unknown key 'numRngs'"),
        (RINGS + "rotation: 30\n", "r.yaml:5: rotation"),
        (RINGS + "projection: STG\n", "r.yaml:5: projection"),
        (RINGS.replace("12", "0"), "r.yaml:3: numRings"),
        (RINGS.replace("12", "many"), "r.yaml:3: numRings"),
        (RINGS.replace("2.0", "-2.0"), "r.yaml: pixelScale must be positive"),
        ("kind: healpix\nlog2NSide: 40\npixelScale: 1\n", "r.yaml:2: log2NSide"),
        ("kind: discrete\npixelScale: 1\nraList: [1]\ndecList: [1, 2]\nradiusList: [1]\n", "one value each"),
        ("kind: discrete\npixelScale: 1\nraList: [1]\ndecList: [91]\nradiusList: [1]\n", "from -90 to 90"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_skymap(text, source="r.yaml")
    assert caught.value.message.startswith("r.yaml")
    assert message in caught.value.message
