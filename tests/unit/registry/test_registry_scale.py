"""A hundred times the datasets, the same work for a question about as many of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from types import MappingProxyType
from typing import Any

import pytest
import sqlalchemy as sa
from tests.servers.postgresql import PostgresqlServer
from tests.unit.registry.survey import CHAIN, MILLION, N_DETECTORS, RAWS, TEN_THOUSAND, Survey, observe
from tests.unit.registry.world import CAMERA, create, sqlite_url

from pantry.daemon.registry import Registry
from pantry.daemon.registry.engine import Prepared, Session
from pantry.wire.operations.registry import FindDataset, QueryDatasets

HUNDRED_THOUSAND = Survey(raw_visits=200, visits=200, visits_per_run=7)
FACTOR = 3
"""How much more a question may cost than at 10,000 datasets."""

_ROUNDS = 60
Question = Callable[[Registry, Survey, int], int]


def _find(registry: Registry, survey: Survey, number: int, kind: str) -> int:
    visits, dimension, where = (
        (survey.raw_visits, "exposure", RAWS) if kind == "raw" else (survey.visits, "visit", CHAIN)
    )
    data_id: dict[str, int | str] = {"instrument": CAMERA, "detector": number % N_DETECTORS}
    data_id[dimension] = 1 + 7 * number % visits
    found = registry.find_dataset(FindDataset(repository="r", dataset_type=kind, data_id=data_id, collections=(where,)))
    return int(found.ref is not None)


def _query(registry: Registry, kind: str, collection: str, **more: Any) -> int:
    query = QueryDatasets(repository="r", dataset_types=(kind,), collections=(collection,), **more)
    return sum(len(batch.run_index) for batch in registry.query_datasets(query))


def _visit_by_data_id(registry: Registry, survey: Survey, number: int) -> int:
    return _query(registry, "raw", RAWS, data_id={"instrument": CAMERA, "exposure": 1 + 7 * number % survey.raw_visits})


def _visit_by_expression(registry: Registry, survey: Survey, number: int) -> int:
    return _query(registry, "raw", RAWS, where=f"exposure = {1 + 7 * number % survey.raw_visits}")


def _visit_in_chain(registry: Registry, survey: Survey, number: int) -> int:
    return _query(registry, "calexp", CHAIN, where=f"visit = {1 + 7 * number % survey.visits}")


def _visit_in_chain_by_data_id(registry: Registry, survey: Survey, number: int) -> int:
    return _query(
        registry, "calexp", CHAIN, data_id={"visit": 1 + 7 * number % survey.visits}, with_dimension_records=True
    )


QUESTIONS: dict[str, tuple[Question, int]] = {
    "find in one run": (lambda registry, survey, number: _find(registry, survey, number, "raw"), 1),
    "find in a chain of 50 runs": (lambda registry, survey, number: _find(registry, survey, number, "calexp"), 1),
    "one visit by data id": (_visit_by_data_id, N_DETECTORS),
    "one visit by expression": (_visit_by_expression, N_DETECTORS),
    "one visit, first in a chain of 50 runs": (_visit_in_chain, N_DETECTORS),
    "the same by data id, with records": (_visit_in_chain_by_data_id, N_DETECTORS),
    "any ten in a chain of 50 runs": (lambda registry, *_: _query(registry, "calexp", CHAIN, limit=10), 10),
}


@contextmanager
def _surveyed(request: pytest.FixtureRequest, dialect: str, survey: Survey) -> Iterator[Registry]:
    with ExitStack() as stack:
        if dialect == "sqlite":
            url = sqlite_url(request.getfixturevalue("tmp_path_factory").mktemp("survey"))
        else:
            server: PostgresqlServer = request.getfixturevalue("postgresql")
            url = stack.enter_context(server.database())
        registry = create(url)
        stack.callback(registry.close)
        observe(registry, survey)
        yield registry


Pair = tuple[Registry, tuple[Registry, Survey]]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((dialect, survey), id=f"{dialect}-{survey.n_datasets}", marks=marks)
        for survey, marks in ((HUNDRED_THOUSAND, ()), (MILLION, pytest.mark.soak))
        for dialect in ("sqlite", "postgresql")
    ],
)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A registry of 10,000 datasets, and a large one."""
    dialect, survey = request.param
    with _surveyed(request, dialect, TEN_THOUSAND) as small, _surveyed(request, dialect, survey) as large:
        yield small, (large, survey)


@contextmanager
def counting(registry: Registry) -> Iterator[list[int]]:
    """Count the database's work: instructions of SQLite's machine, or blocks that PostgreSQL looked into."""
    done = [0]
    database = registry._database

    def step() -> int:
        done[0] += 1
        return 0

    def listen(connection: Any, *_: object) -> None:
        connection.set_progress_handler(step, 1)

    if database.is_sqlite:
        database.close_idle()  # so that every connection is a new one
        sa.event.listen(database.engine, "connect", listen)
        yield done
        sa.event.remove(database.engine, "connect", listen)
        database.close_idle()
        return

    def explained(session: Session, statement: Prepared, values: Any, declare: str = "") -> None:
        cursor = session.connection.cursor()
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {declare}"
        cursor.execute(explain + statement.sql, statement.bind(values))
        plan = cursor.fetchone()[0][0]["Plan"]
        done[0] += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    rows, batches = Session.rows, Session.batches

    def counted_rows(session: Session, statement: Prepared, values: Any = MappingProxyType({})) -> Any:
        explained(session, statement, values)
        return rows(session, statement, values)

    def counted_batches(session: Session, statement: Prepared, size: int, values: Any = MappingProxyType({})) -> Any:
        # As it is run: cursors have plans of their own, never parallel ones, whose workers read ahead of a limit.
        explained(session, statement, values, "DECLARE explained CURSOR FOR ")
        return batches(session, statement, size, values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "rows", counted_rows)
        patch.setattr(Session, "batches", counted_batches)
        yield done


def _work(registry: Registry, survey: Survey, question: Question, expected: int) -> float:
    taken = []
    with counting(registry) as done:
        question(registry, survey, 0)  # connects, and reads the definitions
        for number in range(1, 8):
            done[0] = 0
            assert question(registry, survey, number) == expected
            taken.append(done[0])
    return statistics.median(taken)


def test_loading_is_complete(pair: Pair) -> None:
    small, (large, survey) = pair
    for registry, size in ((small, TEN_THOUSAND), (large, survey)):
        raws = _query(registry, "raw", RAWS)
        assert raws == size.raw_visits * N_DETECTORS
        assert _query(registry, "calexp", CHAIN) == size.visits * N_DETECTORS
        assert _query(registry, "calexp", CHAIN, find_first=False) + raws == size.n_datasets
    assert TEN_THOUSAND.n_datasets >= 10_000
    assert MILLION.n_datasets >= 1_000_000


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_databases_work_does_not_grow(pair: Pair, name: str) -> None:
    small, (large, survey) = pair
    question, expected = QUESTIONS[name]
    before, now = _work(small, TEN_THOUSAND, question, expected), _work(large, survey, question, expected)
    print(f"{name}: {before:.0f} to {now:.0f}, {now / before:.2f} times")
    assert before > 0
    assert now <= FACTOR * before


@pytest.mark.soak
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_time_does_not_grow(pair: Pair, name: str) -> None:
    small, (large, survey) = pair
    question, expected = QUESTIONS[name]
    taken: dict[str, list[float]] = {"small": [], "large": []}
    for number in range(-5, _ROUNDS):
        for key, registry, size in (("small", small, TEN_THOUSAND), ("large", large, survey)):
            begun = time.perf_counter()
            assert question(registry, size, number % 1000) == expected
            if number >= 0:  # after warm-up
                taken[key].append(time.perf_counter() - begun)
    before, now = statistics.median(taken["small"]), statistics.median(taken["large"])
    print(f"{name}: {before * 1000:.3f} ms to {now * 1000:.3f} ms, {now / before:.2f} times")
    assert now <= FACTOR * before


def test_an_order_that_an_index_has_is_not_sorted(pair: Pair) -> None:
    """Ten from either end of the visits."""
    small, (large, survey) = pair
    numbers = count()

    def ends(registry: Registry, survey: Survey, number: int) -> int:
        order = "-exposure" if next(numbers) % 2 else "exposure"
        return _query(registry, "raw", RAWS, order_by=(order,), limit=10)

    assert _work(large, survey, ends, 10) <= FACTOR * _work(small, TEN_THOUSAND, ends, 10)
