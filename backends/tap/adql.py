"""Statements in ADQL with their values (IVOA ADQL 2.1, section 2.2): each value is written by its type alone.

A written value is whole tokens with blanks around them, whatever is in it: a number that is negative stands in
brackets, since two minus signs begin a comment, and a text in quotes never touches another one, which would make one
text of both. So it never ends, nor begins, anything but itself.
"""

from __future__ import annotations

import math

from pantry.backends.placeholders import names_of, split_statement
from pantry.backends.querying import Circle, Instant, ParameterValue, Point, Polygon, Statement
from pantry.errors import InvalidQueryError
from pantry.model.queries import Scalar, check_text


def written(statement: Statement) -> str:
    """Return the statement's text with its values.

    Raises
    ------
    InvalidQueryError
        A parameter has no value, or a value no parameter; or one cannot be written in ADQL.
    """
    pieces = split_statement(statement.text)
    if names_of(pieces, "selection"):
        raise InvalidQueryError("a selection is not put in")
    named = set(names_of(pieces, "parameter"))
    if wrong := named ^ statement.parameters.keys():
        raise InvalidQueryError(f"each parameter has one value: {', '.join(sorted(wrong))}")
    values = {name: f" {literal(name, statement.parameters[name])} " for name in named}
    return "".join(values[piece.text] if piece.kind == "parameter" else piece.text for piece in pieces)


def literal(name: str, value: ParameterValue) -> str:
    """Write one value; ``name`` is for messages, in which the value never is."""
    try:
        match value:
            case tuple():
                if not value:
                    raise ValueError("an empty list has no place in a statement")
                return f"({', '.join(_scalar(one) for one in value)})"
            case Point():
                return f"POINT('ICRS', {_angles(value.ra, value.dec)})"
            case Circle():
                return f"CIRCLE('ICRS', {_angles(value.ra, value.dec, value.radius)})"
            case Polygon():
                return f"POLYGON('ICRS', {', '.join(_angles(*corner) for corner in value.corners)})"
            case None | Instant():
                raise ValueError("has no value that can be written")
        return _scalar(value)
    except ValueError as exc:
        raise InvalidQueryError(f"the parameter {name!r}: {exc}") from None


def _scalar(value: Scalar) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, str):
        if "--" in value or "\\" in value:
            # DaCHS 2.7 takes the first for a comment also in a string, and a quote after the second for no end of it.
            raise ValueError("a text has no two minus signs in a row and no backslash, which some services misread")
        return "'" + check_text(value).replace("'", "''") + "'"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise ValueError("an integer has 64 bits")
        return f"({int(value)})" if value < 0 else str(int(value))
    if not math.isfinite(value):
        raise ValueError("a number is finite")
    text = repr(float(value))
    return f"({text})" if text.startswith("-") else text


def _angles(*degrees: float) -> str:
    if not all(math.isfinite(one) for one in degrees):
        raise ValueError("an angle is finite")
    return ", ".join(repr(float(one)) for one in degrees)
