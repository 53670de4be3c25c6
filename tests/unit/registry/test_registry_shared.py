"""Several registries over one database: other nodes, other processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from tests.unit.registry.world import (
    CAMERA,
    COADD,
    DETECTORS,
    EXPOSURES,
    find_raw,
    put_raw,
    record,
    rows_of,
    stored,
)

from pantry.daemon.registry import Registry
from pantry.errors import DatasetExistsError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.wire.operations.repositories import QueryCollections


@pytest.fixture
def other(registry: Registry, registry_url: str) -> Iterator[Registry]:
    opened = Registry.open(registry_url)
    yield opened
    opened.close()


def test_definitions_are_seen_at_once(registry: Registry, other: Registry) -> None:
    assert len(other.list_dataset_types()) == len(registry.list_dataset_types())
    for number, (one, two) in enumerate([(registry, other), (other, registry)] * 2):
        one.register_collection(f"c{number}", CollectionType.RUN)
        assert f"c{number}" in [found.name for found in two.query_collections(QueryCollections(repository="r"))]
        made, new = one.register_dataset_type(
            DatasetType(name=f"t{number}", dimensions=("visit",), storage_class="CCDData")
        )
        assert new
        assert two.register_dataset_type(made) == (made, False)


def test_datasets_and_chains_are_seen_at_once(registry: Registry, other: Registry) -> None:
    in_a = put_raw(registry, "a")
    assert find_raw(other, "a") == in_a
    in_b = put_raw(other, "b")
    registry.register_collection("chain", CollectionType.CHAINED)
    registry.redefine_chain("chain", ["a", "b"])
    assert find_raw(other, "chain") == in_a
    other.redefine_chain("chain", ["b", "a"])
    assert find_raw(registry, "chain") == in_b
    registry.delete_datasets([in_b])
    assert find_raw(other, "chain") == in_a


def test_records_and_new_groups_are_seen_at_once(registry: Registry, other: Registry) -> None:
    other.insert_dimension_records([record("detector", instrument=CAMERA, id=7, full_name="new")])
    assert (
        registry.prepare_put("raw", "run", {"exposure": EXPOSURES[0], "detector.full_name": "new"}).data_id["detector"]
        == 7
    )
    kind = DatasetType(name="deep", dimensions=("tract",), storage_class=COADD.storage_class)
    registry.register_dataset_type(kind)
    assert other.prepare_put("deep", "run", {"skymap": "map", "tract": 7}).path == "run/deep/map/deep_map_7.fits"


def test_two_writers_never_both_store_the_same(registry: Registry, other: Registry) -> None:
    jobs = [(detector, exposure) for exposure in EXPOSURES for detector in DETECTORS]

    def insert(writer: Registry, job: tuple[int, int]) -> bool:
        try:
            writer.insert_datasets("run", "raw", [(uuid4(), (CAMERA, *job), stored("x"))])
        except DatasetExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        stored_by = list(pool.map(insert, [registry, other] * len(jobs), [job for job in jobs for _ in range(2)]))
    assert sum(stored_by) == len(jobs)
    assert len(rows_of(other)) == len(jobs)


_CHILD = """
import sys
from tests.unit.registry.world import CAMERA, EXPOSURES, put_raw
from pantry.daemon.registry import Registry
registry = Registry.open(sys.argv[1])
for detector in (0, 1):
    print(put_raw(registry, "child", EXPOSURES[1], detector), flush=True)
    sys.stdin.readline()
registry.close()
"""


def test_another_process_is_seen_while_it_runs(registry: Registry, registry_url: str) -> None:
    registry.list_dataset_types()
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, registry_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    with child:
        for detector in (0, 1):
            made = child.stdout.readline().strip()
            assert str(find_raw(registry, "child", exposure=EXPOSURES[1], detector=detector)) == made
            child.stdin.write("\n")
            child.stdin.flush()
    assert child.returncode == 0
