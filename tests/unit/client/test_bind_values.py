"""Values for query expressions: what becomes of them on the way to the daemon."""

from __future__ import annotations

import datetime
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from astropy.time import Time
from lsst.sphgeom import DISJOINT, Angle, Circle, LonLat, Region, UnitVector3d

from pantry.client.butler.bind_values import bind_values
from pantry.daemon.registry.expressions.instants import parse_instant
from pantry.errors import InvalidRequestError
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import EncodedRegion, EncodedTimespan

CENTRE = UnitVector3d(LonLat.fromDegrees(62, -37))


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (5, 5),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), (1, 2)),
        ({"r"}, ("r",)),
        (range(3), (0, 1, 2)),
        (True, True),
    ],
)
def test_numbers_text_and_lists(given: Any, sent: object) -> None:
    assert bind_values({"x": given}) == {"x": sent}


@pytest.mark.parametrize(
    "time",
    [
        Time("2025-04-15T23:59:01.123456789", scale="tai"),
        Time("2025-04-15T23:59:01.5", scale="utc"),
        Time(60780.25, format="mjd", scale="tt"),
    ],
)
def test_times_keep_their_nanoseconds(time: Time) -> None:
    sent = bind_values({"t": time})["t"]
    assert isinstance(sent, str)
    days = time.tai - Time(0, format="unix_tai")
    expected = round(days.jd1 * 86_400) * 1_000_000_000 + round(days.jd2 * 86_400 * 1e9)
    assert abs(parse_instant(sent) - expected) <= 1


def test_datetimes_are_utc() -> None:
    east = datetime.timezone(datetime.timedelta(hours=2))
    for given in (datetime.datetime(2025, 4, 15, 12), datetime.datetime(2025, 4, 15, 14, tzinfo=east)):
        sent = bind_values({"t": given})["t"]
        assert isinstance(sent, str)
        assert parse_instant(sent) == parse_instant("2025-04-15T12:00:00")


def test_regions_and_points() -> None:
    circle = Circle(CENTRE, Angle.fromDegrees(1))
    sent = bind_values({"c": circle, "p": LonLat.fromDegrees(62, -37), "v": CENTRE})
    assert sent["c"] == EncodedRegion(circle.encode())
    assert isinstance(sent["p"], EncodedRegion)
    assert sent["p"] == sent["v"]
    assert Region.decode(sent["p"].encoded).contains(CENTRE)


def test_anything_else_is_refused() -> None:
    for value in (object(), {"a": 1}, Angle(1.0), None):
        with pytest.raises(InvalidRequestError, match="'x' is a"):
            bind_values({"x": value})


def test_ids_hashes_dates_and_points_of_astropy() -> None:
    from astropy.coordinates import SkyCoord

    id_ = uuid4()
    given = {
        "i": id_,
        "l": [id_],
        "h": b"\x01\xff",
        "d": datetime.date(2025, 4, 15),
        "s": SkyCoord(62, -37, unit="deg"),
    }
    sent = bind_values(given)
    assert sent["i"] == str(id_)
    assert sent["l"] == (str(id_),)
    assert sent["h"] == "01ff"
    assert parse_instant(str(sent["d"])) == parse_instant("2025-04-15")
    assert isinstance(sent["s"], EncodedRegion)
    assert Region.decode(sent["s"].encoded).relate(Circle(CENTRE, Angle.fromDegrees(1e-6))) != DISJOINT


def test_time_spans() -> None:
    from lsst.daf.butler import Timespan as Gen3Timespan

    begin, end = Time("2025-04-15", scale="tai"), Time("2025-04-16", scale="tai")
    sent = bind_values({"ours": Timespan(5, 6), "theirs": Gen3Timespan(begin, end), "open": Gen3Timespan(None, end)})
    assert sent["ours"] == EncodedTimespan(5, 6)
    midnight = parse_instant("2025-04-15/tai")
    assert sent["theirs"] == EncodedTimespan(midnight, midnight + 86_400 * 10**9)
    assert sent["open"] == EncodedTimespan(0, midnight + 86_400 * 10**9)
