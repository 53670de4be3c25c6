"""From the tree of an expression to SQL; values are always bound, never written into the text."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database
from pantry.daemon.registry.expressions import nodes
from pantry.daemon.registry.expressions.instants import parse_instant
from pantry.daemon.registry.expressions.names import Kind, Meaning, Names, UnknownNameError
from pantry.daemon.registry.expressions.parser import invalid, parse, parse_uuid
from pantry.daemon.registry.expressions.places import BindValues, Places
from pantry.errors import InvalidQueryError
from pantry.wire.operations.registry import EncodedTimespan

if TYPE_CHECKING:
    from pantry.daemon.registry.sky import SkyMatches

MAX_ITEMS = 10_000
"""Values in one IN; SQLite takes 32,766 parameters."""

Condition = sa.ColumnElement[bool]

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SQL_TYPES: dict[Kind, type[sa.types.TypeEngine[Any]]] = {
    "int": sa.BigInteger,
    "float": sa.Double,
    "string": sa.String,
    "hash": sa.String,
    "bool": sa.Boolean,
    "instant": sa.BigInteger,
    "uuid": sa.LargeBinary,
}
_SHOWN: dict[Kind, str] = {
    "int": "an integer",
    "float": "a number",
    "string": "text",
    "hash": "a hash (hex text)",
    "bool": "true or false",
    "instant": "a time",
    "uuid": "the id of a dataset",
}
_PLURAL = {"bool": "true and false", "uuid": "ids of datasets"}
_ALIKE = ({"int", "float"}, {"string", "hash"}, {"bool"}, {"instant"}, {"uuid"})


def compile_expression(
    database: Database, names: Names, text: str, bind: BindValues, *, tree: nodes.Node | None = None, sky: SkyMatches
) -> Condition:
    """Parse an expression and make it a condition over the columns of a query.

    Parameters
    ----------
    database : Database
        For what differs between dialects.
    names : Names
        What names mean.
    text : str
        The expression.
    bind : Mapping
        Values for ``:name`` and for names that mean nothing else.
    tree : Node, optional
        A part of the parsed expression to compile alone.
    sky : SkyMatches
        Answers questions about regions.

    Raises
    ------
    InvalidQueryError
        With the place in the text.
    """
    return _Compiler(database, names, text, bind, sky).condition(tree or parse(text))


class _Compiler:
    def __init__(self, database: Database, names: Names, text: str, bind: BindValues, sky: SkyMatches) -> None:
        self._database = database
        self._places = Places(names, text, bind, sky)
        self._names = names
        self._text = text
        self._bind = bind

    def _invalid(self, at: int, message: str, hint: str = "") -> InvalidQueryError:
        return invalid(self._text, at, message, hint)

    def condition(self, node: nodes.Node) -> Condition:
        """Compile a node that is true or false."""
        match node:
            case nodes.And(parts):
                return sa.and_(*[self.condition(part) for part in parts])
            case nodes.Or(parts):
                return sa.or_(*[self.condition(part) for part in parts])
            case nodes.Not(part):
                return sa.not_(self.condition(part))
            case nodes.Comparison(symbol, left, right, at):
                return self._comparison(symbol, left, right, at)
            case nodes.Membership():
                return self._membership(node)
            case nodes.IsNull(operand, negated):
                span, column = self._span(operand), self._places.stored(operand)
                if column is None:
                    column = self._meaning(operand).column if span is None or span.begin is None else span.begin
                return column.is_not(None) if negated else column.is_(None)
            case nodes.Overlaps(left, right, at):
                return self._overlaps(left, right, at)
            case nodes.Glob():
                return self._glob(node)
            case nodes.Truth(operand):
                meaning = self._meaning(operand)
                if meaning.kind != "bool":
                    raise self._invalid(
                        node.at, f"{_SHOWN[meaning.kind]} is not a condition", "compare it with something"
                    )
                return meaning.column == sa.true()
        raise AssertionError(node)

    def _comparison(self, symbol: str, left: nodes.Operand, right: nodes.Operand, at: int) -> Condition:
        if self._span(left) is not None or self._span(right) is not None:
            return self._order_of_spans(symbol, left, right, at)
        one, other = self._alike(left, right, at)
        if one.kind in ("bool", "uuid") and symbol not in ("=", "!="):
            raise self._invalid(at, f"{_PLURAL[one.kind]} have no order, so {symbol} has no meaning")
        return _OPERATORS[symbol](one.column, other.column)  # type: ignore[no-any-return]

    def _alike(self, left: nodes.Operand, right: nodes.Operand, at: int) -> tuple[Meaning, Meaning]:
        one, other = self._meaning(left), self._meaning(right)
        # A bind value for a time or an id is text, since these do not cross the wire.
        if other.kind == "string":
            other = self._read(right, other, one.kind)
        elif one.kind == "string":
            one = self._read(left, one, other.kind)
        if not any({one.kind, other.kind} <= kinds for kinds in _ALIKE):
            raise self._invalid(at, f"{_SHOWN[one.kind]} cannot be compared with {_SHOWN[other.kind]}")
        return one, other

    def _read(self, operand: nodes.Operand, meaning: Meaning, kind: Kind) -> Meaning:
        """Read text that stands for a value of another kind."""
        value = getattr(meaning.column, "value", None)
        if not isinstance(value, str) or kind not in ("instant", "uuid"):
            return meaning
        try:
            return self._names.uuid(parse_uuid(value)) if kind == "uuid" else _literal(parse_instant(value), "instant")
        except ValueError as exc:
            raise self._invalid(operand.at, str(exc)) from None

    # -- time spans --------------------------------------------------------------------------------

    def _span(self, operand: nodes.Operand) -> _TimeSpan | None:
        """Return the ends of a time span; None if the operand is something else."""
        if isinstance(operand, nodes.Span):
            return _TimeSpan(self._end(operand.begin), self._end(operand.end))
        if isinstance(operand, nodes.Name | nodes.Bind):
            given = self._bind.get(operand.text)
            if isinstance(given, EncodedTimespan):
                begin, end = (_literal(ns, "instant").column for ns in (given.begin_ns, given.end_ns))
                return _TimeSpan(begin, end)
        if isinstance(operand, nodes.Name) and operand.text not in self._bind:
            try:
                found = self._names.span(operand.text)
            except UnknownNameError as exc:
                raise self._invalid(operand.at, str(exc), exc.hint) from None
            return None if found is None else _TimeSpan(*found)
        return None

    def _end(self, operand: nodes.Operand) -> sa.ColumnElement[Any] | None:
        if isinstance(operand, nodes.Absent):
            return None
        meaning = self._meaning(operand)
        if meaning.kind == "string":
            meaning = self._read(operand, meaning, "instant")
        if meaning.kind != "instant":
            raise self._invalid(operand.at, f"a time span is (time, time) or NULL, and this is {_SHOWN[meaning.kind]}")
        return meaning.column

    def _span_or_instant(self, operand: nodes.Operand) -> tuple[_TimeSpan, bool]:
        """Return an operand's ends, and whether it is one instant."""
        span = self._span(operand)
        if span is not None:
            return span, False
        instant = self._end(operand)
        if instant is None:
            raise self._invalid(operand.at, "NULL is no time span", "write timespan IS NULL")
        return _TimeSpan(instant, instant), True

    def _overlaps(self, left: nodes.Operand, right: nodes.Operand, at: int) -> Condition:
        places = self._places.of(left), self._places.of(right)
        if any(place is not None for place in places):
            return self._places.overlap((left, right), places, at)
        one, one_is_instant = self._span_or_instant(left)
        other, other_is_instant = self._span_or_instant(right)
        if one_is_instant and other_is_instant:
            raise self._invalid(at, "two instants do not overlap: one side must be a time span", "compare them with =")
        if not (one_is_instant or other_is_instant) and (_is_empty(one) or _is_empty(other)):
            return sa.false()
        # Half-open: the end of a span is not in it, an instant is.
        tests = [
            _before(one.begin, other.end, or_equal=other_is_instant),
            _before(other.begin, one.end, or_equal=one_is_instant),
        ]
        # Of an open span with one that is absent nothing is known, as of any other.
        tests += [_before(span.begin, span.end, or_equal=True) for span in (one, other)]
        return sa.and_(*tests)

    def _order_of_spans(self, symbol: str, left: nodes.Operand, right: nodes.Operand, at: int) -> Condition:
        if symbol not in ("<", ">"):
            raise self._invalid(at, f"{symbol} has no meaning for time spans", "there are OVERLAPS, < and >")
        if symbol == ">":
            left, right = right, left
        earlier, earlier_is_instant = self._span_or_instant(left)
        later, _ = self._span_or_instant(right)
        if earlier.end is None or later.begin is None:
            return sa.false()
        return _before(earlier.end, later.begin, or_equal=not earlier_is_instant)

    # -- text, lists -------------------------------------------------------------------------------

    def _glob(self, node: nodes.Glob) -> Condition:
        operand, pattern = self._meaning(node.operand), self._meaning(node.pattern)
        if operand.kind not in ("string", "hash"):
            raise self._invalid(node.operand.at, f"GLOB is for text, and this is {_SHOWN[operand.kind]}")
        value = getattr(pattern.column, "value", None)
        if not isinstance(value, str):
            raise self._invalid(node.pattern.at, "the pattern of GLOB must be 'text'")
        return self._database.glob(operand.column, value)

    def _membership(self, node: nodes.Membership) -> Condition:
        operand = self._meaning(node.operand)
        values: list[Any] = []
        tests: list[Condition] = []
        for item in node.items:
            if isinstance(item, nodes.Range):
                if operand.kind != "int":
                    raise self._invalid(item.at, f"a range holds integers, and this is {_SHOWN[operand.kind]}")
                tests.append(_in_range(operand.column, item))
                continue
            if isinstance(item, nodes.Absent):
                tests.append(operand.column.is_(None))
                continue
            if isinstance(item, nodes.Name) and item.text not in self._bind:
                tests.append(operand.column == self._alike(node.operand, item, item.at)[1].column)
                continue
            several = self._several(item)
            if len(values) + len(several or ()) > MAX_ITEMS:
                # Before anything is made of them.
                raise self._invalid(item.at, f"more than {MAX_ITEMS} values in one IN")
            given = [self._meaning(item)] if several is None else [_literal_of(value) for value in several]
            for value in (self._item(item, operand, one) for one in given):
                if operand.kind == "int" and isinstance(value, float):
                    # Not into the list: PostgreSQL would round it.
                    tests.append(operand.column == sa.literal(value, sa.Double()))
                else:
                    values.append(value)
            if len(values) > MAX_ITEMS:
                raise self._invalid(item.at, f"more than {MAX_ITEMS} values in one IN")
        if values or not tests:
            # Even for an empty list: NULL IN () is false, as SQLAlchemy writes it.
            kind = operand.column.type if operand.kind == "uuid" else _SQL_TYPES[operand.kind]()
            tests.append(operand.column.in_([sa.literal(value, kind) for value in values]))
        found = sa.or_(*tests)
        return sa.not_(found) if node.negated else found

    def _several(self, item: nodes.Operand) -> tuple[Any, ...] | None:
        if isinstance(item, (nodes.Bind, nodes.Name)):
            value = self._bind.get(item.text)
            if isinstance(value, (tuple, list)):
                return tuple(value)
        return None

    def _item(self, item: nodes.Operand, operand: Meaning, value: Meaning) -> Any:
        if value.kind == "string":
            value = self._read(item, value, operand.kind)
        if not any({operand.kind, value.kind} <= kinds for kinds in _ALIKE):
            raise self._invalid(item.at, f"{_SHOWN[value.kind]} cannot be among values that are {_SHOWN[operand.kind]}")
        # The two truth values have no parameter.
        return value.column.value if isinstance(value.column, sa.BindParameter) else value.column is sa.true()

    # -- operands ----------------------------------------------------------------------------------

    def _meaning(self, operand: nodes.Operand) -> Meaning:
        match operand:
            case nodes.Constant(value):
                return _literal_of(value)
            case nodes.Instant(ns):
                return _literal(ns, "instant")
            case nodes.Uuid(raw):
                return self._names.uuid(raw)
            case nodes.Absent(at):
                raise self._invalid(at, "NULL is no value here", "write IS NULL or IS NOT NULL")
            case nodes.Shape(kind, _, at):
                raise self._invalid(
                    at, f"a {kind} has no place here", "write visit.region OVERLAPS CIRCLE(ra, dec, radius)"
                )
            case nodes.Span(_, _, at):
                raise self._invalid(at, "a time span has no place here", "write timespan OVERLAPS (T'...', T'...')")
            case nodes.Negative(operand, at):
                number = self._number(operand, at)
                return Meaning(-number.column, number.kind)
            case nodes.Arithmetic():
                return self._arithmetic(operand)
            case nodes.Bind(text, at):
                if text not in self._bind:
                    raise self._invalid(
                        at, f"no value is given for :{text}", f"given: {', '.join(self._bind) or 'none'}"
                    )
                return self._bound(text, at)
            case nodes.Name(text, at):
                if text in self._bind:
                    return self._bound(text, at)
                try:
                    return self._names.resolve(text)
                except UnknownNameError as exc:
                    raise self._invalid(at, str(exc), exc.hint) from None
        raise AssertionError(operand)

    def _number(self, operand: nodes.Operand, at: int) -> Meaning:
        meaning = self._meaning(operand)
        if meaning.kind not in ("int", "float"):
            raise self._invalid(at, f"arithmetic is for numbers, and this is {_SHOWN[meaning.kind]}")
        return meaning

    def _arithmetic(self, node: nodes.Arithmetic) -> Meaning:
        one, other = self._number(node.left, node.left.at), self._number(node.right, node.right.at)
        kind: Kind = "int" if one.kind == other.kind == "int" else "float"
        match node.operator:
            case "+":
                return Meaning(one.column + other.column, kind)
            case "-":
                return Meaning(one.column - other.column, kind)
            case "*":
                return Meaning(one.column * other.column, kind)
        # By zero: no value, in both databases.
        divisor = sa.func.nullif(other.column, sa.literal(0, _SQL_TYPES[other.kind]()), type_=other.column.type)
        if node.operator == "/":
            # As in Gen3, and not in SQL, also of integers.
            return Meaning(sa.cast(one.column, sa.Double) / sa.cast(divisor, sa.Double), "float")
        if kind != "int":
            raise self._invalid(node.at, "% is for integers")
        return Meaning(one.column % divisor, "int")

    def _bound(self, text: str, at: int) -> Meaning:
        value = self._bind[text]
        if isinstance(value, (tuple, list)):
            raise self._invalid(at, f"{text} is a list of values", "lists are for IN")
        if not isinstance(value, (int, float, str)) or (type(value) is int and not -(2**63) <= value < 2**63):
            raise self._invalid(at, f"{text} has a value that cannot be compared: {value!r}")
        return _literal_of(value)


class _TimeSpan(NamedTuple):
    """The ends of a time span; None where it is open."""

    begin: sa.ColumnElement[Any] | None
    end: sa.ColumnElement[Any] | None


def _before(one: sa.ColumnElement[Any] | None, other: sa.ColumnElement[Any] | None, *, or_equal: bool) -> Condition:
    if one is None or other is None:
        return sa.true()
    return one <= other if or_equal else one < other


def _is_empty(span: _TimeSpan) -> bool:
    """Whether a literal ends before it begins, so that it has no time in common with anything."""
    begin, end = getattr(span.begin, "value", None), getattr(span.end, "value", None)
    return begin is not None and end is not None and begin >= end


def _literal(value: Any, kind: Kind) -> Meaning:
    return Meaning(sa.literal(value, _SQL_TYPES[kind]()), kind)


def _literal_of(value: bool | int | float | str) -> Meaning:
    if isinstance(value, bool):
        # TRUE has a spelling in each dialect, and no parameter.
        return Meaning(sa.true() if value else sa.false(), "bool")
    if isinstance(value, str):
        return _literal(value, "string")
    return _literal(value, "int" if isinstance(value, int) else "float")


def _in_range(column: sa.ColumnElement[Any], item: nodes.Range) -> Condition:
    inside = sa.and_(
        column >= sa.literal(item.first, sa.BigInteger()), column <= sa.literal(item.last, sa.BigInteger())
    )
    if item.step == 1:
        return inside
    # Beyond `first`, so that both dialects' remainders agree and nothing overflows for sane numbers.
    offset = column - sa.literal(item.first, sa.BigInteger())
    return sa.and_(inside, offset % sa.literal(item.step, sa.BigInteger()) == sa.literal(0, sa.BigInteger()))
