"""Random expressions: what SQL answers is what a plain evaluation over the rows answers."""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.registry.world import CAMERA, create, record, sqlite_url

from pantry.daemon.registry import Registry
from pantry.errors import InvalidQueryError
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import QueryDimensionRecords

INTS = (1, 2, 3, 5, 8, -4)
TEXTS = ("r", "r_1", "R", "g%", "it's", "a[b]", "")
FLOATS = (0.5, 2.0, -1.25)
NS = (0, 10**9, 3 * 10**9)
OPERATORS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
COLUMNS = {
    "int": ("exposure", "exposure.seq_num", "seq_start", "day_obs"),
    "float": ("exposure.exposure_time", "dark_time"),
    "string": ("exposure.target_name", "science_program", "exposure.obs_id"),
    "bool": ("exposure.can_see_sky", "has_simulated"),
    "instant": ("exposure.timespan.begin", "timespan.end"),
}
Row = dict[str, Any]


def rows() -> list[Row]:
    made = []
    for number in range(12):
        made.append(
            {
                "exposure": number,
                "obs_id": f"{TEXTS[number % 7]}{number}",
                "seq_num": INTS[number % 6],
                "seq_start": None if number % 3 == 0 else INTS[number * 5 % 6],
                "day_obs": 1 + number % 2,
                "exposure_time": FLOATS[number % 3],
                "dark_time": None if number % 4 == 0 else float(number),
                "target_name": TEXTS[number % 7],
                "science_program": None if number % 5 == 0 else TEXTS[number * 3 % 7],
                "can_see_sky": number % 2 == 0,
                "has_simulated": None if number % 3 == 1 else number % 4 == 0,
                "timespan.begin": None if number == 7 else NS[number % 3],
                "timespan.end": None if number == 7 else NS[number % 3] + 10**9 * (number % 2),
            }
        )
    return made


ROWS = rows()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    made = create(sqlite_url(Path(tmp_path_factory.mktemp("expressions"))))
    records = [
        record("instrument", name=CAMERA),
        record("day_obs", instrument=CAMERA, id=1),
        record("day_obs", instrument=CAMERA, id=2),
    ]
    for row in ROWS:
        values = {name: value for name, value in row.items() if "." not in name and name != "exposure"}
        begin = row["timespan.begin"]
        span = None if begin is None else Timespan(begin, row["timespan.end"])
        records.append(record("exposure", instrument=CAMERA, id=row["exposure"], timespan=span, **values))
    made.insert_dimension_records(records)
    yield made
    made.close()


# An expression is drawn as its text and as a function from a row to True, False or None (unknown).


def value_of(row: Row, name: str) -> Any:
    return row[name.removeprefix("exposure.") if name != "exposure" else name]


def instant_text(ns: int) -> str:
    return f"T'1970-01-01T00:00:{ns // 10**9:02}/tai'"


def literals(kind: str) -> st.SearchStrategy[tuple[str, Any]]:
    if kind == "int":
        return st.one_of(st.sampled_from(INTS), st.integers(0, 12)).map(lambda value: (str(value), value))
    if kind == "float":
        return st.sampled_from([*FLOATS, *INTS]).map(lambda value: (str(value), value))
    if kind == "string":
        return st.sampled_from(TEXTS).map(lambda value: ("'" + value.replace("'", "''") + "'", value))
    if kind == "bool":
        return st.booleans().map(lambda value: (str(value), value))
    return st.sampled_from(NS).map(lambda value: (instant_text(value), value))


@st.composite
def sums(draw: st.DrawFn) -> tuple[str, Any]:
    """Arithmetic of integers, in parentheses."""
    symbol = draw(st.sampled_from("+-*%"))
    (left, one), (right, two) = draw(operands("int")), draw(operands("int"))

    def evaluate(row: Row) -> int | None:
        a, b = one(row), two(row)
        if a is None or b is None or (symbol == "%" and b == 0):
            return None
        # The remainder has the sign of the dividend.
        return int(math.fmod(a, b)) if symbol == "%" else ARITHMETIC[symbol](a, b)

    return f"({left} {symbol} {right})", evaluate


@st.composite
def overlaps(draw: st.DrawFn) -> tuple[str, Any]:
    ends = [draw(st.none() | st.sampled_from(NS)) for _ in range(2)]
    texts = ["NULL" if end is None else instant_text(end) for end in ends]
    begin, end = ends

    def evaluate(row: Row) -> bool | None:
        if begin is not None and end is not None and begin >= end:
            return False
        if row["timespan.begin"] is None:
            return None
        return (end is None or row["timespan.begin"] < end) and (begin is None or begin < row["timespan.end"])

    return f"timespan OVERLAPS ({texts[0]}, {texts[1]})", evaluate


@st.composite
def operands(draw: st.DrawFn, kind: str) -> tuple[str, Any]:
    if kind == "int" and draw(st.integers(0, 4)) == 0:
        return draw(sums())
    if draw(st.integers(0, 3)) == 0:
        text, value = draw(literals(kind))
        return text, lambda row: value
    name = draw(st.sampled_from(COLUMNS[kind]))
    return name, lambda row: value_of(row, name)


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(sorted(COLUMNS)))
    other = draw(st.sampled_from(["int", "float"])) if kind in ("int", "float") else kind
    symbol = draw(st.sampled_from(["=", "!="] if kind == "bool" else sorted(OPERATORS)))
    (left, one), (right, two) = draw(operands(kind)), draw(operands(other))

    def evaluate(row: Row) -> bool | None:
        a, b = one(row), two(row)
        return None if a is None or b is None else OPERATORS[symbol](a, b)

    return f"{left} {symbol} {right}", evaluate


@st.composite
def memberships(draw: st.DrawFn) -> tuple[str, Any]:
    kind = draw(st.sampled_from(["int", "float", "string", "instant"]))
    name = draw(st.sampled_from(COLUMNS[kind]))
    items = draw(st.lists(literals(kind), min_size=1, max_size=4))
    texts, values = [text for text, _ in items], {value for _, value in items}
    if kind == "int":
        for _ in range(draw(st.integers(0, 2))):
            first, length, step = draw(st.integers(-5, 8)), draw(st.integers(0, 9)), draw(st.integers(1, 4))
            texts.append(f"{first}..{first + length}" + (f":{step}" if step > 1 else ""))
            values |= set(range(first, first + length + 1, step))
    negated = draw(st.booleans())

    def evaluate(row: Row) -> bool | None:
        value = value_of(row, name)
        return None if value is None else (value in values) != negated

    return f"{name} {'NOT ' if negated else ''}IN ({', '.join(texts)})", evaluate


@st.composite
def others(draw: st.DrawFn) -> tuple[str, Any]:
    which = draw(st.integers(0, 2))
    if which == 0:
        name = draw(st.sampled_from([name for names in COLUMNS.values() for name in names]))
        negated = draw(st.booleans())
        return f"{name} IS {'NOT ' if negated else ''}NULL", lambda row: (value_of(row, name) is None) != negated
    if which == 1:
        name = draw(st.sampled_from(COLUMNS["bool"]))
        return name, lambda row: value_of(row, name)
    name = draw(st.sampled_from(COLUMNS["string"]))
    pattern = draw(st.text("rRg%_*?[]'ab1", max_size=4))
    matcher = re.compile(fnmatch.translate(pattern.replace("[", "[[]")), re.DOTALL)

    def matches(row: Row) -> bool | None:
        value = value_of(row, name)
        return None if value is None else bool(matcher.match(value))

    return f"GLOB({name}, '" + pattern.replace("'", "''") + "')", matches


def combine(parts: st.SearchStrategy[tuple[str, Any]]) -> st.SearchStrategy[tuple[str, Any]]:
    def negate(part: tuple[str, Any]) -> tuple[str, Any]:
        def evaluate(row: Row) -> bool | None:
            value = part[1](row)
            return None if value is None else not value

        return f"NOT ({part[0]})", evaluate

    def join(word: str, deciding: bool) -> st.SearchStrategy[tuple[str, Any]]:
        def make(members: list[tuple[str, Any]]) -> tuple[str, Any]:
            def evaluate(row: Row) -> bool | None:
                values = [member[1](row) for member in members]
                if deciding in values:
                    return deciding
                return None if None in values else not deciding

            return f" {word} ".join(f"({member[0]})" for member in members), evaluate

        return st.lists(parts, min_size=2, max_size=3).map(make)

    return st.one_of(parts.map(negate), join("AND", False), join("or", True))


EXPRESSIONS = st.recursive(st.one_of(comparisons(), memberships(), overlaps(), others()), combine, max_leaves=8)


def answer(registry: Registry, where: str) -> set[int]:
    query = QueryDimensionRecords(repository="r", element="exposure", where=where)
    return {record.id for batch in registry.query_dimension_records(query) for record in batch.records}


@settings(max_examples=400)
@given(expression=EXPRESSIONS)
def test_sql_answers_as_plain_evaluation(registry: Registry, expression: tuple[str, Any]) -> None:
    text, evaluate = expression
    assert answer(registry, text) == {row["exposure"] for row in ROWS if evaluate(row) is True}, text


@settings(max_examples=300)
@given(text=st.one_of(st.text(max_size=40), st.text("exposureT'()=<>!.:,0123456789 ANDORNOTINISULL\n\"", max_size=60)))
def test_any_text_gives_an_answer_or_a_clear_error(registry: Registry, text: str) -> None:
    try:
        answer(registry, text)
    except InvalidQueryError as exc:
        refusal = exc.message
    else:
        return
    assert refusal.startswith("query expression, ")
    assert refusal.splitlines()[-1].strip() == "^"
