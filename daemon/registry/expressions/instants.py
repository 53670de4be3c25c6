"""Times in query expressions, in the forms that the Gen3 Butler reads."""

from __future__ import annotations

import datetime
import re
import warnings
from decimal import Decimal

from pantry.model.timespan import BEGIN_NS, END_NS

_TEXT = re.compile(
    r"""
    (?: (?P<format>[a-z_]\w*) / )?
    (?P<value>
        (?P<number> -? (?: \d+ (?:\.\d*)? | \.\d+ ) )
      | (?P<iso> \d{4}-\d\d?-\d\d? (?: [ T] \d\d?:\d\d? (?: :\d\d? (?:\.\d*)? )? )? )
      | (?P<fits> [+]\d+-\d\d-\d\d (?: T\d\d:\d\d:\d\d(?:\.\d*)? )? )
      | (?P<yday> \d{4}:\d{1,3} (?: :\d\d?:\d\d? (?: :\d\d? (?:\.\d*)? )? )? )
    )
    (?: / (?P<scale>\w+) )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_ISO = re.compile(r"(\d{4})-(\d\d?)-(\d\d?)(?:[T ](\d\d?):(\d\d?)(?::(\d\d?)(?:\.(\d*))?)?)?", re.IGNORECASE)
_SCALES = ("tai", "utc", "tt", "tdb", "tcg", "tcb", "ut1")
_NUMBERS = (
    *("mjd", "jd", "unix", "unix_tai", "gps", "cxcsec", "galexsec"),
    *("jyear", "byear", "decimalyear", "plot_date", "stardate"),
)
_TEXTS = ("iso", "isot", "fits", "yday")
_UTC = ("iso", "isot", "fits", "yday", "unix")
_EPOCH_JD = {"mjd": Decimal(40587), "jd": Decimal("2440587.5")}
_DAY_NS = 86_400_000_000_000


def parse_instant(text: str) -> int:
    """Read a time; one before `BEGIN_NS` or after `END_NS` is taken for these, as in the Gen3 Butler."""
    return max(BEGIN_NS, min(END_NS, _read(text)))


def _read(text: str) -> int:
    """Read a time as TAI nanoseconds since 1970-01-01 TAI.

    Parameters
    ----------
    text : str
        ``2025-04-15``, ``2025-04-15T23:59:01.5`` (or a space for the T), or a number, which is a modified Julian
        date. A format may stand before it (``jd/2460781.2``), a scale behind it (``2025-04-15/tai``). As in
        the Gen3 Butler, calendar dates without a scale are UTC, numbers are TAI.

    Raises
    ------
    ValueError
        If it is none of these; the message says why.
    """
    match = _TEXT.fullmatch(text.strip().replace("+00:00", ""))
    if match is None:
        raise ValueError("write times as T'2025-04-15T23:59:01' (UTC), T'2025-04-15T23:59:38/tai' or T'mjd/60780.5'")
    form = (match["format"] or "").lower() or _form(match)
    if form not in (_NUMBERS if match["number"] is not None else _TEXTS):
        known = ", ".join(_NUMBERS if match["number"] is not None else _TEXTS)
        raise ValueError(f"{form!r} is no format of a time that is written so; there are {known}")
    scale = (match["scale"] or ("utc" if form in _UTC else "tt" if form == "cxcsec" else "tai")).lower()
    if scale not in _SCALES:
        raise ValueError(f"{scale!r} is no time scale; there are {', '.join(_SCALES)}")
    if scale == "tai" and form in _EPOCH_JD:
        return int((Decimal(match["value"]) - _EPOCH_JD[form]) * _DAY_NS)
    iso = _ISO.fullmatch(match["value"]) if form in ("iso", "isot") else None
    if iso is not None:
        ns = _calendar(iso)
        if scale == "tai":
            return ns
    return _converted(match["value"] if match["number"] is None else float(match["value"]), form, scale)


def _form(match: re.Match[str]) -> str:
    if match["number"] is not None:
        return "mjd"
    if match["iso"] is not None:
        return "isot" if "T" in match["value"].upper() else "iso"
    return "fits" if match["fits"] is not None else "yday"


def _calendar(iso: re.Match[str]) -> int:
    year, month, day, hour, minute, second = (int(part or 0) for part in iso.groups()[:6])
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError(f"there is no such time of day: {iso[0]}")
    try:
        days = (datetime.date(year, month, day) - datetime.date(1970, 1, 1)).days
    except ValueError as exc:
        raise ValueError(f"there is no such day: {exc}") from None
    fraction = (iso[7] or "")[:9].ljust(9, "0")
    return days * _DAY_NS + (hour * 3600 + minute * 60 + second) * 1_000_000_000 + int(fraction)


def _converted(value: str | float, form: str, scale: str) -> int:
    """Let astropy convert, which knows the leap seconds; imported for the first such time only."""
    from astropy.time import Time

    with warnings.catch_warnings():
        # Of years beyond the table of leap seconds.
        warnings.simplefilter("ignore")
        try:
            time = Time(value, format=form, scale=scale).tai
        except ValueError:
            raise ValueError(f"{value!r} cannot be read as a time in the format {form!r}, scale {scale!r}") from None
    # jd1 is a whole number of half days.
    half_days, rest = round((float(time.jd1) - 2440587.5) * 2), float(time.jd2)
    return half_days * (_DAY_NS // 2) + round(rest * _DAY_NS)
