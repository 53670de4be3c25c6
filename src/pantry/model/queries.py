"""What query services are asked, and the values that stand in for a query's parameters.

A question is a value, never a text that was pasted together. Daemon, wire and backends speak in these.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from pantry.errors import InvalidQueryError

MAX_ELEMENTS = 10_000
"""Most elements of one list, and corners of one polygon."""

MAX_TEXT = 100_000
"""Longest text of one parameter, in characters."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


class Point(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A direction, ICRS degrees."""

    ra: float
    dec: float

    def __post_init__(self) -> None:
        _check_direction(self.ra, self.dec)


class Circle(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A circle on the sky, ICRS degrees."""

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        _check_direction(self.ra, self.dec)
        if not 0 <= self.radius <= 180:
            raise ValueError("a circle's radius is from 0 to 180 degrees")


class Polygon(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A polygon on the sky whose sides are great circles.

    Attributes
    ----------
    corners : tuple of (float, float)
        Right ascension and declination of each corner in order, ICRS degrees.
    """

    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not 3 <= len(self.corners) <= MAX_ELEMENTS:
            raise ValueError(f"a polygon has from 3 to {MAX_ELEMENTS} corners")
        for ra, dec in self.corners:
            _check_direction(ra, dec)


class Instant(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A time: TAI nanoseconds since 1970-01-01T00:00:00 TAI, as of `pantry.model.timespan.Timespan`."""

    tai_ns: int


def _check_direction(ra: float, dec: float) -> None:
    if not (math.isfinite(ra) and -360 <= ra <= 720 and -90 <= dec <= 90):
        raise ValueError("a direction has a right ascension and a declination from -90 to 90, in degrees")


Scalar = bool | int | float | str

ParameterValue = bool | int | float | str | None | tuple[Scalar, ...] | Point | Circle | Polygon | Instant
"""What a parameter may be. Backends get times as ISO 8601 texts in the scale that the query's declaration says."""

ParameterType = Literal[
    "int", "float", "text", "bool", "time", "point", "circle", "polygon", "ints", "floats", "texts", "table"
]
"""``table``: rows that the asker uploads; in ADQL it is called ``TAP_UPLOAD.`` and the parameter's name."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a configured query says of one of its parameters.

    Attributes
    ----------
    type : str
        See `ParameterType`.
    scale : str
        Of a ``time``: in which it is written for the service.
    default : ParameterValue
        If the asker gives none.
    doc : str
        For people.
    value_of : str
        As a dataset: where in the data id and its dimension records the value is. By default the name of
        the parameter, as a dimension.
    """

    type: ParameterType
    scale: Literal["utc", "tai"] = "utc"
    default: Scalar | None = None
    doc: str = ""
    value_of: str = ""


class Statement(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A statement in the service's own language, such as ADQL or SQL.

    Attributes
    ----------
    text : str
        As an administrator, or whom he allows to, wrote it, with ``:name`` where a parameter stands.
    parameters : Mapping[str, ParameterValue]
        A value for each name, no more and no fewer.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    tables : Mapping[str, int]
        Uploaded tables by name: descriptors of Parquet files, which the backend reads by `os.pread` or
        ``/proc/self/fd/N`` and does not close. Never on the wire.
    """

    text: str
    parameters: Mapping[str, ParameterValue] = {}
    max_rows: int = 1_000_000
    tables: Mapping[str, int] = {}


class TopicQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Samples of one topic of an engineering facility database (EFD), MWBT-0041 to 0044.

    Attributes
    ----------
    topic : str
        Such as ``lsst.sal.ESS.temperature``.
    fields : tuple of str
        Names of fields; all if empty. A name may end in ``*`` for the elements of an array.
    start_tai_ns, stop_tai_ns : int
        Half-open span, nanoseconds since 1970-01-01 in TAI.
    index : int or None
        The ``salIndex`` to choose, if the topic has several.
    nearest_before : bool
        Only the last sample at or before ``stop_tai_ns`` and not before ``start_tai_ns``.
    resample_ns : int
        Length of the bins whose means are wanted, nanoseconds, from ``start_tai_ns`` on; 0 for the samples themselves.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    """

    topic: str
    fields: tuple[str, ...] = ()
    start_tai_ns: int
    stop_tai_ns: int
    index: int | None = None
    nearest_before: bool = False
    resample_ns: int = 0
    max_rows: int = 100_000_000


class NamesQuery(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Which topics an engineering facility database has, or which fields one of them.

    The answer has a row for each topic (columns ``topic``, ``description``) or field (``field``, ``type``, ``unit``,
    ``description``), all texts.

    Attributes
    ----------
    topic : str
        Whose fields; empty for the topics.
    max_rows : int
        Most rows that the answer may have; one more is an error (`LimitExceededError`), not a cut.
    """

    topic: str = ""
    max_rows: int = 1_000_000


Query = Statement | TopicQuery | NamesQuery


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it can name a query, a selection or a parameter: a letter, then letters, digits and ``_``."""
    if not _NAME.match(name):
        raise InvalidQueryError(
            f"{name[:80]!r} cannot name a {what}", hint="use letters, digits and underscores, beginning with a letter"
        )
    return name


def checked_value(name: str, declared: Parameter, value: ParameterValue) -> ParameterValue:
    """Return ``value`` as the declared type has it.

    Raises
    ------
    InvalidQueryError
        It is of another type, not finite, too long, or has a NUL; never with the value in it.
    """
    try:
        made = _of_type(declared.type, value)
    except ValueError as exc:
        raise InvalidQueryError(f"the parameter {name!r}: {exc}", hint=declared.doc) from None
    if made is None:
        raise InvalidQueryError(
            f"the parameter {name!r} is of type {declared.type}, not {type(value).__name__}", hint=declared.doc
        )
    return made


def check_elements(name: str, value: ParameterValue) -> None:
    """Refuse a value, or a list of them, that has no place in a question whatever is declared.

    Raises
    ------
    InvalidQueryError
        It is an integer of more than 64 bits, which must not become the nearest float, or a text as of `check_text`.
    """
    for one in value if isinstance(value, tuple) else (value,):
        try:
            if isinstance(one, str):
                check_text(one)
            elif isinstance(one, int):
                _check_integer(one)
        except ValueError as exc:
            raise InvalidQueryError(f"the parameter {name!r}: {exc}") from None


def _check_integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("an integer has 64 bits")
    return value


def _of_type(kind: ParameterType, value: ParameterValue) -> ParameterValue:
    """Return the value as a ``kind``; None if it is none."""
    match kind:
        case "ints" | "floats" | "texts":
            return _list(kind[:-1], value)
        case "point" | "circle" | "polygon":
            return value if isinstance(value, {"point": Point, "circle": Circle, "polygon": Polygon}[kind]) else None
        case "time":
            return value if isinstance(value, Instant) else _scalar("text", value)
        case "table":
            return None
    return _scalar(kind, value)


def _list(kind: str, value: ParameterValue) -> ParameterValue:
    if not isinstance(value, tuple):
        return None
    if not 0 < len(value) <= MAX_ELEMENTS:
        raise ValueError(f"a list has from 1 to {MAX_ELEMENTS} elements, not {len(value)}")
    made = [_scalar(kind, one) for one in value]
    return None if None in made else tuple(made)  # type: ignore[arg-type]


def _scalar(kind: str, value: ParameterValue) -> Scalar | None:
    if kind == "bool":
        return value if isinstance(value, bool) else None
    if kind == "text":
        return check_text(value) if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind == "int":
        return _check_integer(value) if isinstance(value, int) else None
    if not math.isfinite(value):
        raise ValueError("a number is finite")
    return float(value)


def check_text(text: str) -> str:
    """Return a text that a statement may have; `ValueError` if it has a NUL or half a character, or is too long."""
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text has at most {MAX_TEXT} characters")
    if "\0" in text or not _is_encodable(text):
        raise ValueError("a text has no NUL, and is valid Unicode")
    return text


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
