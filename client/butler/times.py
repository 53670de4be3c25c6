"""Timespans as users write them; nothing here imports astropy."""

from __future__ import annotations

import operator
from datetime import datetime, timedelta
from typing import Any

from pantry.errors import InvalidRequestError
from pantry.model.timespan import Timespan

TimespanLike = Timespan | tuple[Any, Any]
"""A `Timespan`, or a pair of begin and end; see `as_timespan`."""

_HINT = "ISO 8601 in TAI, such as '2025-04-15T12:00', an astropy Time, or TAI nanoseconds since 1970"
_EPOCH = datetime(1970, 1, 1)
_HALF_DAY_NS = 43_200_000_000_000


def as_timespan(given: TimespanLike) -> Timespan:
    """Make a `Timespan` of what users give for one.

    Parameters
    ----------
    given : Timespan or pair
        Begin and end, each None for an open end, ISO 8601 text (TAI), an ``astropy.time.Time``, or TAI
        nanoseconds since 1970.

    Raises
    ------
    InvalidRequestError
        If it is none of these, or ends before it begins.
    """
    if isinstance(given, Timespan):
        return given
    if isinstance(given, str) or not hasattr(given, "__len__") or len(given) != 2:
        raise InvalidRequestError(f"{given!r} is not a timespan", hint="a Timespan, or a pair of begin and end")
    begin, end = given
    try:
        return Timespan.between(_instant(begin), _instant(end))
    except ValueError as exc:
        raise InvalidRequestError(f"bad timespan: {exc}", hint=_HINT) from None


def optional_timespan(given: TimespanLike | None) -> Timespan | None:
    """Make a `Timespan` of what users give for one, if they give one."""
    return None if given is None else as_timespan(given)


def _instant(given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, str):
        time = datetime.fromisoformat(given.strip())
        if time.tzinfo is not None:
            raise ValueError(f"{given!r} has a time zone, and times of validity are TAI")
        return (time - _EPOCH) // timedelta(microseconds=1) * 1000
    if hasattr(given, "tai") and hasattr(given, "jd1"):
        return instant_ns(given)
    try:
        return operator.index(given)
    except TypeError:
        raise ValueError(f"{given!r} is not a time") from None


def instant_ns(time: Any) -> int:
    """Return the TAI nanoseconds since 1970 of an `astropy.time.Time`."""
    tai = time.tai
    # jd1 is a whole number of half days: nothing is lost by rounding it.
    return round((float(tai.jd1) - 2440587.5) * 2) * _HALF_DAY_NS + round(float(tai.jd2) * 2 * _HALF_DAY_NS)
