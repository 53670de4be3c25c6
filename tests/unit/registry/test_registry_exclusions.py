"""Datasets left out of queries, and counts, on both databases."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, put, put_all_raws, put_raw, rows_of

from pantry.daemon.registry import Registry
from pantry.errors import (
    CollectionTypeError,
    DataIdValueError,
    DimensionNameError,
    InvalidRequestError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionType
from pantry.model.timespan import Timespan
from pantry.wire.operations import ExcludedDataIds, ExcludedDatasets, QueryDatasets
from pantry.wire.operations.exclusions import MAX_EXCLUDED

DIMENSIONS = ("instrument", "exposure", "detector")


def by_id(*ids: UUID) -> ExcludedDatasets:
    return ExcludedDatasets(ids=b"".join(one.bytes for one in ids))


def by_values(*dimensions: str, columns: list[list[int | str]], **more: object) -> ExcludedDatasets:
    return ExcludedDatasets(data_ids=(ExcludedDataIds("raw", dimensions, columns, **more),))  # type: ignore[arg-type]


def counts(registry: Registry, **arguments: object) -> dict[str, int]:
    query = {"repository": "r", "dataset_types": ("raw",), "collections": ("run",)} | arguments
    return registry.count_datasets(QueryDatasets(**query))  # type: ignore[arg-type]


@pytest.mark.req("DMS-MWBT-REQ-0090")
def test_the_next_in_the_chain_is_found_in_place_of_what_is_excluded(registry: Registry) -> None:
    first = put_raw(registry, "one")
    second, other = put_raw(registry, "two"), put_raw(registry, "two", detector=0)
    registry.register_collection("chain", CollectionType.CHAINED)
    registry.redefine_chain("chain", ["one", "two"])
    assert {row["id"] for row in rows_of(registry, collections=("chain",))} == {first, other}
    row = {"instrument": CAMERA, "exposure": EXPOSURES[0], "detector": 94}
    in_one = by_values(*row, columns=[[value] for value in row.values()], runs=["one"], run_index=[0])
    for exclude in (by_id(first), in_one):
        assert {row["id"] for row in rows_of(registry, collections=("chain",), exclude=exclude)} == {second, other}
        assert counts(registry, collections=("chain",), exclude=exclude) == {"raw": 2}
    assert {row["id"] for row in rows_of(registry, collections=("chain",), exclude=by_id(first, second))} == {other}
    everywhere = by_values(*row, columns=[[value] for value in row.values()])
    assert {row["id"] for row in rows_of(registry, collections=("chain",), exclude=everywhere)} == {other}


@pytest.mark.req("DMS-MWBT-REQ-0090")
def test_exclusion_by_values_of_any_dimensions(registry: Registry) -> None:
    put_all_raws(registry, "run")
    rows = rows_of(registry, exclude=by_values("detector", columns=[[94, "0"]]))
    assert {row["detector"] for row in rows} == {1, 2}
    rows = rows_of(registry, exclude=by_values("band", columns=[["r"]]))
    assert {row["exposure"] for row in rows} == set(EXPOSURES[1::2])
    assert rows_of(registry, exclude=by_values(columns=[], runs=["run", "none"], run_index=[1, 0])) == []
    assert len(rows_of(registry, exclude=by_values(columns=[], runs=["none"], run_index=[0]))) == 24
    pairs = by_values("exposure", "detector", columns=[[EXPOSURES[0], EXPOSURES[1]], [0, 94]])
    assert len(rows_of(registry, exclude=pairs)) == 22
    # Types of which nothing is excluded keep everything.
    put(registry, "bias", "run", instrument=CAMERA, detector=94)
    found = rows_of(registry, dataset_types=("raw", "bias"), exclude=by_values("detector", columns=[[94]]))
    assert [row["type"] for row in found].count("bias") == 1


def test_limits_count_what_is_left(registry: Registry) -> None:
    ids = put_all_raws(registry, "run")
    found = rows_of(registry, limit=4, order_by=("exposure", "detector"), exclude=by_id(*ids[:20]))
    assert [row["id"] for row in found] == ids[20:]
    assert counts(registry, limit=3, exclude=by_id(*ids[:20])) == {"raw": 3}
    assert counts(registry, limit=0) == {"raw": 0}


def test_a_hundred_thousand_exclusions(registry: Registry) -> None:
    ids = put_all_raws(registry, "run")
    many = [uuid4() for _ in range(100_000)]
    exposures: list[int | str] = list(range(100_000))
    exclude = ExcludedDatasets(
        ids=by_id(*many, *ids[:2]).ids,
        data_ids=(ExcludedDataIds("raw", ("exposure",), [[*exposures, EXPOSURES[-1]]]),),
    )
    assert counts(registry, exclude=exclude) == {"raw": 18}
    assert counts(registry, exclude=exclude) == {"raw": 18}  # the tables of the first query are gone


@pytest.mark.parametrize(
    ("exclude", "error"),
    [
        (ExcludedDatasets(data_ids=(ExcludedDataIds("rwa", ("detector",), [[1]]),)), MissingDatasetTypeError),
        (by_values("patch", columns=[[1]]), DimensionNameError),
        (by_values("detector", columns=[["R01"]]), DataIdValueError),
        (by_values("detector", columns=[[1], [2]]), InvalidRequestError),
        (by_values("detector", "exposure", columns=[[1], [2, 3]]), InvalidRequestError),
        (by_values("detector", "detector", columns=[[1], [2]]), InvalidRequestError),
        (by_values(columns=[]), InvalidRequestError),
        (by_values("detector", columns=[[1]], runs=["run"], run_index=[1]), InvalidRequestError),
        (by_values("detector", columns=[[1]], runs=["run"], run_index=[-1]), InvalidRequestError),
        (ExcludedDatasets(ids=b"short"), InvalidRequestError),
        (ExcludedDatasets(ids=bytes(16 * (MAX_EXCLUDED + 1))), InvalidRequestError),
        (ExcludedDatasets(data_ids=(ExcludedDataIds("raw", ("detector",), [[1]]),) * 65), InvalidRequestError),
    ],
)
def test_exclusions_that_cannot_be_understood(
    registry: Registry, exclude: ExcludedDatasets, error: type[Exception]
) -> None:
    put_raw(registry, "run")
    with pytest.raises(error):
        rows_of(registry, exclude=exclude)
    assert len(rows_of(registry)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"where": "detector > 0 AND band = 'r'"},
        {"limit": 5},
        {"collections": ("run", "two")},
        {"collections": ("run", "two"), "find_first": False},
        {"dataset_types": ("raw", "bias", "calexp")},
        {"dataset_types": ("*",), "limit": 25},
        {"where": "visit > 0"},
    ],
)
def test_counts_are_of_what_the_query_finds(registry: Registry, arguments: dict[str, object]) -> None:
    put_all_raws(registry, "run")
    put_raw(registry, "two")
    for detector in DETECTORS:
        put(registry, "bias", "run", instrument=CAMERA, detector=detector)
    found = rows_of(registry, **arguments)
    assert found
    assert sum(counts(registry, **arguments).values()) == len(found)


def test_an_ambiguous_calibration_is_not_counted(registry: Registry) -> None:
    registry.register_collection("calib", CollectionType.CALIBRATION)
    for number in range(2):
        one = put(registry, "bias", f"bias{number}", instrument=CAMERA, detector=94)
        registry.certify("calib", [one], Timespan(number * 1000, number * 1000 + 1000))
    arguments = {"dataset_types": ("bias",), "collections": ("calib",)}
    with pytest.raises(CollectionTypeError):
        counts(registry, **arguments)
    assert counts(registry, **arguments, exclude=by_id(one)) == {"bias": 1}
    assert counts(registry, **arguments, find_first=False) == {"bias": 2}
