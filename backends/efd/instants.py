"""Instants of samples: TAI nanoseconds since 1970, from what the sender wrote or from the service's own time.

The sender's ``private_sndStamp`` is authoritative (decision 0054): it is TAI, goes through leap seconds without a
step, and is the same number in every copy of a sample. The service's own time only finds the rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

IndexScale = Literal["utc", "tai"]

NS_PER_S = 1_000_000_000
_DAY_NS = 86_400 * NS_PER_S
_DAY_OF_1972 = 730
_FARTHEST_S = 4.5e9
"""Stamps farther from 1970 than 142 years are none."""


def stamps_ns(stamps_s: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Make nanoseconds of TAI seconds; a double of today has steps of 240 ns.

    Parameters
    ----------
    stamps_s : array of float64
        TAI seconds since 1970, NaN where there is none; shape (n,).

    Returns
    -------
    ns : array of int64
        Of no meaning where not ``known``; shape (n,).
    known : array of bool
        False for what is no instant: NaN, infinite, or zero, which senders write who do not know it; shape (n,).
    """
    known = np.isfinite(stamps_s) & (stamps_s != 0) & (np.abs(stamps_s) < _FARTHEST_S)
    safe = np.where(known, stamps_s, 0.0)
    whole = np.floor(safe)
    # Whole seconds first: the product of all digits would not fit a double.
    return whole.astype(np.int64) * NS_PER_S + np.rint((safe - whole) * NS_PER_S).astype(np.int64), known


def index_to_tai_ns(index_ns: NDArray[np.int64], scale: IndexScale) -> NDArray[np.int64]:
    """Give TAI for a service's own times.

    Parameters
    ----------
    index_ns : array of int64
        Nanoseconds since 1970 in ``scale``; in UTC as Unix counts, without leap seconds; shape (n,).
    scale : str
        ``utc`` or ``tai``.

    Returns
    -------
    array of int64
        A leap second has no number of its own in Unix time, and is taken for the second whose number it was given.
    """
    if scale == "tai":
        return index_ns
    return index_ns + tai_minus_utc_s(index_ns // _DAY_NS) * NS_PER_S


def index_bounds(start_tai_ns: int, stop_tai_ns: int, slack_ns: int, scale: IndexScale) -> tuple[int, int]:
    """Give half-open bounds in a service's own time outside of which no sample of a span has its row."""
    if scale == "tai":
        return start_tai_ns - slack_ns, stop_tai_ns + slack_ns + 1
    days = np.array([start_tai_ns, stop_tai_ns]) // _DAY_NS
    before, after = (int(one) * NS_PER_S for one in tai_minus_utc_s(days))
    first, last = start_tai_ns - before, stop_tai_ns - after
    # One second more: within 37 s after a leap second the TAI day has begun and the UTC day has not.
    return first - slack_ns - NS_PER_S, last + slack_ns + NS_PER_S + 1


def tai_minus_utc_s(unix_days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return TAI - UTC at the beginning of UTC days, in seconds; the leap seconds are those that astropy knows.

    Parameters
    ----------
    unix_days : array of int64
        Days since 1970-01-01; shape (n,). Before 1972, when they were no whole seconds, the first ten hold.
    """
    begins, offsets = _leap_seconds()
    found: NDArray[np.int64] = offsets[np.maximum(np.searchsorted(begins, unix_days, side="right") - 1, 0)]
    return found


@lru_cache(maxsize=1)
def _leap_seconds() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    from astropy.utils.iers import LeapSeconds

    table = LeapSeconds.from_erfa()
    months = (np.asarray(table["year"]) - 1970) * 12 + np.asarray(table["month"]) - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    whole = days >= _DAY_OF_1972
    return days[whole], np.asarray(table["tai_utc"])[whole].astype(np.int64)
