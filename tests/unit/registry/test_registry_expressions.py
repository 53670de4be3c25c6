from __future__ import annotations

import pytest
from tests.unit.registry.world import EXPOSURES, put_all_raws, rows_of

from pantry.daemon.registry import Registry
from pantry.daemon.registry.expressions import parse
from pantry.daemon.registry.expressions.instants import parse_instant
from pantry.daemon.registry.expressions.nodes import (
    And,
    Bind,
    Comparison,
    Constant,
    Glob,
    Instant,
    IsNull,
    Membership,
    Name,
    Not,
    Or,
    Range,
    Truth,
)
from pantry.daemon.registry.expressions.parser import MAX_CHARACTERS, MAX_DEPTH, MAX_TERMS
from pantry.errors import InvalidQueryError

A = Comparison("=", Name("a", 0), Constant(1, 2), 1)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a=1", A),
        ("(((a=1)))", Comparison("=", Name("a", 3), Constant(1, 5), 4)),
        ("a == 1", Comparison("=", Name("a", 0), Constant(1, 5), 2)),
        ("a <> -2.5e1", Comparison("!=", Name("a", 0), Constant(-25.0, 5), 2)),
        ("'it''s'>=:b", Comparison(">=", Constant("it's", 0), Bind("b", 9), 7)),
        ("a.b.c < T'1970-01-01 00:00:01/tai'", Comparison("<", Name("a.b.c", 0), Instant(10**9, 8), 6)),
        ("not x", Not(Truth(Name("x", 4), 4), 0)),
        ("x IS null", IsNull(Name("x", 0), False, 2)),
        ("x is Not Null", IsNull(Name("x", 0), True, 2)),
        ("x in (1, 3..9:2,:b)", Membership(Name("x", 0), (Constant(1, 6), Range(3, 9, 2, 9), Bind("b", 16)), False, 2)),
        ("x not in y", Membership(Name("x", 0), (Name("y", 9),), True, 2)),
        ("x in (-3..-1)", Membership(Name("x", 0), (Range(-3, -1, 1, 6),), False, 2)),
        ("glob(x, 'a*')", Glob(Name("x", 5), Constant("a*", 8), 0)),
        (
            "notes OR T AND true",
            Or((Truth(Name("notes", 0), 0), And((Truth(Name("T", 9), 9), Truth(Constant(True, 15), 15)), 11)), 6),
        ),
        ("in_raft AND orbit", And((Truth(Name("in_raft", 0), 0), Truth(Name("orbit", 12), 12)), 8)),
    ],
)
def test_trees(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    ("text", "column", "said", "hint"),
    [
        ("", 1, "empty", "expected a name"),
        ("visit = ", 8, "ends too early", "a number"),
        ("visit == 'abc", 10, "not closed", ""),
        ("(a=1", 5, "ends too early", "')'"),
        ("a=1)", 4, "')' is not expected", "the end"),
        ("a=1 AN b=2", 5, "'AN'", "AND, OR"),
        ('a = "r"', 5, "single quotes", ""),
        ("T'soon' < timespan.end", 1, "T'2025-04-15", ""),
        ("a in (9..1)", 7, "ends before it begins", ""),
        ("a in (1..9:0)", 7, "steps of 0", ""),
        ("a $ b", 3, "'$' has no meaning", ""),
        ("a in ()", 7, "')'", "a range"),
        ("a = 99999999999999999999", 5, "64 bits", ""),
        ("a = 1 2", 7, "'2'", ""),
        ("a = 12abc", 5, "has no meaning", ""),
        ("x AND T'2025-04-15/gmt' < y", 7, "no time scale", ""),
        ("(a = 1) + 2 = 3", 4, "a condition stands where a value must", ""),
        ("a < NULL", 3, "NULL has no order", ""),
        ("(a, b, c) OVERLAPS d", 6, "','", ""),
    ],
)
def test_mistakes_are_shown_where_they_are(text: str, column: int, said: str, hint: str) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        parse(text)
    message, _, caret = caught.value.message.partition("\n")
    assert f"column {column}:" in message
    assert said in message
    assert hint in caught.value.hint
    assert caught.value.fields["column"] == column
    assert caret.splitlines()[-1] == " " * (column + 1) + "^"


def test_the_line_is_given_too() -> None:
    with pytest.raises(InvalidQueryError, match=r"line 2, column 5") as caught:
        parse("a = 1 AND\nb = $")
    assert caught.value.message.endswith("\n  b = $\n      ^")


def test_a_long_line_is_shown_around_the_place() -> None:
    with pytest.raises(InvalidQueryError) as caught:
        parse("a = 1 AND " * 50 + "$" + " AND a = 1" * 50)
    _, line, caret = caught.value.message.splitlines()
    assert line[caret.index("^")] == "$"
    assert len(line) < 130


def test_limits() -> None:
    parse(" AND ".join(["a=1"] * MAX_TERMS))
    with pytest.raises(InvalidQueryError, match="use IN"):
        parse(" OR ".join(["a=1"] * (MAX_TERMS + 1)))
    parse("NOT " * (MAX_DEPTH - 1) + "a=1")
    with pytest.raises(InvalidQueryError, match="deep"):
        parse("NOT " * MAX_DEPTH + "a=1")
    parse("(" * 10_000 + "a=1" + ")" * 10_000)
    with pytest.raises(InvalidQueryError, match="at most"):
        parse(" " * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01/tai", 0),
        ("1970-01-02T00:00:00.000000001/TAI", 86_400_000_000_001),
        ("2000-01-01 12:00/tai", 946_728_000_000_000_000),
        # Beyond what an open end stands for there is nothing, as in Gen3.
        ("1969-12-31T23:59:59/tai", 0),
        ("9999-12-31", 4_102_444_800_000_000_000),
        ("mjd/99999999999999999999.5", 4_102_444_800_000_000_000),
        # UTC where nothing else is said: 32 and 37 leap seconds.
        ("2000-01-01 12:00", 946_728_032_000_000_000),
        ("2025-04-15T00:00:00.5", 1_744_675_237_500_000_000),
        ("2025-04-15T00:00:00.5+00:00", 1_744_675_237_500_000_000),
        ("2016-12-31T23:59:60/utc", 1_483_228_836_000_000_000),
        ("2025:105", 1_744_675_237_000_000_000),
        ("iso/2025-04-15/tai", 1_744_675_200_000_000_000),
        ("unix/1744675200", 1_744_675_237_000_000_000),
        ("jd/2440588.0", 43_200_000_000_000),
        ("mjd/40587.0/utc", 8_000_082_000),
        ("2025-04-15T00:00:32.184/tt", 1_744_675_200_000_000_000),
        ("2024-02-29T00:00:00/tai", 1_709_164_800_000_000_000),
        ("mjd/40587.5", 43_200_000_000_000),
        ("40588", 86_400_000_000_000),
    ],
)
def test_instants(text: str, ns: int) -> None:
    assert parse_instant(text) == ns


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-02-30",
        "2025-01-01T24:00:00",
        "2025-13-1",
        "yesterday",
        "2025-01-01T00:00:00Z",
        "xyz/1",
        "mjd/2025-01-01",
    ],
)
def test_bad_instants(text: str) -> None:
    with pytest.raises(ValueError, match="time|no such day|is no format"):
        parse_instant(text)


# -- what names and values mean ---------------------------------------------------------------------


@pytest.fixture
def raws(registry: Registry) -> Registry:
    put_all_raws(registry, "run")
    return registry


def count(registry: Registry, where: str, **bind: object) -> int:
    return len(rows_of(registry, where=where, bind=bind))


@pytest.mark.parametrize(
    ("where", "bind", "matches"),
    [
        ("detector = d", {"d": 94}, 6),
        ("detector IN (ds)", {"ds": (0, 1)}, 12),
        ("detector IN :ds", {"ds": (0, 1)}, 12),
        ("detector IN (:ds)", {"ds": ()}, 0),
        ("detector NOT IN (:ds)", {"ds": ()}, 24),
        ("detector NOT IN (ds, 2..2)", {"ds": (0, 1)}, 6),
        ("detector IN (0.0, 1.5)", {}, 6),
        ("detector NOT IN (1.5)", {}, 24),
        ("exposure.exposure_time = 15", {}, 4),
        ("exposure.id = exposure", {}, 24),
        ("exposure.seq_num = detector", {}, 2),
        ("exposure.day_obs = 20250415 AND exposure.physical_filter = 'r_01'", {}, 12),
        ("instrument.detector_max > detector", {}, 24),
        ("day_obs.timespan.end > exposure.timespan.end", {}, 24),
        ("exposure.timespan.begin < t", {"t": "1970-01-01T00:00:00.000003/tai"}, 8),
        ("exposure.timespan OVERLAPS (T'1970-01-01T00:00:00.0000011/tai', T'1970-01-01T00:00:00.0000031/tai')", {}, 12),
        ("timespan OVERLAPS (NULL, T'1970-01-01T00:00:00.000002/tai')", {}, 4),
        ("(T'1970-01-01T00:00:00.000002/tai', NULL) OVERLAPS timespan", {}, 20),
        ("timespan OVERLAPS (NULL, NULL)", {}, 24),
        ("timespan OVERLAPS (T'2000-01-02', T'2000-01-01')", {}, 0),
        ("timespan OVERLAPS T'1970-01-01T00:00:00.0000015/tai'", {}, 0),
        ("timespan OVERLAPS T'1970-01-01T00:00:00.0000014/tai'", {}, 4),
        ("timespan OVERLAPS t", {"t": "1970-01-01T00:00:00.000001/tai"}, 4),
        ("exposure.timespan OVERLAPS day_obs.timespan", {}, 24),
        ("timespan < T'1970-01-01T00:00:00.000002/tai'", {}, 4),
        ("timespan > T'1970-01-01T00:00:00.000002/tai'", {}, 16),
        ("NOT timespan OVERLAPS (T'1970-01-01/tai', T'1970-01-01T00:00:00.000002/tai')", {}, 20),
        ("timespan IS NULL", {}, 0),
        ("timespan != NULL", {}, 24),
        ("exposure.tracking_ra = NULL", {}, 24),
        ("exposure.seq_num * 2 + 1 = 5", {}, 4),
        ("exposure.seq_num - -1 IN (2, 3..3)", {}, 8),
        ("exposure.seq_num % 2 = 1", {}, 12),
        ("exposure.seq_num / 2 = 1.5", {}, 4),
        ("-exposure.seq_num < -5", {}, 4),
        ("(exposure.exposure_time + 15) / exposure.seq_num < 20", {}, 12),
        ("exposure.seq_num / detector > 0", {}, 18),
        ("1 + 2 * 3 = 7", {}, 24),
        ("(1 + 2) * 3 = +9", {}, 24),
        ("exposure.can_see_sky = FALSE", {}, 8),
        ("exposure.can_see_sky IN (TRUE, FALSE)", {}, 24),
        ("NOT exposure.can_see_sky", {}, 8),
        ("exposure.tracking_ra > 5", {}, 0),
        ("NOT exposure.tracking_ra > 5", {}, 0),
        ("TRUE", {}, 24),
        ("NOT (TRUE AND 1 = 2 OR FALSE)", {}, 24),
        ("band IN ('r', 'x') OR detector = 94", {}, 15),
        ("'r' = band", {}, 12),
        ("detector.purpose < 'SCIENCF'", {}, 24),
        ("  ", {}, 24),
    ],
)
def test_meanings(raws: Registry, where: str, bind: dict[str, object], matches: int) -> None:
    assert count(raws, where, **bind) == matches


@pytest.mark.parametrize(
    ("where", "bind", "column", "said", "hint"),
    [
        ("exposur = 1", {}, 1, "unknown name 'exposur'", "exposure"),
        ("exposure.exposuretime = 1", {}, 1, "unknown name", "exposure.exposure_time"),
        ("seqnum = 1", {}, 1, "unknown name", "exposure.seq_num"),
        ("band = 'r' AND tract = 1", {}, 16, "skymap, tract cannot constrain", ""),
        ("timespan = 1", {}, 10, "no meaning for time spans", "OVERLAPS"),
        ("timespan OVERLAPS 5", {}, 19, "a time span is", ""),
        ("timespan OVERLAPS NULL", {}, 19, "NULL is no time span", "IS NULL"),
        ("timespan.begin OVERLAPS T'2025-04-15'", {}, 16, "two instants do not overlap", ""),
        ("detector.timespan OVERLAPS T'2025-04-15'", {}, 1, "unknown name", ""),
        ("band + 1 = 2", {}, 1, "arithmetic is for numbers", ""),
        ("exposure.exposure_time % 2 = 0", {}, 24, "for integers", ""),
        ("detector = (1, 2)", {}, 13, "a time span is", ""),
        ("exposure.timespan.middle = 1", {}, 1, "unknown", "exposure.timespan"),
        ("detector = :d", {"e": 1}, 12, "no value is given for :d", "e"),
        ("detector = d", {"d": (1, 2)}, 12, "list of values", "IN"),
        ("detector = '94'", {}, 10, "an integer cannot be compared with text", ""),
        ("band = 5", {}, 6, "text cannot be compared with an integer", ""),
        ("band IN (1..5)", {}, 10, "range holds integers", ""),
        ("detector IN (1, 'a')", {}, 17, "text cannot be among", ""),
        ("exposure.can_see_sky > TRUE", {}, 22, "no order", ""),
        ("detector", {}, 1, "an integer is not a condition", ""),
        ("GLOB(detector, '9*')", {}, 6, "GLOB is for text", ""),
        ("GLOB(band, instrument)", {}, 12, "pattern", ""),
        ("timespan.begin > 5", {}, 16, "a time cannot be compared", ""),
        ("timespan.begin > t", {"t": "soon"}, 18, "T'2025", ""),
        ("exposure.timespan.begin IN ('soon')", {}, 29, "T'2025", ""),
        ("detector = d", {"d": 2**63}, 12, "cannot be compared", ""),
    ],
)
def test_mistakes_in_meaning(
    raws: Registry, where: str, bind: dict[str, object], column: int, said: str, hint: str
) -> None:
    with pytest.raises(InvalidQueryError) as caught:
        count(raws, where, **bind)
    assert f"column {column}:" in caught.value.message
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_values_are_bound_and_never_pasted(raws: Registry) -> None:
    assert count(raws, "band = 'x'' OR 1=1 --'") == 0
    assert count(raws, "band = b", b="r' OR '1'='1") == 0
    assert count(raws, "GLOB(band, '*'' OR 1=1 --')") == 0
    for wild in ("%", "_", "[r]", "\\*"):
        assert count(raws, "GLOB(band, p)", p=wild) == 0


def test_many_values(raws: Registry) -> None:
    assert count(raws, "exposure IN (e)", e=tuple(range(9_999)) + EXPOSURES[:1]) == 4
    with pytest.raises(InvalidQueryError, match="more than 10000"):
        count(raws, "exposure IN (e)", e=tuple(range(10_001)))
