"""Where parameters stand in a statement: found by its tokens, never by searching its text.

``:name`` is a parameter and ``@name`` a selection, except in strings, quoted identifiers and comments. ``::`` is
PostgreSQL's cast. ADQL (IVOA 2.1, section 2.1) has strings in single and identifiers in double quotes, both with
the quote doubled inside, and comments from ``--`` to the end of the line; SQL has ``/* */`` besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pantry.errors import InvalidQueryError

MAX_STATEMENT = 1_000_000
"""Longest statement, in characters."""

_TOKEN = re.compile(
    r"""
      (?P<string> '(?:[^']|'')*' )
    | (?P<quoted> "(?:[^"]|"")*" )
    | (?P<comment> --[^\r\n]* | /\* (?:[^*]|\*(?!/))* \*/ )
    | (?P<cast> ::+ )
    | (?P<parameter> :[A-Za-z][A-Za-z0-9_]* )
    | (?P<selection> @[A-Za-z][A-Za-z0-9_]* )
    | (?P<word> [A-Za-z_$\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]* )
    | (?P<number> [0-9][A-Za-z0-9_]* )
    | (?P<space> \s+ )
    | (?P<other> [^'"] )
    """,
    re.VERBOSE,
)

Kind = Literal["text", "parameter", "selection"]


class Piece(NamedTuple):
    """A part of a statement.

    Attributes
    ----------
    kind : str
        ``text``, which is sent as it is; ``parameter`` or ``selection``.
    text : str
        Itself, or the name.
    """

    kind: Kind
    text: str


def split_statement(statement: str) -> list[Piece]:
    """Split a statement at its parameters and selections.

    The texts of the pieces, with ``:`` and ``@`` before the names, make up the statement.

    Raises
    ------
    InvalidQueryError
        A string, quoted identifier or comment does not end; there is a NUL; or a form of string is used that has
        other rules (``E'..'``, ``U&'..'``, ``$$..$$``), with which one could be mistaken where it ends.
    """
    if len(statement) > MAX_STATEMENT:
        raise InvalidQueryError(f"a statement has at most {MAX_STATEMENT} characters")
    if "\0" in statement:
        raise InvalidQueryError("a statement has no NUL")
    pieces: list[Piece] = []
    plain: list[str] = []
    for kind, text in _tokens(statement):
        if kind in ("parameter", "selection"):
            if plain:
                pieces.append(Piece("text", "".join(plain)))
                plain = []
            pieces.append(Piece("parameter" if kind == "parameter" else "selection", text[1:]))
        else:
            plain.append(text)
    if plain:
        pieces.append(Piece("text", "".join(plain)))
    return pieces


def _tokens(statement: str) -> Iterator[tuple[str, str]]:
    position, before = 0, ""
    while position < len(statement):
        match = _TOKEN.match(statement, position)
        kind, text = (match.lastgroup or "", match[0]) if match is not None else ("", "")
        if match is None or (kind == "other" and statement.startswith("/*", position)):
            raise _unended(statement, position)
        if kind == "comment" and "/*" in text[2:] and text.startswith("/*"):
            raise InvalidQueryError("a comment has another in it, which some databases take for one and some for two")
        if (kind in ("string", "quoted") and before.upper() in _PREFIXES) or (kind == "word" and "$" in text):
            raise InvalidQueryError(
                f"{(before + text)[:20]!r}: strings with prefixes or in dollars are not understood here",
                hint="write it in plain single quotes",
            )
        if kind in ("parameter", "selection", "word", "number") and before[-1:] in (":", "@"):
            raise InvalidQueryError(f"{(before + text)[:20]!r} is no parameter", hint="write ':' and its name")
        yield kind, text
        # 'U&' is a word and a sign.
        before = before + text if text == "&" and before.upper() == "U" else "" if kind in ("space", "cast") else text
        position = match.end()


_PREFIXES = ("E", "B", "X", "N", "U&")


def _unended(statement: str, position: int) -> InvalidQueryError:
    what = {"'": "a string", '"': "a quoted identifier"}.get(statement[position], "a comment")
    line = statement.count("\n", 0, position) + 1
    return InvalidQueryError(f"{what} that begins in line {line} of the statement does not end")


def names_of(pieces: list[Piece], kind: Kind) -> list[str]:
    """Return the names of all parameters or selections, each once, as they come."""
    return list(dict.fromkeys(piece.text for piece in pieces if piece.kind == kind))


def joined(pieces: list[Piece]) -> str:
    """Put a statement together again, with its parameters and selections by name."""
    signs = {"text": "", "parameter": ":", "selection": "@"}
    return "".join(signs[piece.kind] + piece.text for piece in pieces)
