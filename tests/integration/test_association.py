"""Tables joined with observations and engineering values by time, through a real daemon."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from astropy import units as u
from astropy.table import MaskedColumn, QTable, Table
from astropy.time import Time, TimeDelta
from tests.integration.command_line import pantry
from tests.integration.observatory import INSTRUMENT
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler, TimeJoin
from pantry.client.instruments import translate
from pantry.errors import InvalidRequestError

SECOND = 1_000_000_000
NIGHT = 1_752_624_037_000_000_000
"""When exposure 1 began, TAI nanoseconds: 2025-07-16T00:00:37 TAI, which is midnight UTC."""
N = 20


def exposure(number: int) -> dict[str, Any]:
    begin = NIGHT + (number - 1) * 40 * SECOND
    return {
        "instrument": INSTRUMENT,
        "id": number,
        "obs_id": f"T_{number}",
        "physical_filter": "r_1",
        "day_obs": 20250715,
        "group": "g",
        "exposure_time": 30.0,
        "tracking_ra": 62.0 + number if number % 2 else None,
        "timespan_begin": begin,
        "timespan_end": begin + 30 * SECOND,
    }


@pytest.fixture
def butler(make_daemon: Callable[..., PantryDaemon], tmp_path: Path) -> Iterator[Butler]:
    with Butler.create("d", str(tmp_path / "repo"), socket=make_daemon().socket) as made:
        made.insert_dimension_records("instrument", {"name": INSTRUMENT})
        made.insert_dimension_records("physical_filter", {"instrument": INSTRUMENT, "name": "r_1", "band": "r"})
        made.insert_dimension_records("day_obs", *[{"instrument": INSTRUMENT, "id": 20250715 + n} for n in (0, 1)])
        made.insert_dimension_records("group", {"instrument": INSTRUMENT, "name": "g"})
        detectors = [{"instrument": INSTRUMENT, "id": n, "full_name": f"D{n}"} for n in (0, 1)]
        made.insert_dimension_records("detector", *detectors)
        made.insert_dimension_records("exposure", *[exposure(number) for number in range(1, N + 1)])
        yield made.clone(collections="out", run="out")


def light_curve() -> Table:
    """Mid-exposure, in a gap, before everything, unknown, at the end of a span, at the begin of one; in no order."""
    begin = Time("2025-07-16T00:00:00", scale="utc")
    seconds = [15.0 + 40 * 4, 35.0, -100.0, np.nan, 30.0, 40.0]
    times = (begin + TimeDelta(np.nan_to_num(seconds), format="sec")).utc.mjd
    times[3] = np.nan
    return Table({"mjd": times, "flux": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]}, meta={"object": "lcA"})


@pytest.mark.req("DMS-MWBT-REQ-0045")
def test_observations_are_joined_by_time_in_utc(butler: Butler) -> None:
    table = light_curve()
    joined = butler.join_by_time(table, "exposure", time="mjd", scale="utc")
    # The span is half-open: its end is in the gap. A microsecond of the floats decides neither here nor there.
    found = [None if one is np.ma.masked else int(one) for one in joined["exposure_id"]]
    assert found[:4] == [5, None, None, None]
    assert found[5] in (1, 2, None)  # 40 s in a float of days: just before or just after
    assert joined["exposure_exposure_time"].unit == u.s
    assert joined["exposure_tracking_ra"].unit == u.deg
    assert joined["exposure_tracking_ra"][0] == 67.0
    assert joined["exposure_physical_filter"][0] == "r_1"
    assert abs(joined["exposure_offset"][0] - 15) < 2e-5
    assert joined["flux"].tolist() == table["flux"].tolist(), "same rows, same order"
    assert table.colnames == ["mjd", "flux"], "the caller's table is left alone"
    assert joined.meta["object"] == "lcA"
    assert "joined_by_time" not in table.meta
    (told,) = joined.meta["joined_by_time"]
    assert (told["records"], told["repository"], told["method"]) == ("exposure", "d", "within")
    assert told["matched"] + told["unmatched"] == 6
    assert joined["exposure_tracking_ra"].info.meta["joined_by_time"]["field"] == "tracking_ra"
    # In the wrong scale all of it is 37 s off, and that is another exposure.
    wrong = butler.join_by_time(table, "exposure", time="mjd", scale="tai")
    assert wrong["exposure_id"][0] != 5


def test_exact_bounds_and_nearest(butler: Butler) -> None:
    instants = np.array([NIGHT, NIGHT + 30 * SECOND - 1, NIGHT + 30 * SECOND, NIGHT - 1, NIGHT + 36 * SECOND])
    table = Table({"t": instants})
    joined = butler.join_by_time(table, "exposure", time="t", form="tai_ns")
    assert joined["exposure_id"].filled(-1).tolist() == [1, 1, -1, -1, -1]
    near = butler.join_by_time(table, "exposure", time="t", form="tai_ns", method="nearest", tolerance=5 * u.s)
    assert near["exposure_id"].tolist() == [1, 1, 1, 1, 2]
    before = butler.join_by_time(table, "exposure", time="t", form="tai_ns", method="previous")
    assert before["exposure_id"].filled(-1).tolist() == [1, 1, 1, -1, 1]
    after = butler.join_by_time(table, TimeJoin(source="exposure", where="exposure = 2"), time="t", form="tai_ns")
    assert after["exposure_id"].mask.all()
    assert after["exposure_physical_filter"].mask.all()


def weather(day: int) -> Table:
    """Values of a sensor every 60 s, written last first, one of them missing."""
    seconds = np.arange(0, 600, 60)[::-1] + 600 * day
    time = Time(NIGHT / 1e9 + seconds, format="unix_tai", scale="tai")
    temperature = MaskedColumn(10.0 + seconds / 60, unit="deg_C", mask=seconds == 120)
    azimuth = (350.0 + seconds / 60 * 4) % 360
    return Table({"time": time, "temperature": temperature, "azimuth": azimuth, "state": ["on"] * 10})


@pytest.mark.req("DMS-MWBT-REQ-0045")
@pytest.mark.parametrize("storage_class", ["ArrowAstropy", "AstropyTable", "FitsTable"])
def test_engineering_values_and_declared_metadata(butler: Butler, storage_class: str) -> None:
    butler.register_dataset_type("weather", ["instrument", "day_obs"], storage_class)
    refs = [butler.put(weather(n), "weather", instrument=INSTRUMENT, day_obs=20250715 + n) for n in (0, 1)]
    butler.register_dataset_type(
        "quality", ["exposure", "detector"], "StructuredDataDict", metadata=["fwhm:float=fwhm [arcsec]"]
    )
    for number in (1, 2, 3):
        for detector in (0, 1):
            data_id = {"instrument": INSTRUMENT, "exposure": number, "detector": detector}
            butler.put({"fwhm": number + detector / 10}, "quality", data_id)
    table = QTable({"t": Time((NIGHT + np.array([15, 95, 60, 1190, 150]) * SECOND) / 1e9, format="unix_tai")})
    table["detector"] = [0, 1, 0, 0, 0]
    joins = [
        "exposure",
        TimeJoin(source="weather", method="linear", tolerance=100, periodic={"azimuth": 360}, time="time",
                 columns=["temperature", "azimuth"]),
        TimeJoin(source="weather", name="before", method="previous", columns=["state"], time="time"),
        TimeJoin(source="quality", metadata=True, by="detector", columns=["fwhm"]),
    ]  # fmt: skip
    joined = butler.join_by_time(table, joins, time="t")
    assert isinstance(joined, QTable)
    assert [str(one) for one in joined["before_state"]] == ["on"] * 5
    temperature = joined["weather_temperature"]
    assert temperature.unit == u.deg_C
    # 95 s lies between 60 s and the missing value of 120 s, 60 s at a value; after 1140 s there is nothing.
    assert temperature.mask.tolist() == [False, True, False, True, True]
    np.testing.assert_allclose(temperature.unmasked.value[[0, 2]], [10.25, 11.0], atol=1e-6)
    # 358 and 2 degrees have 0 between them, and not 180.
    azimuth = np.asarray(joined["weather_azimuth"])[[0, 1, 2, 4]]
    np.testing.assert_allclose((azimuth + 180) % 360, [171, 176 + 1 / 3, 174, 180], atol=1e-4)
    fwhm = joined["quality_fwhm"]
    assert fwhm.unit == u.arcsec
    assert fwhm.unmasked.value[:2].tolist() == [1.0, 3.1]
    assert fwhm.mask.tolist() == [False, False, False, True, True]
    told = {one["name"]: one for one in joined.meta["joined_by_time"]}
    assert told["weather"]["datasets"] == [str(ref.id) for ref in refs]
    assert told["quality"]["by"] == {"detector": "detector"}
    # It can be kept with all it says.
    butler.register_dataset_type("joined", ["instrument"], "ArrowAstropy")
    back = butler.get(butler.put(joined, "joined", instrument=INSTRUMENT))
    assert [one["name"] for one in back.meta["joined_by_time"]] == ["exposure", "weather", "before", "quality"]


def test_which_dataset_a_value_is_of(butler: Butler) -> None:
    butler.register_dataset_type("weather", ["instrument", "day_obs"], "ArrowAstropy")
    refs = [butler.put(weather(n), "weather", instrument=INSTRUMENT, day_obs=20250715 + n) for n in (0, 1)]
    table = Table({"t": Time((NIGHT + np.array([1, 601]) * SECOND) / 1e9, format="unix_tai")})
    joined = butler.join_by_time(table, "weather", time="t", tolerance=60)
    datasets = joined.meta["joined_by_time"][0]["datasets"]
    assert [datasets[number] for number in joined["weather_dataset"]] == [str(ref.id) for ref in refs]
    from_refs = butler.join_by_time(table, TimeJoin(source=refs, name="weather"), time="t")
    assert from_refs["weather_temperature"].tolist() == joined["weather_temperature"].tolist()
    dome = TimeJoin(source=weather(0), name="dome", columns=["state"])
    assert list(butler.join_by_time(table.to_pandas(), dome, time="t", scale="tai")["dome_state"]) == ["on", "on"]


def test_overlaps_and_mistakes(butler: Butler) -> None:
    butler.insert_dimension_records("exposure", {**exposure(1), "id": 500, "obs_id": "again"})
    table = Table({"t": [NIGHT + SECOND, NIGHT + 41 * SECOND]})

    def join(with_: Any, **more: Any) -> Table:
        return butler.join_by_time(table, with_, **{"time": "t", "form": "tai_ns", **more})

    with pytest.raises(
        InvalidRequestError, match=r"1 rows are in several .* exposure, .* row 0 at 2025-07-16T00:00:38 TAI"
    ):
        join("exposure")
    for which, number in (("first", 1), ("last", 500)):
        assert join(TimeJoin(source="exposure", overlaps=which))["exposure_id"][0] == number  # type: ignore[arg-type]
    assert join(TimeJoin(source="exposure", where="exposure < 500"))["exposure_id"].tolist() == [1, 2]
    assert join(TimeJoin(source="exposure", data_id={"exposure": 2}))["exposure_id"].filled(0).tolist() == [0, 2]
    mistakes: list[tuple[str, Any, dict[str, Any]]] = [
        ("no column 'mjd'.*it has t", "exposure", {"time": "mjd"}),
        ("'detector' has no time span.*exposure", "detector", {}),
        ("nothing is interpolated", TimeJoin(source="exposure", method="linear"), {}),
        ("has no tolerance", "exposure", {"tolerance": 3}),
        ("exposure has no speed.*exposure_time", TimeJoin(source="exposure", columns=["speed"], overlaps="last"), {}),
        ("no dataset type", "wether", {}),
        ("nothing to join", [], {}),
        ("Table cannot be joined by itself", table, {}),
        ("needs a name", TimeJoin(source=table), {}),
        ("has a column 'exposure_instrument' already", ["exposure", "exposure"], {}),
    ]
    for text, with_, more in mistakes:
        if isinstance(with_, list) and with_:
            with_ = [TimeJoin(source=one, overlaps="last") for one in with_]
        with pytest.raises(Exception, match="(?s)" + text) as caught:
            join(with_, **more)
        assert type(caught.value).__module__ == "pantry.errors", text
    with pytest.raises(InvalidRequestError, match="no method is called 'closest'"):
        TimeJoin(source="exposure", method="closest")  # type: ignore[arg-type]


@pytest.mark.req("DMS-MWBT-REQ-0045")
def test_real_headers(make_daemon: Callable[..., PantryDaemon], rubin_data: Path, tmp_path: Path) -> None:
    """Times of real headers, read by astropy alone, find their own exposures of records that we translated."""
    files = sorted((rubin_data / "headers").glob("*.yaml"))
    if not files:
        pytest.skip("the real headers are not beside this checkout (../shared/data/rubin/headers)")
    headers = [yaml.safe_load(path.read_text()) for path in files]
    with Butler.create("rubin", str(tmp_path / "repo"), socket=make_daemon().socket) as butler:
        expected = {}
        for header in headers:
            observation = translate(header)
            for element, record in observation.records.items():
                if element != "band":
                    butler.insert_dimension_records(element, record, skip_existing=True)
            expected[header["OBSID"]] = (observation.data_id["exposure"], header)
        rows = [(number, header) for number, header in expected.values()]
        middle = [
            Time(header["DATE-BEG"], scale=header.get("TIMESYS", "UTC").lower()).tai
            + TimeDelta(header["EXPTIME"] / 2 + 1e-6, format="sec")
            for _, header in rows
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = Table({"when": Time(middle).utc, "filter": [header["FILTBAND"] for _, header in rows]})
        joined = butler.join_by_time(table, TimeJoin(source="exposure", overlaps="last"), time="when")
        assert joined["exposure_id"].tolist() == [number for number, _ in rows]
        for row, (_, header) in zip(joined, rows, strict=True):
            # The shutter's own time differs by milliseconds from what was asked for.
            assert abs(row["exposure_exposure_time"] - header["EXPTIME"]) < 0.1


def test_command_line(butler: Butler, tmp_path: Path) -> None:
    butler.register_dataset_type("curve", ["instrument"], "ArrowAstropy")
    butler.register_dataset_type("weather", ["instrument", "day_obs"], "ArrowAstropy")
    butler.put(weather(0), "weather", instrument=INSTRUMENT, day_obs=20250715)
    table = light_curve()
    butler.put(table, "curve", instrument=INSTRUMENT)
    file = tmp_path / "curve.ecsv"
    table.write(file)
    words = ("--time", "mjd", "--scale", "utc", "--with", "exposure", "--with", "weather:nearest:60")
    shown = pantry(butler, "join-by-time", "d", str(file), *words, "-c", "out", "-o", str(tmp_path / "joined.parquet"))
    assert shown.returncode == 0, shown.stderr
    assert "exposure: " in shown.stderr
    assert "weather: " in shown.stderr
    joined = pq.read_table(tmp_path / "joined.parquet").to_pydict()
    assert joined["exposure_id"][:2] == [5, None]
    assert joined["weather_temperature"][0] == 13.0
    data_id = ("curve", f"instrument={INSTRUMENT}")
    again = pantry(
        butler, "join-by-time", "d", *data_id, *words[:6], "--columns", "exposure.id,exposure.band", "-c", "out"
    )
    assert again.returncode == 1
    assert "exposure has no band" in again.stderr
    again = pantry(butler, "join-by-time", "d", *data_id, *words[:6], "--columns", "exposure.id", "-c", "out")
    assert Table.read(again.stdout, format="ascii.ecsv").colnames == ["mjd", "flux", "exposure_id", "exposure_offset"]
    clash = pantry(butler, "join-by-time", "d", str(file), *words, "-c", "out", "-o", str(tmp_path / "joined.parquet"))
    assert "exists already" in clash.stderr
    none = pantry(butler, "join-by-time", "d", str(file), "--time", "mjd", "--with", "exposure")
    assert "scale='tai'" in none.stderr
    assert "Traceback" not in none.stderr
    lost = pantry(butler, "join-by-time", "d", "lost.ecsv", *words)
    assert lost.stderr == "pantry: error: there is no file lost.ecsv\n"
