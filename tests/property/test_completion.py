"""What is being written is anything, and a Tab key never raises."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pantry.client.introspection.expressions import complete, quoted
from pantry.client.introspection.notebook import read_call
from pantry.client.introspection.unfinished import read
from pantry.client.introspection.vocabulary import Field, Vocabulary
from pantry.daemon.registry import default_universe
from pantry.daemon.registry.expressions import nodes
from pantry.daemon.registry.expressions.parser import parse
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionUniverse
from pantry.model.metadata import MetadataEntry

CALEXP = DatasetType(
    name="calexp",
    dimensions=("visit", "detector"),
    storage_class="CCDData",
    metadata=(MetadataEntry.parse("target:string=OBJECT"),),
)
VOCABULARY = Vocabulary(DimensionUniverse(default_universe()), [CALEXP])
PIECES = st.sampled_from(
    [
        "visit",
        "calexp.target",
        "band",
        " ",
        "=",
        "(",
        ")",
        ",",
        "'",
        "''",
        "'r'",
        "IN",
        "NOT",
        "AND",
        "GLOB(",
        "3",
        "1..9:2",
        "T'2020",
        ":x",
        "OVERLAPS",
        "region",
        ".",
        "CIRCLE(",
        "IS",
        "NULL",
        "<",
        "-",
        "\n",
        "é",
        "\x00",
        '"',
    ]
)
TEXTS = st.one_of(
    st.text(max_size=60), st.lists(PIECES, max_size=14).map("".join), st.lists(PIECES, max_size=9).map(" ".join)
)


def known(field: Field, begun: str) -> Sequence[DataIdValue]:
    return ["it's", "r"] if field.kind == "string" else [1, 2]


@given(TEXTS, st.integers(0, 80))
def test_any_expression_has_a_place(text: str, cursor: int) -> None:
    place = read(text)
    assert 0 <= place.start <= len(text)
    found = complete(text, cursor, VOCABULARY, known, ["calexp"])
    before = text[:cursor]
    for candidate in found.candidates:
        # What is there stays, but for capitals of keywords.
        assert candidate.upper().startswith(before[found.start :].upper())


VALID = st.sampled_from(
    [
        "visit = 3",
        "band = 'r'",
        "calexp.target IN ('it''s', 'b')",
        "NOT (detector < 5 AND visit.exposure_time > 30.5)",
        "visit.timespan OVERLAPS (T'2020-01-01', T'2021-01-01')",
        "POINT(1, 2) OVERLAPS visit.region",
        "GLOB(calexp.target, 'a*')",
        "day_obs IN (1..9:2, 20)",
        "visit IS NOT NULL",
    ]
)


@given(st.lists(VALID, min_size=1, max_size=3), st.sampled_from([" AND ", " OR "]))
def test_after_a_whole_condition_comes_a_connective(conditions: list[str], joined: str) -> None:
    text = joined.join(conditions)
    assert parse(text) is not None
    assert complete(text + " ", None, VOCABULARY, known).candidates == ["AND ", "OR "]
    names = complete(text + " AND ", None, VOCABULARY, known).candidates
    assert "visit" in names
    assert "visit." in names


@given(st.text(max_size=30))
def test_a_value_is_read_as_it_was_written(value: str) -> None:
    written = quoted(value)
    assert read(f"band = {written[:-1]}") == ("text", 8, value, "band") or value.endswith("'")
    if value and "\0" not in value:
        node = parse(f"band = {written}")
        assert isinstance(node, nodes.Comparison)
        assert isinstance(node.right, nodes.Constant)
        assert node.right.value == value


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                [
                    "b",
                    ".",
                    "get",
                    "(",
                    ")",
                    "[",
                    "]",
                    "'",
                    '"',
                    '"""',
                    ",",
                    "=",
                    "where",
                    " ",
                    "\n",
                    "#",
                    "\\",
                    "f'",
                    "x",
                    "3",
                    ":",
                ]
            ),
            max_size=20,
        ).map("".join),
    )
)
def test_any_source_is_read(source: str) -> None:
    call = read_call(source)
    if call is not None:
        assert call.begun is None or source.endswith(call.begun)
        assert call.target.isidentifier()
