"""What an expression that is still being written wants next."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Wanted = Literal["operand", "comparison", "connective", "text", "nothing"]

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<time>[tT]'[^']*')
    |(?P<text>'(?:''|[^'])*'(?!'))
    |(?P<open>[tT]?'(?:''|[^'])*\Z)
    |(?P<number>[-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?(?::\d+)?|\.\d+)(?![\w.]))
    |(?P<bind>:\w*)
    |(?P<name>[A-Za-z_][\w.]*)
    |(?P<operator><=|>=|!=|<>|==|=|<|>)
    |(?P<sign>[-+*/%])
    |(?P<mark>[(),])
    |(?P<strange>.)""",
    re.VERBOSE | re.DOTALL,
)
_CONNECTIVES = {"AND", "OR", "NOT"}
WORDS = {*_CONNECTIVES, "IN", "IS", "NULL", "TRUE", "FALSE", "OVERLAPS", "GLOB"}
SHAPES = ("POINT", "CIRCLE", "BOX", "POLYGON", "REGION")
MAX_CHARACTERS = 65_536


class Token(NamedTuple):
    """A piece of an expression."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str:
        """A keyword in capitals; empty for all else."""
        upper = self.text.upper()
        return upper if self.kind == "name" and (upper in WORDS or upper in SHAPES) else ""


class Unfinished(NamedTuple):
    """The place at the end of an expression.

    Attributes
    ----------
    wanted : str
        What can stand there: ``operand`` (a name, or a value of ``subject``), ``comparison`` (an operator after
        ``subject``), ``connective`` (AND or OR), ``text`` (the rest of a quoted value of ``subject``), ``nothing``.
    start : int
        Where what is begun there begins.
    begun : str
        What is there of it.
    subject : str
        Name that the value is compared with; empty if there is none.
    """

    wanted: Wanted
    start: int
    begun: str
    subject: str = ""


def read(text: str) -> Unfinished:
    """Look at an expression that ends where something is to be completed; never fails."""
    nothing = Unfinished("nothing", len(text), "")
    if len(text) > MAX_CHARACTERS:
        return nothing
    tokens = [
        Token(str(found.lastgroup), found.group(), found.start())
        for found in _TOKEN.finditer(text)
        if found.lastgroup != "space"
    ]
    last = tokens[-1] if tokens else None
    if last is not None and last.kind == "open":
        if last.text[0] in "tT":
            return nothing
        return Unfinished("text", last.at + 1, last.text[1:].replace("''", "'"), _subject(tokens[:-1]))
    start, begun = len(text), ""
    if last is not None and last.at + len(last.text) == len(text):
        if last.kind == "name":
            start, begun = last.at, last.text
            tokens.pop()
        elif last.kind not in ("operator", "mark", "sign"):
            return nothing
    return Unfinished(_wanted(tokens), start, begun, _subject(tokens) or _left(tokens))


def _wanted(tokens: list[Token]) -> Wanted:
    if not tokens:
        return "operand"
    last = tokens[-1]
    if last.kind in ("operator", "sign") or last.text in ("(", ",") or last.word in (*_CONNECTIVES, "OVERLAPS"):
        if last.text == "(" and len(tokens) > 1 and tokens[-2].word in SHAPES:
            return "nothing"
        return "operand"
    if last.word in ("IN", "IS", "GLOB") or last.word in SHAPES or last.kind == "strange":
        return "nothing"
    return "connective" if _is_condition(tokens) else "comparison"


def _is_condition(tokens: list[Token]) -> bool:
    """Whether what stands before is a condition already, and not only its left side."""
    depth = 0
    for token in reversed(tokens):
        if token.text == ")":
            depth += 1
        elif token.text == "(":
            depth -= 1
            if depth < 0:
                return False
        elif token.kind == "operator" or token.word in ("IN", "IS", "NULL", "OVERLAPS", "GLOB"):
            return True
        elif depth == 0 and token.word in _CONNECTIVES:
            return False
    return False


def _left(tokens: list[Token]) -> str:
    """Name that an operator may follow."""
    return tokens[-1].text if tokens and tokens[-1].kind == "name" and not tokens[-1].word else ""


def _subject(tokens: list[Token]) -> str:
    """Name with which a value that comes next is compared: ``name =``, ``name IN ('a',``, ``GLOB(name,``."""
    rest = list(tokens)
    if not rest:
        return ""
    last = rest.pop()
    if last.kind == "operator":
        return _left(rest)
    listed = last.text in ("(", ",")
    while rest and listed and last.text == "," and rest[-1].kind in ("text", "number"):
        rest.pop()
        if not rest:
            return ""
        last = rest.pop()
    if last.text == "(" and rest and rest[-1].word == "IN":
        rest.pop()
        if rest and rest[-1].word == "NOT":
            rest.pop()
        return _left(rest)
    if last.text == "," and len(rest) >= 3 and rest[-2].text == "(" and rest[-3].word == "GLOB":
        return _left(rest)
    return ""
