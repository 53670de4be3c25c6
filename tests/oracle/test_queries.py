"""The same questions to the Gen3 Butler and to us: the same answers, in attached registries and in our own."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.oracle.asking import GenThreeButler
from tests.oracle.by_hand import BY_HAND
from tests.oracle.worlds import EXPORTS, ask, furnish, imported, opened, running_daemon
from tests.servers.postgresql import PostgresqlServer

from pantry.daemon.registry import Registry
from pantry.errors import PantryError

GOVERNORS = {"base": ("Cam1", "SkyMap1"), "ci_hsc": ("HSC", "discrete/ci_hsc"), "hsc_rc2": ("HSC", "hsc_rings_v1")}
GOVERNORS["lsstcam"] = ("LSSTCam", "")


class World:
    """One repository: the oracle's, and ours with the same content."""

    def __init__(self, oracle: GenThreeButler, root: Path, name: str, url: str = "") -> None:
        self.name = name
        self._oracle = oracle
        self._root = str(root)
        self.steps = furnish(oracle, str(root), name, url)
        self.described = oracle("describe", root=str(root))
        self.registries: dict[str, Registry] = {"attached": opened(root, url)}
        self.answered: Counter[str] = Counter()

    def ask(self, queries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = self._oracle("ask", root=self._root, queries=queries)
        assert isinstance(answers, list)
        return answers

    def compare(self, query: dict[str, Any], answer: dict[str, Any]) -> None:
        """Ask ours what the oracle was asked; what it refuses we may answer."""
        if "error" in answer:
            return
        self.answered[query["kind"]] += 1
        for engine, registry in self.registries.items():
            try:
                found = ask(registry, query)
            except PantryError as exc:
                raise AssertionError(
                    f"{engine} refused {json.dumps(query)}: {exc}; {len(answer['rows'])} rows"
                ) from exc
            expected = answer["rows"]
            if query.get("with_dimension_records"):
                # Gen3 leaves data ids out that have no record of an element such as visit_detector_region.
                found = [row for row in found if None not in row[-3].values()]
            if query["kind"] == "count":
                assert found == expected, (engine, json.dumps(query))
                continue
            if query.get("find_first") is False:
                # A dataset that two of the collections hold comes twice there, and once here.
                found, expected = _once(found), _once(expected)
            if query.get("find_first") is False and query.get("order_by"):
                # Which of several datasets of one data id is first is left open.
                assert [row[2] for row in found] == [row[2] for row in expected], (engine, json.dumps(query))
            if not query.get("order_by") or query.get("find_first") is False:
                found, expected = sorted(found, key=_text), sorted(expected, key=_text)
            if query.get("limit") is not None and (not query.get("order_by") or query.get("find_first") is False):
                assert len(found) == len(expected), (engine, query)
            else:
                if found != expected:
                    raise AssertionError(f"{engine}: {json.dumps(query)}: {_difference(found, expected)}")


def _difference(found: list[Any], expected: list[Any]) -> str:
    """Show where two answers begin to differ; pytest's own comparison of records takes minutes."""
    for number, (one, other) in enumerate(zip(found, expected, strict=False)):
        if one != other:
            return f"row {number}: {_text(one)[:3000]} and not {_text(other)[:3000]}"
    return f"{len(found)} rows and not {len(expected)}"


def _text(row: Any) -> str:
    return json.dumps(row, sort_keys=True)


def _once(rows: list[Any]) -> list[Any]:
    return [row for number, row in enumerate(rows) if row not in rows[:number]]


@pytest.fixture(scope="module")
def worlds(
    oracle: GenThreeButler, tmp_path_factory: pytest.TempPathFactory, postgresql: PostgresqlServer
) -> Iterator[dict[str, World]]:
    made: dict[str, World] = {}
    databases = []
    with running_daemon() as daemon:
        for name in EXPORTS:
            directory = tmp_path_factory.mktemp("worlds") / name
            world = made[name] = World(oracle, directory, name)
            database = postgresql.database()
            databases.append(database)
            attached = world.registries["attached"]
            urls = {"sqlite": f"sqlite:///{directory}/ours.sqlite3", "postgresql": database.__enter__()}
            for engine, url in urls.items():
                repository = f"{name}_{engine}"
                world.registries[engine] = imported(
                    daemon.socket, repository, name, directory / repository, url, attached, world.steps
                )
    yield made
    for world in made.values():
        for registry in world.registries.values():
            registry.close()
    for database in databases:
        database.__exit__(None, None, None)


@pytest.mark.parametrize("name", EXPORTS)
def test_dataset_types_collections_and_records(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    assert sum(map(len, world.described["records"].values())) > 10
    for registry in world.registries.values():
        types = {one.name: (set(one.dimensions), one.is_calibration) for one in registry.list_dataset_types()}
        assert types == {one[0]: (set(one[1]), one[3]) for one in world.described["types"]}
        for element, expected in world.described["records"].items():
            found = ask(registry, {"kind": "records", "element": element})
            assert sorted(found, key=_text) == sorted(expected, key=_text), element


@pytest.mark.parametrize("name", EXPORTS)
def test_by_hand(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    queries = BY_HAND[name]
    answers = world.ask(queries)
    refused = [(query, answer) for query, answer in zip(queries, answers, strict=True) if "error" in answer]
    assert not refused, f"the oracle refuses what was written for it: {refused}"
    for query, answer in zip(queries, answers, strict=True):
        world.compare(query, answer)


def test_a_gen3_registry_on_postgresql(oracle: GenThreeButler, tmp_path: Path, postgresql: PostgresqlServer) -> None:
    with postgresql.database() as url:
        engine = sa.create_engine(url)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE EXTENSION btree_gist"))
        engine.dispose()
        world = World(oracle, tmp_path / "base", "base", url)
        try:
            queries = BY_HAND["base"]
            for query, answer in zip(queries, world.ask(queries), strict=True):
                world.compare(query, answer)
            assert world.answered.total() > 0.95 * len(queries), (
                "the oracle refuses on PostgreSQL what it takes on SQLite"
            )
        finally:
            world.registries["attached"].close()
            oracle("forget", root=str(tmp_path / "base"))


# -- generated ---------------------------------------------------------------------------------------

_COLUMNS = {
    "visit": ("id", "name", "exposure_time", "day_obs", "physical_filter", "seq_num", "zenith_angle", "target_name"),
    "exposure": ("id", "obs_id", "exposure_time", "day_obs", "physical_filter", "seq_num", "observation_type"),
    "detector": ("id", "full_name", "raft", "purpose", "name_in_raft"),
    "physical_filter": ("name", "band"),
    "tract": ("id",),
    "patch": ("id", "cell_x", "cell_y"),
}
_SHAPES = {
    "base": [["detector"], ["physical_filter"], ["visit"], ["visit", "detector"], ["patch"], ["visit", "patch"]],
    "ci_hsc": [["visit"], ["visit", "detector"], ["tract"], ["visit", "tract"], ["detector", "physical_filter"]],
    "hsc_rc2": [["exposure"], ["exposure", "detector"], ["visit"], ["visit", "patch"], ["patch"]],
    "lsstcam": [["exposure"], ["visit"], ["visit", "detector"], ["exposure", "visit"], ["exposure", "detector"]],
}  # fmt: skip
_TYPES = {
    "base": {"bias": ["detector"], "flat": ["detector", "physical_filter"]},
    "ci_hsc": {"calexp": ["visit", "detector"]},
}


def literal(value: Any) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def atoms(world: World, elements: list[str]) -> st.SearchStrategy[str]:
    """Conditions with values that are in the data, and such as are not."""
    found: list[st.SearchStrategy[str]] = []
    order = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
    for element in elements:
        records = world.described["records"].get(element, [])
        for column in _COLUMNS.get(element, ()):
            values = sorted({record[column] for record in records if record.get(column) is not None}, key=str)
            if not values:
                continue
            name = element if column in ("id", "name") and column == _first(element) else f"{element}.{column}"
            one = st.sampled_from(values).map(literal)
            found.append(st.builds("{} {} {}".format, st.just(name), order, one))
            found.append(
                st.lists(one, min_size=1, max_size=3).map(lambda many, name=name: f"{name} IN ({', '.join(many)})")
            )
            if all(isinstance(value, int) for value in values):
                low = st.sampled_from(values)
                found.append(
                    st.builds(
                        lambda first, length, step, name=name: f"{name} IN ({first}..{first + length}:{step})",
                        low,
                        st.integers(0, 20),
                        st.integers(1, 4),
                    )
                )
                found.append(
                    st.builds(lambda add, to, name=name: f"{name} + {add} <= {to + add}", st.integers(1, 9), low)
                )
            if all(isinstance(value, str) for value in values):
                part = st.sampled_from(values).map(lambda value: f"'{value[:2]}*'")
                found.append(part.map(lambda pattern, name=name: f"GLOB({name}, {pattern})"))
        if any(record.get("timespan") for record in records):
            begins = sorted({record["timespan"][0] for record in records if record.get("timespan")})
            instants = st.sampled_from(begins).map(lambda ns: f"T'mjd/{ns / 86_400e9 + 40587:.8f}/tai'")
            found.append(instants.map(lambda at, element=element: f"{element}.timespan.begin <= {at}"))
            found.append(instants.map(lambda at, element=element: f"{element}.timespan OVERLAPS ({at}, NULL)"))
            found.append(instants.map(lambda at, element=element: f"{element}.timespan < {at}"))
    return st.one_of(found)


def _first(element: str) -> str:
    return "name" if element == "physical_filter" else "id"


def expressions(world: World, elements: list[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        atoms(world, elements),
        lambda below: st.one_of(
            st.builds("({} AND {})".format, below, below),
            st.builds("({} OR {})".format, below, below),
            st.builds("NOT ({})".format, below),
        ),
        max_leaves=5,
    )


@st.composite
def queries(draw: st.DrawFn, world: World) -> dict[str, Any]:
    """One query of any kind about a world."""
    instrument, skymap = GOVERNORS[world.name]
    types = _TYPES.get(world.name, {})
    dimensions = draw(st.sampled_from(_SHAPES[world.name]))
    more_kinds = ["datasets", "datasets", "count", "find"] if types else []
    kind = draw(st.sampled_from(["data_ids", "records", "collections", *more_kinds]))
    if kind == "collections":
        return draw(about_collections(world))
    if kind == "find":
        return draw(finds(world, types))
    query: dict[str, Any] = {"kind": kind, "data_id": {}}
    if kind in ("datasets", "count"):
        query["dataset_type"] = draw(st.sampled_from(sorted(types)))
        dimensions = types[query["dataset_type"]]
        runs = [one[0] for one in world.described["collections"] if one[1] == "RUN"]
        more = ["tagged", "chain", "outer"] if world.name == "base" else []
        query["collections"] = draw(st.lists(st.sampled_from([*runs, *more]), min_size=1, max_size=2, unique=True))
        query["find_first"] = kind == "count" or draw(st.booleans())
    elif kind == "records":
        query["element"] = dimensions[-1]
        dimensions = [query["element"]]
    else:
        query["dimensions"] = dimensions
    if {"visit", "exposure", "detector", "physical_filter"} & set(dimensions):
        query["data_id"]["instrument"] = instrument
    if {"tract", "patch"} & set(dimensions):
        query["data_id"]["skymap"] = skymap
    elements = list(dimensions)
    if {"visit", "exposure"} & set(elements) and draw(st.booleans()):
        elements.append("physical_filter")
    conditions = expressions(world, elements)
    if kind in ("datasets", "count"):
        conditions = st.one_of(conditions, st.builds("{} AND {}".format, fields(world, query), conditions))
    query["where"] = draw(conditions)
    if kind in ("datasets", "data_ids") and draw(st.integers(0, 3)) == 0:
        query["with_dimension_records"] = True
    if kind != "count" and draw(st.booleans()):
        first = draw(st.sampled_from(_ORDERS.get(dimensions[-1], [""])))
        if kind == "datasets" and draw(st.booleans()):
            first = draw(st.sampled_from(["run", f"{query['dataset_type']}.run", "collection"]))
        names = [*([first] if first else []), *_ordering(dimensions)]
        query["order_by"] = [draw(st.sampled_from(["", "-"])) + name for name in names]
        # Gen3 counts a dataset that two collections hold twice, and leaves out what lacks a record.
        counts_alike = query.get("find_first") is not False and not query.get("with_dimension_records")
        if counts_alike and draw(st.booleans()):
            query["limit"] = draw(st.integers(1, 5))
    return query


# By which columns answers are sorted before their dimensions.
_ORDERS = {
    "detector": ["", "detector.full_name", "detector.purpose"],
    "visit": ["", "visit.timespan.begin", "visit.name", "visit.exposure_time"],
    "exposure": ["", "exposure.timespan.end", "exposure.obs_id", "exposure.seq_num"],
    "patch": ["", "patch.cell_x", "patch.cell_y"],
}


def fields(world: World, query: dict[str, Any]) -> st.SearchStrategy[str]:
    """Conditions on the datasets that are searched."""
    kind, runs = query["dataset_type"], [one[0] for one in world.described["collections"]]
    name = st.sampled_from(["run", "collection", f"{kind}.run", f"{kind}.collection"])
    return st.one_of(
        st.builds("{} {} {}".format, name, st.sampled_from(["=", "!="]), st.sampled_from(runs).map(literal)),
        st.builds("GLOB({}, {})".format, name, st.sampled_from(["'*_r'", "'*g'", "'*'", "'x?'"])),
        st.sampled_from([f"{kind}.ingest_date > T'2020-01-01'", "ingest_date < T'2021-01-01'"]),
        st.sampled_from([f"{kind}.timespan OVERLAPS T'2021-03-01'", f"{kind}.dataset_id != UUID('{'1' * 32}')"]),
    )


@st.composite
def about_collections(draw: st.DrawFn, world: World) -> dict[str, Any]:
    """Ask for collections by name, pattern and type."""
    names = [one[0] for one in world.described["collections"]]
    patterns = [*names, *(f"{name[:3]}*" for name in names), *(f"*{name[-2:]}" for name in names), "*"]
    types = st.lists(st.sampled_from(["RUN", "TAGGED", "CHAINED", "CALIBRATION"]), max_size=2, unique=True)
    asked = draw(st.lists(st.sampled_from(patterns), min_size=1, max_size=2, unique=True))
    return {"kind": "collections", "patterns": asked, "types": draw(types), "flatten": draw(st.booleans())}


@st.composite
def finds(draw: st.DrawFn, world: World, types: dict[str, list[str]]) -> dict[str, Any]:
    """Ask for one dataset, with a time or without, in runs, chains and calibrations."""
    kind = draw(st.sampled_from(sorted(types)))
    data_id: dict[str, Any] = {"instrument": GOVERNORS[world.name][0]}
    for name in types[kind]:
        own = _first(name)
        data_id[name] = draw(st.sampled_from([one[own] for one in world.described["records"][name]]))
    begin = draw(st.sampled_from([None, "2020-12-01T00:00:00", "2021-02-01T00:00:00", "2021-07-01T00:00:00"]))
    end = draw(st.sampled_from([None, "2021-07-02T00:00:00", "2022-07-01T00:00:00"]))
    timed = draw(st.booleans())
    # Without a time Gen3 refuses CALIBRATION collections.
    some = [one[0] for one in world.described["collections"] if timed or one[1] != "CALIBRATION"]
    asked = {"kind": "find", "dataset_type": kind, "data_id": data_id}
    asked["collections"] = draw(st.lists(st.sampled_from(some), min_size=1, max_size=2, unique=True))
    return {**asked, "timespan": [begin, end]} if timed else asked


def _ordering(dimensions: list[str]) -> list[str]:
    # All of them, so that the order is that of the rows.
    return [*(["tract"] if "patch" in dimensions and "tract" not in dimensions else []), *dimensions]


N_EXAMPLES, N_QUERIES = 20, 6


@pytest.mark.parametrize("name", EXPORTS)
def test_generated(worlds: dict[str, World], name: str) -> None:
    world = worlds[name]
    world.answered.clear()

    @settings(
        max_examples=N_EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        # What fails is shown as it is: each step of making it smaller would ask the oracle again.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(queries(world), min_size=N_QUERIES, max_size=N_QUERIES))
    def run(asked: list[dict[str, Any]]) -> None:
        for query, answer in zip(asked, world.ask(asked), strict=True):
            world.compare(query, answer)

    run()
    assert world.answered.total() > 0.7 * N_EXAMPLES * N_QUERIES, "the oracle refused most of what was generated"
    kinds = {"data_ids", "records", "collections"} | ({"datasets", "count", "find"} if name in _TYPES else set())
    assert all(world.answered[kind] >= 3 for kind in kinds), world.answered
