from __future__ import annotations

import itertools
import random
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.registry.graphs import Edges, dataset, distances, found, quanta_of, quantum
from tests.unit.registry.world import CAMERA, EXPOSURES, create, put, put_all_raws, put_raw

from pantry.daemon.registry import Registry, descent
from pantry.daemon.registry.engine import Prepared, Session
from pantry.errors import (
    ConflictError,
    DataIdValueError,
    DatasetNotFoundError,
    DimensionNameError,
    InvalidRequestError,
    LimitExceededError,
    MissingDatasetTypeError,
)
from pantry.model.provenance import Quantum, QuantumStatus
from pantry.wire.operations.provenance import MAX_QUANTA, QueryRelatives

# raw 1 and 2 -> 3 and 4; 3 and 4 -> 5; 5 -> 6, 7; 7 and 1 -> 8
SMALL: Edges = {1: ((1, 2), (3, 4)), 2: ((3, 4), (5,)), 3: ((5,), (6, 7)), 4: ((7, 1), (8,))}


@pytest.fixture
def small(empty: Registry) -> Registry:
    assert empty.provenance.record(quanta_of(SMALL)) == 4
    return empty


# -- recording and reporting ----------------------------------------------------------------------


def test_inputs_are_reported_as_predicted_and_as_used(registry: Registry) -> None:
    raws = put_all_raws(registry, "run")[:10]
    product = put_raw(registry, "product")
    planned = quantum(
        1,
        raws,
        [product],
        data_id={"instrument": CAMERA, "exposure": EXPOSURES[0]},
        predicted=True,
        environment={"host": "n1"},
    )
    assert registry.provenance.record([planned]) == 1
    report = registry.provenance.of(product)
    assert report.producer == planned
    assert report.ref is not None
    assert report.ref.run == "product"
    used = msgspec.structs.replace(
        planned,
        actual_inputs=tuple(raws[:9]),
        status=QuantumStatus.SUCCESSFUL,
        begin_ns=5,
        end_ns=7,
        environment={"pantry": "1.0"},
    )
    assert registry.provenance.record([used]) == 0
    producer = registry.provenance.of(product).producer
    assert producer == msgspec.structs.replace(used, environment={"host": "n1", "pantry": "1.0"})
    ((nine,), count), ((tenth,), _) = [
        (report.consumers, report.n_consumers) for report in map(registry.provenance.of, (raws[8], raws[9]))
    ]
    assert (nine.id, nine.task, nine.data_id, nine.predicted, nine.actual, count) == (
        planned.id, "task", planned.data_id, True, True, 1,
    )  # fmt: skip
    assert (tenth.predicted, tenth.actual) == (True, False)


def test_what_nobody_recorded(registry: Registry) -> None:
    raw = put_raw(registry, "run")
    for _ in range(2):
        report = registry.provenance.of(raw)
        assert (report.ref is not None, report.producer, report.consumers) == (True, None, ())
        assert found(registry, raw) == {}
        with pytest.raises(DatasetNotFoundError, match="no quantum names it"):
            registry.provenance.of(dataset(1))
        with pytest.raises(DatasetNotFoundError):
            found(registry, dataset(1))
        # With the tables, and before they are made.
        registry.provenance.record(quanta_of({1: ((7,), (8,))}))


def test_deleted_and_foreign_datasets_keep_their_names(registry: Registry) -> None:
    raw, other = put_raw(registry, "run"), put_raw(registry, "other")
    registry.provenance.record([quantum(1, [raw, dataset(5)], [other]), quantum(2, [other], [dataset(6)])])
    registry.delete_datasets([other])
    report = registry.provenance.of(other)
    assert report.ref is None
    assert report.producer is not None
    assert report.producer.actual_inputs == (raw, dataset(5))
    assert found(registry, raw) == {other: 1, dataset(6): 2}
    assert found(registry, dataset(6), "ancestors") == {other: 1, raw: 2, dataset(5): 2}


def test_the_number_of_consumers_is_bounded(empty: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.daemon.registry.provenance.MAX_CONSUMERS", 3)
    empty.provenance.record(quanta_of({number: ((1,), (number + 1,)) for number in range(1, 8)}))
    report = empty.provenance.of(dataset(1))
    assert (len(report.consumers), report.n_consumers) == (3, 7)


# -- recording again ------------------------------------------------------------------------------


def test_recording_the_same_again_changes_nothing(small: Registry) -> None:
    before = small.provenance.of(dataset(5))
    assert small.provenance.record(quanta_of(SMALL)) == 0
    assert small.provenance.of(dataset(5)) == before


def test_what_was_used_grows(empty: Registry) -> None:
    one = quantum(1, [dataset(1)], [dataset(2)])
    empty.provenance.record([one])
    empty.provenance.record([msgspec.structs.replace(one, actual_inputs=(dataset(3),), outputs=(dataset(4),))])
    producer = empty.provenance.of(dataset(4)).producer
    assert producer is not None
    assert (producer.predicted_inputs, producer.actual_inputs) == (None, (dataset(1), dataset(3)))
    assert producer.outputs == (dataset(2), dataset(4))
    # Predictions that were never said may come late, but only once.
    empty.provenance.record([msgspec.structs.replace(one, predicted_inputs=(dataset(1), dataset(5)))])
    producer = empty.provenance.of(dataset(4)).producer
    assert producer is not None
    assert (producer.predicted_inputs, producer.actual_inputs) == (
        (dataset(1), dataset(5)),
        (dataset(1), dataset(3)),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"task": "other"}, "task 'task', not 'other'"),
        ({"run": "other"}, "run"),
        ({"data_id": {"instrument": "A"}}, "data_id"),
        ({"status": QuantumStatus.FAILED}, "status 'successful', not 'failed'"),
        ({"begin_ns": 11}, "begin_ns 10, not 11"),
        ({"begin_ns": None, "end_ns": 9}, "times"),
        ({"environment": {"host": "b"}}, "host"),
        ({"predicted_inputs": (dataset(1), dataset(9))}, "without .*0009 among its predicted inputs"),
        ({"outputs": (dataset(1),)}, "input and output"),
    ],
)
def test_a_contradiction_is_refused(empty: Registry, change: dict[str, object], said: str) -> None:
    one = quantum(
        1,
        [dataset(1)],
        [dataset(2)],
        predicted=True,
        status=QuantumStatus.SUCCESSFUL,
        begin_ns=10,
        environment={"host": "a"},
    )
    empty.provenance.record([one])
    before = empty.provenance.of(dataset(2))
    base = one if "outputs" not in change else msgspec.structs.replace(one, predicted_inputs=None)
    fine = quantum(2, [dataset(2)], [dataset(3)])
    with pytest.raises(ConflictError, match=said):
        empty.provenance.record([fine, msgspec.structs.replace(base, **change)])
    # All or none.
    assert empty.provenance.of(dataset(2)) == before
    with pytest.raises(DatasetNotFoundError):
        empty.provenance.of(dataset(3))


def test_a_dataset_has_one_producer(small: Registry) -> None:
    with pytest.raises(ConflictError, match="output of the quantum"):
        small.provenance.record([quantum(9, [dataset(1)], [dataset(20), dataset(5)])])
    with pytest.raises(InvalidRequestError, match="output of two quanta"):
        small.provenance.record([quantum(8, [], [dataset(20)]), quantum(9, [], [dataset(20)])])
    with pytest.raises(DatasetNotFoundError):
        small.provenance.of(dataset(20))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"task": ""}, InvalidRequestError),
        ({"task": "a\nb"}, InvalidRequestError),
        ({"task": "t" * 129}, InvalidRequestError),
        ({"run": "../up"}, InvalidRequestError),
        ({"begin_ns": 2, "end_ns": 1}, InvalidRequestError),
        ({"begin_ns": 2**70}, InvalidRequestError),
        ({"outputs": (dataset(1),)}, InvalidRequestError),
        ({"environment": {"log": "x" * 20_000}}, InvalidRequestError),
        ({"environment": {"load": float("nan")}}, InvalidRequestError),
        ({"data_id": {"telescope": 1}}, DimensionNameError),
        ({"data_id": {"exposure": 1}}, DimensionNameError),
        ({"data_id": {"instrument": "A", "exposure": "one"}}, DataIdValueError),
    ],
)
def test_nonsense_is_refused(empty: Registry, change: dict[str, object], error: type[Exception]) -> None:
    one = quantum(1, [dataset(1)], [dataset(2)])
    with pytest.raises(error):
        empty.provenance.record([msgspec.structs.replace(one, **change)])
    with pytest.raises(DatasetNotFoundError):
        empty.provenance.of(dataset(2))


def test_requests_are_bounded(empty: Registry) -> None:
    with pytest.raises(InvalidRequestError, match="twice"):
        empty.provenance.record([quantum(1, [], [])] * 2)
    with pytest.raises(InvalidRequestError, match="more than 10,000"):
        empty.provenance.record([quantum(1, [], [])] * (MAX_QUANTA + 1))
    assert empty.provenance.record([]) == 0


def test_the_environment_is_bounded_over_all_records(empty: Registry) -> None:
    for key in "ab":
        one = quantum(1, [], [dataset(1)], environment={key: "x" * 9_000})
        if key == "a":
            empty.provenance.record([one])
        else:
            with pytest.raises(InvalidRequestError, match="environment"):
                empty.provenance.record([one])


# -- walks ----------------------------------------------------------------------------------------


def test_descendants_and_ancestors_over_all_steps(small: Registry) -> None:
    assert found(small, dataset(1)) == {dataset(n): d for n, d in {3: 1, 4: 1, 8: 1, 5: 2, 6: 3, 7: 3}.items()}
    assert found(small, dataset(7), "ancestors") == {dataset(n): d for n, d in {5: 1, 3: 2, 4: 2, 1: 3, 2: 3}.items()}
    assert found(small, dataset(1), "ancestors") == {}
    assert found(small, dataset(8)) == {}


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 9])
def test_the_depth_is_bounded(small: Registry, depth: int) -> None:
    for direction in ("ancestors", "descendants"):
        everything = {number: found(small, dataset(number), direction) for number in range(1, 9)}
        for number, whole in everything.items():
            near = {id_: distance for id_, distance in whole.items() if distance <= depth}
            assert found(small, dataset(number), direction, max_depth=depth) == near
    with pytest.raises(InvalidRequestError, match="at least 1"):
        found(small, dataset(1), max_depth=0)


def test_circles_end(empty: Registry) -> None:
    circle: Edges = {1: ((1, 9), (2,)), 2: ((2,), (3,)), 3: ((3,), (1, 4))}
    empty.provenance.record(quanta_of(circle))
    assert found(empty, dataset(1)) == {dataset(2): 1, dataset(3): 2, dataset(4): 3}
    assert found(empty, dataset(4), "ancestors") == {dataset(3): 1, dataset(2): 2, dataset(1): 3, dataset(9): 3}
    for depth in (2, 10_000):
        assert len(found(empty, dataset(1), max_depth=depth)) == min(depth, 3)


def test_which_inputs_count(empty: Registry) -> None:
    empty.provenance.record(
        [
            # Only planned; done with one of two; done without a plan.
            Quantum(id=uuid4(), task="a", run="r", predicted_inputs=(dataset(1),), outputs=(dataset(11),)),
            Quantum(
                id=uuid4(),
                task="b",
                run="r",
                predicted_inputs=(dataset(1), dataset(2)),
                actual_inputs=(dataset(2),),
                outputs=(dataset(12),),
            ),
            Quantum(id=uuid4(), task="c", run="r", actual_inputs=(dataset(1),), outputs=(dataset(13),)),
        ]
    )

    def outcomes(inputs: str, number: int = 1) -> set[UUID]:
        return set(found(empty, dataset(number), inputs=inputs))

    assert outcomes("used") == {dataset(11), dataset(13)}
    assert outcomes("predicted") == {dataset(11), dataset(12)}
    assert outcomes("any") == {dataset(11), dataset(12), dataset(13)}
    assert outcomes("used", 2) == {dataset(12)}
    assert set(found(empty, dataset(12), "ancestors")) == {dataset(2)}
    assert set(found(empty, dataset(12), "ancestors", inputs="predicted")) == {dataset(1), dataset(2)}


def test_what_is_reported_can_be_chosen_by_type(registry: Registry) -> None:
    raw = put_raw(registry, "run")
    others = [put_raw(registry, "run", detector=detector) for detector in (0, 1)]
    config = put(registry, "config", "run")
    steps = [raw, config, others[0], dataset(1), others[1]]
    registry.provenance.record([quantum(number, [a], [b]) for number, (a, b) in enumerate(itertools.pairwise(steps))])
    assert found(registry, raw) == {id_: number for number, id_ in enumerate(steps) if number}
    assert found(registry, raw, dataset_types=("raw",)) == {others[0]: 2, others[1]: 4}
    assert found(registry, raw, dataset_types=("con*", "coadd")) == {config: 1}
    with pytest.raises(MissingDatasetTypeError):
        found(registry, raw, dataset_types=("rau",))
    batches = list(registry.provenance.relatives(QueryRelatives(repository="r", id=raw, direction="descendants")))
    known = {batch.refs.dataset_type.name: batch.refs for batch in batches if batch.refs is not None}
    assert set(known) == {"raw", "config"}
    assert known["raw"].columns == [[CAMERA, CAMERA], [0, 1], [EXPOSURES[0], EXPOSURES[0]]]
    assert [known["raw"].runs[index] for index in known["raw"].run_index] == ["run", "run"]
    assert [batch.ids for batch in batches if batch.refs is None] == [dataset(1).bytes]


def test_memory_is_bounded(small: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "MAX_EDGES", 3)
    with pytest.raises(LimitExceededError, match="give a max_depth"):
        found(small, dataset(1))


# -- against a model ------------------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn, n_datasets: int = 12) -> Edges:
    """Quanta with any inputs, and outputs of their own; some graphs have circles."""
    numbers = st.integers(1, n_datasets)
    producers = draw(st.lists(st.integers(0, 6), min_size=n_datasets, max_size=n_datasets))
    forward = draw(st.booleans())
    graph: Edges = {}
    for key in range(1, 7):
        outputs = tuple(number for number, producer in enumerate(producers, 1) if producer == key)
        inputs = set(draw(st.lists(numbers, max_size=4))) - set(outputs)
        if forward:
            inputs = {number for number in inputs if number < min(outputs, default=n_datasets + 1)}
        graph[key] = (tuple(sorted(inputs)), outputs)
    return graph


_BASES = itertools.count(1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), depth=st.none() | st.integers(1, 12), order=st.randoms(use_true_random=False))
def test_walks_agree_with_a_model(empty: Registry, graph: Edges, depth: int | None, order: random.Random) -> None:
    base = next(_BASES) * 1_000
    quanta = quanta_of(graph, base=base)
    order.shuffle(quanta)
    for part in (quanta[:3], quanta[3:]):
        empty.provenance.record(part)
    named = {number for inputs, outputs in graph.values() for number in inputs + outputs}
    for number in named:
        for direction in ("ancestors", "descendants"):
            expected = {
                dataset(base + other): distance
                for other, distance in distances(graph, number, direction).items()
                if depth is None or distance <= depth
            }
            assert found(empty, dataset(base + number), direction, max_depth=depth) == expected


# -- many -----------------------------------------------------------------------------------------


def layers(n_levels: int, width: int) -> list[Quantum]:
    """Each dataset is made of three of the level before and one of any; all come from dataset 0 in the end."""
    choose = random.Random(1)
    made = []
    for number in range(n_levels * width):
        level = number // width
        inputs = {choose.randrange(level * width) + 1} if level else {0}
        inputs |= {(level - 1) * width + choose.randrange(width) + 1 for _ in range(3)} if level else set()
        made.append(quantum(number, map(dataset, inputs), [dataset(number + 1)]))
    return made


def test_a_hundred_thousand_are_one_query(empty: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    statements: list[str] = []
    for name in ("rows", "run", "run_many", "batches"):
        method = getattr(Session, name)

        def counted(self: Session, statement: Prepared, *args: object, method: Any = method) -> Any:
            statements.append(statement.sql)
            return method(self, statement, *args)

        monkeypatch.setattr(Session, name, counted)

    def record(quanta: list[Quantum]) -> int:
        statements.clear()
        empty.provenance.record(quanta)
        return len(statements)

    def walk() -> tuple[dict[UUID, int], int]:
        statements.clear()
        relatives = found(empty, dataset(0))
        assert sum("RECURSIVE" in sql for sql in statements) == 1
        return relatives, len(statements)

    quanta = layers(200, 500)
    few = record(quanta[:1_000])
    assert record(quanta[1_000:1_010]) == few
    walk()  # the first one also loads the definitions
    few_relatives, n_few = walk()
    assert len(few_relatives) == 1_010
    for first in range(1_010, len(quanta), 10_000):
        assert record(quanta[first : first + 10_000]) == few
    relatives, n_many = walk()
    assert n_many == n_few
    assert len(relatives) == 100_000
    assert relatives.items() >= few_relatives.items()
    assert found(empty, dataset(100_000), "ancestors")[dataset(0)] == relatives[dataset(100_000)]


def test_one_that_everything_needs(empty: Registry) -> None:
    """A calibration with many inputs and very many consumers: the walk is not their product."""
    inputs = [dataset(number) for number in range(1, 301)]
    step = 9_000
    empty.provenance.record([quantum(1, [dataset(5_000)], inputs), quantum(2, inputs, [dataset(1_000)])])
    empty.provenance.record(
        [quantum(10 + number, [dataset(1_000)], [dataset(10_000 + number)]) for number in range(step)]
    )
    relatives = found(empty, dataset(5_000))
    assert len(relatives) == step + 301
    assert relatives[dataset(10_000 + step - 1)] == 3


# -- the tables -----------------------------------------------------------------------------------


def test_a_registry_has_the_tables_when_they_are_needed(registry_url: str) -> None:
    first = create(registry_url)
    other = Registry.open(registry_url)
    with first._database.reading() as session:
        assert not first.provenance._tables.exist(session)
    with pytest.raises(InvalidRequestError):
        first.provenance.record([quantum(1, [dataset(1)], [dataset(1)])])
    assert other.provenance.record(quanta_of(SMALL)) == 4
    assert first.provenance.record(quanta_of({9: ((8,), (9,))})) == 1
    assert found(other, dataset(7)) == {dataset(8): 1, dataset(9): 2}
    assert other.version == first.version, "the tables of provenance are no new data model"
    first.close()
    other.close()


def test_a_record_that_fails_leaves_no_tables(empty: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(empty.provenance._recording, "_write_edges", _fail)
    with pytest.raises(ConflictError, match="on purpose"):
        empty.provenance.record(quanta_of(SMALL))
    with empty._database.reading() as session:
        assert not empty.provenance._tables.exist(session)
    monkeypatch.undo()
    assert empty.provenance.record(quanta_of(SMALL)) == 4


def _fail(_: Session) -> None:
    raise ConflictError("on purpose")
