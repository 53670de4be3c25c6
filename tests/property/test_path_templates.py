"""Accepted templates never give two datasets one path, and those that do are refused (DMS-MWBT-REQ-0066)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pantry.errors import ConfigError
from pantry.model.data_id import DataIdValue
from pantry.model.naming import dataset_path, is_ambiguous, quote_last, quote_value, unquote_last
from pantry.model.path_proofs import Layout, ambiguity_between, ambiguity_within, default_layout, template_layout
from pantry.model.templates import PathTemplate, parse_template

INTEGERS = ("m", "n")
TEXTS = ("s", "t")
IMPLIED = ("i", "j")
ALL_INTEGERS = (*INTEGERS, "i")
SUFFIXES = ("", ".x", ".fits.fz")

WORDS = st.text("a_1-.", min_size=1, max_size=3)
VALUES = {
    **dict.fromkeys(ALL_INTEGERS, st.one_of(st.integers(-12, 120), st.integers(-(2**63), 2**63 - 1))),
    **dict.fromkeys((*TEXTS, "j"), st.one_of(WORDS, st.text(max_size=3))),
}
RUN_PART = st.text("a_1-", min_size=1, max_size=2)
RUNS = st.lists(RUN_PART, min_size=1, max_size=4).map("/".join)

Row = tuple[str, dict[str, DataIdValue | None], str]


@st.composite
def templates(draw: st.DrawFn, required: Sequence[str]) -> PathTemplate:
    """Templates with little between the fields, so that many are ambiguous."""
    fields = [*draw(st.permutations(required)), *draw(st.lists(st.sampled_from([*required, *IMPLIED]), max_size=2))]
    written = [
        f"{{{name}:0{width}d}}" if name in ALL_INTEGERS and (width := draw(st.integers(0, 3))) else f"{{{name}}}"
        for name in draw(st.permutations(fields))
    ]
    glue = st.sampled_from(["", "_", "-", "a", "1", "/", "/a_", "a/"])
    text = "a" + "".join(draw(glue) + one for one in written) + draw(st.sampled_from(["", "_", "1"]))
    parts = [part for part in text.split("/") if part]
    parts.insert(draw(st.integers(0, len(parts) - 1)), "{run}")
    try:
        return parse_template("/".join(parts), "test")
    except ConfigError:
        assume(False)
        raise


def rows(required: Sequence[str]) -> st.SearchStrategy[list[Row]]:
    values = {name: VALUES[name] for name in required} | {name: st.one_of(st.none(), VALUES[name]) for name in IMPLIED}
    row = st.tuples(RUNS, st.fixed_dictionaries(values), st.sampled_from(SUFFIXES))
    return st.lists(row, min_size=2, max_size=12)


def paths(template: PathTemplate, name: str, data: Sequence[Row]) -> list[str]:
    return [
        template.paths(name, run, {key: [value] for key, value in values.items()}, [suffix])[0]
        for run, values, suffix in data
    ]


def identity(row: Row, required: Sequence[str]) -> tuple[object, ...]:
    run, values, suffix = row
    return (run, suffix, *(values[name] for name in required))


REQUIRED = st.sampled_from([("m",), ("m", "n"), ("s",), ("s", "m"), ("s", "t"), ("m", "n", "s"), ("m", "s", "t")])


@pytest.mark.req("DMS-MWBT-REQ-0066")
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_equal_paths_mean_equal_datasets(data: st.DataObject) -> None:
    required = data.draw(REQUIRED)
    template = data.draw(templates(required))
    # Whatever it is: a proof ends.
    assume(not ambiguity_within(template_layout(template, "T", required, ALL_INTEGERS)))
    found: dict[str, tuple[object, ...]] = {}
    drawn = data.draw(rows(required))
    for row, path in zip(drawn, paths(template, "T", drawn), strict=True):
        assert found.setdefault(path, identity(row, required)) == identity(row, required)
        # Whatever the values are, these are names of files below the root.
        assert not any(part in ("", ".", "..") or part.startswith(".pantry-") for part in path.split("/"))


# -- by brute force ----------------------------------------------------------------------------------

FEW: dict[str, Sequence[DataIdValue | None]] = {
    **dict.fromkeys(INTEGERS, (1, 11, 111, 0, -1)),
    **dict.fromkeys(TEXTS, ("a", "aa", "1", "a_", "_a", "a_a", "aaa", "_", "", "a.1", "1a", "aa_", "a1")),
    "i": (1, 11, 111, None),
    "j": (None, "a", "1_", "_a", "a_", "aa", "1a", "a_a"),
}


def all_few(required: Sequence[str], implied: Sequence[str]) -> Iterator[Row]:
    for values in itertools.product(*(FEW[name] for name in (*required, *implied))):
        yield "r", dict(zip((*required, *implied), values, strict=True)), ".x"


def random_template(chance: random.Random, required: Sequence[str]) -> tuple[PathTemplate, list[str]]:
    implied = chance.choice([[], [], ["i"], ["j"]])
    fields = [*required, *implied]
    chance.shuffle(fields)
    text = "".join(
        chance.choice(["", "_", "_", "a", "/", "/", "a_"])
        + f"{{{name}{':02d' if name in ALL_INTEGERS and chance.random() < 0.5 else ''}}}"
        for name in fields
    )
    return parse_template("{run}/" + text.strip("/").replace("//", "/"), "test"), implied


def test_what_brute_force_finds_colliding_is_refused() -> None:
    chance = random.Random(43)
    colliding = accepted = without_reason = 0
    for number in range(400):
        required = [("m", "n"), ("s", "m"), ("s", "t")][number % 3]
        template, implied = random_template(chance, required)
        found: dict[str, tuple[object, ...]] = {}
        few = list(all_few(required, implied))
        collides = any(
            found.setdefault(path, identity(row, required)) != identity(row, required)
            for row, path in zip(few, paths(template, "T", few), strict=True)
        )
        wrong = ambiguity_within(template_layout(template, "T", required, ALL_INTEGERS))
        assert wrong or not collides, template.text
        colliding += collides
        accepted += not wrong
        without_reason += bool(wrong) and not collides
    # Neither everything nor nothing is refused, and little that these few values do not show to be wrong.
    assert colliding > 80
    assert accepted > 150
    assert without_reason < 20


def described(name: str, text: str, required: Sequence[str]) -> tuple[Layout, PathTemplate | None]:
    if not text:
        return default_layout(name, required, ALL_INTEGERS), None
    template = parse_template(text, "test")
    return template_layout(template, name, required, ALL_INTEGERS), template


def stored(name: str, template: PathTemplate | None, required: Sequence[str], row: Row) -> str:
    if template is not None:
        return paths(template, name, [row])[0]
    run, values, suffix = row
    return dataset_path(run, name, [values[one] for one in required], suffix)  # type: ignore[misc]


def test_two_types_whose_paths_brute_force_finds_colliding_are_refused() -> None:
    chance = random.Random(44)
    runs = ["a", "1", "a/a", "a/1", "1/a", "a/a_1", "a/a/1", "a/a/a", "a/a_1/a"]
    few: dict[str, Sequence[DataIdValue]] = {"m": (1, 11), "n": (1,), "s": ("a", "a_1", "1_1", "1"), "t": ("a", "1_1")}
    heads = ["{run}/", "a/{run}/", "{run}/{dataset_type}/", "{run}/a/"]
    colliding = accepted = 0
    for _ in range(400):
        sides = []
        for name in ("a", chance.choice(["a_1", "b", "a_"])):
            required = chance.choice([("m",), ("s",), ("s", "m"), ("s", "t")])
            text = chance.choice(heads) + chance.choice(["/", "_", "/{dataset_type}_"]).join(
                f"{{{one}}}" for one in required
            )
            text = chance.choice(["", text]) if name != "a" else text
            layout, template = described(name, text, required)
            data = [
                (run, dict(zip(required, values, strict=True)), suffix)
                for run in runs
                for values in itertools.product(*(few[one] for one in required))
                for suffix in ("", ".x")
            ]
            sides.append((layout, {stored(name, template, required, row) for row in data}))
        wrong = ambiguity_between(sides[0][0], sides[1][0])
        assert bool(wrong) == bool(ambiguity_between(sides[1][0], sides[0][0]))
        common = sides[0][1] & sides[1][1]
        assert wrong or not common, (common, sides[0][0].segments, sides[1][0].segments)
        colliding += bool(common)
        accepted += not wrong
    assert colliding > 40
    assert accepted > 150


def test_two_types_are_compared_at_every_number_of_parts() -> None:
    # With four parts "b" would have to be an integer; with five, both are a/b/1/1/x.
    one, _ = described("p", "a/b/{run}/{s}", ("s",))
    other, _ = described("q", "{run}/{m}/{n}/{s}", ("m", "n", "s"))
    assert ambiguity_between(one, other) == "a p and a q could both be 'a/b/1/1/a'"
    assert not ambiguity_between(described("p", "a/b/{run}/{s}", ("s",))[0], described("q", "b/{run}/{s}", ("s",))[0])


def test_a_dot_in_a_templated_file_name_is_the_suffixs() -> None:
    template = parse_template("{run}/{s}/{s}", "test")
    rows: list[Row] = [("r", {"s": "a.x"}, ""), ("r", {"s": "a"}, ".x")]
    assert paths(template, "T", rows) == ["r/a.x/a%2Ex", "r/a/a.x"]


@given(
    st.lists(st.tuples(RUNS, st.lists(st.text("a_1", min_size=1, max_size=5), min_size=1, max_size=3)), min_size=2),
)
def test_default_paths_of_two_types_are_told_apart_where_it_is_written_down(
    drawn: list[tuple[str, list[str]]],
) -> None:
    # What `is_ambiguous` finds is written differently; of the rest, no two are equal.
    names = {1: "a", 2: "a_1", 3: "a_a"}
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for run, values in drawn:
        name = names[len(values)]
        if is_ambiguous(run, name, values):
            continue
        assert found.setdefault(dataset_path(run, name, values, ".x"), (run, tuple(values))) == (run, tuple(values))


def test_the_default_path_of_one_type_that_could_be_anothers_is_known() -> None:
    assert dataset_path("r/a_1", "a", ["1_a_5"], "") == dataset_path("r", "a_1", ["a", 5], "") == "r/a_1/a/a_1_a_5"
    assert is_ambiguous("r/a_1", "a", ["1_a_5"])
    assert not is_ambiguous("r", "a_1", ["a", "5"])
    assert not is_ambiguous("r/a_2", "a", ["1_a_5"])


@pytest.mark.req("DMS-MWBT-REQ-0078")
@given(
    st.tuples(
        st.text("afitsgz.", max_size=8), st.sampled_from(["", ".fits", ".fits.fz", ".fz", ".gz", ".a.gz.fz", ".a.fits"])
    ),
    st.tuples(
        st.text("afitsgz.", max_size=8), st.sampled_from(["", ".fits", ".fits.fz", ".fz", ".gz", ".a.gz.fz", ".a.fits"])
    ),
)
def test_a_value_and_a_suffix_are_told_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert one == other or quote_last(*one) + one[1] != quote_last(*other) + other[1]


def test_only_what_could_be_a_suffix_is_quoted_more() -> None:
    assert quote_last("r.MP9601", ".fits") == "r.MP9601" == quote_value("r.MP9601")
    assert quote_last("a.fits", ".fz") == "a%2Efits"
    assert quote_last("a", ".fits.fz") == "a"
    assert quote_last(".hidden", ".fits") == "%2Ehidden"
    assert quote_last("r.i", ".ome.tiff") == "r%2Ei%"
    assert quote_last(5, ".ome.tiff") == "5"


@given(st.text("a.%é", max_size=8), st.sampled_from(["", ".fits", ".gz", ".ome.tiff"]))
def test_the_value_before_a_suffix_is_read_back(value: str, suffix: str) -> None:
    assert unquote_last(quote_last(value, suffix)) == value
