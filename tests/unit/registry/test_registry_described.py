"""Files and memberships of many datasets, asked for in one question."""

from __future__ import annotations

from uuid import uuid4

import pytest
from tests.unit.registry.test_registry_metadata import FRAME, add
from tests.unit.registry.world import CAMERA, EXPOSURES, stored

from pantry.daemon.registry import Registry
from pantry.errors import (
    CollectionTypeError,
    DatasetNotFoundError,
    InvalidRequestError,
    MissingCollectionError,
    MissingDatasetTypeError,
)
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.timespan import Timespan


def test_files(registry: Registry) -> None:
    registry.register_dataset_type(FRAME)
    ids = add(registry, "a", [(0, {"exptime": 1.5, "good": True}), (1, {"seqnum": 3}), (2, {})])
    table = registry.describe_files("frame", [ids[2].bytes, ids[0].bytes])
    assert table.paths == [stored("a/2").path, stored("a/0").path]
    assert table.hashes == [stored("a/2").hash, stored("a/0").hash]
    assert table.sizes == [stored("a/2").size_bytes, stored("a/0").size_bytes]
    assert [name.rsplit("/", 1)[0] for name in table.names] == [f"a/frame/{CAMERA}/{EXPOSURES[n]}" for n in (2, 0)]
    assert (table.metadata["exptime"], table.metadata["good"]) == ([None, 1.5], [None, True])
    with pytest.raises(DatasetNotFoundError, match="no frame with the id"):
        registry.describe_files("frame", [ids[0].bytes, uuid4().bytes])
    with pytest.raises(MissingDatasetTypeError):
        registry.describe_files("nothing", [ids[0].bytes])
    with pytest.raises(InvalidRequestError, match="twice"):
        registry.describe_files("frame", [ids[0].bytes] * 2)


def test_members(registry: Registry) -> None:
    kind = DatasetType(name="dark", dimensions=("detector",), storage_class="FitsHDUList", is_calibration=True)
    registry.register_dataset_type(kind)
    ids = [uuid4() for _ in range(2)]
    for run, id_ in zip(("one", "two"), ids, strict=True):
        registry.insert_datasets(run, "dark", [(id_, (CAMERA, 0), stored(f"{run}/b"))])
    registry.register_collection("calib", CollectionType.CALIBRATION)
    registry.register_collection("best", CollectionType.TAGGED)
    registry.certify("calib", ids[:1], Timespan(10, 20))
    registry.certify("calib", ids[:1], Timespan(30, 40))
    registry.certify("calib", ids[1:], Timespan(20, 30))
    registry.associate("best", ids[1:])
    table = registry.describe_members("dark", [ids[0].bytes, uuid4().bytes, ids[1].bytes], ["calib", "best"])
    rows = zip(table.datasets, table.collections, table.begin_ns, table.end_ns, strict=True)
    assert sorted(rows, key=repr) == [(0, 0, 10, 20), (0, 0, 30, 40), (2, 0, 20, 30), (2, 1, None, None)]
    with pytest.raises(CollectionTypeError):
        registry.describe_members("dark", [ids[0].bytes], ["one"])
    with pytest.raises(MissingCollectionError):
        registry.describe_members("dark", [ids[0].bytes], ["nowhere"])
