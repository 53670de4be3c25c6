"""Candidates at a place in a query expression."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from pantry.client.introspection.unfinished import SHAPES, Unfinished, read
from pantry.client.introspection.vocabulary import REGION, TIMESPAN, Field, Vocabulary
from pantry.model.data_id import DataIdValue

Values = Callable[[Field, str], Sequence[DataIdValue]]
"""Gives the known values of a field, of text those that begin with the second argument."""

_COMPARISONS = {
    "bool": ("= ", "!= ", "AND ", "OR ", "IS NULL", "IS NOT NULL"),
    TIMESPAN: ("OVERLAPS ", "IS NULL", "IS NOT NULL"),
    REGION: ("OVERLAPS ",),
}
_ORDERED = ("= ", "!= ", "< ", "<= ", "> ", ">= ", "IN (", "NOT IN (", "IS NULL", "IS NOT NULL")


class Completion(NamedTuple):
    """What can stand at a place in a text.

    Attributes
    ----------
    start : int
        Where the text begins that a candidate replaces; it ends at the cursor.
    candidates : list of str
        The likeliest first.
    """

    start: int
    candidates: list[str]


def complete(
    text: str,
    cursor: int | None,
    vocabulary: Vocabulary,
    values: Values,
    about: Collection[str] = (),
) -> Completion:
    """Give what can stand at ``cursor`` in a query expression.

    Parameters
    ----------
    text : str
        The expression so far.
    cursor : int or None
        Behind what is being written; None for the end.
    vocabulary : Vocabulary
        The repository's names.
    values : callable
        Asks the daemon for values.
    about : collection of str
        Dataset types and dimensions of the query.
    """
    before = text if cursor is None else text[:cursor]
    place = read(before)
    match place.wanted:
        case "text":
            return Completion(place.start, _texts(place, vocabulary, values, about))
        case "operand":
            return Completion(place.start, _operands(place, vocabulary, values, about))
        case "comparison":
            return Completion(place.start, _comparisons(place, vocabulary, about))
        case "connective":
            return Completion(place.start, _beginning(("AND ", "OR "), place.begun))
    return Completion(place.start, [])


def quoted(value: DataIdValue) -> str:
    """Write a value as an expression does."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _texts(place: Unfinished, vocabulary: Vocabulary, values: Values, about: Collection[str]) -> list[str]:
    field = vocabulary.meaning(place.subject, about) if place.subject else None
    if field is None or field.kind != "string":
        return []
    found = [value for value in values(field, place.begun) if isinstance(value, str)]
    return [quoted(value)[1:] for value in found if value.startswith(place.begun)]


def _operands(place: Unfinished, vocabulary: Vocabulary, values: Values, about: Collection[str]) -> list[str]:
    field = vocabulary.meaning(place.subject, about) if place.subject else None
    kind = "" if field is None else field.kind
    if kind in (REGION, TIMESPAN):
        names = [f"{owner}.{kind}" for owner in vocabulary.owners if kind in vocabulary.fields(owner)]
        shapes = [f"{shape}(" for shape in SHAPES] if kind == REGION else []
        return [one for one in (*names, *shapes) if one.startswith(place.begun)]
    # A value begins otherwise than a name: where a name is begun, no value is meant.
    if field is not None and not place.begun:
        found = ["TRUE", "FALSE"] if kind == "bool" else []
        if kind in ("string", "int"):
            found = [quoted(value) for value in values(field, "")]
        if found:
            return found
    # Who presses Tab at the start wants names.
    words = ("NOT ", "GLOB(", *(f"{shape}(" for shape in SHAPES)) if place.begun and field is None else ()
    return [*vocabulary.names(place.begun, about), *_beginning(words, place.begun)]


def _comparisons(place: Unfinished, vocabulary: Vocabulary, about: Collection[str]) -> list[str]:
    field = vocabulary.meaning(place.subject, about) if place.subject else None
    kind = "" if field is None else field.kind
    return _beginning(_COMPARISONS.get(kind, _ORDERED), place.begun)


def _beginning(words: Sequence[str], begun: str) -> list[str]:
    return [word for word in words if word.startswith(begun.upper())]
