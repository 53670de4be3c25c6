"""What to join, and how; plain values, so that no array library is loaded before something is joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from pantry.errors import InvalidRequestError

Method = Literal["within", "nearest", "previous", "linear"]
METHODS: tuple[Method, ...] = ("within", "nearest", "previous", "linear")
Overlaps = Literal["error", "first", "last"]
OVERLAPS: tuple[Overlaps, ...] = ("error", "first", "last")


class TimeJoin(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One source of columns for `Butler.join_by_time`.

    Attributes
    ----------
    source : str, DatasetRef, iterable of DatasetRef, EfdTopic, or table
        A dimension element with a time span, such as ``visit`` or ``exposure``; a dataset type, or datasets, whose
        tables have a column of times; a topic of the engineering facility database, ``butler.efd[topic]``, which
        needs a ``tolerance``; or such a table itself.
    name : str
        What its columns begin with; by default the element or dataset type.
    columns : iterable of str, optional
        Which fields; by default all.
    method : str, optional
        ``within`` (the usual one for time spans): the span that holds the instant. ``nearest`` (the usual one for
        tables): the least distance, of two the earlier. ``previous``: the last at or before. ``linear``:
        interpolated between the values before and after.
    tolerance : float, Quantity or TimeDelta, optional
        Longest distance in time that is taken, in seconds; for ``linear`` to each side. By default any.
    overlaps : str
        Where several time spans hold an instant: ``error``, or the one that began ``first`` or ``last``.
    by : str, iterable of str or Mapping, optional
        Columns that must be equal besides, as ``detector``; a mapping gives for each column of the table the field
        of the source.
    metadata : bool
        Of a dataset type: join the metadata that it declares, by the time span of each data id. No file is read.
    time : str, optional
        Column of the source's tables with their times; by default the one that the joined table has, or the only
        one of astropy times.
    scale, form : str, optional
        Of that column, as of `Butler.join_by_time`.
    periodic : Mapping, optional
        With ``linear``: columns that begin anew, as ``{"azimuth": 360}``, with their period in their unit.
    collections, data_id, where, bind
        Which records or datasets, as of `Butler.query_datasets`.
    """

    source: Any
    name: str = ""
    columns: Iterable[str] | None = None
    method: Method | None = None
    tolerance: Any = None
    overlaps: Overlaps = "error"
    by: str | Iterable[str] | Mapping[str, str] = ()
    metadata: bool = False
    time: str | None = None
    scale: Literal["tai", "utc", "tt", "tdb"] | None = None
    form: Literal["mjd", "jd", "unix", "tai_ns"] | None = None
    periodic: Mapping[str, float] = {}
    collections: str | Iterable[str] | None = None
    data_id: Mapping[str, Any] | None = None
    where: str = ""
    bind: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.method is not None and self.method not in METHODS:
            raise InvalidRequestError(f"no method is called {self.method!r}", hint=f"known: {', '.join(METHODS)}")
        if self.overlaps not in OVERLAPS:
            raise InvalidRequestError(f"overlaps is {', '.join(OVERLAPS)}, and not {self.overlaps!r}")
        if isinstance(self.columns, str):
            raise InvalidRequestError(f"columns is a list of names, and not {self.columns!r}")

    @property
    def label(self) -> str:
        """What its columns begin with."""
        if self.name:
            return self.name
        kind = getattr(self.source, "dataset_type", None)
        found = (
            self.source
            if isinstance(self.source, str)
            else (getattr(kind, "name", "") or getattr(self.source, "short_name", ""))
        )
        if not found:
            raise InvalidRequestError("a table that is joined needs a name", hint="TimeJoin(source=table, name='dome')")
        return str(found)

    @property
    def equal(self) -> dict[str, str]:
        """For each column of the table that must be equal, the field of the source."""
        if isinstance(self.by, Mapping):
            return dict(self.by)
        return {one: one for one in ((self.by,) if isinstance(self.by, str) else self.by)}

    def tolerance_ns(self) -> int | None:
        """Return the tolerance in nanoseconds."""
        given = self.tolerance
        if given is None:
            return None
        seconds = given.to_value("s") if hasattr(given, "to_value") else given
        total = getattr(seconds, "total_seconds", None)
        try:
            value = float(total() if total is not None else seconds)
        except (TypeError, ValueError):
            raise InvalidRequestError(f"the tolerance {given!r} is no time", hint="a number is in seconds") from None
        if not 0 <= value < 4e9:
            raise InvalidRequestError(f"the tolerance {given!r} is negative or longer than a century")
        return round(value * 1e9)
