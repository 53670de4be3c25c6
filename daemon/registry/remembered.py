"""Statements of queries that were planned before: the same query about another exposure is not planned again.

Parsing an expression, building SQL and compiling it take longer than SQLite takes to find the datasets of an
exposure. What is compiled depends on the query, on the definitions, and on nothing else, if no statement ran while it
was planned. And it depends on few values: an integer that came through planning untouched is a parameter like any
other, and the *shape* of a query is what is left without these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pantry.daemon.registry.definitions import Definitions, KnownType
from pantry.daemon.registry.prepared import Prepared
from pantry.daemon.registry.traced import Traced
from pantry.model.dimensions import DimensionUniverse
from pantry.model.patterns import is_glob
from pantry.wire.operations.registry import QueryDatasets

MOST_SHAPES = 512
MOST_CHARACTERS = 2_000
"""Of an expression that is remembered."""
MOST_SQL_CHARACTERS = 50_000
"""Of a statement that is remembered: with `MOST_SHAPES`, some tens of MiB at most."""

# Quotes are skipped in pairs, and so is what they enclose. No signs, no parts of other numbers or of names.
_INTEGER = re.compile(r"'[^']*'|(?<![\w.:+\-])[0-9]{1,18}(?![\w.])")
_RANGE = ".."


class Ready(NamedTuple):
    """How the datasets of a type are found, compiled.

    Attributes
    ----------
    known : KnownType
        The type.
    statement : Prepared
        Finds them.
    checked : bool
        Whether the last column tells that a row is one of several first ones.
    first : Prepared or None
        Finds the first of them with less work, but perhaps too few; see `nearest`.
    values : dict of str to int
        To run the statement with.
    """

    known: KnownType
    statement: Prepared
    checked: bool
    first: Prepared | None
    values: Mapping[str, int] = {}


class Shape(NamedTuple):
    """A query without its integers, and these.

    Attributes
    ----------
    key : Hashable
        Equal for queries that differ in integers only.
    query : QueryDatasets
        To be planned: with `Traced` for the integers that are not in its text.
    values : dict of origin to int
        The integers.
    places : dict of int to origin
        For those in the text, where they begin in it.
    """

    key: Hashable
    query: QueryDatasets
    values: Mapping[Hashable, int]
    places: Mapping[int, Hashable]


class _Plan(NamedTuple):
    ready: Ready | None
    origins: Mapping[str, Hashable]


class _Shapes:
    """What is remembered while definitions and overrides stay as they are."""

    def __init__(self, definitions: Definitions, overrides: object) -> None:
        self.definitions = definitions
        self.overrides = overrides
        # The origins of integers that became something else than parameters: these belong to the key.
        self.decisive: dict[Hashable, tuple[Hashable, ...]] = {}
        self.plans: dict[Hashable, _Plan] = {}

    def full_key(self, shape: Shape) -> Hashable:
        decisive = self.decisive[shape.key]
        return shape.key, decisive, tuple(shape.values[origin] for origin in decisive)


class Remembered:
    """Remembers statements; safe for use by many threads.

    Parameters
    ----------
    universe : DimensionUniverse
        Tells dimensions that are numbered.
    """

    def __init__(self, universe: DimensionUniverse) -> None:
        self._universe = universe
        self._shapes: _Shapes | None = None

    def find(self, shape: Shape, definitions: Definitions, overrides: object) -> list[Ready] | None:
        """Give the statement for a query, if it has one, with its values; None if it is to be planned."""
        shapes = self._current(definitions, overrides)
        if shape.key not in shapes.decisive:
            return None
        plan = shapes.plans.get(shapes.full_key(shape))
        if plan is None:
            return None
        if plan.ready is None:
            return []
        return [plan.ready._replace(values={name: shape.values[origin] for name, origin in plan.origins.items()})]

    def keep(self, shape: Shape, definitions: Definitions, overrides: object, ready: Sequence[Ready]) -> None:
        """Remember what a query was planned to, without running a statement."""
        origins: dict[str, Hashable] = {}
        for one in ready:
            if len(one.statement.sql) > MOST_SQL_CHARACTERS or (one.first is not None and one.first.traced):
                return
            for name, value in one.statement.traced.items():
                # Where none was seen, as with a sign, the text is in the key.
                origin = shape.places.get(value.origin) if isinstance(value.origin, int) else value.origin
                if origin is not None:
                    origins[name] = origin
        shapes = self._current(definitions, overrides)
        if len(shapes.plans) >= MOST_SHAPES:
            shapes = self._shapes = _Shapes(definitions, overrides)
        used = set(origins.values())
        shapes.decisive[shape.key] = tuple(origin for origin in shape.values if origin not in used)
        shapes.plans[shapes.full_key(shape)] = _Plan(ready[0] if ready else None, origins)

    def _current(self, definitions: Definitions, overrides: object) -> _Shapes:
        # Replaced as a whole, in one assignment: another thread sees the old one or the new one.
        shapes = self._shapes
        if shapes is None or shapes.definitions is not definitions or shapes.overrides is not overrides:
            shapes = self._shapes = _Shapes(definitions, overrides)
        return shapes

    def shape_of(self, query: QueryDatasets, more: Hashable) -> Shape | None:
        """Take a query apart; None if it is of a kind that is always planned.

        Parameters
        ----------
        query : QueryDatasets
            The query.
        more : Hashable
            What else is asked of the datasets.
        """
        if len(query.dataset_types) != 1 or is_glob(query.dataset_types[0]):
            return None
        if query.exclude is not None or len(query.where) > MOST_CHARACTERS:
            return None
        values: dict[Hashable, int] = {}
        places: dict[int, Hashable] = {}

        def hole(match: re.Match[str]) -> str:
            text = match.group()
            if text[0] == "'":
                return text
            origin = len(places)
            places[match.start()] = origin
            values[origin] = int(text)
            return "\0"

        # Whoever writes a NUL is refused by the parser, and nothing is remembered.
        where = query.where if _RANGE in query.where else _INTEGER.sub(hole, query.where)
        bind = _traced("bind", query.bind, values)
        given = _traced("data_id", query.data_id, values, self._numbered)
        key = (
            query.dataset_types,
            query.collections,
            query.find_first,
            query.order_by,
            query.limit,
            query.with_dimension_records,
            where,
            _key_of(query.bind, bind),
            _key_of(query.data_id, given),
            more,
        )
        try:
            hash(key)
        except TypeError:  # a list of values
            return None
        return Shape(key, msgspec.structs.replace(query, bind=bind, data_id=given), values, places)

    def _numbered(self, name: str) -> bool:
        """Whether a name is that of a dimension of which every number could be a value, as far as planning knows."""
        element = self._universe.elements.get(name)
        if element is None or not element.is_dimension or name in self._universe.skypix:
            return False
        return element.keys[0].type == "int"


def _traced(
    kind: str, given: Mapping[str, object], values: dict[Hashable, int], may: Callable[[str], bool] | None = None
) -> dict[str, object]:
    """Mark integers with where they stand, and note their values."""
    found: dict[str, object] = {}
    for name, value in given.items():
        if type(value) is int and -(2**62) < value < 2**62 and (may is None or may(name)):
            found[name] = Traced.of(value, (kind, name))
            values[kind, name] = value
        else:
            found[name] = value
    return found


def _key_of(given: Mapping[str, object], traced: Mapping[str, object]) -> tuple[Hashable, ...]:
    # With the types: True, 1 and 1.0 are equal.
    return tuple(
        (name, Traced, None) if isinstance(traced[name], Traced) else (name, type(value), value)
        for name, value in given.items()
    )
