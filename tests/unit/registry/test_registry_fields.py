"""Fields of the datasets that are searched, in conditions and to sort by."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.unit.registry.world import CAMERA, EXPOSURES, put_raw, rows_of, stored

from pantry.daemon.registry import Registry
from pantry.daemon.registry.chained import ChainedRegistry
from pantry.errors import InvalidQueryError
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import EncodedTimespan, QueryDataIds, QueryDatasets

BOTH = ("a", "b")


@pytest.fixture
def two_runs(registry: Registry) -> dict[str, UUID]:
    """The same raw in two runs."""
    return {run: put_raw(registry, run) for run in BOTH}


def runs(registry: Registry, where: str, *collections: str, **more: Any) -> list[object]:
    return [row["run"] for row in rows_of(registry, where=where, collections=collections or BOTH, **more)]


def test_they_hold_before_the_first_is_chosen(registry: Registry, two_runs: dict[str, UUID]) -> None:
    assert runs(registry, "") == ["a"]
    assert runs(registry, "run = 'b'") == ["b"]
    assert runs(registry, "raw.collection != 'a'") == ["b"]
    assert runs(registry, f"dataset_id = UUID('{two_runs['b']}')") == ["b"]
    assert runs(registry, "raw.dataset_id IN (some, :one)", bind={"some": (), "one": str(two_runs["b"])}) == ["b"]
    assert runs(registry, "GLOB(run, '?') AND NOT raw.run = 'a'") == ["b"]
    assert runs(registry, "run = 'c'") == []


def test_dates_of_ingest_are_times(registry: Registry, two_runs: dict[str, UUID]) -> None:
    # world.py stores at 2023-11-14T22:13:20 UTC.
    assert runs(registry, "ingest_date = T'2023-11-14T22:13:20'", find_first=False, order_by=("run",)) == ["a", "b"]
    assert runs(registry, "raw.ingest_date OVERLAPS (T'2023-11-14T22:13:20', T'2023-11-14T22:13:21')") == ["a"]
    assert runs(registry, "ingest_date > when", bind={"when": "2023-11-14T22:13:20/utc"}) == []
    assert runs(registry, "ingest_date < T'2023-11-14T22:13:57/tai'") == []


def test_sorted_by_them(registry: Registry, two_runs: dict[str, UUID]) -> None:
    assert runs(registry, "", find_first=False, order_by=("-run",)) == ["b", "a"]
    assert runs(registry, "", find_first=False, order_by=("raw.collection", "-ingest_date"), limit=1) == ["a"]
    with pytest.raises(InvalidQueryError, match="no order"):
        runs(registry, "", order_by=("dataset_id",))
    chain = ChainedRegistry([("one", registry), ("two", registry)])
    query = QueryDatasets(
        repository="r", dataset_types=("raw",), collections=BOTH, find_first=False, order_by=("-run",)
    )
    found = [batch.runs[index] for batch in chain.query_datasets(query) for index in batch.run_index]
    assert found == ["b", "b", "a", "a"]


def test_validity(registry: Registry) -> None:
    registry.register_collection("calib", CollectionType.CALIBRATION)
    for number, span in enumerate((Timespan(0, 100), Timespan(100, 200))):
        new = uuid4()
        registry.register_collection(f"bias/{number}", CollectionType.RUN)
        registry.insert_datasets(f"bias/{number}", "bias", [(new, (CAMERA, 1), stored(f"bias{number}"))])
        registry.certify("calib", [new], span)
    asked: dict[str, Any] = {"dataset_types": ("bias",), "find_first": False}
    overlapping = {"when": EncodedTimespan(100, 150)}
    assert runs(registry, "bias.timespan OVERLAPS when", "calib", bind=overlapping, **asked) == ["bias/1"]
    assert runs(registry, "", "calib", order_by=("-bias.timespan.begin",), **asked) == ["bias/1", "bias/0"]
    # Members of a run are valid at all times.
    assert runs(registry, "bias.timespan.begin < T'1970-01-02/tai'", "bias/1", **asked) == ["bias/1"]


def test_in_queries_for_data_ids(registry: Registry, two_runs: dict[str, UUID]) -> None:
    put_raw(registry, "b", exposure=EXPOSURES[1])

    def found(where: str, *dataset_types: str) -> list[object]:
        query = QueryDataIds(
            repository="r",
            dimensions=("exposure",),
            dataset_types=dataset_types or ("raw",),
            collections=BOTH,
            where=where,
        )
        return [row for batch in registry.query_data_ids(query) for row in sorted(batch.columns[1])]  # type: ignore[type-var]

    assert found("") == list(EXPOSURES[:2])
    assert found("raw.run = 'a'") == [EXPOSURES[0]]
    assert found("run = 'b' AND ingest_date > T'2020-01-01'") == list(EXPOSURES[:2])
    with pytest.raises(InvalidQueryError, match="unknown name"):
        found("calexp.run = 'a'")


def test_each_type_of_several(registry: Registry, two_runs: dict[str, UUID]) -> None:
    registry.insert_datasets("a", "config", [(uuid4(), (), stored("config"))])
    found = rows_of(registry, dataset_types=("*",), collections=BOTH, where="run = 'a'")
    assert sorted(str(row["type"]) for row in found) == ["config", "raw"]
