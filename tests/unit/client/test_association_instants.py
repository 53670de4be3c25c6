"""Columns of times become exact instants, in whatever form and scale they are."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.table import Column, MaskedColumn
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from pantry.client.association.instants import times_of
from pantry.errors import InvalidRequestError

DAY_NS = 86_400_000_000_000


@given(st.floats(40_000, 73_000))
def test_mjd_in_tai_is_what_the_float_says(mjd: float) -> None:
    exact = round((Fraction(Decimal(mjd)) - 40_587) * DAY_NS)
    times = times_of(np.array([mjd]), "mjd", scale="tai")
    assert times.known.all()
    assert abs(int(times.ns[0]) - exact) <= 1


@given(st.integers(0, 4_000_000_000_000_000_000))
def test_every_form_of_an_instant(ns: int) -> None:
    seconds, rest = divmod(ns, 1_000_000_000)
    moment = Time(2_440_587.5 + seconds // 86_400, (seconds % 86_400 + rest / 1e9) / 86_400, format="jd", scale="tai")
    assert abs(int(times_of(Time([moment]), "t").ns[0]) - ns) <= 1
    assert int(times_of(np.array([ns], dtype=np.int64), "t", form="tai_ns").ns[0]) == ns
    assert int(times_of(np.array([ns]).view("datetime64[ns]"), "t", scale="tai").ns[0]) == ns


def test_leap_seconds() -> None:
    # 37 s after the end of 2016, 36 before it; the leap second itself exists in text.
    text = np.array(["2016-12-31T23:59:59.5", "2016-12-31T23:59:60.5", "2017-01-01T00:00:00.5"])
    found = times_of(text, "date", scale="utc").ns
    midnight = 1_483_228_800_000_000_000
    assert (found - midnight).tolist() == [35_500_000_000, 36_500_000_000, 37_500_000_000]
    unix = times_of(np.array([1_483_228_799.5, 1_483_228_800.5]), "t", scale="utc", form="unix").ns
    assert (unix - midnight).tolist() == [35_500_000_000, 37_500_000_000]
    clock = np.array(["2016-12-31T23:59:59.5", "2017-01-01T00:00:00.5"], dtype="datetime64[ns]")
    assert (times_of(clock, "t", scale="utc").ns - midnight).tolist() == [35_500_000_000, 37_500_000_000]
    assert (times_of(np.array([57_754]), "t", scale="utc").ns - midnight).tolist() == [37_000_000_000]
    terrestrial = times_of(np.array([57_754.0]), "t", scale="tt").ns - midnight
    assert terrestrial.tolist() == [-32_184_000_000]
    julian = times_of(np.array([2_457_754.5]), "t", scale="utc", form="jd").ns - midnight
    assert julian.tolist() == [37_000_000_000]


@pytest.mark.parametrize(
    "column",
    [
        MaskedColumn([60_000.0, np.nan, np.inf, 60_001.0], mask=[0, 0, 0, 1]),
        Time([60_000.0, 60_000.0, 60_000.0, 60_001.0], format="mjd", scale="tai"),
        np.array(["2023-02-25", "NaT", "NaT", "NaT"], dtype="datetime64[s]"),
        MaskedColumn(["2023-02-25T00:00:00", "", "", "x"], mask=[0, 0, 0, 1]),
        np.array([60_000.0, 1e300, -1e300, np.nan]),
    ],
    ids=["masked", "time", "nat", "text", "absurd"],
)
def test_unknown_times(column: Any) -> None:
    if isinstance(column, Time):
        column[1:] = np.ma.masked
    times = times_of(column, "t", scale="tai")
    assert times.known.tolist() == [True, False, False, False]
    assert times.ns[0] == (60_000 - 40_587) * DAY_NS


def test_units_and_names_say_what_times_are() -> None:
    assert times_of(Column([60_000.0], unit="d"), "midpointMjdTai").described == "mjd, tai"
    assert times_of([60_000.0] * u.d, "obs_mjd_utc").described == "mjd, utc"
    with pytest.raises(InvalidRequestError, match=r"scale of the times in 'mjd' is not known"):
        times_of(np.array([60_000.0]), "mjd")
    with pytest.raises(InvalidRequestError, match=r"is in s, and mjd is in d") as caught:
        times_of(Column([1.7e9], unit="s"), "t", scale="utc")
    assert "unix" in caught.value.hint
    with pytest.raises(InvalidRequestError, match="no scale of time is called 'bjd'"):
        times_of(np.array([1.0]), "t", scale="bjd")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="text that is no time"):
        times_of(np.array(["yesterday"]), "t", scale="utc")
    with pytest.raises(InvalidRequestError, match="2 dimensions"):
        times_of(np.ones((2, 2)), "t", scale="tai")
    with pytest.raises(InvalidRequestError, match="tai_ns are integers"):
        times_of(np.array([1.0]), "t", form="tai_ns")
    with pytest.raises(InvalidRequestError, match="bool"):
        times_of(np.array([True]), "t", scale="tai")
