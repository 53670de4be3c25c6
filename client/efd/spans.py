"""When: what users give for a time span of the EFD; nothing here imports astropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pantry.client.butler.times import as_timespan
from pantry.errors import InvalidRequestError
from pantry.model.timespan import BEGIN_NS, END_NS, Timespan

if TYPE_CHECKING:
    from pantry.client.butler.butler import Butler

_NS_PER_S = 1_000_000_000
_LONGEST_S = 4e9


def span_of(butler: Butler | None, timespan: Any, data_id: Mapping[str, Any]) -> Timespan:
    """Return the span that a user means: given as one, or that of a visit, an exposure or a day.

    Parameters
    ----------
    butler : Butler or None
        Whose records tell when an observation was.
    timespan : Timespan or pair, or None
        As of `pantry.client.butler.times.as_timespan`.
    data_id : Mapping
        An observation, such as ``{"visit": 42, "instrument": "LSSTCam"}``, in place of it.

    Raises
    ------
    InvalidRequestError
        Neither or both are given, the data id has no dimension with a time, or no such observation is known.
    """
    if (timespan is None) == (not data_id):
        raise InvalidRequestError(
            "when? give a timespan, or an observation", hint="timespan=(begin, end), visit=... or exposure=..."
        )
    if timespan is not None:
        return as_timespan(timespan)
    if butler is None:
        raise InvalidRequestError("which repository has the observation?", hint="a time span needs none")
    return _observed(butler, data_id)


def _observed(butler: Butler, data_id: Mapping[str, Any]) -> Timespan:
    universe = butler.dimensions
    elements = [one for one in data_id if one in universe and universe[one].temporal]
    if not elements:
        raise InvalidRequestError(
            f"{', '.join(map(repr, data_id))} has no time", hint="an exposure or a visit has, or say timespan=..."
        )
    if len(elements) > 1:
        raise InvalidRequestError(f"{' and '.join(elements)} are two observations", hint="name one of them")
    element = elements[0]
    names = universe.element_group(element).names
    known = {name: value for name, value in data_id.items() if name in names}
    if unknown := sorted(data_id.keys() - known.keys()):
        raise InvalidRequestError(f"{element} has no {', '.join(unknown)}", hint=f"it has {', '.join(names)}")
    records = butler.query_dimension_records(element, data_id=known, limit=2)
    if not records:
        raise InvalidRequestError(f"the repository {butler.repository!r} knows no {element} {_written(known)}")
    if len(records) > 1:
        raise InvalidRequestError(f"several records of {element} are {_written(known)}", hint="say which instrument")
    span = records[0].timespan
    if span is None or span.begin_ns == BEGIN_NS or span.end_ns == END_NS:
        raise InvalidRequestError(f"the record of {element} {_written(known)} does not say when it was")
    return span


def _written(data_id: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in data_id.items())


def widened(span: Timespan, margin: Any) -> Timespan:
    """Return a span with a margin before and after it, as of `nanoseconds`."""
    around = nanoseconds(margin, "margin")
    return Timespan(max(BEGIN_NS, span.begin_ns - around), min(END_NS, span.end_ns + around))


def nanoseconds(given: Any, name: str) -> int:
    """Return a length of time that a user gives: seconds, a Quantity, a TimeDelta or a timedelta.

    Raises
    ------
    InvalidRequestError
        It is none, is negative, or is longer than a century.
    """
    try:
        value = given
        if hasattr(given, "to_value"):  # of a Quantity or a TimeDelta
            value = given.to_value("s")
        elif hasattr(given, "total_seconds"):
            value = given.total_seconds()
        seconds = float(value)
    except Exception:  # units of another kind raise errors of astropy, which is not imported here
        raise InvalidRequestError(f"{name}={given!r} is no length of time", hint="a number is in seconds") from None
    if not 0 <= seconds < _LONGEST_S:
        raise InvalidRequestError(f"{name}={given!r} is negative, or longer than a century")
    return round(seconds * _NS_PER_S)
