"""From text to the tree of a query expression."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, cast

from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError

from pantry.daemon.registry.expressions import nodes
from pantry.daemon.registry.expressions.instants import parse_instant
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
            return nodes.Constant(_integer(token, text), _at(token))
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

    def comparison(self, parts: list[Any]) -> nodes.Node:
        left, operator, right = parts
        symbol = cast(nodes.Operator, _OPERATORS.get(operator, str(operator)))
        return nodes.Comparison(symbol, left, right, _at(operator))

    def membership(self, parts: list[Any]) -> nodes.Node:
        words = [part for part in parts if isinstance(part, Token)]
        items = [part for part in parts[1:] if not isinstance(part, Token)]
        return nodes.Membership(parts[0], tuple(items), len(words) == 2, _at(words[0]))

    def is_null(self, parts: list[Any]) -> nodes.Node:
        return nodes.IsNull(parts[0], len(parts) == 4, _at(parts[1]))

    def glob(self, parts: list[Any]) -> nodes.Node:
        return nodes.Glob(parts[1], parts[2], _at(parts[0]))

    def truth(self, parts: list[Any]) -> nodes.Node:
        return nodes.Truth(parts[0], parts[0].at)

    def negation(self, parts: list[Any]) -> nodes.Node:
        return nodes.Not(parts[1], _at(parts[0]))

    def and_expr(self, parts: list[Any]) -> nodes.Node:
        return nodes.And(_terms(parts), _at(parts[1]))

    def or_expr(self, parts: list[Any]) -> nodes.Node:
        return nodes.Or(_terms(parts), _at(parts[1]))


def _terms(parts: list[Any]) -> tuple[nodes.Node, ...]:
    terms = tuple(parts[::2])
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
        tree = cast(nodes.Node, _parser().parse(text))
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
    level: list[nodes.Node] = [tree]
    for _ in range(MAX_DEPTH):
        below: list[nodes.Node] = []
        for node in level:
            if isinstance(node, nodes.Not):
                below.append(node.part)
            elif isinstance(node, (nodes.And, nodes.Or)):
                below += node.parts
        if not below:
            return
        level = below
    raise invalid(text, level[0].at, f"nested more than {MAX_DEPTH} deep")
