from __future__ import annotations

import io
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from astropy.io import fits

from pantry.client.formatters import ReadSource
from pantry.client.instruments import CAMERAS, read_raw_header, translate
from pantry.client.instruments.cameras import exposure_id
from pantry.errors import FormatterError

DATA = Path(__file__).parents[2] / "../shared/data/rubin"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}: Rubin's test data are not part of the project")


def raw(repo: str) -> Path:
    return next((DATA / repo / "raw").rglob("*.fits"))


@needs_data
@pytest.mark.parametrize("repo", ["latiss", "comCam", "imsim"])
def test_real_raws_agree_with_their_gen3_registry(repo: str) -> None:
    found = translate(raw(repo))
    database = sqlite3.connect(f"file:{DATA / repo / 'gen3.sqlite3'}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    for element in ("exposure", "detector", "physical_filter"):
        record = found.records[element]
        key = "name" if element == "physical_filter" else "id"
        row = dict(database.execute(f"SELECT * FROM {element} WHERE {key} = ?", (record[key],)).fetchone())  # noqa: S608
        for old in ("group_name", "group_id"):
            row.pop(old, None)
        if element == "exposure":
            assert record["group"] == str(row["id"])
            angles = {name: row.pop(name) for name in ("tracking_ra", "tracking_dec", "sky_angle", "zenith_angle")}
            for name, value in angles.items():
                assert record[name] == (None if value is None else pytest.approx(value, abs=2e-3)), name
        assert {name: record[name] for name in row} == row
    database.close()


EXPECTED = {
    "lsstCam-MC_O_20250415_000228_R10_S20": (2025041500228, 33, "i_39", "i", "acq", 198.79164713, True),
    "lsstCam-MC_C_20250425_000031_R01_S01": (3025042500031, 1, "unknown", "unknown", "unknown", None, None),
    "lsstCam-MC_O_20260315_000051_R01_S01": (2026031500051, 1, "r_57", "r", "dark", None, False),
    "comCam-CC_O_20241108_000266_R22_S00": (2024110800266, 0, "g_01", "g", "science", 53.1255, True),
    "latiss-AT_O_20240624_000106_R00_S00": (2024062400106, 0, "SDSSr_65mm~empty", "r", "cwfs", 223.773662, True),
    "latiss-AT_O_20240624_000106_R00_S00-patched": (
        2024062400106,
        0,
        "SDSSr_65mm~empty",
        "r",
        "science",
        223.773662,
        False,
    ),
}


@needs_data
@pytest.mark.parametrize("name", EXPECTED)
def test_on_sky_headers(name: str) -> None:
    header = yaml.safe_load((DATA / "headers" / f"{name}.yaml").read_text())
    found = translate(header, name=name)
    exposure, detector, physical_filter, band, kind, ra, sky = EXPECTED[name]
    record = found.records["exposure"]
    assert found.data_id == {"instrument": found.instrument, "exposure": exposure, "detector": detector}
    assert record["obs_id"] == header["OBSID"]
    assert (record["day_obs"], record["seq_num"]) == (int(header["DAYOBS"]), header["SEQNUM"])
    assert (record["physical_filter"], found.records["band"]["name"]) == (physical_filter, band)
    assert (record["observation_type"], record["can_see_sky"]) == (kind, sky)
    assert record["tracking_ra"] == (None if ra is None else pytest.approx(ra, abs=1e-6))
    assert record["group"] == header.get("GROUPID", str(exposure))
    for edge, keyword in (("timespan_begin", "MJD-BEG"), ("timespan_end", "MJD-END")):
        assert record[edge] == pytest.approx((header[keyword] - 40587) * 86400e9, abs=1e6)
    day = found.records["day_obs"]
    assert day["timespan_begin"] <= record["timespan_begin"] < day["timespan_end"]  # type: ignore[operator]


@needs_data
def test_only_the_header_is_read() -> None:
    path = raw("comCam")
    with path.open("rb") as file:
        header = read_raw_header(file)
        assert file.tell() < 100_000
    assert header["OBSID"] == "CC_C_20190530_000001"
    source = ReadSource(name="x", size_bytes=path.stat().st_size, path=str(path))
    assert translate(source).data_id == translate(header).data_id == translate(path).data_id


@needs_data
def test_detector_numbers_are_those_of_the_registry() -> None:
    for repo, name in (("imsim", "LSSTCam-imSim"), ("comCam", "LSSTComCam"), ("latiss", "LATISS")):
        with sqlite3.connect(f"file:{DATA / repo / 'gen3.sqlite3'}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT full_name, id, purpose FROM detector").fetchall()
        database.close()
        ours = [(full_name, d.id, d.purpose) for full_name, d in CAMERAS[name].detectors.items()]
        assert sorted(rows) == sorted(ours)


def test_lsstcam_detectors() -> None:
    detectors = CAMERAS["LSSTCam"].detectors
    assert len(detectors) == 205
    numbers = {"R01_S00": 0, "R02_S00": 9, "R11_S20": 42, "R22_S00": 90, "R22_S11": 94, "R43_S22": 188, "R00_SG0": 189,
               "R00_SW0": 191, "R44_SW1": 204}  # fmt: skip
    assert {name: detectors[name].id for name in numbers} == numbers
    assert detectors["R04_SW0"].purpose == "WAVEFRONT"
    assert detectors["R04_SG1"].purpose == "GUIDER"


def test_exposure_ids() -> None:
    assert exposure_id(20250415, 228, "O") == 2025041500228
    assert exposure_id(20180920, 65, "C") == 3018092000065
    for arguments in ((20250415, 100_000, "O"), (20250415, 1, "X"), (20250415, 1, "")):
        with pytest.raises(ValueError, match=r"sequence number|controller"):
            exposure_id(*arguments)


HEADER: dict[str, Any] = {
    "SIMPLE": True, "INSTRUME": "lsstCam", "CONTRLLR": "O", "DAYOBS": "20250415", "SEQNUM": 7,
    "OBSID": "MC_O_20250415_000007", "RAFTBAY": "R22", "CCDSLOT": "S11", "EXPTIME": 30.0,
    "DATE-BEG": "2025-04-16T01:00:00.000", "TIMESYS": "TAI",
    "IMGTYPE": "OBJECT", "FILTER": "r_57",
}  # fmt: skip


@pytest.mark.parametrize(
    "keyword", ["INSTRUME", "CONTRLLR", "DAYOBS", "SEQNUM", "OBSID", "RAFTBAY", "CCDSLOT", "EXPTIME", "DATE-BEG"]
)
def test_a_missing_keyword_is_named(keyword: str) -> None:
    header = {key: value for key, value in HEADER.items() if key != keyword}
    with pytest.raises(FormatterError, match=rf"raw\.fits: .*{keyword}.* is missing"):
        translate(header, name="raw.fits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"INSTRUME": "HSC"}, "no translator for INSTRUME = 'HSC'"),
        ({"CCDSLOT": "S99"}, "R22_S99"),
        ({"CONTRLLR": "Z"}, "unknown controller 'Z'"),
        ({"DATE-BEG": "yesterday"}, "yesterday"),
        ({"SEQNUM": "many"}, "many"),
    ],
)
def test_nonsense_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatterError, match=message):
        translate({**HEADER, **changes}, name="raw.fits")


def test_not_fits() -> None:
    for content in (b"", b"nonsense" * 1000):
        with pytest.raises(FormatterError, match="not a FITS file"):
            read_raw_header(io.BytesIO(content))


def test_end_and_sequence_are_derived() -> None:
    record = translate(fits.Header({**HEADER, "CURINDEX": 2, "MAXINDEX": 3})).records["exposure"]
    assert (record["seq_start"], record["seq_end"]) == (6, 8)
    assert record["timespan_end"] - record["timespan_begin"] == 30_000_000_000  # type: ignore[operator]
