"""Values of an export's YAML: bounded, with the line where each stands, and nothing of the file's own choosing.

The parser's events are turned into values one by one, so that no limit is found out too late: depth, scalars, what an
alias stands for. Plain scalars mean what they mean to `yaml.safe_load`, by which the Gen3 Butler reads its exports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import IO, Any, NamedTuple
from uuid import UUID

import yaml

from pantry.errors import InvalidRequestError
from pantry.model.timespan import BEGIN_NS, END_NS, Timespan

MAX_BYTES = 2 * 1024**3
"""Longest file; what its values take in memory is a small multiple of it."""
MAX_DEPTH = 12
"""Most levels of lists and mappings in each other; exports have 8."""
MAX_SCALAR = 1024 * 1024
"""Longest text of one value: a region is the longest, with some hundred bytes."""
MAX_ALIAS_NODES = 16
"""Most values that an alias may stand for. Exports have aliases of times, time spans and ids."""
_MAX_NUMBER = 40
"""Longest number: Python's integers of a million digits take minutes."""

_TAG = "tag:yaml.org,2002:"
_TAI = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?)?\Z")
_REGION = re.compile(r"!?lsst\.sphgeom\.(ConvexPolygon|Circle|Box|Ellipse|UnionRegion|IntersectionRegion)\Z")
_TIMESPAN = ("!lsst.daf.butler.Timespan", "lsst.daf.butler.Timespan")
_TIME = "!butler_time/tai/iso"


class ExportError(InvalidRequestError):
    """An export that cannot be read, with the place in the file."""


class Block(dict[str, Any]):
    """A mapping, and the line of the file where it begins, counted from 1."""

    __slots__ = ("line",)

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line


class Instant(NamedTuple):
    """A time: TAI nanoseconds since 1970, within what registries keep."""

    ns: int


class Region(NamedTuple):
    """A region on the sky, as ``lsst.sphgeom`` encodes it."""

    encoded: bytes


EMPTY = Timespan(END_NS, END_NS)
"""Stands for Gen3's empty time span, which contains no instant."""


def make_timespan(begin: Instant | None, end: Instant | None) -> Timespan:
    """Make a time span as the Gen3 Butler does: an instant becomes a nanosecond, an end before its begin `EMPTY`.

    Raises
    ------
    ValueError
        For an instant at one of the ends of all time.
    """
    begin_ns = BEGIN_NS if begin is None else begin.ns
    end_ns = END_NS if end is None else end.ns
    if begin_ns == end_ns:
        if begin_ns in (BEGIN_NS, END_NS):
            raise ValueError("an instant outside of 1970 to 2100")
        end_ns += 1
    return Timespan(begin_ns, end_ns) if begin_ns < end_ns else EMPTY


def read_top(source: IO[bytes], name: str, compact: Callable[[Block], Any]) -> Iterator[tuple[str, Any]]:
    """Read an export's top level.

    Parameters
    ----------
    source : binary file
        The export.
    name : str
        Of the file, for messages.
    compact : callable
        Given each mapping in a list called ``records``; what it returns stands in the mapping's place, so that
        a million of them take little memory.

    Yields
    ------
    tuple of str and value
        Each key of the top level with its value; for a list ``data``, first None and then each of its items.

    Raises
    ------
    ExportError
        If the file is no YAML, passes a limit, or has tags that no export has.
    """
    yield from _Reader(source, name, compact).top()


class _Limited:
    """A file that ends with an error at `MAX_BYTES`."""

    def __init__(self, source: IO[bytes], name: str) -> None:
        self._source = source
        self._left = MAX_BYTES
        self._name = name

    def read(self, size: int = -1) -> bytes:
        found = self._source.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        self._left -= len(found)
        if self._left < 0:
            raise ExportError(f"{self._name}: longer than {MAX_BYTES} bytes", hint="export it in parts")
        return found


class _Reader:
    def __init__(self, source: IO[bytes], name: str, compact: Callable[[Block], Any]) -> None:
        self._name = name
        self._compact = compact
        limited: Any = _Limited(source, name)
        # The slow one is for installations of PyYAML without its library.
        self._events: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(limited)
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._resolve: Any = yaml.resolver.Resolver().resolve
        self._construct = yaml.constructor.SafeConstructor()

    # -- events ------------------------------------------------------------------------------------

    def _next(self) -> Any:
        try:
            return self._events.get_event()
        except yaml.YAMLError as exc:
            mark = getattr(exc, "problem_mark", None)
            at = f", line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
            said = getattr(exc, "problem", None) or getattr(exc, "reason", None) or str(exc)
            raise ExportError(f"{self._name}{at}: not YAML: {said}") from None
        except UnicodeDecodeError as exc:
            raise ExportError(f"{self._name}: not YAML: {exc}") from None

    def _refuse(self, event: Any, said: str, hint: str = "") -> ExportError:
        mark = event.start_mark
        return ExportError(f"{self._name}, line {mark.line + 1}, column {mark.column + 1}: {said}", hint=hint)

    def top(self) -> Iterator[tuple[str, Any]]:
        event = self._next()
        while isinstance(event, yaml.StreamStartEvent | yaml.DocumentStartEvent):
            event = self._next()
        if not isinstance(event, yaml.MappingStartEvent):
            raise self._refuse(event, "not an export of the Gen3 Butler", "it begins with 'description:'")
        seen: set[str] = set()
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, seen)
            event = self._next()
            if key == "data" and isinstance(event, yaml.SequenceStartEvent):
                yield key, None
                while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                    yield key, self._value(event, 2, "")[0]
            else:
                yield key, self._value(event, 1, "")[0]
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            raise self._refuse(event, "a second document", "an export is one")

    # -- values ------------------------------------------------------------------------------------

    def _value(self, event: Any, depth: int, within: str) -> tuple[Any, int]:
        """Make the value that begins with an event; also give how many values it is made of."""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._refuse(event, f"there is no *{event.anchor} before this")
            value, nodes = self._anchors[event.anchor]
            if nodes > MAX_ALIAS_NODES:
                raise self._refuse(event, f"an alias for more than {MAX_ALIAS_NODES} values", "write them out")
            return value, nodes
        if depth > MAX_DEPTH:
            raise self._refuse(event, f"more than {MAX_DEPTH} lists and mappings in each other")
        if isinstance(event, yaml.ScalarEvent):
            value, nodes = self._scalar(event), 1
        elif isinstance(event, yaml.SequenceStartEvent):
            value, nodes = self._sequence(event, depth, within)
        else:
            value, nodes = self._mapping(event, depth)
        if event.anchor is not None:
            # What no alias may stand for is not kept.
            self._anchors[event.anchor] = (value if nodes <= MAX_ALIAS_NODES else None, nodes)
        return value, nodes

    def _sequence(self, start: Any, depth: int, within: str) -> tuple[list[Any], int]:
        if start.tag not in (None, "!", _TAG + "seq"):
            raise self._refuse(start, f"a list cannot be a {start.tag!r}")
        found: list[Any] = []
        total = 1
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            value, nodes = self._value(event, depth + 1, "")
            total += nodes
            found.append(self._compact(value) if within == "records" and type(value) is Block else value)
        return found, total

    def _mapping(self, start: Any, depth: int) -> tuple[Any, int]:
        found = Block(start.start_mark.line + 1)
        seen: set[str] = set()
        total = 1
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._key(event, seen)
            found[key], nodes = self._value(self._next(), depth + 1, key)
            total += 1 + nodes
        tag = start.tag
        if tag in (None, "!", _TAG + "map"):
            return found, total
        try:
            if _REGION.match(tag) and set(found) == {"encoded"} and isinstance(found["encoded"], str):
                return Region(bytes.fromhex(found["encoded"])), total
            if tag in _TIMESPAN and set(found) == {"begin", "end"}:
                begin, end = found["begin"], found["end"]
                if all(one is None or isinstance(one, Instant) for one in (begin, end)):
                    return make_timespan(begin, end), total
        except ValueError as exc:
            raise self._refuse(start, f"bad {tag}: {exc}") from None
        if _REGION.match(tag) or tag in _TIMESPAN:
            needed = "'begin' and 'end', times or null" if tag in _TIMESPAN else "'encoded', hex text"
            raise self._refuse(start, f"a {tag} has {needed}")
        raise self._refuse(start, f"a mapping cannot be a {tag!r}", "exports have regions and time spans")

    def _key(self, event: Any, seen: set[str]) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._refuse(event, "a key is text")
        key: str = event.value
        if key == "<<" and event.implicit[0]:
            raise self._refuse(event, "merged mappings (<<) are not read", "write them out")
        if key in seen:
            raise self._refuse(event, f"{key[:80]!r} stands twice in one mapping")
        seen.add(key)
        return key

    # -- scalars -----------------------------------------------------------------------------------

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if len(text) > MAX_SCALAR:
            raise self._refuse(event, f"a value of more than {MAX_SCALAR} characters")
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolve(yaml.ScalarNode, text, event.implicit)
        try:
            return self._plain(event, tag, text)
        except (ValueError, OverflowError, yaml.constructor.ConstructorError) as exc:
            said = getattr(exc, "problem", None) or str(exc)
            raise self._refuse(event, f"bad value {text[:80]!r}: {said}") from None
        except (LookupError, AttributeError):
            # PyYAML's own way of saying that a tag's text is not of its kind.
            said = f"not a {tag.removeprefix(_TAG)}"
            raise self._refuse(event, f"bad value {text[:80]!r}: {said}") from None

    def _plain(self, event: Any, tag: str, text: str) -> Any:
        if tag == _TAG + "str":
            return text
        node = yaml.ScalarNode(tag, text, event.start_mark)
        if tag in (_TAG + "int", _TAG + "float"):
            if len(text) > _MAX_NUMBER:
                raise ValueError(f"a number of more than {_MAX_NUMBER} characters")
            return getattr(self._construct, f"construct_yaml_{tag.removeprefix(_TAG)}")(node)
        if tag == _TAG + "null":
            return None
        if tag in (_TAG + "bool", _TAG + "binary"):
            return getattr(self._construct, f"construct_yaml_{tag.removeprefix(_TAG)}")(node)
        if tag == _TAG + "timestamp":
            return _of_utc(self._construct.construct_yaml_timestamp(node))
        if tag == "!uuid":
            return UUID(hex=text)
        if tag == _TIME:
            return _of_tai(text)
        if tag in _TIMESPAN and text == "EMPTY":
            return EMPTY
        raise ValueError(f"the tag {tag!r} is unknown here")


def _of_tai(text: str) -> Instant:
    """Read a time as exports write it; exact, and so to the nanosecond what the Gen3 Butler reads."""
    match = _TAI.match(text)
    if match is None:
        raise ValueError("not a time such as 2025-12-02 12:00:00.000000000")
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
    if hour > 23 or minute > 59 or second > 59:
        raise ValueError("there is no such time of day")
    days = (date(year, month, day) - date(1970, 1, 1)).days
    fraction = (match[7] or "").ljust(12, "0")
    picoseconds = int(fraction)
    ns = (days * 86_400 + hour * 3600 + minute * 60 + second) * 1_000_000_000 + round(picoseconds / 1000)
    return Instant(min(max(ns, BEGIN_NS), END_NS))


def _of_utc(given: datetime | date) -> Instant:
    """Convert what YAML itself knows as a time, which the first exports had: UTC."""
    if not isinstance(given, datetime):
        raise ValueError("a date without its time of day")
    import warnings

    from astropy.time import Time

    with warnings.catch_warnings():
        # Of years beyond the table of leap seconds.
        warnings.simplefilter("ignore")
        tai = Time(given, scale="utc").tai
    # jd1 is a whole number of half days: nothing is lost by rounding it.
    half_day = 43_200_000_000_000
    ns = round((float(tai.jd1) - 2440587.5) * 2) * half_day + round(float(tai.jd2) * 2 * half_day)
    return Instant(min(max(ns, BEGIN_NS), END_NS))
