"""Times as nanoseconds since 1970-01-01 TAI, which is what a registry has."""

from __future__ import annotations

from astropy.time import Time

_NS_PER_DAY = 86_400_000_000_000
_UNIX_EPOCH_JD = 2_440_587.5


def tai_ns(time: Time) -> int:
    """Return nanoseconds since 1970-01-01T00:00:00 TAI; the two parts of the Julian date keep them exact."""
    tai = time.tai
    whole = (tai.jd1 - _UNIX_EPOCH_JD) * _NS_PER_DAY  # jd1 is a multiple of a half: exact
    return int(whole) + round(float(tai.jd2) * _NS_PER_DAY)
