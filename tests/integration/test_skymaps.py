"""Tilings of the sky in a repository: from a configuration, from code, several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lsst.sphgeom import DISJOINT, Angle, Circle, ConvexPolygon, LonLat, UnitVector3d
from tests.integration.command_line import pantry
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.skymaps import RingsSkyMap, load_skymap
from pantry.errors import ConflictError, InvalidRequestError

RINGS = "kind: rings\nname: rings\nnumRings: 6\npixelScale: 10.0\ntractOverlap: 0.5\n"
HEALPIX = "kind: healpix\nname: pixels\nlog2NSide: 1\npixelScale: 20.0\ntractOverlap: 0.1\n"


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        yield made


def polygon(ra: float, dec: float, half: float) -> ConvexPolygon:
    corners = ((ra - half, dec - half), (ra + half, dec - half), (ra + half, dec + half), (ra - half, dec + half))
    return ConvexPolygon([UnitVector3d(LonLat.fromDegrees(*corner)) for corner in corners])


class RubinPatch:
    """A patch with the methods of ``lsst.skymap.PatchInfo`` that its public documentation names."""

    def __init__(self, column: int, row: int, region: ConvexPolygon) -> None:
        self._index, self._region = (column, row), region

    def getIndex(self) -> tuple[int, int]:  # noqa: N802 - theirs
        return self._index

    def getOuterSkyPolygon(self) -> ConvexPolygon:  # noqa: N802 - theirs
        return self._region


class RubinTract:
    """A tract with two patches side by side, as ``lsst.skymap.TractInfo`` would tell it."""

    def __init__(self, number: int) -> None:
        self._id = number

    def getId(self) -> int:  # noqa: N802 - theirs
        return self._id

    def getNumPatches(self) -> tuple[int, int]:  # noqa: N802 - theirs
        return 2, 1

    def getOuterSkyPolygon(self) -> ConvexPolygon:  # noqa: N802 - theirs
        return polygon(20 * self._id + 10, 0, 4)

    def __iter__(self) -> Iterator[RubinPatch]:
        return (RubinPatch(n, 0, polygon(20 * self._id + 8 + 4 * n, 0, 2)) for n in (0, 1))


class RubinSkyMap:
    """Three tracts on the equator."""

    def getSha1(self) -> bytes:  # noqa: N802 - theirs
        return bytes(range(20))

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[RubinTract]:
        return map(RubinTract, range(3))


fields = RubinSkyMap()


@pytest.mark.req("DMS-MWBT-REQ-0020")
def test_a_tiling_from_a_configuration(butler: Butler, tmp_path: Path) -> None:
    configuration = tmp_path / "rings.yaml"
    configuration.write_text(RINGS)
    skymap = load_skymap(RINGS, source="rings").skymap
    patches = sum(len(tract) for tract in skymap)
    done = pantry(butler, "register-skymap", "d", str(configuration))
    assert f"{len(skymap)} tracts, {1 + len(skymap) + patches} records are new" in done.stderr
    (record,) = butler.query_dimension_records("skymap")
    assert (record.hash, record.tract_max) == (skymap.sha1, len(skymap))
    assert record.patch_nx_max == max(tract.patches_x for tract in skymap)
    assert len(butler.query_dimension_records("patch", limit=None)) == patches
    (tract,) = butler.query_dimension_records("tract", where="skymap = 'rings' AND tract = 9")
    assert tract.region == skymap.tract(9).region.encode()
    # The sky map itself comes back from the repository, and knows where things are.
    stored = butler.get("skyMap", skymap="rings", collections="skymaps")
    assert stored == skymap
    place = stored.find_tract((123.4, -12.3))
    asked = "skymap = 'rings' AND patch.region OVERLAPS POINT(123.4, -12.3)"
    found = [(one["tract"], one["patch"]) for one in butler.query_data_ids(["patch"], where=asked)]
    assert (place.id, place.find_patch((123.4, -12.3)).id) in found


@pytest.mark.req("DMS-MWBT-REQ-0020")
def test_a_tiling_from_a_code_object(butler: Butler) -> None:
    done = pantry(butler, "register-skymap", "d", "--object", "tests.integration.test_skymaps:fields", "--name", "mine")
    assert "3 tracts, 10 records are new" in done.stderr
    found = butler.query_dimension_records("patch", where="skymap = 'mine' AND tract = 2")
    assert [(one.id, one.cell_x, one.cell_y) for one in found] == [(0, 0, 0), (1, 1, 0)]
    assert found[1].region == polygon(52, 0, 2).encode()
    (record,) = butler.query_dimension_records("skymap")
    assert record.hash == bytes(range(20)).hex()
    with pytest.raises(InvalidRequestError, match="this is no sky map"):
        butler.register_skymap(object(), "nothing")


@pytest.mark.req("DMS-MWBT-REQ-0021")
def test_several_tilings_at_once(butler: Butler) -> None:
    for text in (RINGS, HEALPIX):
        butler.register_skymap(load_skymap(text, source="test"))
    spot = Circle(UnitVector3d(LonLat.fromDegrees(40, 25)), Angle.fromDegrees(0.5))
    for name, text in (("rings", RINGS), ("pixels", HEALPIX)):
        skymap = load_skymap(text, source="test").skymap
        expected = {tract.id for tract in skymap if not tract.region.relate(spot) & DISJOINT}
        found = butler.query_data_ids(
            ["tract"], where=f"skymap = '{name}' AND tract.region OVERLAPS :spot", bind={"spot": spot}
        )
        assert {one["tract"] for one in found} == expected
        assert expected
    # One visit goes into tracts of both.
    _insert_visit(butler, spot)
    for name in ("rings", "pixels"):
        tracts = butler.query_data_ids(["visit", "tract"], where=f"skymap = '{name}'", data_id={"instrument": "Cam"})
        assert tracts
        assert {one["visit"] for one in tracts} == {1}


def _insert_visit(butler: Butler, region: Circle) -> None:
    for element, values in (
        ("instrument", {"name": "Cam"}),
        ("day_obs", {"instrument": "Cam", "id": 20250101}),
        ("physical_filter", {"instrument": "Cam", "name": "r_1", "band": "r"}),
    ):
        butler.insert_dimension_records(element, values)
    visit = {"instrument": "Cam", "id": 1, "name": "v", "physical_filter": "r_1", "day_obs": 20250101}
    butler.insert_dimension_records("visit", {**visit, "region": region})


def test_registering_again_completes_and_never_changes(butler: Butler) -> None:
    named = load_skymap(RINGS, source="test")
    part = butler.register_skymap(named, tracts=[3, 5])
    assert part == 3 + len(named.skymap.tract(3)) + len(named.skymap.tract(5))
    progress: list[int] = []
    rest = butler.register_skymap(named, progress=progress.append)
    assert part + rest == progress[-1]
    assert butler.register_skymap(named) == 0
    other = RingsSkyMap(num_rings=7, pixel_scale=10.0, tract_overlap=0.5)
    with pytest.raises(ConflictError, match="another sky map is called 'rings'"):
        butler.register_skymap(other, "rings")
    with pytest.raises(ConflictError, match="registered by another name"):
        butler.register_skymap(named, "again")
    with pytest.raises(InvalidRequestError, match="no name"):
        butler.register_skymap(other)
    with pytest.raises(InvalidRequestError, match="no tract 1000"):
        butler.register_skymap(named, tracts=[1000])
    assert len(butler.query_dimension_records("skymap")) == 1


def test_mistakes_on_the_command_line_are_explained(butler: Butler, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(RINGS + "tractOverlaps: 1\n")
    for arguments, answer in (
        ((), "give a configuration, or --object"),
        ((str(wrong),), "wrong.yaml:6: unknown key 'tractOverlaps'"),
        (("--object", "no.such.module:map"), "No module named 'no'"),
        (("--object", "tests"), "--object is MODULE:NAME"),
    ):
        done = pantry(butler, "register-skymap", "d", *arguments)
        assert done.returncode != 0
        assert answer in done.stderr
        assert "Traceback" not in done.stderr
