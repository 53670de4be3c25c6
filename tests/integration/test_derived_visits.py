"""A new repository whose visits come from processing outputs in another one."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS
from lsst.sphgeom import Angle, Circle, LonLat, Region, UnitVector3d
from tests.integration.command_line import pantry
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, FormatterError, InvalidRequestError

SIZE = 64
SCALE = 1 / 360  # degrees
DETECTORS = (3, 4)
VISITS = {11: (150.0, 2.0), 12: (359.95, -60.0)}


def wcs(visit: int, detector: int) -> WCS:
    """Detectors lie side by side, and the camera is turned by 30 degrees."""
    made = WCS(naxis=2)
    made.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    made.wcs.crval = VISITS[visit]
    made.wcs.crpix = [(SIZE + 1) / 2 - (detector - 3.5) * SIZE, (SIZE + 1) / 2]
    turn = np.radians(30)
    made.wcs.cd = SCALE * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return made


def far_off() -> Circle:
    return Circle(UnitVector3d(LonLat.fromDegrees(90, 90)), Angle.fromDegrees(0.1))


def furnish_source(butler: Butler) -> None:
    """Visits whose regions are wrong, and images whose WCS is right."""
    for element, values in (
        ("instrument", {"name": "Cam"}),
        ("physical_filter", {"instrument": "Cam", "name": "r_1", "band": "r"}),
        ("day_obs", {"instrument": "Cam", "id": 20250101}),
        ("visit_system", {"instrument": "Cam", "id": 0, "name": "one-to-one"}),
    ):
        butler.insert_dimension_records(element, values)
    for detector in (*DETECTORS, 5):
        butler.insert_dimension_records("detector", {"instrument": "Cam", "id": detector, "full_name": f"D{detector}"})
    day = {"instrument": "Cam", "physical_filter": "r_1", "day_obs": 20250101}
    for visit in (*VISITS, 13):
        group = {"instrument": "Cam", "name": f"g{visit}"}
        butler.insert_dimension_records("group", group)
        butler.insert_dimension_records("exposure", {**day, "id": visit, "obs_id": f"e{visit}", "group": group["name"]})
        butler.insert_dimension_records("visit", {**day, "id": visit, "name": f"v{visit}", "region": far_off()})
        joined = {"instrument": "Cam", "visit": visit}
        butler.insert_dimension_records("visit_definition", {**joined, "exposure": visit})
        butler.insert_dimension_records("visit_system_membership", {**joined, "visit_system": 0})
    butler.register_dataset_type("calexp", ["visit", "detector"], "CCDData")
    for visit in VISITS:
        for detector in DETECTORS:
            header = fits.Header({"PSF_FWHM": 0.7 + 0.2 * (detector - 3) + visit / 100})
            image = CCDData(np.ones((SIZE, SIZE), "f4"), unit="adu", wcs=wcs(visit, detector), meta=header)
            butler.put(image, "calexp", instrument="Cam", visit=visit, detector=detector, run="processed")


def dimensions_with_seeing() -> str:
    universe = yaml.safe_load((files("pantry.daemon.registry") / "dimensions.yaml").read_text())
    universe["elements"]["visit"]["metadata"].append({"name": "seeing", "type": "float"})
    universe.update(namespace="observatory", version=1)
    return yaml.safe_dump(universe, sort_keys=False)


@pytest.mark.req("DMS-MWBT-REQ-0023")
def test_regions_and_seeing_come_from_processed_images(
    make_daemon: Callable[..., PantryDaemon], tmp_path: Path
) -> None:
    socket = make_daemon().socket
    source = Butler.create("processed", str(tmp_path / "source"), socket=socket)
    furnish_source(source)
    new = Butler.create("new", str(tmp_path / "new"), dimensions=dimensions_with_seeing(), socket=socket)
    words = ("derive-visits", "new", "processed", "calexp", "-c", "processed", "--column", "seeing=PSF_FWHM")
    assert pantry(new, *words).returncode == 0

    visits = {record.id: record for record in new.query_dimension_records("visit")}
    assert sorted(visits) == sorted(VISITS)  # not 13, of which there is no image
    assert visits[11].seeing == pytest.approx(0.91)
    assert visits[12].name == "v12"
    for record in new.query_dimension_records("visit_detector_region"):
        image = wcs(record.visit, record.detector)
        region = Region.decode(record.region)
        for x, y, inside in ((0, 0, True), (SIZE - 1, SIZE - 1, True), (SIZE / 2, SIZE / 2, True), (-1, 5, False)):
            ra, dec = image.pixel_to_world_values(x, y)
            assert region.contains(UnitVector3d(LonLat.fromDegrees(float(ra) % 360, float(dec)))) == inside
    assert len(new.query_dimension_records("visit_detector_region")) == 4
    # Relations too: what was observed in which visit, and where visits overlap the sky.
    found = new.query_data_ids(["exposure"], where="instrument = 'Cam' AND visit = 11")
    assert [one["exposure"] for one in found] == [11]
    assert [one["detector"] for one in new.query_data_ids(["detector"])] == list(DETECTORS)
    near = "visit.region OVERLAPS CIRCLE(150.0, 2.0, 0.01) AND visit.seeing < 1.0"
    assert [one["visit"] for one in new.query_data_ids(["visit"], where=f"instrument = 'Cam' AND {near}")] == [11]
    nowhere = "instrument = 'Cam' AND visit.region OVERLAPS CIRCLE(90, 90, 0.01)"
    assert not new.query_data_ids(["visit"], where=nowhere)
    # The source was only read, and a second time nothing is new.
    assert len(source.query_data_ids(["visit"], where=nowhere)) == 3
    assert "0 records are new" in pantry(new, *words, "--skip-existing").stderr


def test_what_cannot_be_derived_is_explained(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> None:
    socket = make_daemon().socket
    furnish_source(Butler.create("processed", str(tmp_path / "source"), socket=socket))
    source = Butler("processed", collections="processed", socket=socket)
    new = Butler.create("new", str(tmp_path / "new"), socket=socket)
    with pytest.raises(InvalidRequestError, match="visits of 'new' have no seeing"):
        new.derive_visits(source, "calexp", columns={"seeing": "PSF_FWHM"})
    new.derive_visits(source, "calexp", where="visit = 11 AND instrument = 'Cam'")
    with pytest.raises(ConflictError):
        new.derive_visits(source, "calexp")
    assert [one["visit"] for one in new.query_data_ids(["visit"])] == [11]
    plain = CCDData(np.ones((8, 8), "f4"), unit="adu")
    source.put(plain, "calexp", instrument="Cam", visit=13, detector=3, run="processed")
    with pytest.raises(FormatterError, match="no celestial WCS"):
        new.derive_visits(source, "calexp", where="visit = 13 AND instrument = 'Cam'")
    assert (
        "--column is NAME=KEYWORD"
        in pantry(new, "derive-visits", "new", "processed", "calexp", "-c", "processed", "--column", "seeing").stderr
    )
