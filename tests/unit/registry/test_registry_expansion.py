"""Whole dimension records on data ids and references."""

from __future__ import annotations

from typing import Any
from unittest import mock

import msgspec
import pytest
from tests.unit.registry.world import CAMERA, DETECTORS, EXPOSURES, REGION, filter_of, put

from pantry.client.butler.batches import data_ids, refs
from pantry.daemon.registry import Registry, searching
from pantry.daemon.registry.chained import ChainedRegistry
from pantry.daemon.registry.engine import Session
from pantry.errors import ProtocolError
from pantry.model.data_id import DataCoordinate
from pantry.model.timespan import Timespan
from pantry.wire.operations.registry import FindDataset, QueryDataIds, QueryDatasets, RecordTable, RefBatch

ALL = ("raw", "run")


@pytest.fixture
def raws(registry: Registry) -> Registry:
    for exposure in EXPOSURES:
        for detector in DETECTORS:
            put(registry, "raw", "run", instrument=CAMERA, exposure=exposure, detector=detector)
    return registry


def asked(**more: Any) -> QueryDatasets:
    return QueryDatasets(
        repository="r", dataset_types=("raw",), collections=("run",), with_dimension_records=True, **more
    )


def data_ids_of(registry: Any, query: QueryDatasets) -> list[DataCoordinate]:
    return [ref.data_id for batch in registry.query_datasets(query) for ref in refs(batch)]


def check(data_id: DataCoordinate) -> None:
    """Compare with what world.py made."""
    number = int(data_id["exposure"]) - EXPOSURES[0] + 1  # type: ignore[arg-type]
    assert list(data_id.records) == [
        "band", "day_obs", "group", "instrument", "detector", "physical_filter", "exposure",
    ] or set(data_id.records) == {
        "band", "day_obs", "group", "instrument", "detector", "physical_filter", "exposure",
    }  # fmt: skip
    for element, record in data_id.records.items():
        assert record is not None
        assert record.element == element
        own = "name" if element in ("band", "group", "instrument", "physical_filter") else "id"
        assert record.values[own] == data_id[element]
    assert data_id.exposure.exposure_time == 15.0 * number
    assert data_id.exposure.can_see_sky is (number > 2)
    assert data_id.physical_filter.band == data_id["band"]
    assert data_id.timespan == Timespan(number * 1000, number * 1000 + 500)
    assert data_id.region is None


def test_references_have_the_records_of_all_elements(raws: Registry) -> None:
    found = data_ids_of(raws, asked())
    assert len(found) == len(EXPOSURES) * len(DETECTORS)
    for data_id in found:
        check(data_id)
    first, second = (one for one in found if one["exposure"] == EXPOSURES[1] and one["detector"] in (0, 1))
    assert first.exposure is second.exposure, "rows share their records"


def test_each_record_is_sent_once_and_no_row_has_a_query(raws: Registry) -> None:
    with mock.patch.object(Session, "rows", autospec=True, side_effect=Session.rows) as rows:
        [batch] = raws.query_datasets(asked())
        statements = rows.call_count
    sizes = {table.element: (len(table.records), len(table.rows)) for table in batch.records}
    n_rows = len(EXPOSURES) * len(DETECTORS)
    assert sizes["exposure"] == (len(EXPOSURES), n_rows)
    assert sizes["detector"] == (len(DETECTORS), n_rows)
    assert sizes["instrument"] == (1, n_rows)
    assert statements < n_rows


def test_over_many_batches(raws: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "BATCH_ROWS", 5)
    monkeypatch.setattr("pantry.daemon.registry.expansion._KEYS", 2)
    found = data_ids_of(raws, asked(order_by=("detector", "-exposure")))
    assert len(found) == len(EXPOSURES) * len(DETECTORS)
    for data_id in found:
        check(data_id)


def test_one_reference(raws: Registry) -> None:
    data_id: dict[str, Any] = {"instrument": CAMERA, "exposure": EXPOSURES[3], "detector": 94}
    query = FindDataset(repository="r", dataset_type="raw", data_id=data_id, collections=("run",))
    plain = raws.find_dataset(query).ref
    assert plain is not None
    assert not plain.data_id.has_records()
    found = raws.find_dataset(msgspec.structs.replace(query, dimension_records=True)).ref
    assert found is not None
    check(found.data_id)
    by_id = raws.get_dataset(found.id, dimension_records=True).ref
    assert by_id is not None
    check(by_id.data_id)


def test_regions_and_pixels_of_data_ids(registry: Registry) -> None:
    query = QueryDataIds(
        repository="r",
        dimensions=("visit", "htm7"),
        where=f"visit = {EXPOSURES[0]}",
        with_dimension_records=True,
    )
    found = [one for batch in registry.query_data_ids(query) for one in data_ids(batch)]
    assert found
    for data_id in found:
        assert data_id.visit.region == REGION
        assert data_id.htm7.values == {"id": data_id["htm7"]}
        # Of two families: where both are.
        assert data_id.region is not None
        assert not data_id.region.contains(_far_away())
        # The world's visits have no time.
        assert data_id.timespan is None
    only = QueryDataIds(repository="r", dimensions=("visit",), with_dimension_records=True)
    regions = {one.region.encode() for batch in registry.query_data_ids(only) for one in data_ids(batch)}  # type: ignore[union-attr]
    assert regions == {REGION}


def _far_away() -> Any:
    from lsst.sphgeom import LonLat, UnitVector3d

    return UnitVector3d(LonLat.fromDegrees(200.0, 10.0))


def test_without_records(raws: Registry) -> None:
    [batch] = raws.query_datasets(msgspec.structs.replace(asked(limit=1), with_dimension_records=False))
    [ref] = refs(batch)
    assert not ref.data_id.has_records()
    for name in ("records", "region", "timespan", "exposure"):
        with pytest.raises(AttributeError, match="with_dimension_records=True"):
            getattr(ref.data_id, name)


def test_a_chain_of_repositories_sorted_and_not(raws: Registry) -> None:
    # The same one twice: the second gives what the first has given, which is left out.
    chain = ChainedRegistry([("a", raws), ("b", raws)])
    for more in ({}, {"order_by": ("-exposure", "detector")}, {"find_first": False}):
        found = data_ids_of(chain, asked(**more))
        assert len(found) == len(EXPOSURES) * len(DETECTORS) * (2 if more == {"find_first": False} else 1)
        for data_id in found:
            check(data_id)
    ordered = data_ids_of(chain, asked(order_by=("-exposure", "detector"), limit=3))
    assert [(one["exposure"], one["detector"]) for one in ordered] == [(EXPOSURES[-1], one) for one in (0, 1, 2)]
    query = QueryDataIds(repository="r", dimensions=("exposure",), order_by=("-exposure",), with_dimension_records=True)
    exposures = [one for batch in chain.query_data_ids(query) for one in data_ids(batch)]
    assert [one.exposure.physical_filter for one in exposures] == [filter_of(one) for one in reversed(EXPOSURES)]


@pytest.mark.parametrize("rows", [[0, 1], [1], [-2], []])
def test_a_batch_that_points_nowhere_is_refused(rows: list[int]) -> None:
    kind = {"name": "raw", "dimensions": ("detector",), "storage_class": "Bytes"}
    batch = msgspec.convert([kind, ("detector",), (), bytes(16), [[1]], ["run"], [0]], RefBatch)
    table = RecordTable("detector", [], rows)
    with pytest.raises(ProtocolError, match="without their records"):
        refs(msgspec.structs.replace(batch, records=[table]))
