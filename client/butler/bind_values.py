"""Values for the names in query expressions, from what people have in hand to what crosses the wire."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pantry.errors import InvalidRequestError
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import BindValue, EncodedRegion, EncodedTimespan


def bind_values(values: Mapping[str, Any] | None) -> dict[str, BindValue]:
    """Make bind values plain.

    Parameters
    ----------
    values : Mapping, optional
        Numbers, text, truth values, numpy's arrays and scalars, lists of these, `uuid.UUID`, bytes (of hashes),
        `astropy.time.Time`, `datetime.datetime` (UTC if it has no zone) and `datetime.date`, `Timespan` (the Gen3
        Butler's too), regions and points of `lsst.sphgeom`, and `astropy.coordinates.SkyCoord`, which is a point.

    Raises
    ------
    InvalidRequestError
        For anything else.
    """
    return {name: _plain(name, value) for name, value in (values or {}).items()}


def _plain(name: str, value: Any) -> BindValue:
    kind = type(value)
    if kind in (int, str, float, bool):
        return value  # type: ignore[no-any-return]
    # By the name of their module: whoever has such a value has imported it, and nobody else shall.
    if kind.__module__.startswith("astropy.time") and value.isscalar:
        time = value.tai.copy(format="isot")
        time.precision = 9
        return f"{time.value}/tai"
    if isinstance(value, datetime.datetime):
        utc = value.astimezone(datetime.UTC) if value.tzinfo else value
        return f"{utc:%Y-%m-%dT%H:%M:%S.%f}/utc"
    if isinstance(value, datetime.date):
        return f"{value:%Y-%m-%d}/utc"
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Timespan):
        return EncodedTimespan(value.begin_ns, value.end_ns)
    if kind.__module__.startswith("lsst.daf.butler") and hasattr(value, "nsec"):
        return EncodedTimespan(*value.nsec)
    if kind.__module__.startswith("astropy.coordinates") and getattr(value, "isscalar", False):
        return _point(value)
    if kind.__module__.startswith("lsst.sphgeom"):
        return _region(name, value)
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        value = value.tolist()
    if isinstance(value, list | tuple | set | frozenset | range):
        return tuple(_plain(name, one) for one in value)  # type: ignore[misc]
    if isinstance(value, int | str | float):
        return value
    raise InvalidRequestError(
        f"bind: {name!r} is a {kind.__name__}",
        hint="give numbers, text, ids, times, time spans, regions, or lists of numbers or text",
    )


def _point(value: Any) -> EncodedRegion:
    from lsst.sphgeom import LonLat

    icrs = value.transform_to("icrs")
    return _region("", LonLat.fromDegrees(float(icrs.ra.degree), float(icrs.dec.degree)))


def _region(name: str, value: Any) -> EncodedRegion:
    from lsst.sphgeom import Circle, LonLat, Region, UnitVector3d

    if isinstance(value, LonLat):
        value = UnitVector3d(value)
    if isinstance(value, UnitVector3d):
        value = Circle(value)
    if not isinstance(value, Region):
        raise InvalidRequestError(f"bind: {name!r} is a {type(value).__name__}, which is no region")
    return EncodedRegion(bytes(value.encode()))
