"""Half-open intervals of time in TAI."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

BEGIN_NS = 0
"""What stands for an open begin, as in the Gen3 registry: 1970-01-01T00:00:00 TAI."""

END_NS = 4_102_444_800_000_000_000
"""What stands for an open end, as in the Gen3 registry: 2100-01-01T00:00:00 TAI."""


class Timespan(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A half-open interval ``begin_ns <= t < end_ns``.

    Attributes
    ----------
    begin_ns, end_ns : int
        TAI nanoseconds since 1970-01-01T00:00:00 TAI, the convention of the Gen3 registry.
    """

    begin_ns: int
    end_ns: int

    def __post_init__(self) -> None:
        if self.begin_ns > self.end_ns:
            raise ValueError(f"timespan ends ({self.end_ns}) before it begins ({self.begin_ns})")

    def __str__(self) -> str:
        begin = "(-\N{INFINITY}" if self.begin_ns == BEGIN_NS else f"[{_iso(self.begin_ns)}"
        end = "\N{INFINITY}" if self.end_ns == END_NS else _iso(self.end_ns)
        return f"{begin}, {end})"

    @classmethod
    def between(cls, begin_ns: int | None, end_ns: int | None) -> Timespan:
        """Make a timespan whose ends may be open (None)."""
        return cls(BEGIN_NS if begin_ns is None else begin_ns, END_NS if end_ns is None else end_ns)

    def overlaps(self, other: Timespan) -> bool:
        """Whether the two intervals have an instant in common."""
        return self.begin_ns < other.end_ns and other.begin_ns < self.end_ns

    def contains(self, instant_ns: int) -> bool:
        """Whether ``instant_ns`` lies inside."""
        return self.begin_ns <= instant_ns < self.end_ns


def _iso(ns: int) -> str:
    """Write an instant in TAI, to the second unless there is more."""
    seconds, rest = divmod(ns, 1_000_000_000)
    whole = (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()
    return f"{whole}.{rest:09d}".rstrip("0") if rest else whole


ALL_TIMES = Timespan(BEGIN_NS, END_NS)
"""Open at both ends."""
