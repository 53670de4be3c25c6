"""Expressions that nobody writes by mistake: a clear error or an answer, bounded work, no SQL by text."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from tests.unit.registry.world import put_all_raws

from pantry.daemon.registry import Registry
from pantry.daemon.registry.expressions.parser import MAX_CHARACTERS
from pantry.errors import InvalidQueryError, InvalidRequestError, PantryError
from pantry.wire.operations.registry import EncodedRegion, EncodedTimespan, QueryDatasets

N_RAWS = 24
_HALF = MAX_CHARACTERS // 2


@pytest.fixture
def raws(registry: Registry) -> Registry:
    put_all_raws(registry, "run")
    return registry


def count(registry: Registry, where: str, bind: dict[str, Any] | None = None, order_by: tuple[str, ...] = ()) -> int:
    query = QueryDatasets(
        repository="r", dataset_types=("raw",), collections=("run",), where=where, bind=bind or {}, order_by=order_by
    )
    return sum(len(batch.run_index) for batch in registry.query_datasets(query))


def test_what_is_refused_says_why(raws: Registry) -> None:
    for where, message in (
        ("detector = 1 OR " * 700_000, "at most 65536"),
        ("(" * _HALF, "ends too early"),
        ("detector = 1" + ")" * _HALF, "not expected here"),
        ("NOT " * 16_000 + "detector = 1", "nested more than 100"),
        ("detector = " + "-" * 60_000 + "1", "nested more than 100"),
        ("detector = 1" + " + 1" * 15_000, "expected|nested"),
        ("detector = 1 AND " * 3_000 + "detector = 1", "use IN"),
        ("detector IN (" + "1," * 32_000 + "1)", "more than 10000 values"),
        ("detector IN (" + "," * 60_000 + ")", "not expected here"),
        ("detector = " + "9" * 60_000, "beyond 64 bits"),
        ("detector IN (1..99999999999999999999)", "beyond 64 bits"),
        ("detector IN (9..1)", "ends before it begins"),
        ("'" * 60_001, "not closed by a quote"),
        ("detector" + ".x" * 30_000 + " = 1", "no meaning"),
        ("x" * 60_000 + " = 1", "unknown name"),
        ("exposure.timespan.begin > T'" + "1-" * 30_000 + "'", "write times as"),
        ("exposure.timespan.begin > T'unix/99999999999999999999.'", "cannot be read"),
        ("visit.region OVERLAPS POLYGON(" + "1," * 30_000 + "1)", "pairs of numbers|corners"),
        ("visit.region OVERLAPS CIRCLE(1e999, 0, 1)", "not inf"),
        (" OR ".join(["visit.region OVERLAPS POINT(1, 2)"] * 400), "more than 32 comparisons"),
        ("detector = \0", "NUL"),
        ("detector = 1; DROP TABLE dataset", "no meaning"),
        ("exposure.obs_id = 'x' UNION SELECT 1", "not expected"),
        ("detector = (SELECT 1)", "not expected"),
        ("detector = %(x)s", "not expected"),
        ("detector = ?", "no meaning"),
        ("detector = $1", "no meaning"),
        ("dataset_id = 'x'", "not the id of a dataset"),
        ("dataset_id < UUID('e15ab039-bc8b-4135-87c5-90902a7c0b22')", "no order"),
        ("UUID(detector) = dataset_id", "UUID takes"),
    ):
        with pytest.raises(InvalidQueryError, match=message) as caught:
            count(raws, where)
        assert len(str(caught.value)) < 1_000, where[:60]
    for order_by in (("detector; DROP TABLE dataset",), ("--detector",), ("x" * 60_000,), ("",), ("detector",) * 1_000):
        with pytest.raises(InvalidQueryError, match="order_by") as caught:
            count(raws, "", order_by=order_by)
        assert len(str(caught.value)) < 1_000


def test_text_reaches_the_database_as_a_value(raws: Registry) -> None:
    for text in (
        "'; DROP TABLE dataset; --",
        "' OR '1'='1",
        "%",
        "_",
        "\\",
        "?",
        ":x",
        "$1",
        "%s",
        "%(x)s",
        '"',
        "é\u202e",
    ):
        quoted = text.replace("'", "''")
        assert count(raws, f"exposure.obs_id = '{quoted}'") == 0
        assert count(raws, "exposure.obs_id = x", {"x": text}) == 0
        assert count(raws, "exposure.obs_id != x", {"x": text}) == N_RAWS
        assert count(raws, f"GLOB(exposure.obs_id, 'nothing{quoted}')") == 0
    assert count(raws, "") == N_RAWS


def test_odd_values(raws: Registry) -> None:
    """No wrong answer, and no error but a clear one, whatever each database makes of them."""
    for where, bind, expected in (
        ("exposure.exposure_time < 1e999", {}, N_RAWS),
        ("exposure.exposure_time < x", {"x": float("inf")}, N_RAWS),
        ("exposure.exposure_time = x", {"x": float("nan")}, 0),
        ("detector IN (-9223372036854775808..9223372036854775807)", {}, N_RAWS),
        ("exposure IN (0..1000000000000000000:1)", {}, N_RAWS),
        ("exposure.timespan OVERLAPS x", {"x": EncodedTimespan(-(2**63), 2**63 - 1)}, N_RAWS),
        ("(" * 20_000 + "detector = 1" + ")" * 20_000, {}, 6),
        ("NOT " * 98 + "detector = 1", {}, 6),
        (" OR ".join(f"detector = {number}" for number in range(500)), {}, N_RAWS),
        (" AND ".join(["GLOB(exposure.obs_id, '" + "*_" * 60 + "b')"] * 400), {}, 0),
        ("detector % 0 = 1", {}, 0),
    ):
        assert count(raws, where, bind) == expected, where[:60]
    for where, bind in (
        ("exposure.obs_id = '\udcff'", {}),
        ("exposure.obs_id = x", {"x": "a\0b"}),
        ("detector * 9223372036854775807 * 9 > 0", {}),
        ("detector - 9223372036854775807 - 9 > 0", {}),
        ("detector IN (-9223372036854775808..9223372036854775807:3)", {}),
        ("exposure.timespan OVERLAPS x", {"x": EncodedTimespan(2**64 - 1, 5)}),
        ("visit.region OVERLAPS x", {"x": EncodedRegion(b"c" * 10)}),
    ):
        try:
            count(raws, where, bind)
        except PantryError as exc:
            assert isinstance(exc, InvalidRequestError), (where, exc)  # noqa: PT017 - it may also be answered


def test_a_million_values_cost_no_more_than_they_are(raws: Registry) -> None:
    bind = {"x": tuple(range(1_000_000))}
    tracemalloc.start()
    try:
        with pytest.raises(InvalidQueryError, match="more than 10000 values"):
            count(raws, "detector IN (x)", bind)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
