"""What a measurement gives: rows with a ratio, a goal and whether it is met."""

from __future__ import annotations

import operator
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.bench import Bench

_GOAL = re.compile(r"(ours )?(<=|>=|==) (\d+(?:\.\d+)?)(?: \S+)?\Z")
_COMPARE = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


class SkippedError(Exception):
    """A measurement cannot be made here; the message says why."""


@dataclass(frozen=True)
class Measurement:
    """A named measurement.

    Attributes
    ----------
    name : str
        For ``--only``.
    title : str
        One line for ``--list``.
    run : callable
        Takes the `Bench` and returns its rows.
    """

    name: str
    title: str
    run: Callable[[Bench], list[Row]]


@dataclass(frozen=True)
class Series:
    """Repeated measurements of one thing, in one unit."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """Least to most, as text."""
        return f"{figure(min(self.values))} to {figure(max(self.values))}"

    def map(self, func: Callable[[float], float]) -> Series:
        """Convert every value."""
        return Series(tuple(func(value) for value in self.values))


@dataclass(frozen=True)
class Row:
    """One line of the table and of ``bench.json``.

    Attributes
    ----------
    name : str
        What was measured.
    ours, peer : float or None
        Medians, in ``unit``; None if it could not be measured.
    ratio : float or None
        ``ours / peer``.
    unit : str
        Of both.
    goal : str
        ``<= 0.05`` for the ratio, ``ours <= 0.5 s`` for our own figure, empty if only reported.
    met : bool or None
        Whether the goal is met; None without a goal or without figures.
    compared : str
        What was compared with what, with the spread of the repetitions.
    """

    name: str
    ours: float | None
    peer: float | None
    ratio: float | None
    unit: str
    goal: str
    met: bool | None
    compared: str

    def to_json(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return asdict(self)


def make_row(
    name: str, *, ours: Series | float | None, peer: Series | float | None, unit: str, goal: str, compared: str
) -> Row:
    """Make a row, and judge it; the spread of series is added to ``compared``."""
    spreads = [f"{who} {value.spread}" for who, value in (("ours", ours), ("peer", peer)) if isinstance(value, Series)]
    if spreads:
        rounds = max(len(value.values) for value in (ours, peer) if isinstance(value, Series))
        compared = f"{compared}; median of {rounds} ({', '.join(spreads)} {unit})"
    our_figure, peer_figure = _median(ours), _median(peer)
    ratio = our_figure / peer_figure if our_figure is not None and peer_figure else None
    return Row(name, our_figure, peer_figure, ratio, unit, goal, judge(goal, our_figure, ratio), compared)


def unmeasured(name: str, why: str, goal: str = "") -> Row:
    """Make the row of something that could not be measured."""
    return Row(name, None, None, None, "", goal, None, why)


def judge(goal: str, ours: float | None, ratio: float | None) -> bool | None:
    """Whether a goal is met; None if there is none or nothing to judge it by."""
    if not goal:
        return None
    parsed = _GOAL.match(goal)
    if parsed is None:
        raise ValueError(f"not a goal: {goal!r}")
    figure_ = ours if parsed[1] else ratio
    return None if figure_ is None else bool(_COMPARE[parsed[2]](figure_, float(parsed[3])))


def figure(value: float | None) -> str:
    """Write a figure with three significant digits, for people."""
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _median(value: Series | float | None) -> float | None:
    return value.median if isinstance(value, Series) else value


def series(values: Sequence[float]) -> Series:
    """Make a `Series` of a list."""
    return Series(tuple(values))
