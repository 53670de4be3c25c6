"""Corrections of raw headers: kept in the repository, applied on read and ingest, the file untouched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from astropy.io import fits
from tests.integration.command_line import pantry
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.instruments import RawExposure, translate
from pantry.errors import FormatterError, InvalidRequestError

HEADER: dict[str, Any] = {
    "INSTRUME": "LATISS", "CONTRLLR": "O", "DAYOBS": "20240624", "OBSID": "AT_O_20240624_000106", "SEQNUM": 106,
    "RAFTBAY": "R00", "CCDSLOT": "S00", "EXPTIME": 30.0, "DARKTIME": 30.2, "DATE-BEG": "2024-06-25T01:27:55.160",
    "DATE-END": "2024-06-25T01:28:25.400", "TIMESYS": "TAI", "IMGTYPE": "CWFS", "FILTER": "SDSSr_65mm",
    "GRATING": "empty_1", "VIGN_MIN": "NO", "RASTART": 223.77, "DECSTART": -20.01, "ROTPA": 98.6, "ROTCOORD": "sky",
    "ELSTART": 79.85, "AZSTART": -3.36, "TRACKSYS": "RADEC", "SIMULATE ATDOME": 0, "REASON": "INTRA",
}  # fmt: skip
"""As of an exposure of the auxiliary telescope."""
DATA_ID = {"instrument": "LATISS", "exposure": 2024062400106, "detector": 0}


def write_raw(path: Path, header: dict[str, Any]) -> Path:
    """Write a raw of one amplifier with these keywords; None is an undefined value."""
    primary = fits.PrimaryHDU()
    for keyword, value in header.items():
        if keyword in ("SIMPLE", "EXTEND", "COMMENT", "XTENSION") or keyword.startswith(("NAXIS", "Z", "BITPIX", "TT")):
            continue
        long = len(keyword) > 8 or " " in keyword
        primary.header[f"HIERARCH {keyword}" if long else keyword] = value
    amplifier = fits.ImageHDU(np.arange(12, dtype="int32").reshape(3, 4), name="Segment10")
    amplifier.header["CCDTEMP"] = -101.0
    fits.HDUList([primary, amplifier]).writeto(path)
    return path


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> Iterator[Butler]:
    daemon = make_daemon()
    Butler.create("r", str(short_dir / "root"), socket=daemon.socket).close()
    with Butler("r", collections="LATISS/raw/all", socket=daemon.socket) as butler:
        yield butler


@pytest.fixture
def raw(butler: Butler, short_dir: Path) -> Path:
    """An ingested raw."""
    path = write_raw(short_dir / "raw.fits", HEADER)
    done = butler.ingest_raws([path])
    assert list(done.runs) == ["LATISS/raw/all"]
    return path


@pytest.mark.req("DMS-MWBT-REQ-0049")
@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_today_differs_from_yesterday_and_the_file_is_the_same(butler: Butler, raw: Path, short_dir: Path) -> None:
    stored = next((short_dir / "root").rglob("raw_*.fits"))
    before = sha(stored)
    assert before == sha(raw)
    yesterday = butler.get("raw.visitInfo", DATA_ID)
    assert (yesterday.observation_type, yesterday.can_see_sky) == ("cwfs", True)

    first = butler.correct_headers(
        "LATISS", [{"observation": HEADER["OBSID"], "header": {"IMGTYPE": "OBJECT"}}], why="a normal exposure"
    )
    between = butler.header_corrections("LATISS")[0].when
    butler.correct_headers(
        "LATISS", [{"exposure": 2024062400100, "last_exposure": 2024062400199, "header": {"VIGN_MIN": "FULLY"}}]
    )
    today = butler.get("raw.visitInfo", DATA_ID)
    assert (today.observation_type, today.can_see_sky) == ("science", False)
    assert today.tracking_radec.ra.deg == pytest.approx(223.77)

    # Every door shows the same.
    header = butler.get("raw.header", DATA_ID)
    assert (header["IMGTYPE"], header["VIGN_MIN"], header["DARKTIME"]) == ("OBJECT", "FULLY", 30.2)
    history = "".join(header["HISTORY"])
    assert "IMGTYPE was CWFS" in history
    assert "a normal exposure" in history
    metadata = butler.get("raw.metadata", DATA_ID)
    assert (metadata["IMGTYPE"], metadata["VIGN_MIN"]) == ("OBJECT", "FULLY")
    with butler.get("raw", DATA_ID) as whole:
        assert isinstance(whole, RawExposure)
        assert isinstance(whole, fits.HDUList)
        assert whole[0].header["IMGTYPE"] == "OBJECT"
        assert whole.visit_info.observation_type == "science"
        assert whole[1].data.tolist() == np.arange(12).reshape(3, 4).tolist()
        assert {(one.keyword, one.old, one.new) for one in whole.amendments} == {
            ("IMGTYPE", "CWFS", "OBJECT"),
            ("VIGN_MIN", "NO", "FULLY"),
        }
        assert "a normal exposure" in whole.amendments[0].source
    with butler.get_deferred("raw", DATA_ID).get() as deferred:
        assert deferred.header["IMGTYPE"] == "OBJECT"

    # And what was before can be had: by time, by collection, as in the file.
    def kind(**parameters: Any) -> tuple[str, str]:
        found = butler.get("raw.metadata", DATA_ID, parameters=parameters)
        return found["IMGTYPE"], found["VIGN_MIN"]

    assert kind(corrections=first.run) == ("OBJECT", "NO")
    assert kind(as_of=between) == ("CWFS", "NO")
    assert kind(as_of="2099-01-01") == ("OBJECT", "FULLY")
    assert kind(amend=False) == ("CWFS", "NO")
    assert sha(stored) == before
    with butler.open("raw", DATA_ID) as file:
        assert hashlib.sha256(file.read()).hexdigest() == before


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_the_corrected_pair_of_rubin(butler: Butler, short_dir: Path, rubin_data: Path) -> None:
    """The header as written and a correction of astro_metadata_translator's form give what the corrected one gives."""
    name = "latiss-AT_O_20240624_000106_R00_S00"
    written, patched = (
        yaml.safe_load((rubin_data / "headers" / f"{name}{end}.yaml").read_text()) for end in ("", "-patched")
    )
    difference = {keyword: value for keyword, value in patched.items() if written[keyword] != value}
    assert difference == {"IMGTYPE": "OBJECT", "VIGNETTE": "FULLY", "VIGN_MIN": "FULLY"}
    folder = short_dir / "corrections"
    folder.mkdir()
    (folder / f"LATISS-{written['OBSID']}.yaml").write_text(yaml.safe_dump(difference))
    (folder / "LSSTCam-MC_O_20250415_000228.yaml").write_text("EXPTIME: 1.0\n")
    path = write_raw(short_dir / "raw.fits", written)
    before = sha(path)
    butler.ingest_raws([path], transfer="symlink")
    done = pantry(butler, "correct-headers", "r", "LATISS", str(folder), "--why", "fully vignetted")
    assert done.returncode == 0, done.stderr
    assert len(butler.header_corrections("LATISS")) == 1

    info = butler.get("raw.visitInfo", DATA_ID)
    wanted = write_raw(short_dir / "patched.fits", patched)
    with fits.open(wanted) as hdus:
        right = RawExposure(hdus).visit_info
    assert info == right
    assert (info.observation_type, info.can_see_sky) == ("science", False)
    assert translate(wanted).records["exposure"]["observation_type"] == "science"
    assert sha(path) == before
    listed = json.loads(pantry(butler, "header-corrections", "r", "LATISS", "--json").stdout)
    assert listed[0]["header"] == difference
    assert listed[0]["why"] == "fully vignetted"


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_corrections_are_applied_on_ingest(butler: Butler, short_dir: Path) -> None:
    """Also where the header as it is could not be ingested at all."""
    path = write_raw(short_dir / "raw.fits", {**HEADER, "EXPTIME": None, "SEQNUM": 107})
    with pytest.raises(FormatterError, match="keyword EXPTIME is missing"):
        butler.ingest_raws([path])
    butler.correct_headers(
        "LATISS", [{"observation": HEADER["OBSID"], "header": {"EXPTIME": 30.0, "SEQNUM": 106, "IMGTYPE": "OBJECT"}}]
    )
    before = sha(path)
    assert butler.ingest_raws([path]).ids[str(path)] is not None
    (record,) = butler.query_dimension_records("exposure")
    assert record.values["id"] == 2024062400106
    assert (record.values["exposure_time"], record.values["observation_type"]) == (30.0, "science")
    assert butler.get("raw.visitInfo", DATA_ID).exposure_id == 2024062400106
    assert sha(path) == before


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_queries_know_it_after_an_update(butler: Butler, raw: Path, short_dir: Path) -> None:
    write_raw(short_dir / "next.fits", {**HEADER, "SEQNUM": 107, "OBSID": "AT_O_20240624_000107"})
    butler.ingest_raws([short_dir / "next.fits"])
    butler.correct_headers(
        "LATISS", [{"observation": HEADER["OBSID"], "header": {"IMGTYPE": "OBJECT", "GROUPID": "g", "FILTER": "SDSSi"}}]
    )
    science = "exposure.observation_type = 'science'"
    assert butler.query_datasets("raw", where=science) == []
    done = pantry(butler, "update-exposures", "r", "-c", "LATISS/raw/all")
    assert done.returncode == 0, done.stderr
    assert "1 records of exposures changed" in done.stderr
    (ref,) = butler.query_datasets("raw", where=science, with_dimension_records=True)
    assert ref.data_id["exposure"] == DATA_ID["exposure"]
    assert ref.data_id.records["exposure"].values["group"] == "g"
    assert ref.data_id["band"] == "i"
    assert butler.update_exposures() == 0
    butler.correct_headers("LATISS", [{"observation": HEADER["OBSID"], "header": {"SEQNUM": 108}}])
    with pytest.raises(FormatterError, match="by its header today it is exposure 2024062400108"):
        butler.update_exposures()


def test_a_bundle_takes_corrections_along(butler: Butler, raw: Path, short_dir: Path) -> None:
    butler.correct_headers("LATISS", [{"observation": HEADER["OBSID"], "header": {"IMGTYPE": "OBJECT"}}])
    refs = butler.query_datasets("raw")
    assert butler.create_bundle(refs, short_dir / "bundle").datasets == 1
    with Butler.from_bundle(short_dir / "bundle") as bundle:
        assert bundle.get("raw.visitInfo", DATA_ID).observation_type == "science"
        assert bundle.get("raw.visitInfo", DATA_ID, parameters={"amend": False}).observation_type == "cwfs"
        assert len(bundle.header_corrections("LATISS")) == 1


def test_one_detector_and_withdrawal(butler: Butler, raw: Path) -> None:
    which = {"observation": HEADER["OBSID"]}
    butler.correct_headers("LATISS", [{**which, "detector": 3, "header": {"REASON": "other"}}])
    assert butler.get("raw.visitInfo", DATA_ID).observation_reason == "intra"
    butler.correct_headers("LATISS", [{**which, "detector": 0, "header": {"REASON": "this", "CCDTEMP": -99.5}}])
    with butler.get("raw", DATA_ID) as whole:
        # A keyword that only the amplifiers have is corrected there.
        assert (whole[1].header["CCDTEMP"], "CCDTEMP" in whole[0].header) == (-99.5, False)
    assert butler.get("raw.visitInfo", DATA_ID).observation_reason == "this"
    done = pantry(butler, "correct-headers", "r", "LATISS", "--observation", HEADER["OBSID"], "--withdraw")
    assert done.returncode == 0, done.stderr
    assert butler.get("raw.visitInfo", DATA_ID).observation_reason == "intra"
    done = pantry(butler, "correct-headers", "r", "LATISS", "--exposure", "2024062400106", "--set", "SIMULATE ATDOME=1",
                  "--set", "GROUPID=", "--set", "OBJECT=12:30")  # fmt: skip
    assert done.returncode == 0, done.stderr
    info = butler.get("raw.visitInfo", DATA_ID)
    assert (info.has_simulated_content, info.object) == (True, "12:30")
    words = [f"{name}={value}" for name, value in DATA_ID.items()]
    printed = json.loads(pantry(butler, "get", "r", "raw.visitInfo", *words, "-c", "LATISS/raw/all").stdout)
    assert (printed["object"], printed["exposure_id"]) == ("12:30", DATA_ID["exposure"])
    table = pantry(butler, "header-corrections", "r", "LATISS")
    assert "withdrawn" in table.stdout
    assert "AT_O_20240624_000106, detector 3" in table.stdout


def test_likely_mistakes(butler: Butler, raw: Path, short_dir: Path) -> None:
    odd = short_dir / "odd.yaml"
    odd.write_text("IMGTYPE: OBJECT\n")
    done = pantry(butler, "correct-headers", "r", "LATISS", str(odd))
    assert done.returncode == 1
    assert "the name LATISS-OBSERVATION.yaml" in done.stderr
    done = pantry(butler, "correct-headers", "r", "LATIS", "--observation", "x", "--set", "A=1")
    assert "no instrument 'LATIS'" in done.stderr
    done = pantry(butler, "correct-headers", "r", "LATISS", "--set", "A=1")
    assert (done.returncode, "--observation" in done.stderr) == (2, True)
    with pytest.raises(FormatterError, match="no component 'visit_info'"):
        butler.get("raw.visit_info", DATA_ID)
    with pytest.raises(FormatterError, match="no celestial WCS"):
        butler.get("raw.wcs", DATA_ID)
    with pytest.raises(InvalidRequestError, match="is no time"):
        butler.get("raw.header", DATA_ID, parameters={"as_of": "yesterday"})


def test_other_components(butler: Butler, raw: Path) -> None:
    assert butler.get("raw.filter", DATA_ID).physical == "SDSSr_65mm~empty"
    assert butler.get("raw.filter", DATA_ID).band == "r"
    assert butler.get("raw.detector", DATA_ID).full_name == "RXX_S00"
    assert butler.get("raw.amendments", DATA_ID) == ()
    assert butler.get("raw.hdu.1", DATA_ID).data.sum() == 66
