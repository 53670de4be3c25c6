"""Query expressions from Python's operators, with names that a Tab key knows.

As Gen3's expression factory in the words; what comes out is text, so that it goes wherever ``where`` does.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from pantry.client.butler.bind_values import bind_values
from pantry.client.introspection.expressions import quoted
from pantry.client.introspection.vocabulary import REGION, TIMESPAN, Field, Vocabulary
from pantry.errors import InvalidRequestError


class Predicate(str):
    """A condition, as the text of a query expression; ``&``, ``|`` and ``~`` join conditions."""

    __slots__ = ()

    def __and__(self, other: str) -> Predicate:
        return Predicate(f"{_enclosed(self)} AND {_enclosed(other)}")

    def __rand__(self, other: str) -> Predicate:
        return Predicate(f"{_enclosed(other)} AND {_enclosed(self)}")

    def __or__(self, other: str) -> Predicate:
        return Predicate(f"({self}) OR ({other})")

    def __ror__(self, other: str) -> Predicate:
        return Predicate(f"({other}) OR ({self})")

    def __invert__(self) -> Predicate:
        return Predicate(f"NOT ({self})")

    def __bool__(self) -> bool:
        raise InvalidRequestError(
            "a condition is neither true nor false before a query", hint="join conditions with & | ~, in parentheses"
        )


class _Condition(Predicate):
    """One comparison, which needs no parentheses."""

    __slots__ = ()


class Proxy:
    """A name of an expression; comparing it gives a `Predicate`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<{self._text}>"

    def __eq__(self, other: object) -> Predicate:  # type: ignore[override]
        return self._is_null(False) if other is None else self._compared("=", other)

    def __ne__(self, other: object) -> Predicate:  # type: ignore[override]
        return self._is_null(True) if other is None else self._compared("!=", other)

    def __lt__(self, other: object) -> Predicate:
        return self._compared("<", other)

    def __le__(self, other: object) -> Predicate:
        return self._compared("<=", other)

    def __gt__(self, other: object) -> Predicate:
        return self._compared(">", other)

    def __ge__(self, other: object) -> Predicate:
        return self._compared(">=", other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def is_null(self) -> Predicate:
        """Whether there is no value."""
        return self._is_null(False)

    def in_iterable(self, values: Iterable[object]) -> Predicate:
        """Whether the value is one of these."""
        listed = ", ".join(map(_literal, values))
        if not listed:
            raise InvalidRequestError(f"{self._text} is compared with an empty list")
        return _Condition(f"{self._text} IN ({listed})")

    def in_range(self, start: int, stop: int, step: int = 1) -> Predicate:
        """Whether the value is in ``range(start, stop, step)``."""
        if stop <= start or step < 1:
            raise InvalidRequestError(f"the range from {start} to before {stop} in steps of {step} is empty")
        return _Condition(f"{self._text} IN ({int(start)}..{int(stop) - 1}:{int(step)})")

    def glob(self, pattern: str) -> Predicate:
        """Whether the text fits a pattern with ``*`` and ``?``."""
        return _Condition(f"GLOB({self._text}, {_literal(pattern)})")

    def overlaps(self, other: object) -> Predicate:
        """Whether a time span or region has something in common with another one, or with a time."""
        return _Condition(f"{self._text} OVERLAPS {_literal(other)}")

    def _is_null(self, negated: bool) -> Predicate:
        return _Condition(f"{self._text} IS {'NOT ' if negated else ''}NULL")

    def _compared(self, operator: str, other: object) -> Predicate:
        return _Condition(f"{self._text} {operator} {_literal(other)}")


class ElementProxy(Proxy):
    """A dimension element or dataset type; its attributes are its fields."""

    def __init__(self, name: str, fields: Iterable[Field]) -> None:
        super().__init__(name)
        for field in fields:
            place = TimespanProxy(f"{name}.{field.name}") if field.kind == TIMESPAN else Proxy(f"{name}.{field.name}")
            # As attributes of their own: completion that runs no code sees them too.
            self.__dict__[field.name] = place

    def __getattr__(self, name: str) -> Proxy:
        if not name.startswith("_"):
            known = ", ".join(one for one in self.__dict__ if not one.startswith("_"))
            raise AttributeError(f"{self._text} has no field {name!r}; it has {known or 'none'}")
        raise AttributeError(name)

    def __dir__(self) -> list[str]:
        return [*(name for name in self.__dict__ if not name.startswith("_")), *_METHODS]

    def _ipython_key_completions_(self) -> list[str]:
        return [name for name in self.__dict__ if not name.startswith("_")]


class TimespanProxy(Proxy):
    """The time span of an observation; ``begin`` and ``end`` are times."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.begin = Proxy(f"{text}.begin")
        self.end = Proxy(f"{text}.end")


_METHODS = ("glob", "in_iterable", "in_range", "is_null", "overlaps")


class ExpressionFactory:
    """The names of a repository's expressions: ``x.visit.exposure_time > 30``. Made by `Butler.expression_factory`.

    Dimension elements are attributes; dataset types with declared metadata are keys, as ``x["calexp"].fwhm``.

    Parameters
    ----------
    vocabulary : Vocabulary
        The names.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        universe = vocabulary.universe
        self._types = {
            name: ElementProxy(name, vocabulary.fields(name).values())
            for name in vocabulary.dataset_types
            if name in vocabulary.owners and name not in universe.elements
        }
        for name in universe.elements:
            if name not in universe.skypix:
                self.__dict__[name] = ElementProxy(name, vocabulary.fields(name).values())

    def __getattr__(self, name: str) -> ElementProxy:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"there is no dimension element {name!r}; there are {', '.join(dir(self))}")

    def __getitem__(self, dataset_type: str) -> ElementProxy:
        try:
            return self._types[dataset_type]
        except KeyError:
            raise KeyError(
                f"no dataset type {dataset_type!r} that declares metadata; those are {', '.join(self._types) or 'none'}"
            ) from None

    def __dir__(self) -> list[str]:
        return [name for name in self.__dict__ if not name.startswith("_")]

    def _ipython_key_completions_(self) -> list[str]:
        return list(self._types)

    def __repr__(self) -> str:
        return f"<names for expressions: {', '.join([*dir(self), *self._types])}>"


def _enclosed(text: str) -> str:
    return str(text) if isinstance(text, _Condition) else f"({text})"


def _literal(value: object) -> str:
    if isinstance(value, Proxy):
        return str(value)
    kind: Any = type(value)
    if isinstance(value, datetime.datetime) or kind.__module__.startswith("astropy.time"):
        text = str(bind_values({"time": value})["time"])
        return f"T'{text}'"
    if kind.__module__.startswith("lsst.sphgeom"):
        raise InvalidRequestError("a region is no part of text", hint=f"write where='... {REGION} OVERLAPS :r', bind=")
    if hasattr(value, "item"):  # numpy's scalars
        value = value.item()
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | str):
        return quoted(value)
    if isinstance(value, float) and value - value == 0:
        return repr(value)
    raise InvalidRequestError(f"{value!r} cannot be written in an expression", hint="give a number, text or time")
