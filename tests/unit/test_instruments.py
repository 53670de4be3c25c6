from __future__ import annotations

import io
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

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


class Facts(NamedTuple):
    """What Rubin's conventions make of a header."""

    exposure: int
    detector: int
    physical_filter: str
    band: str
    type: str
    reason: str
    program: str
    exposure_time: float
    radec: tuple[float, float] | None
    sky_angle: float | None
    altaz: tuple[float, float] | None
    sees_sky: bool | None


_LATISS = Facts(2024062400106, 0, "SDSSr_65mm~empty", "r", "cwfs", "intra", "cwfs", 30.0,
    (223.77379669301, -20.013429451065846), 98.63385126206754, (79.8558353405, 356.6340226639), True)  # fmt: skip
EXPECTED = {
    # ROTPA was that of the commissioning camera until 21 April 2025; the shutter was open for 1 ms more than planned.
    "lsstCam-MC_O_20250415_000228_R10_S20": Facts(2025041500228, 33, "i_39", "i", "acq", "infocus_clt-001", "BLOCK-417",
        30.001051664352417, (198.79247419266713, -23.613888741010378), 28.98865181652172,
        (53.5621842035848, 270.2740848643762), True),
    # Since October 2023 the camera's own controller counts with the observatory's: no 3025 in the id.
    "lsstCam-MC_C_20250425_000031_R01_S01": Facts(2025042500031, 1, "unknown", "unknown", "unknown", "unknown",
        "unknown", 2.767, None, None, None, None),
    # RA and Dec of 0 while it stood still: TRACKSYS is AZEL.
    "lsstCam-MC_O_20260315_000051_R01_S01": Facts(2026031500051, 1, "r_57", "r", "dark", "tmacheckout", "BLOCK-T250",
        5.0, None, None, (43.81125182495, 359.419839677941332), False),
    "comCam-CC_O_20241108_000266_R22_S00": Facts(2024110800266, 0, "g_01", "g", "science", "science", "PP-SURVEY", 30.0,
        (53.312407782266014, -27.994761670941685), 102.79926387330579, (69.7265612661672, 270.8628500997809), True),
    "latiss-AT_O_20240624_000106_R00_S00": _LATISS,
    "latiss-AT_O_20240624_000106_R00_S00-patched": _LATISS._replace(type="science", sees_sky=False),
}  # fmt: skip


@needs_data
@pytest.mark.req("DMS-MWBT-REQ-0049")
@pytest.mark.parametrize("name", EXPECTED)
def test_on_sky_headers(name: str) -> None:
    header = yaml.safe_load((DATA / "headers" / f"{name}.yaml").read_text())
    found = translate(header, name=name)
    facts = EXPECTED[name]
    record = found.records["exposure"]
    assert found.data_id == {
        "instrument": found.instrument,
        "exposure": facts.exposure,
        "detector": facts.detector,
    }
    # The file's name is made of the same: instrument, controller, day, counter, raft and sensor.
    _, _, day, counter = header["OBSID"].split("_")
    assert name.startswith(f"{found.instrument}-{header['OBSID']}_".replace("LSSTComCam", "comCam").replace(
        "LSSTCam", "lsstCam").replace("LATISS", "latiss"))  # fmt: skip
    assert (record["obs_id"], record["day_obs"], record["seq_num"]) == (header["OBSID"], int(day), int(counter))
    assert (record["physical_filter"], found.records["band"]["name"]) == (facts.physical_filter, facts.band)
    assert (record["observation_type"], record["observation_reason"]) == (facts.type, facts.reason)
    assert (record["science_program"], record["can_see_sky"]) == (facts.program, facts.sees_sky)
    assert record["exposure_time"] == facts.exposure_time
    assert record["group"] == header.get("GROUPID", str(facts.exposure))
    # FK5 of one header is turned into ICRS: 0.03 arc seconds.
    ra, dec = facts.radec or (None, None)
    assert (record["tracking_ra"], record["tracking_dec"]) == (_near(ra, 1e-5), _near(dec, 1e-5))
    altitude, azimuth = facts.altaz or (None, None)
    assert record["sky_angle"] == _near(facts.sky_angle, 1e-9)
    assert record["zenith_angle"] == _near(None if altitude is None else 90.0 - altitude, 1e-9)
    assert record["azimuth"] == _near(azimuth, 1e-9)
    for edge, keyword in (("timespan_begin", "DATE-BEG"), ("timespan_end", "DATE-END")):
        assert record[edge] == pytest.approx(_nanoseconds(header[keyword]), abs=1e6), keyword
    day_record = found.records["day_obs"]
    assert day_record["timespan_begin"] == _nanoseconds(f"{day[:4]}-{day[4:6]}-{day[6:]}T12:00:00")
    assert day_record["timespan_begin"] <= record["timespan_begin"] < day_record["timespan_end"]  # type: ignore[operator]


def _near(value: float | None, limit: float) -> object:
    return None if value is None else pytest.approx(value, abs=limit)


def _nanoseconds(text: str) -> int:
    """TAI since 1970, by the standard library: no leap seconds in TAI."""
    return round(datetime.fromisoformat(f"{text}+00:00").timestamp() * 1000) * 1_000_000


@needs_data
@pytest.mark.parametrize("name", EXPECTED)
def test_times_are_those_of_the_gen3_butler(name: str) -> None:
    """To the nanosecond: calibrations are found by them."""
    from astropy.time import Time
    from lsst.daf.butler.time_utils import TimeConverter

    header = yaml.safe_load((DATA / "headers" / f"{name}.yaml").read_text())
    record = translate(header).records["exposure"]
    converter = TimeConverter()
    begin = Time(header["MJD-BEG"], format="mjd", scale="tai")
    end = Time(header["DATE-END"], format="isot", scale="tai")
    assert record["timespan_begin"] == converter.astropy_to_nsec(begin)
    assert record["timespan_end"] == converter.astropy_to_nsec(end)


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
    # From these days on they share one counter.
    assert (exposure_id(20231004, 1, "C"), exposure_id(20231005, 1, "C")) == (3023100400001, 2023100500001)
    assert (exposure_id(20250417, 1, "S"), exposure_id(20250418, 1, "S")) == (7025041700001, 2025041800001)
    assert exposure_id(20260101, 1, "H") == 4026010100001
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
        ({"DAYOBS": "20259915"}, "DAYOBS = '20259915' is no date"),
        ({"EXPTIME": float("nan")}, "EXPTIME = nan makes no sense"),
        ({"EXPTIME": -30.0}, "EXPTIME = -30.0 is negative"),
        ({"EXPTIME": "long"}, "EXPTIME = 'long' is not a number"),
        ({"EXPTIME": None}, "keyword EXPTIME is missing"),
        ({"RA": 10.0, "DEC": 95.0}, "DEC = 95.0"),
        ({"RA": "12:30", "DEC": -5.0}, "RA = '12:30' is not a number"),
        ({"RA": 10.0, "DEC": 5.0, "RADESYS": "GALAXY"}, "GALAXY"),
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


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"RA": None, "DEC": None},
        {"RA": 10.0},
        {"RA": float("nan"), "DEC": 5.0},
        {"TRACKSYS": "AZEL", "RA": 0.0, "DEC": 0.0},
    ],
)
def test_without_pointing_there_is_none(changes: dict[str, Any]) -> None:
    record = translate({**HEADER, **changes}).records["exposure"]
    assert {record[name] for name in ("tracking_ra", "tracking_dec", "sky_angle", "zenith_angle", "azimuth")} == {None}


def test_half_a_pointing_falls_back_to_a_whole_one() -> None:
    header = {**HEADER, "RASTART": float("nan"), "DECSTART": 1.0, "RA": 10.0, "DEC": 5.0}
    record = translate(header).records["exposure"]
    assert (record["tracking_ra"], record["tracking_dec"]) == (10.0, 5.0)


def test_a_telescope_that_leans_over_the_zenith() -> None:
    record = translate({**HEADER, "ELSTART": 92.0, "AZSTART": -10.0}).records["exposure"]
    assert (record["zenith_angle"], record["azimuth"]) == (0.0, 350.0)


@pytest.mark.parametrize(
    ("changes", "sees_sky"),
    [
        ({}, None),
        ({"IMGTYPE": "BIAS"}, False),
        ({"IMGTYPE": "FLAT", "VIGN_MIN": "NO"}, True),
        ({"SHUTTIME": 0.0, "VIGN_MIN": "NO"}, False),
        ({"VIGN_MIN": "FULLY"}, False),
        ({"VIGN_MIN": "PARTIALLY"}, True),
        # In the laboratory.
        ({"DAYOBS": "20231107", "DATE-BEG": "2023-11-08T01:00:00.000", "VIGN_MIN": "NO"}, False),
    ],
)
def test_who_can_see_the_sky(changes: dict[str, Any], sees_sky: bool | None) -> None:
    assert translate({**HEADER, **changes}).records["exposure"]["can_see_sky"] is sees_sky


@pytest.mark.parametrize("kind", ["BIAS", "DARK", "FLAT"])
@pytest.mark.parametrize(
    ("instrument", "changes", "detector"),
    [
        ("LSSTCam", {}, 94),
        ("LSSTComCam", {"INSTRUME": "ComCam", "FILTER": "r_03"}, 4),
        ("LATISS", {"INSTRUME": "LATISS", "FILTER": "SDSSr_65mm", "GRATING": "empty_1"}, 0),
    ],
)
@pytest.mark.req("DMS-MWBT-REQ-0009")
def test_calibration_frames(kind: str, instrument: str, changes: dict[str, Any], detector: int) -> None:
    found = translate({**HEADER, **changes, "IMGTYPE": kind, "RA": 10.0, "DEC": 5.0, "TRACKSYS": "LOCAL"})
    assert found.data_id == {"instrument": instrument, "exposure": 2025041500007, "detector": detector}
    record = found.records["exposure"]
    assert (record["observation_type"], record["tracking_ra"], record["can_see_sky"]) == (kind.lower(), None, False)
    assert found.records["band"]["name"] == "r"


@pytest.mark.parametrize(
    ("camera", "physical_filter", "band"),
    [
        ("LSSTCam", "ph_5", "white"),
        ("LSSTCam", "none", "white"),
        ("LSSTCam", "SDSSg", "g"),
        ("LSSTCam", "u~ND_OD1.0", "u~nd"),
        ("LSSTCam", "ND_OD0.5", "white~nd"),
        ("LSSTCam", "empty~nm850", "z"),
        ("LSSTCam", "750nm", "i"),
        ("LSSTCam", "z_20", "z"),
        ("LSSTComCam", "u_05", "u"),
        ("LSSTCam-imSim", "i_sim_1.4", "i"),
        ("LATISS", "empty~SDSSz_65mm", "z"),
        ("LATISS", "BG40_65mm_1~holo4_003", "g"),
        ("LATISS", "something", "unknown"),
    ],
)
def test_bands(camera: str, physical_filter: str, band: str) -> None:
    assert CAMERAS[camera].band(physical_filter) == band


def test_days_in_california() -> None:
    """LSSTCam's days began at midnight there, until it was shipped: 7 or 8 hours after midnight UTC."""
    for date, hours in (("2023-11-04", 7), ("2023-11-06", 8), ("2023-03-11", 8), ("2023-03-13", 7), ("2024-06-01", 12)):
        day = date.replace("-", "")
        records = translate({**HEADER, "DAYOBS": day, "DATE-BEG": f"{date}T20:00:00.000"}).records
        assert records["day_obs"]["timespan_begin"] == _nanoseconds(f"{date}T{hours:02}:00:00")
