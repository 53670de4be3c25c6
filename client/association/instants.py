"""Exact instants of a table's column, whatever its form: TAI nanoseconds since 1970, as timespans have them."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pantry.client.association.matching import Instants
from pantry.errors import InvalidRequestError

Scale = Literal["tai", "utc", "tt", "tdb"]
SCALES: tuple[Scale, ...] = ("tai", "utc", "tt", "tdb")
Form = Literal["mjd", "jd", "unix", "tai_ns"]
FORMS: tuple[Form, ...] = ("mjd", "jd", "unix", "tai_ns")

FARTHEST_NS = 4_500_000_000_000_000_000
"""Instants farther from 1970 than this, 142 years, are as good as unknown: differences must stay within 64 bits."""

_DAY_NS = 86_400_000_000_000
_MJD_1970 = 40_587
_JD_1970 = 2_440_587.5
_SCALE_IN_NAME = re.compile(r"(?:_|(?<=[a-z0-9]))(TAI|Tai|UTC|Utc|TDB|Tdb)$|_(tai|utc|tdb|tt)$")
_SECONDS, _DAYS = ("s",), ("d",)


class Times(NamedTuple):
    """The instants of a column.

    Attributes
    ----------
    ns : array of int64
        TAI nanoseconds since 1970-01-01T00:00:00 TAI; of no meaning where not ``known``.
    known : array of bool
        False where the value is masked, not finite, NaT, or more than 142 years from 1970.
    described : str
        What it was read as, for people: ``mjd, utc``.
    """

    ns: Instants
    known: NDArray[np.bool_]
    described: str


def times_of(column: Any, name: str, *, scale: Scale | None = None, form: Form | None = None) -> Times:
    """Read a column's times.

    Parameters
    ----------
    column : Column, Quantity, Time or array
        Numbers, `astropy.time.Time`, ``datetime64``, or ISO 8601 text.
    name : str
        For messages; if it ends in TAI or UTC it tells the scale.
    scale : str, optional
        Of what is no `astropy.time.Time`.
    form : str, optional
        Of numbers: ``mjd`` (the usual one) and ``jd`` in days, ``unix`` in seconds since 1970-01-01T00:00:00 of the
        scale, without leap seconds if that is UTC; ``tai_ns`` as a `Timespan` has them.

    Raises
    ------
    InvalidRequestError
        If it holds no times, or their scale is unknown.
    """
    for value, known, what in ((scale, SCALES, "scale"), (form, FORMS, "form")):
        if value is not None and value not in known:
            raise InvalidRequestError(f"no {what} of time is called {value!r}", hint=f"known: {', '.join(known)}")
    if hasattr(column, "jd1") and hasattr(column, "tai"):
        return _of_astropy(column, name)
    values = np.asarray(getattr(column, "unmasked", column))
    own_mask = getattr(column, "mask", None)
    mask = np.zeros(values.shape, dtype=bool) if own_mask is None else np.broadcast_to(own_mask, values.shape)
    if values.dtype.kind == "O":
        mask = mask | np.array([one is None for one in values.flat], dtype=bool).reshape(values.shape)
    if values.ndim != 1:
        raise InvalidRequestError(f"the column {name!r} has {values.ndim} dimensions; times have one")
    if form == "tai_ns":
        return _of_nanoseconds(values, mask, name)
    scale = scale or _scale_in(name)
    if scale is None:
        raise InvalidRequestError(
            f"the scale of the times in {name!r} is not known", hint="say scale='tai', or 'utc', 'tt' or 'tdb'"
        )
    kind = values.dtype.kind
    if kind == "M":
        return _of_datetimes(values, mask, scale)
    if kind in "US" or (kind == "O" and _is_text(values)):
        return _of_text(values, mask, name, scale)
    if kind not in "fiu":
        raise InvalidRequestError(f"the column {name!r} holds {values.dtype}, which are no times")
    form = form or "mjd"
    _check_unit(column, name, form)
    return _of_numbers(values, mask, scale, form)


def _scale_in(name: str) -> Scale | None:
    found = _SCALE_IN_NAME.search(name)
    return None if found is None else cast(Scale, found[0].strip("_").lower())


def _check_unit(column: Any, name: str, form: Form) -> None:
    unit = str(getattr(column, "unit", None) or "")
    wanted = _SECONDS if form == "unix" else _DAYS
    if unit and unit not in wanted:
        hint = "form='unix' is for seconds since 1970" if unit in _SECONDS else "make it days, or seconds with 'unix'"
        raise InvalidRequestError(f"the column {name!r} is in {unit}, and {form} is in {wanted[-1]}", hint=hint)


def _of_astropy(column: Any, name: str) -> Times:
    if column.scale == "local":
        raise InvalidRequestError(f"the times in {name!r} are local", hint="give them a scale")
    if column.ndim != 1:
        raise InvalidRequestError(f"the column {name!r} has {column.ndim} dimensions; times have one")
    mask = np.broadcast_to(np.asarray(column.mask), column.shape)
    tai = column.tai
    # Of masked values astropy keeps whatever stood there.
    first, second = (np.asarray(getattr(one, "unmasked", one), dtype=float) for one in (tai.jd1, tai.jd2))
    ns, known = _from_days(first - _JD_1970, second)
    return Times(ns, known & ~mask, f"{column.format}, {column.scale}")


def _of_nanoseconds(values: NDArray[Any], mask: NDArray[np.bool_], name: str) -> Times:
    if values.dtype.kind not in "iu":
        raise InvalidRequestError(
            f"the column {name!r} holds {values.dtype}, and tai_ns are integers", hint="floats are too coarse for them"
        )
    known = ~mask & (values < FARTHEST_NS) & (values > -FARTHEST_NS)
    return Times(np.where(known, values, 0).astype(np.int64), known, "tai_ns")


def _of_datetimes(values: NDArray[Any], mask: NDArray[np.bool_], scale: Scale) -> Times:
    known = ~mask & ~np.isnat(values)
    safe = np.where(known, values, np.datetime64(0, "D"))
    day = safe.astype("datetime64[D]")
    in_day = (safe - day).astype("timedelta64[ns]").astype(np.int64)
    known &= np.abs(day.astype(np.int64)) < FARTHEST_NS // _DAY_NS
    return _by_the_clock(np.where(known, day.astype(np.int64), 0), in_day, known, scale, "datetime64")


def _of_text(values: NDArray[Any], mask: NDArray[np.bool_], name: str, scale: Scale) -> Times:
    from astropy.time import Time

    text = np.asarray(np.where(mask, "", values), dtype=str)
    known = text != ""
    if not known.any():
        return Times(np.zeros(len(text), dtype=np.int64), known, f"text, {scale}")
    try:
        time = Time(np.where(known, text, text[known][0]), scale=scale)
    except ValueError as exc:
        reason = str(exc).partition("\n")[0]
        raise InvalidRequestError(f"the column {name!r} holds text that is no time: {reason}") from None
    found = _of_astropy(time, name)
    return Times(found.ns, found.known & known, f"text, {scale}")


def _of_numbers(values: NDArray[Any], mask: NDArray[np.bool_], scale: Scale, form: Form) -> Times:
    known = ~mask & np.isfinite(values)
    safe = np.where(known, values, 0)  # infinities would make warnings of arithmetic
    safe = safe if safe.dtype.itemsize >= 8 else safe.astype(np.float64)
    if form == "unix":
        days = np.floor(safe / 86_400)
        known &= np.abs(days) < FARTHEST_NS // _DAY_NS
        days = np.where(known, days, 0)
        in_day = np.rint(np.where(known, safe - days * 86_400, 0) * 1_000_000_000).astype(np.int64)
        return _by_the_clock(days.astype(np.int64), in_day, known, scale, form)
    # Taken apart while it is exact: a day and the rest of it are more than one float has room for.
    days = np.floor(safe)
    fraction = np.asarray(safe - days, dtype=np.float64)
    if form == "jd":
        days, fraction = days - 2_400_001, fraction + 0.5
    days = days - _MJD_1970
    known &= np.abs(days) < FARTHEST_NS // _DAY_NS
    return _scaled(np.where(known, days, 0).astype(np.float64), fraction, known, scale, form)


def _by_the_clock(days: Instants, in_day_ns: Instants, known: NDArray[np.bool_], scale: Scale, what: str) -> Times:
    """Make instants of whole days since 1970 and nanoseconds of a clock that knows no leap second."""
    if scale == "tdb":
        return _scaled(days.astype(np.float64), in_day_ns / _DAY_NS, known, scale, what)
    midnights, where = np.unique(days, return_inverse=True)
    found = _scaled(midnights.astype(np.float64), np.zeros(len(midnights)), np.ones(len(midnights), bool), scale, what)
    return Times(found.ns[where] + in_day_ns, found.known[where] & known, found.described)


def _scaled(
    days: NDArray[np.float64], fraction: NDArray[np.float64], known: NDArray[np.bool_], scale: Scale, what: str
) -> Times:
    """Make instants of whole days since 1970 and fractions of them, in a scale."""
    if scale != "tai":
        from astropy.time import Time

        # Two parts, so that nothing is lost; the leap seconds are astropy's.
        tai = Time(days + _JD_1970, fraction, format="jd", scale=scale).tai
        days, fraction = np.asarray(tai.jd1) - _JD_1970, np.asarray(tai.jd2)
    ns, in_range = _from_days(days, fraction)
    return Times(ns, known & in_range, f"{what}, {scale}")


def _from_days(days: NDArray[np.float64], fraction: NDArray[np.float64]) -> tuple[Instants, NDArray[np.bool_]]:
    """Make nanoseconds of days, which are multiples of a half, and what is to be added to them."""
    known = np.isfinite(days) & np.isfinite(fraction) & (np.abs(days) < FARTHEST_NS // _DAY_NS)
    halves = np.where(known, days * 2, 0).astype(np.int64)
    rest = np.rint(np.where(known, fraction, 0) * _DAY_NS).astype(np.int64)
    return halves * (_DAY_NS // 2) + rest, known


def _is_text(values: NDArray[Any]) -> bool:
    return all(isinstance(one, str | None) for one in values[:100])
