"""Queries that are not planned again give what they would give if they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, put, put_all_raws, put_raw, rows_of

from pantry.daemon.registry import Registry
from pantry.daemon.registry.overrides import Override
from pantry.errors import DataIdValueError, InvalidQueryError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType

FIRST = EXPOSURES[0]
BIG = 2**63


@pytest.fixture
def raws(registry: Registry) -> Registry:
    put_all_raws(registry, "run")
    return registry


class Planning:
    """Counts the plans that are made, and answers without what is remembered."""

    def __init__(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        self.registry = registry
        self.count = 0
        self._monkeypatch = monkeypatch
        plan = registry._queries.plans._plan

        def counted(*args: Any) -> Any:
            self.count += 1
            return plan(*args)

        monkeypatch.setattr(registry._queries.plans, "_plan", counted)

    def afresh(self, **query: object) -> object:
        with self._monkeypatch.context() as patch:
            patch.setattr(self.registry._queries._remembered, "shape_of", lambda *_: None)
            return answer(self.registry, query)


@pytest.fixture
def planning(raws: Registry, monkeypatch: pytest.MonkeyPatch) -> Planning:
    return Planning(raws, monkeypatch)


def answer(registry: Registry, query: dict[str, object]) -> object:
    """Return the rows, or the error without what numbers differ in."""
    try:
        rows = rows_of(registry, **query)
    except (InvalidQueryError, DataIdValueError) as exc:
        return type(exc), str(exc), exc.hint
    return rows if "order_by" in query else sorted(rows, key=lambda row: (row["run"], row["exposure"], row["detector"]))


Make = Callable[[int, int], dict[str, object]]
ALWAYS_ONCE: dict[str, Make] = {
    "text": lambda e, d: {"where": f"exposure = {FIRST + e} AND detector={d}"},
    "text and strings": lambda e, d: {
        "where": f"instrument = '{CAMERA}' AND (exposure.seq_num>{e} OR detector IN ({d},1)) AND band != '5'"
    },
    "arithmetic": lambda e, d: {"where": f"(exposure.seq_num + {e}) % 2 = 1 AND detector * 2 < {d} - 1"},
    "negative": lambda e, d: {"where": f"detector > - {d} AND NOT exposure.seq_num = {e}"},
    "bind": lambda e, d: {"where": "exposure = first + :e AND detector = d", "bind": {"first": FIRST, "e": e, "d": d}},
    "data id": lambda e, d: {"data_id": {"exposure": FIRST + e, "detector": d}},
    "both": lambda e, d: {"data_id": {"detector": d}, "where": f"seq_num >= {e}", "order_by": ("-exposure",)},
    "records": lambda e, d: {"where": f"detector = {d} AND exposure != {e}", "with_dimension_records": True},
    "limit": lambda e, d: {
        "where": f"exposure > {FIRST + e} AND detector >= {d}",
        "limit": 3,
        "order_by": ("exposure",),
    },
    "chain": lambda e, d: {"where": f"seq_num > {e} AND detector = {d}", "collections": ("redo", "run")},
}
SOMETIMES: dict[str, Make] = {
    "signed": lambda e, d: {"where": f"detector > -{d} AND exposure.seq_num = +{e}"},
    "range": lambda e, d: {"where": f"exposure.seq_num IN ({e}..{e + d} : 2) AND detector = {d}"},
    "decimal": lambda e, d: {"where": f"exposure.exposure_time > {e}.5 AND detector != {d}e0"},
    "time": lambda e, d: {"where": f"timespan.begin >= T'1970-01-01T00:00:00.00000{e % 9}/tai' AND detector = {d}"},
    "pattern": lambda e, d: {"where": f"GLOB(exposure.obs_id, '*{e}') AND detector = {d}"},
    "text that has numbers": lambda e, d: {"where": f"exposure.group = 'group {e}' AND detector = {d}"},
    "quotes": lambda e, d: {"where": f"exposure.group != 'it''s {e} ''' AND detector = {d}"},
    "numbers by text": lambda e, d: {"data_id": {"exposure": str(FIRST + e), "detector": d}},
    "alternate keys": lambda e, d: {"data_id": {"detector": f"R{d:02}_S00", "exposure.seq_num": e}},
    "kinds of values": lambda e, d: {"where": "can_see_sky = :v", "bind": {"v": [True, 1.0][e % 2]}},
    "equal values": lambda e, d: {"where": "seq_num = :v", "bind": {"v": [e, float(e)][d % 2]}},
    "lists": lambda e, d: {"where": "detector IN :v AND seq_num = e", "bind": {"v": [d, 0], "e": e}},
    "sky": lambda e, d: {"where": f"visit.region OVERLAPS CIRCLE(62, {d - 37}, 1) AND seq_num = {e}"},
    "pixels": lambda e, d: {"where": f"visit.region OVERLAPS htm7.region AND htm7 = {20000 + e} AND detector = {d}"},
    "too large": lambda e, d: {"where": f"exposure = {BIG * e + 1} AND detector = {d}"},
    "too large to bind": lambda e, d: {"where": "seq_num = :e", "bind": {"e": BIG * e + d}},
    "no such name": lambda e, d: {"where": f"exposur = {e} OR detector = {d}"},
}
PAIRS = ((0, 0), (1, 94), (2, 1), (9, 94), (2, 0))


@pytest.mark.parametrize("kind", [ALWAYS_ONCE, SOMETIMES])
def test_answers_are_those_of_a_new_plan(planning: Planning, kind: dict[str, Make]) -> None:
    put_raw(planning.registry, "redo", FIRST + 1)
    for name, make in kind.items():
        expected = [planning.afresh(**make(*pair)) for pair in PAIRS]
        planning.count = 0
        for _ in range(2):
            assert [answer(planning.registry, make(*pair)) for pair in PAIRS] == expected, name
        assert any(expected), f"{name}: nothing is found"
        assert kind is SOMETIMES or planning.count == 1, name


def test_numbers_that_become_something_else_are_told_apart(planning: Planning) -> None:
    registry = planning.registry
    registry.register_dataset_type(DatasetType(name="map", dimensions=("htm1",), storage_class="FitsArray"))
    pixels = range(32, 64)
    for pixel in pixels:
        put(registry, "map", "maps", htm1=pixel)

    def found(**query: object) -> set[object]:
        return {row["htm1"] for row in rows_of(registry, dataset_types=("map",), collections=("maps",), **query)}

    # The numbers decide which pixels are asked for.
    north, south = (found(where=f"htm1.region OVERLAPS CIRCLE(10, {sign} 80, 5)") for sign in ("+", "-"))
    assert min(len(north), len(south)) > 0
    assert north.isdisjoint(south)
    wide, narrow = (found(where=f"htm1.region OVERLAPS CIRCLE(45, 0, {radius})") for radius in (60, 1))
    assert narrow < wide
    assert found(data_id={"htm1": 40}) == {40}
    with pytest.raises(DataIdValueError, match="no pixel 64"):
        found(data_id={"htm1": 64})


def test_what_is_defined_meanwhile_counts(planning: Planning) -> None:
    raws = planning.registry
    query: dict[str, Any] = {"where": f"exposure = {FIRST}", "collections": ("all",)}
    raws.register_collection("all", CollectionType.CHAINED)
    raws.redefine_chain("all", ["run"])
    assert len(rows_of(raws, **query)) == len(DETECTORS)
    raws.register_collection("empty", CollectionType.RUN)
    raws.redefine_chain("all", ["empty"])
    assert rows_of(raws, **query) == []
    replaced = put_raw(raws, "empty")
    assert [row["id"] for row in rows_of(raws, **query)] == [replaced]
    raws.redefine_chain("all", ["run"])
    raws.override([Override(dataset_types=("raw",), collections=("empty",))])
    assert replaced in [row["id"] for row in rows_of(raws, **query)]
    raws.override([])
    assert replaced not in [row["id"] for row in rows_of(raws, **query)]


def test_what_is_remembered_is_bounded(planning: Planning, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.daemon.registry.remembered.MOST_SHAPES", 3)
    remembered = planning.registry._queries._remembered
    for number in range(10):
        rows_of(planning.registry, where=f"exposure = {FIRST}" + " AND detector = 0" * number)
        assert remembered._shapes is not None
        assert len(remembered._shapes.plans) <= 3
    planning.count = 0
    long = f"detector IN ({', '.join(map(str, range(900)))})"
    for _ in range(2):
        rows_of(planning.registry, where=long)
    assert planning.count == 2
