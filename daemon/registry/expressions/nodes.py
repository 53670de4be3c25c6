"""The tree of a query expression; ``at`` is the offset of a node's first character."""

from __future__ import annotations

from typing import Literal as Choice

import msgspec

Operator = Choice["=", "!=", "<", "<=", ">", ">="]


class Name(msgspec.Struct, frozen=True):
    """A dimension, ``element.column``, ``element.timespan.begin``, or a bind name without its colon."""

    text: str
    at: int


class Bind(msgspec.Struct, frozen=True):
    """A value given beside the expression, written ``:name``."""

    text: str
    at: int


class Constant(msgspec.Struct, frozen=True):
    """A number, text, or truth value."""

    value: int | float | str | bool
    at: int


class Instant(msgspec.Struct, frozen=True):
    """A time, in TAI nanoseconds since 1970-01-01 TAI."""

    ns: int
    at: int


class Uuid(msgspec.Struct, frozen=True):
    """The id of a dataset, its 16 bytes."""

    raw: bytes
    at: int


class Range(msgspec.Struct, frozen=True):
    """The integers from ``first`` to ``last``, both included, in steps of ``step``."""

    first: int
    last: int
    step: int
    at: int


class Absent(msgspec.Struct, frozen=True):
    """No value: NULL."""

    at: int


class Negative(msgspec.Struct, frozen=True):
    """The negative of a number."""

    operand: Operand
    at: int


class Arithmetic(msgspec.Struct, frozen=True):
    """Two numbers and what is made of them."""

    operator: Choice["+", "-", "*", "/", "%"]
    left: Operand
    right: Operand
    at: int


class Span(msgspec.Struct, frozen=True):
    """A time span ``(begin, end)``; an end that is `Absent` is open."""

    begin: Operand
    end: Operand
    at: int


class Shape(msgspec.Struct, frozen=True):
    """A region of the sky: what kind, and its numbers in degrees or its text."""

    kind: Choice["POINT", "CIRCLE", "BOX", "POLYGON", "REGION"]
    values: tuple[Operand, ...]
    at: int


Operand = Name | Bind | Constant | Instant | Uuid | Absent | Negative | Arithmetic | Span | Shape


class Comparison(msgspec.Struct, frozen=True):
    """Two operands and what shall hold between them."""

    operator: Operator
    left: Operand
    right: Operand
    at: int


class Membership(msgspec.Struct, frozen=True):
    """Whether an operand is one of several values."""

    operand: Operand
    items: tuple[Operand | Range, ...]
    negated: bool
    at: int


class IsNull(msgspec.Struct, frozen=True):
    """Whether a value is absent."""

    operand: Operand
    negated: bool
    at: int


class Glob(msgspec.Struct, frozen=True):
    """Whether text matches a pattern with ``*`` and ``?``."""

    operand: Operand
    pattern: Operand
    at: int


class Overlaps(msgspec.Struct, frozen=True):
    """Whether two time spans, a span and an instant, or two regions have anything in common."""

    left: Operand
    right: Operand
    at: int


class Truth(msgspec.Struct, frozen=True):
    """A column or constant that is true or false by itself."""

    operand: Operand
    at: int


class Not(msgspec.Struct, frozen=True):
    """The opposite."""

    part: Node
    at: int


class And(msgspec.Struct, frozen=True):
    """All of two or more."""

    parts: tuple[Node, ...]
    at: int


class Or(msgspec.Struct, frozen=True):
    """Any of two or more."""

    parts: tuple[Node, ...]
    at: int


Node = Comparison | Membership | IsNull | Glob | Overlaps | Truth | Not | And | Or
