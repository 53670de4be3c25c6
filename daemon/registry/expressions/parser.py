"""From text to the tree of a query expression."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, cast
from uuid import UUID

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError

from pantry.daemon.registry.expressions import nodes
from pantry.daemon.registry.expressions.instants import parse_instant
from pantry.daemon.registry.traced import Traced
from pantry.errors import InvalidQueryError

MAX_CHARACTERS = 65_536
MAX_DEPTH = 100
"""SQLite allows expressions 1000 deep; Python's stack less than that of our tree."""
MAX_TERMS = 500
"""In one chain of AND or OR, which SQL nests."""

_SHOWN = {
    "OPERATOR": "a comparison such as = or <",
    "NAME": "a name",
    "BIND": "a :bind name",
    "NUMBER": "a number",
    "STRING": "'text'",
    "TIME": "a time T'...'",
    "RANGE": "a range 1..9",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "PLUS": "+",
    "MINUS": "-",
    "STAR": "*",
    "SLASH": "/",
    "PERCENT": "%",
    "POINT": "POINT(ra, dec)",
    "CIRCLE": "CIRCLE(ra, dec, radius)",
    "BOX": "BOX(ra, dec, width, height)",
    "POLYGON": "POLYGON(ra, dec, ra, dec, ...)",
    "REGION": "REGION('...')",
    "UUID": "UUID('...')",
    "$END": "the end",
}
_OPERATORS = {"==": "=", "<>": "!="}


def invalid(text: str, at: int, message: str, hint: str = "") -> InvalidQueryError:
    """Make the error for a place in an expression, with the line and a caret below it."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0]
    row, column = text.count("\n", 0, at) + 1, at - start + 1
    place = f"column {column}" if "\n" not in text else f"line {row}, column {column}"
    # A long line is shown around the place.
    left = max(0, column - 61)
    shown = line[left : left + 120].replace("\t", " ")
    caret = " " * (column - 1 - left) + "^"
    return InvalidQueryError(
        f"query expression, {place}: {message}\n  {shown}\n  {caret}", hint=hint, line=row, column=column
    )


class _Error(Exception):
    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at


def _at(token: Token) -> int:
    return cast(int, token.start_pos)


class _Builder(Transformer[Token, nodes.Node]):
    """Makes nodes while the parser reduces, so that deep expressions need no recursion."""

    def NAME(self, token: Token) -> nodes.Name:  # noqa: N802 - lark calls it by the terminal
        return nodes.Name(str(token), _at(token))

    def BIND(self, token: Token) -> nodes.Bind:  # noqa: N802
        return nodes.Bind(token[1:], _at(token))

    def STRING(self, token: Token) -> nodes.Constant:  # noqa: N802
        return nodes.Constant(token[1:-1].replace("''", "'"), _at(token))

    def TIME(self, token: Token) -> nodes.Instant:  # noqa: N802
        try:
            return nodes.Instant(parse_instant(token[2:-1]), _at(token))
        except ValueError as exc:
            raise _Error(_at(token), str(exc)) from None

    def NUMBER(self, token: Token) -> nodes.Constant:  # noqa: N802
        text = str(token)
        if text.lstrip("+-").isdigit():
            return nodes.Constant(Traced.of(_integer(token, text), _at(token)), _at(token))
        return nodes.Constant(float(text), _at(token))

    def RANGE(self, token: Token) -> nodes.Range:  # noqa: N802
        ends, _, step = token.partition(":")
        first, _, last = ends.partition("..")
        found = nodes.Range(_integer(token, first), _integer(token, last), _integer(token, step or "1"), _at(token))
        if found.step == 0:
            raise _Error(_at(token), "a range cannot have steps of 0")
        if found.first > found.last:
            raise _Error(_at(token), "a range ends before it begins")
        return found

    def TRUE(self, token: Token) -> nodes.Constant:  # noqa: N802
        return nodes.Constant(True, _at(token))

    def FALSE(self, token: Token) -> nodes.Constant:  # noqa: N802
        return nodes.Constant(False, _at(token))

    def NULL(self, token: Token) -> nodes.Absent:  # noqa: N802
        return nodes.Absent(_at(token))

    # -- values ------------------------------------------------------------------------------------

    def arithmetic(self, parts: list[Any]) -> nodes.Operand:
        left, operator, right = parts
        return nodes.Arithmetic(str(operator), _value(left), _value(right), _at(operator))  # type: ignore[arg-type]

    def negative(self, parts: list[Any]) -> nodes.Operand:
        return nodes.Negative(_value(parts[1]), _at(parts[0]))

    def positive(self, parts: list[Any]) -> nodes.Operand:
        return _value(parts[1])

    def span(self, parts: list[Any]) -> nodes.Operand:
        return nodes.Span(_value(parts[0]), _value(parts[1]), parts[0].at)

    def shape(self, parts: list[Any]) -> nodes.Operand:
        return nodes.Shape(parts[0].upper(), tuple(_value(part) for part in parts[1:]), _at(parts[0]))

    def uuid(self, parts: list[Any]) -> nodes.Operand:
        value = _value(parts[1])
        if not isinstance(value, nodes.Constant) or not isinstance(value.value, str):
            raise _Error(value.at, "UUID takes 'text'")
        try:
            return nodes.Uuid(parse_uuid(value.value), _at(parts[0]))
        except ValueError as exc:
            raise _Error(value.at, str(exc)) from None

    # -- conditions --------------------------------------------------------------------------------

    def comparison(self, parts: list[Any]) -> nodes.Node:
        left, operator, right = parts
        symbol = cast(nodes.Operator, _OPERATORS.get(operator, str(operator)))
        left, right = _value(left), _value(right)
        if isinstance(left, nodes.Absent) or isinstance(right, nodes.Absent):
            return _compared_to_null(symbol, left, right, _at(operator))
        return nodes.Comparison(symbol, left, right, _at(operator))

    def overlaps(self, parts: list[Any]) -> nodes.Node:
        return nodes.Overlaps(_value(parts[0]), _value(parts[2]), _at(parts[1]))

    def membership(self, parts: list[Any]) -> nodes.Node:
        words = [part for part in parts if isinstance(part, Token)]
        items = [
            part if isinstance(part, nodes.Range) else _value(part) for part in parts[1:] if not isinstance(part, Token)
        ]
        return nodes.Membership(_value(parts[0]), tuple(items), len(words) == 2, _at(words[0]))

    def is_null(self, parts: list[Any]) -> nodes.Node:
        words = [part for part in parts if isinstance(part, Token)]
        return nodes.IsNull(_value(parts[0]), len(words) == 2, _at(words[0]))

    def glob(self, parts: list[Any]) -> nodes.Node:
        return nodes.Glob(_value(parts[1]), _value(parts[2]), _at(parts[0]))

    def negation(self, parts: list[Any]) -> nodes.Node:
        return nodes.Not(condition(parts[1]), _at(parts[0]))

    def and_expr(self, parts: list[Any]) -> nodes.Node:
        return nodes.And(_terms(parts), _at(parts[1]))

    def or_expr(self, parts: list[Any]) -> nodes.Node:
        return nodes.Or(_terms(parts), _at(parts[1]))


def parse_uuid(text: str) -> bytes:
    """Read the id of a dataset; `ValueError` says that it is none."""
    try:
        return UUID(text).bytes
    except ValueError:
        raise ValueError(f"{text[:80]!r} is not the id of a dataset, a UUID of 32 hexadecimal digits") from None


def condition(part: nodes.Node | nodes.Operand) -> nodes.Node:
    """Take what stands where a condition must: a value is true or false by itself."""
    return part if isinstance(part, nodes.Node) else nodes.Truth(part, part.at)


def _value(part: nodes.Node | nodes.Operand) -> nodes.Operand:
    if isinstance(part, nodes.Node):
        raise _Error(part.at, "a condition stands where a value must")
    return part


def _compared_to_null(symbol: str, left: nodes.Operand, right: nodes.Operand, at: int) -> nodes.Node:
    if symbol not in ("=", "!="):
        raise _Error(at, f"NULL has no order, so {symbol} has no meaning")
    # As in Gen3, = NULL means IS NULL.
    return nodes.IsNull(left if isinstance(right, nodes.Absent) else right, symbol == "!=", at)


def _terms(parts: list[Any]) -> tuple[nodes.Node, ...]:
    terms = tuple(condition(part) for part in parts[::2])
    if len(terms) > MAX_TERMS:
        raise _Error(_at(parts[1]), f"more than {MAX_TERMS} terms in one chain of AND or OR: use IN (...)")
    return terms


def _integer(token: Token, text: str) -> int:
    value = int(text) if len(text) < 40 else 2**63
    if not -(2**63) <= value < 2**63:
        raise _Error(_at(token), "an integer beyond 64 bits")
    return value


@functools.cache
def _parser() -> Lark:
    grammar = resources.files(__package__).joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", transformer=_Builder(), maybe_placeholders=False)


def parse(text: str) -> nodes.Node:
    """Parse an expression.

    Raises
    ------
    InvalidQueryError
        With the place, and what was expected there.
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidQueryError(
            f"a query expression of {len(text)} characters; at most {MAX_CHARACTERS} are read",
            hint="give long lists as bind values",
        )
    if "\0" in text:
        raise invalid(text, text.index("\0"), "a NUL character")
    try:
        tree = condition(cast(Any, _parser().parse(text)))
    except UnexpectedInput as exc:
        at = len(text.rstrip()) if isinstance(exc, UnexpectedToken) and exc.token.type == "$END" else exc.pos_in_stream
        raise invalid(text, at or 0, _complaint(text, exc), _expected(exc)) from None
    except VisitError as exc:
        if isinstance(exc.orig_exc, _Error):
            raise invalid(text, exc.orig_exc.at, str(exc.orig_exc)) from None
        raise
    except _Error as exc:
        raise invalid(text, exc.at, str(exc)) from None
    _refuse_depth(text, tree)
    return tree


def _complaint(text: str, exc: UnexpectedInput) -> str:
    if isinstance(exc, UnexpectedCharacters):
        found = text[exc.pos_in_stream or 0]
        if found == "'":
            return "text that is not closed by a quote"
        return 'text is written in single quotes, not in "' if found == '"' else f"{found!r} has no meaning here"
    if isinstance(exc, UnexpectedToken) and exc.token.type != "$END":
        return f"{str(exc.token)!r} is not expected here"
    return "the expression is empty" if not text.strip() else "the expression ends too early"


def _expected(exc: UnexpectedInput) -> str:
    names = exc.accepts if isinstance(exc, UnexpectedToken) and exc.accepts else getattr(exc, "expected", None)
    if not names:
        names = getattr(exc, "allowed", None) or ()
    # In the order of the table above, keywords after it.
    shown = [text for name, text in _SHOWN.items() if name in names]
    return "expected " + ", ".join(shown + sorted(name for name in names if name not in _SHOWN))


def _refuse_depth(text: str, tree: nodes.Node) -> None:
    level: list[nodes.Node | nodes.Operand] = [tree]
    # The operands of the innermost conditions are no level of their own.
    for _ in range(MAX_DEPTH + 1):
        below = [part for node in level for part in _parts(node)]
        if not below:
            return
        level = below
    raise invalid(text, level[0].at, f"nested more than {MAX_DEPTH} deep")


def _parts(node: nodes.Node | nodes.Operand) -> tuple[nodes.Node | nodes.Operand, ...]:
    match node:
        case nodes.And(parts) | nodes.Or(parts):
            return parts
        case nodes.Not(part):
            return (part,)
        case nodes.Comparison(_, left, right) | nodes.Arithmetic(_, left, right) | nodes.Overlaps(left, right):
            return (left, right)
        case nodes.Truth(operand) | nodes.Negative(operand) | nodes.Membership(operand) | nodes.IsNull(operand):
            return (operand,)
        case nodes.Glob(operand) | nodes.Span(operand):
            return (operand,)
        case nodes.Shape(_, values):
            return values
    return ()
