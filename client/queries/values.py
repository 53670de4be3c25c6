"""Values of a query's parameters, as users give them; nothing here imports astropy."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from pantry.client.butler.times import instant_ns
from pantry.errors import InvalidRequestError
from pantry.model.queries import Circle, Instant, ParameterValue, Point, Polygon, check_elements

_READY = (bool, int, float, str, Point, Circle, Polygon, Instant)
_HINT = "numbers, texts, booleans, lists of these, an astropy Time, SkyCoord, Angle, or a Point, Circle, Polygon"


def parameter_values(given: Mapping[str, Any]) -> dict[str, ParameterValue]:
    """Return plain values for what users give, such as numpy scalars, arrays, times and positions."""
    values = {name: _value(name, value) for name, value in given.items()}
    for name, value in values.items():
        check_elements(name, value)
    return values


def _value(name: str, given: Any) -> ParameterValue:
    if type(given) in _READY:
        return given  # type: ignore[no-any-return]
    if hasattr(given, "tai") and hasattr(given, "jd1") and not getattr(given, "shape", ()):
        return Instant(tai_ns=instant_ns(given))
    if hasattr(given, "icrs") and not getattr(given, "shape", ()):
        icrs = given.icrs
        return Point(ra=float(icrs.ra.deg), dec=float(icrs.dec.deg))
    if isinstance(given, str):
        return str(given)
    if hasattr(given, "tolist") and hasattr(given, "dtype") and not hasattr(given, "unit"):
        given = given.tolist()
        if type(given) in _READY:
            return given  # type: ignore[no-any-return]
    if isinstance(given, list | tuple | set | frozenset | range):
        elements = tuple(_value(name, one) for one in given)
        if all(isinstance(one, bool | int | float | str) for one in elements):
            return elements  # type: ignore[return-value]
    if hasattr(given, "__index__"):
        return operator.index(given)
    raise InvalidRequestError(f"the parameter {name!r} cannot be a {type(given).__name__}", hint=_HINT)
