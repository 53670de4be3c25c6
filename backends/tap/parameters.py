"""Queries of services that are asked by parameters: ``RA = :ra AND POS = :region AND MAXREC = '10'``."""

from __future__ import annotations

import math
import re

from pantry.backends.placeholders import split_statement
from pantry.backends.querying import Circle, Instant, ParameterValue, Point, Polygon, Statement
from pantry.errors import InvalidQueryError
from pantry.model.queries import check_text

_TEXT = re.compile(r"\s*(?:AND\s+)?([A-Za-z_-][A-Za-z0-9_.-]*)\s*=\s*('(?:[^']|'')*'\s*)?", re.IGNORECASE)
CONE = "CONE"
"""Not a parameter of any standard: a circle, which a cone search gets as ``RA``, ``DEC`` and ``SR``."""


def parameters_of(statement: Statement) -> list[tuple[str, str]]:
    """Return the parameters that a statement asks for, in order; names may repeat.

    Raises
    ------
    InvalidQueryError
        The text is not of the form ``NAME = :parameter AND NAME = 'text'``, or a value cannot be written.
    """
    found: list[tuple[str, str]] = []
    used: set[str] = set()
    name = ""
    for piece in split_statement(statement.text):
        if piece.kind == "parameter" and name:
            if piece.text not in statement.parameters:
                raise InvalidQueryError(f"the parameter {piece.text!r} has no value")
            used.add(piece.text)
            found += _pairs(name, statement.parameters[piece.text])
            name = ""
            continue
        position = 0
        while piece.kind == "text" and not name and piece.text[position:].strip():
            match = _TEXT.match(piece.text, position)
            if match is None:
                break
            position = match.end()
            if match[2] is None:
                name = match[1]
            else:
                found.append((match[1], match[2].strip()[1:-1].replace("''", "'")))
        if piece.kind != "text" or piece.text[position:].strip():
            raise InvalidQueryError("such a service is asked as in: RA = :ra AND DEC = :dec AND VERB = '1'")
    if name:
        raise InvalidQueryError(f"{name} has no value")
    if unused := statement.parameters.keys() - used:
        raise InvalidQueryError(f"the text has no parameter {', '.join(sorted(unused))}")
    return found


def _pairs(name: str, value: ParameterValue) -> list[tuple[str, str]]:
    if name.upper() == CONE:
        if not isinstance(value, Circle):
            raise InvalidQueryError(f"{CONE} takes a circle")
        return [("RA", repr(value.ra)), ("DEC", repr(value.dec)), ("SR", repr(value.radius))]
    try:
        if isinstance(value, tuple):
            return [(name, _text(one)) for one in value]
        return [(name, _text(value))]
    except ValueError as exc:
        raise InvalidQueryError(f"the value of {name}: {exc}") from None


def _text(value: ParameterValue) -> str:
    match value:
        case bool():
            return str(value).lower()
        case Point():
            return f"{value.ra!r},{value.dec!r}"
        case Circle():
            return f"CIRCLE {value.ra!r} {value.dec!r} {value.radius!r}"
        case Polygon():
            return "POLYGON " + " ".join(f"{ra!r} {dec!r}" for ra, dec in value.corners)
        case str():
            return check_text(value)
        case float() if not math.isfinite(value):
            raise ValueError("a number is finite")
        case int() | float():
            return repr(value)
        case None | Instant() | tuple():
            raise ValueError("cannot be written")
