"""The peer's side: Gen3 Butler commands, run by the Python of the peer's own virtual environment."""

from __future__ import annotations

import time
from typing import Any

from lsst.daf.butler import Butler, CollectionType, DataCoordinate, DatasetRef, DatasetType, FileDataset

from benchmarks import formats, scene
from benchmarks.channel import serve

_butler: Butler


def make_repository(root: str, exposures: int) -> None:
    Butler.makeRepo(root)
    open_repository(root)
    insert = _butler.registry.insertDimensionData
    camera = {"instrument": scene.INSTRUMENT}
    with _butler.transaction():
        insert(
            "instrument",
            {
                "name": scene.INSTRUMENT,
                "class_name": "bench.Camera",
                "detector_max": scene.DETECTORS,
                "exposure_max": 10**9,
                "visit_max": 10**9,
            },
        )
        insert("physical_filter", camera | {"name": scene.PHYSICAL_FILTER, "band": scene.BAND})
        insert("day_obs", camera | {"id": scene.DAY_OBS})
        insert(
            "detector",
            *(
                camera | {"id": number, "full_name": f"D{number:03d}", "purpose": "SCIENCE"}
                for number in range(scene.DETECTORS)
            ),
        )
        insert("group", *(camera | {"name": str(number)} for number in range(exposures)))
        insert(
            "exposure",
            *(
                camera
                | {
                    "id": number,
                    "obs_id": f"e{number:06d}",
                    "day_obs": scene.DAY_OBS,
                    "group": str(number),
                    "physical_filter": scene.PHYSICAL_FILTER,
                    "exposure_time": 30.0,
                    "dark_time": 30.0,
                    "observation_type": "science",
                    "seq_num": number,
                }
                for number in range(exposures)
            ),
        )
    _butler.registry.registerDatasetType(
        DatasetType(scene.DATASET_TYPE, _butler.dimensions.conform(scene.DIMENSIONS), "StructuredDataDict")
    )


def open_repository(root: str) -> None:
    global _butler
    _butler = Butler.from_config(root, writeable=True)


def register_run(run: str) -> None:
    _butler.registry.registerRun(run)


def make_chain(name: str, runs: list[str]) -> None:
    _butler.collections.register(name, CollectionType.CHAINED)
    _butler.collections.redefine_chain(name, runs)


def ingest(run: str, files: list[tuple[str, scene.Key]]) -> float:
    """Ingest in place; making the arguments is not timed."""
    _butler.registry.registerRun(run)
    dataset_type = _butler.get_dataset_type(scene.DATASET_TYPE)
    datasets = [
        FileDataset(
            path,
            DatasetRef(
                dataset_type,
                DataCoordinate.standardize(scene.data_id(tuple(key)), universe=_butler.dimensions),
                run,
            ),
        )
        for path, key in files
    ]
    begun = time.perf_counter()
    _butler.ingest(*datasets, transfer=None)
    return time.perf_counter() - begun


def get(run: str, wanted: list[scene.Key]) -> list[float]:
    taken = []
    for key in wanted:
        values = scene.data_id(tuple(key))
        begun = time.perf_counter()
        found: Any = _butler.get(scene.DATASET_TYPE, values, collections=run)
        taken.append(time.perf_counter() - begun)
        assert found["detector"] == key[1]
    return taken


def put(run: str, wanted: list[scene.Key]) -> list[float]:
    taken = []
    for key in wanted:
        values, document = scene.data_id(tuple(key)), scene.content(tuple(key), run)
        begun = time.perf_counter()
        _butler.put(document, scene.DATASET_TYPE, values, run=run)
        taken.append(time.perf_counter() - begun)
    return taken


def query(run: str, expected: int, exposure: int | None = None, records: bool = False) -> float:
    constraint: dict[str, Any] = {}
    if exposure is not None:
        constraint = {"where": f"instrument = '{scene.INSTRUMENT}' AND exposure = {exposure}"}
    begun = time.perf_counter()
    found = _butler.query_datasets(
        scene.DATASET_TYPE, collections=run, with_dimension_records=records, limit=None, **constraint
    )
    if records:
        # Whatever is put off until somebody looks counts as well.
        for ref in found:
            there = ref.dataId.records
            assert there["exposure"].exposure_time == 30.0
            assert there["detector"].purpose == "SCIENCE"
    taken = time.perf_counter() - begun
    assert len(found) == expected, len(found)
    return taken


def register_format(name: str, storage_class: str) -> None:
    _butler.registry.registerDatasetType(
        DatasetType(f"format_{name}", _butler.dimensions.conform(scene.DIMENSIONS), storage_class)
    )


def put_object(**asked: Any) -> float:
    return formats.put_object(_butler, **asked)


def get_object(**asked: Any) -> float:
    return formats.get_object(_butler, **asked)


def find(run: str, wanted: list[scene.Key]) -> list[float]:
    taken = []
    for key in wanted:
        values = scene.data_id(tuple(key))
        begun = time.perf_counter()
        found = _butler.find_dataset(scene.DATASET_TYPE, values, collections=run)
        taken.append(time.perf_counter() - begun)
        assert found is not None
    return taken


if __name__ == "__main__":
    serve(
        {
            "make_repository": make_repository,
            "open_repository": open_repository,
            "register_run": register_run,
            "ingest": ingest,
            "get": get,
            "put": put,
            "query": query,
            "find": find,
            "register_format": register_format,
            "put_object": put_object,
            "get_object": get_object,
            "make_chain": make_chain,
        }
    )
