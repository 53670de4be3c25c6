"""Values from beside the files, merged into headers of raws as they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.table import MaskedColumn, Table
from astropy.time import Time
from tests.integration.test_header_corrections import DATA_ID, HEADER, write_raw
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import FormatterError

# From 01:27:55.160 to 01:28:25.400 TAI; the middle is 01:28:10.280 TAI, which is 01:27:33.280 UTC.
MIDDLE_TAI = "2024-06-25T01:28:10.280"
MERGE: dict[str, Any] = {
    "table": "weather",
    "collections": ["efd"],
    "values": {"AIRTEMP": "temperature [deg_C]", "PRESSURE": "pressure", "WINDSPD": "wind"},
}


@pytest.fixture
def socket(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> str:
    """A repository with a raw and a table of engineering values, minute by minute."""
    daemon = make_daemon()
    butler = Butler.create("r", str(short_dir / "root"), socket=daemon.socket)
    butler.ingest_raws([write_raw(short_dir / "raw.fits", {**HEADER, "WINDSPD": 3.0, "PRESSURE": None})])
    butler.register_dataset_type("weather", ["instrument", "day_obs"], "ArrowAstropy")
    minutes = Time("2024-06-25T01:20:33.280", scale="utc") + np.arange(20) * u.min
    table = Table({"time": minutes.datetime64, "pressure": np.arange(20.0) + 73000.0, "wind": np.arange(20.0)})
    table["temperature"] = np.arange(20.0) + 273.15
    table["temperature"].unit = "K"
    butler.put(table, "weather", instrument="LATISS", day_obs=20240624, run="efd")
    butler.close()
    return daemon.socket


@pytest.fixture
def butler(socket: str) -> Iterator[Callable[..., Butler]]:
    """Make Butlers with what a user's file says of merging."""
    made: list[Butler] = []

    def make(*merge: dict[str, Any], **headers: Any) -> Butler:
        formats = {"dataset_types": {"raw": {"headers": {"merge": list(merge), **headers}}}}
        made.append(Butler("r", collections="LATISS/raw/all", formats=formats, socket=socket))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_values_at_the_middle_of_the_exposure(butler: Callable[..., Butler], short_dir: Path) -> None:
    stored = next((short_dir / "root").rglob("raw_*.fits"))
    before = hashlib.sha256(stored.read_bytes()).hexdigest()
    plain = butler()
    assert "AIRTEMP" not in plain.get("raw.metadata", DATA_ID)
    merged = butler(MERGE)
    metadata = merged.get("raw.metadata", DATA_ID)
    # The seventh minute; kelvin became degrees; what the header has stays.
    assert metadata["AIRTEMP"] == pytest.approx(7.0, abs=1e-6)
    assert metadata["PRESSURE"] == pytest.approx(73007.0, abs=1e-6)
    assert metadata["WINDSPD"] == 3.0
    info = merged.get("raw.visitInfo", DATA_ID)
    assert info.temperature.to_value("deg_C") == pytest.approx(7.0, abs=1e-6)
    assert info.pressure.to_value("Pa") == pytest.approx(73007.0, abs=1e-6)
    with merged.get("raw", DATA_ID) as whole:
        assert whole.header["AIRTEMP"] == pytest.approx(7.0, abs=1e-6)
        sources = {one.keyword: one.source for one in whole.amendments}
    assert sources == {
        "AIRTEMP": "temperature of weather of efd, linear",
        "PRESSURE": "pressure of weather of efd, linear",
    }
    assert merged.get("raw.metadata", DATA_ID, parameters={"amend": False}) == plain.get("raw.metadata", DATA_ID)
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == before


def test_a_correction_has_the_last_word_and_moves_the_instant(butler: Callable[..., Butler]) -> None:
    merged = butler({**MERGE, "replace": True, "at": "begin", "method": "previous"})
    assert merged.get("raw.metadata", DATA_ID)["WINDSPD"] == 6.0
    merged.correct_headers(
        "LATISS",
        [{"exposure": DATA_ID["exposure"], "header": {"PRESSURE": 1.0, "DATE-BEG": "2024-06-25T01:25:11.000"}}],
    )
    metadata = merged.get("raw.metadata", DATA_ID)
    assert (metadata["WINDSPD"], metadata["PRESSURE"]) == (4.0, 1.0)


def test_records_and_several_sources(butler: Callable[..., Butler]) -> None:
    record = {"record": "exposure", "values": {"PROGRAM": "science_program", "OBJECT": "target_name"}, "replace": True}
    metadata = butler(MERGE, record).get("raw.metadata", DATA_ID)
    assert (metadata["PROGRAM"], metadata["OBJECT"]) == ("unknown", "UNKNOWN")
    assert metadata["AIRTEMP"] == pytest.approx(7.0, abs=1e-6)
    with pytest.raises(FormatterError, match="exposure has no colour"):
        butler({"record": "exposure", "values": {"A": "colour"}}).get("raw.header", DATA_ID)


def test_nothing_near_enough(butler: Callable[..., Butler], socket: str) -> None:
    far = {"table": "weather", "collections": ["efd"], "values": {"A": "wind"}, "within_s": 10.0}
    # Exactly on a sample.
    assert butler(far).get("raw.metadata", DATA_ID)["A"] == pytest.approx(7.0, abs=1e-6)
    assert "A" not in butler({**far, "at": "end"}).get("raw.metadata", DATA_ID)
    with pytest.raises(FormatterError, match="no wind within 10 s"):
        butler({**far, "at": "end", "required": True}).get("raw.header", DATA_ID)
    missing = {**far, "table": "seeing"}
    assert "A" not in butler(missing).get("raw.metadata", DATA_ID)
    with pytest.raises(FormatterError, match="seeing in efd has nothing for it"):
        butler({**missing, "required": True}).get("raw.header", DATA_ID)
    with pytest.raises(FormatterError, match="no columns 'winds'"):
        butler({**far, "values": {"A": "winds"}}).get("raw.header", DATA_ID)


@pytest.mark.parametrize("kind", ["ecsv_time", "mjd", "unix", "unix_ns", "iso"])
def test_times_in_every_form(socket: str, butler: Callable[..., Butler], kind: str) -> None:
    """Text between, gaps and masked values too."""
    times = Time(MIDDLE_TAI, scale="tai") + [-90.0, -30.0, 30.0, 45.0] * u.s
    written: dict[str, tuple[Any, dict[str, str]]] = {
        "ecsv_time": (times, {}),
        "mjd": (times.tai.mjd, {"time_format": "mjd", "time_scale": "tai"}),
        "unix": (times.utc.unix, {"time_format": "unix"}),
        "unix_ns": (np.rint(times.utc.unix * 1e9).astype("int64"), {"time_format": "unix_ns"}),
        "iso": (times.tai.isot, {"time_scale": "tai"}),
    }
    column, rule = written[kind]
    table = Table({"when": column, "lamp": ["off", "on", "off", "off"]})
    table["current"] = MaskedColumn([1.0, 2.0, 9.0, 4.5], mask=[False, False, True, False])
    with Butler("r", run="lamps", socket=socket) as writer:
        writer.register_dataset_type("lamps", ["instrument"], "AstropyTable")
        writer.put(table, "lamps", instrument="LATISS")
    common = {"table": "lamps", "collections": ["lamps"], "time": "when", **rule}
    metadata = butler(
        {**common, "values": {"LAMP": "lamp"}, "method": "previous"},
        {**common, "values": {"LAMPCUR": "current"}},
        {**common, "values": {"LAMPNEAR": "lamp"}, "method": "nearest", "at": "end"},
    ).get("raw.metadata", DATA_ID)
    assert metadata["LAMP"] == "on"
    # The masked sample is none: between 2.0 at -30 s and 4.5 at +45 s.
    assert metadata["LAMPCUR"] == pytest.approx(3.0, abs=1e-4)
    assert metadata["LAMPNEAR"] == "off"
    with pytest.raises(FormatterError, match="no numbers to interpolate"):
        butler({**common, "values": {"LAMP": "lamp"}}).get("raw.header", DATA_ID)


@pytest.mark.req("DMS-MWBT-REQ-0050")
def test_the_repository_says_so_for_everybody(make_daemon: Callable[..., PantryDaemon], short_dir: Path) -> None:
    formats = {"dataset_types": {"raw": {"headers": {"merge": [{**MERGE, "required": True}]}}}}
    daemon = make_daemon()
    butler = Butler.create("other", str(short_dir / "other"), formats=formats, socket=daemon.socket)
    butler.ingest_raws([write_raw(short_dir / "other.fits", HEADER)])
    with pytest.raises(FormatterError, match="weather in efd has nothing for it"):
        butler.get("raw.header", DATA_ID, collections="LATISS/raw/all")
    written = yaml.safe_load((short_dir / "other" / "pantry.yaml").read_text())
    assert written["formats"]["dataset_types"]["raw"]["headers"]["merge"][0]["required"] is True
    butler.close()
