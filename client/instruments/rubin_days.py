"""When days of observation change at Rubin's cameras: at noon TAI in Chile, at midnight in the laboratory at SLAC."""

from __future__ import annotations

import datetime

SUMMIT_OFFSET_S = 12 * 3600
"""Seconds after midnight TAI at which a day of observation begins in Chile."""
_STANDARD_S, _SUMMER_S = 8 * 3600, 7 * 3600
_SWITCH_HOUR_UTC = {True: 10, False: 9}
"""Two o'clock in the time that ends: standard time in spring, summer time in autumn."""


def pacific_offset_s(when: datetime.datetime) -> int:
    """Return how many seconds after midnight UTC the day begins in California, by the rules since 2007.

    Parameters
    ----------
    when : datetime
        UTC, without a zone.
    """
    begin = _sunday(when.year, 3, 2, _SWITCH_HOUR_UTC[True])
    end = _sunday(when.year, 11, 1, _SWITCH_HOUR_UTC[False])
    return _SUMMER_S if begin <= when < end else _STANDARD_S


def _sunday(year: int, month: int, number: int, hour: int) -> datetime.datetime:
    first = datetime.datetime(year, month, 1, hour)
    return first + datetime.timedelta(days=(6 - first.weekday()) % 7 + 7 * (number - 1))
