"""Values of engineering data at the time of an exposure, for its header (DMS-MWBT-REQ-0050).

Where samples come from is behind `SampleSource`: a table in the repository here, a database of engineering data (the
EFD) by another implementation of the same two methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from pantry.client.instruments.amending import MergedValue, Subject
from pantry.errors import FormatterError
from pantry.model.raw_headers import Merge as MergeRule

_NS_PER_S = 1_000_000_000


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """Values at instants.

    Attributes
    ----------
    times_ns : numpy.ndarray
        TAI nanoseconds since 1970, 64-bit integers in ascending order; shape (n,).
    columns : dict of str to numpy.ndarray
        Values by column, of shape (n,). What is NaN or masked is no sample.
    units : dict of str to str
        Of columns that have one.
    name : str
        Where they are from, for people.
    """

    times_ns: Any
    columns: dict[str, Any]
    units: dict[str, str] = {}
    name: str = "samples"


class SampleSource(Protocol):
    """Gives samples around an exposure."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def samples(self, subject: Subject, columns: Sequence[str], begin_ns: int, end_ns: int) -> Samples | None:
        """Return samples of columns between two instants, and perhaps more; None if there are none at all.

        Parameters
        ----------
        subject : Subject
            The exposure that asks.
        columns : sequence of str
            Which.
        begin_ns, end_ns : int
            TAI nanoseconds since 1970.

        Raises
        ------
        FormatterError
            There is no such column, or its times cannot be understood.
        """
        ...


class TimedMerge:
    """Values of samples at the instant of an exposure; a `Merge`.

    Parameters
    ----------
    rule : pantry.model.raw_headers.Merge
        Which values, and how.
    source : SampleSource
        Where from.
    """

    def __init__(self, rule: MergeRule, source: SampleSource) -> None:
        self._rule = rule
        self._source = source

    def values(self, subject: Subject, keywords: Mapping[str, Any]) -> Mapping[str, MergedValue]:
        """Return values by keyword; see `Merge`."""
        wanted = wanted_columns(self._rule, keywords)
        if not wanted:
            return {}
        if subject.begin_ns is None or subject.end_ns is None:
            return self._missing("the header does not tell when the exposure was")
        instant = {
            "begin": subject.begin_ns,
            "middle": (subject.begin_ns + subject.end_ns) // 2,
            "end": subject.end_ns,
        }[self._rule.at]
        reach = round(self._rule.within_s * _NS_PER_S)
        columns = sorted({column for column, _ in wanted.values()})
        samples = self._source.samples(subject, columns, instant - reach, instant + reach)
        if samples is None:
            return self._missing(f"{self._source.name} has nothing for it")
        found: dict[str, MergedValue] = {}
        for keyword, (column, unit) in wanted.items():
            value = value_at(samples, column, instant, reach, self._rule.method)
            if value is None:
                self._missing(f"{self._source.name} has no {column} within {self._rule.within_s:g} s")
                continue
            value = _in_unit(value, samples.units.get(column, ""), unit, f"{samples.name}: {column}")
            found[keyword] = MergedValue(value=value, source=f"{column} of {samples.name}, {self._rule.method}")
        return found

    def _missing(self, reason: str) -> Mapping[str, MergedValue]:
        if self._rule.required:
            raise FormatterError(
                f"a value that the configuration requires for the header is missing: {reason}",
                hint="the parameter amend=False reads the header as in the file",
            )
        return {}


def wanted_columns(rule: MergeRule, keywords: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the columns and units of those keywords that the header leaves open, or of all if they are replaced."""
    return {
        keyword: column for keyword, column in rule.columns().items() if rule.replace or _is_open(keywords.get(keyword))
    }


def _is_open(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def value_at(samples: Samples, column: str, instant_ns: int, reach_ns: int, method: str) -> Any:
    """Return the value of a column at an instant, None if no sample is near enough.

    Parameters
    ----------
    samples : Samples
        Where from.
    column : str
        Which.
    instant_ns, reach_ns : int
        TAI nanoseconds since 1970, and how far away a sample may be.
    method : str
        As of `pantry.model.raw_headers.Merge`.

    Raises
    ------
    FormatterError
        What lies between two values that are no numbers was asked for.
    """
    values, times = samples.columns[column], samples.times_ns
    good = ~np.ma.getmaskarray(values)
    plain = np.ma.getdata(values)
    if plain.dtype.kind == "f":
        good &= np.isfinite(plain)
    plain, times = plain[good], times[good]
    after = int(np.searchsorted(times, instant_ns, side="right"))
    before = after - 1
    near = [one for one in (before, after) if 0 <= one < len(times) and abs(int(times[one]) - instant_ns) <= reach_ns]
    if before in near and int(times[before]) == instant_ns:
        return _plain(plain[before])
    if method == "previous":
        return _plain(plain[before]) if before in near else None
    if method == "nearest":
        return _plain(plain[min(near, key=lambda one: abs(int(times[one]) - instant_ns))]) if near else None
    if len(near) < 2:
        return None  # nothing is said of what lies outside
    if plain.dtype.kind not in "iuf":
        raise FormatterError(
            f"{samples.name}: {column} has no numbers to interpolate between", hint="method: previous, or nearest"
        )
    share = (instant_ns - int(times[before])) / (int(times[after]) - int(times[before]))
    low, high = float(plain[before]), float(plain[after])
    return low + (high - low) * share


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value.item() if hasattr(value, "item") else value


def _in_unit(value: Any, has: str, wanted: str, name: str) -> Any:
    if not wanted or not has or has == wanted or isinstance(value, str | bool):
        return value
    import astropy.units as u

    try:
        return float((value * u.Unit(has)).to_value(u.Unit(wanted), equivalencies=u.temperature()))
    except (ValueError, u.UnitConversionError) as exc:
        raise FormatterError(f"{name} in {has} cannot be given in {wanted}: {exc}") from None
