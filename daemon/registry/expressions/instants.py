"""Times in query expressions, read without astropy."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal

_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?)?(?:/tai)?\Z", re.IGNORECASE)
_MJD = re.compile(r"(?:mjd/)?(\d{1,6}(?:\.\d{1,15})?)(?:/tai)?\Z", re.IGNORECASE)
_DAY_NS = 86_400_000_000_000
_EPOCH_MJD = 40587


def parse_instant(text: str) -> int:
    """Read a TAI time as nanoseconds since 1970-01-01 TAI.

    Parameters
    ----------
    text : str
        ``2025-04-15``, ``2025-04-15T23:59:01.5`` (or a space for the T), or a modified Julian date
        ``mjd/60780.5``; ``/tai`` may follow.

    Raises
    ------
    ValueError
        If it is none of these; the message says why.
    """
    text = text.strip()
    if re.search(r"/(utc|tt|tdb|ut1)\Z", text, re.IGNORECASE):
        raise ValueError("times are in TAI; other scales are not converted")
    if found := _ISO.match(text):
        year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
        if hour > 23 or minute > 59 or second > 59:
            raise ValueError(f"there is no such time of day: {text}")
        try:
            days = (datetime.date(year, month, day) - datetime.date(1970, 1, 1)).days
        except ValueError as exc:
            raise ValueError(f"there is no such day: {exc}") from None
        fraction = (found.group(7) or ".")[1:].ljust(9, "0")
        return days * _DAY_NS + (hour * 3600 + minute * 60 + second) * 1_000_000_000 + int(fraction)
    if found := _MJD.match(text):
        return int((Decimal(found.group(1)) - _EPOCH_MJD) * _DAY_NS)
    raise ValueError("write times as T'2025-04-15T23:59:01' (TAI) or T'mjd/60780.5'")
