"""Half-open intervals of time in TAI."""

from __future__ import annotations

import msgspec


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

    def overlaps(self, other: Timespan) -> bool:
        """Whether the two intervals have an instant in common."""
        return self.begin_ns < other.end_ns and other.begin_ns < self.end_ns

    def contains(self, instant_ns: int) -> bool:
        """Whether ``instant_ns`` lies inside."""
        return self.begin_ns <= instant_ns < self.end_ns
