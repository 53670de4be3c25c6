"""Instruments that a text file defines: registered, ingested, corrected and read as those that Pantry knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.coordinates import SkyCoord
from astropy.io import fits
from tests.integration.command_line import pantry
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import ConflictError, FormatterError, InvalidRequestError

DEFINITION = """
name: HillCam
matches: {INSTRUME: "Hill*"}
files: ["*.fit", "hill_*.fts"]
site: {longitude_deg: 11.6, latitude_deg: 47.9, height_m: 350}
day_offset_h: 12
detectors:
- {id: 0, full_name: north}
- {id: 1, full_name: south, purpose: GUIDER}
filters: {V_2: V, Rc: r}
header:
  telescope: {constant: Hill 40 cm}
  observation_counter: {keyword: IMGID, pattern: '_(\\d+)$'}
  exposure_id: {template: "{observing_day}{observation_counter:04d}"}
  observation_id: {template: "{IMGID}-{CHIP}"}
  detector_unique_name: {keyword: CHIP, map: {N: north, S: south}}
  physical_filter: {keyword: [FILTNAM, FILTER], default: open}
  datetime_begin: {keyword: DATE-OBS, scale: utc}
  exposure_time: {keyword: EXPMIN, unit: min}
  observation_type: {keyword: PICTTYPE, map: {Light Frame: science, Bias Frame: bias}}
  object: {keyword: OBJECT}
  tracking_radec: {keyword: [OBJCTRA, OBJCTDEC], unit: [hourangle, deg], frame: icrs}
  altaz_begin: {keyword: [ALT, AZ], unit: rad}
  temperature: {keyword: AMBTEMP, unit: K}
"""
HEADER: dict[str, Any] = {
    "INSTRUME": "Hill 40", "IMGID": "night_0042", "CHIP": "S", "FILTNAM": "Rc", "DATE-OBS": "2026-03-15T22:10:00.5",
    "EXPMIN": 0.5, "PICTTYPE": "Light Frame", "OBJECT": "M 67", "OBJCTRA": "08 51 18.0", "OBJCTDEC": "+11 48 00",
    "ALT": 0.9, "AZ": 3.1, "AMBTEMP": 280.15,
}  # fmt: skip
DATA_ID = {"instrument": "HillCam", "exposure": 202603150042, "detector": 1}


def write(path: Path, **changes: Any) -> Path:
    hdu = fits.PrimaryHDU(np.arange(6, dtype="int16").reshape(2, 3))
    for keyword, value in {**HEADER, **changes}.items():
        if value is not None:
            hdu.header[keyword] = value
    hdu.writeto(path)
    return path


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    daemon = make_daemon()
    Butler.create("r", str(short_dir / "root"), socket=daemon.socket).close()
    with Butler("r", collections="HillCam/raw/all", socket=daemon.socket) as butler:
        yield butler


def parsed(**changes: Any) -> dict[str, Any]:
    return {**yaml.safe_load(DEFINITION), **changes}


@pytest.mark.req("DMS-MWBT-REQ-0046")
@pytest.mark.req("DMS-MWBT-REQ-0047")
def test_from_the_command_line_to_the_object(butler: Butler, short_dir: Path) -> None:
    file = short_dir / "hillcam.yaml"
    file.write_text(DEFINITION)
    assert pantry(butler, "register-instrument", "r", str(file)).returncode == 0
    again = pantry(butler, "register-instrument", "r", str(file))
    assert "was registered already" in again.stderr + again.stdout

    folder = short_dir / "night"
    folder.mkdir()
    write(folder / "a.fit")
    write(folder / "hill_b.fts", IMGID="night_0043", CHIP="N", PICTTYPE="Bias Frame", OBJCTRA=None, EXPMIN=0.0)
    (folder / "notes.fts").write_text("no raw by its name")
    done = pantry(butler, "ingest-raws", "r", str(folder))
    assert done.returncode == 0, done.stderr
    found = {ref.data_id["exposure"]: ref.data_id["detector"] for ref in butler.query_datasets("raw")}
    assert found == {202603150042: 1, 202603150043: 0}

    one, bias = sorted(butler.query_dimension_records("exposure"), key=lambda record: record.values["id"])
    values = one.values
    assert (values["obs_id"], values["day_obs"], values["seq_num"]) == ("night_0042-S", 20260315, 42)
    assert (values["observation_type"], values["exposure_time"], values["physical_filter"]) == ("science", 30.0, "Rc")
    position = SkyCoord("08h51m18s", "+11d48m00s")
    assert values["tracking_ra"] == pytest.approx(position.ra.deg)
    assert values["tracking_dec"] == pytest.approx(position.dec.deg)
    assert values["zenith_angle"] == pytest.approx(90.0 - np.degrees(0.9))
    # UTC in the header, TAI in the record: 37 s.
    assert one.timespan is not None
    assert one.timespan.begin_ns == 1773612600500000000 + 37_000_000_000
    assert one.timespan.end_ns - one.timespan.begin_ns == 30_000_000_000
    assert (bias.values["observation_type"], bias.values["tracking_ra"]) == ("bias", None)
    bands = {
        record.values["name"]: record.values["band"] for record in butler.query_dimension_records("physical_filter")
    }
    assert bands == {"V_2": "V", "Rc": "r"}

    info = butler.get("raw.visitInfo", DATA_ID)
    assert (info.instrument, info.telescope, info.object) == ("HillCam", "Hill 40 cm", "M 67")
    assert info.temperature.to_value("deg_C") == pytest.approx(7.0)
    assert info.location.lat.deg == pytest.approx(47.9)
    assert butler.get("raw.detector", DATA_ID).full_name == "south"
    assert butler.get("raw.filter", DATA_ID).band == "r"
    with butler.get("raw", DATA_ID) as whole:
        assert whole[0].data.tolist() == [[0, 1, 2], [3, 4, 5]]
        assert whole.visit_info == info


@pytest.mark.req("DMS-MWBT-REQ-0047")
def test_corrections_and_a_better_definition(butler: Butler, short_dir: Path) -> None:
    butler.register_instrument(parsed())
    butler.ingest_raws([write(short_dir / "a.fit")])
    butler.correct_headers("HillCam", [{"observation": "night_0042-S", "header": {"OBJECT": "M 44"}}])
    assert butler.get("raw.visitInfo", DATA_ID).object == "M 44"
    better = parsed()
    better["header"]["science_program"] = {"keyword": "PROGID", "default": "open time"}
    assert butler.register_instrument(better)
    assert butler.get("raw.visitInfo", DATA_ID).science_program == "open time"
    with pytest.raises(ConflictError):
        butler.register_instrument(parsed(filters={"Rc": "g"}))


def test_known_by_the_file_name_alone(butler: Butler, short_dir: Path) -> None:
    definition = parsed(name="Plate", matches={}, files=["plate*.fits"], detectors=[{"id": 5, "full_name": "all"}])
    definition["header"] = {
        "exposure_id": {"keyword": "PLATE"},
        "datetime_begin": {"keyword": "JD", "format": "jd"},
        "exposure_time": {"constant": 600.0},
        "can_see_sky": {"constant": True},
    }
    butler.register_instrument(definition)
    path = write(short_dir / "plate7.fits", INSTRUME=None, PLATE=7, JD=2442412.5)
    assert butler.ingest_raws([path]).runs == {"Plate/raw/all": [str(path)]}
    info = butler.get("raw.visitInfo", instrument="Plate", exposure=7, detector=5, collections="Plate/raw/all")
    assert (info.observing_day, info.exposure_time.to_value("s"), info.can_see_sky) == (19741230, 600.0, True)
    with pytest.raises(FormatterError, match="keyword INSTRUME is missing"):
        butler.ingest_raws([write(short_dir / "other.fits", INSTRUME=None)])


def test_pantrys_own_cameras_are_not_defined_anew(butler: Butler) -> None:
    with pytest.raises(InvalidRequestError, match="Pantry has a translator for LATISS itself"):
        butler.register_instrument(parsed(name="LATISS"))
