"""Our side: the same commands as `peer_worker`, and reads of large objects, in a process of its own."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from benchmarks import formats, scene
from benchmarks.channel import serve
from benchmarks.timing import read_descriptor
from pantry.client import Butler
from pantry.client.connection import connect
from pantry.wire.operations import EvictObjects, GetCacheStatus

_butler: Butler


def make_repository(name: str, root: str, exposures: int, storage_class: str = "StructuredDataDict") -> None:
    global _butler
    _butler = Butler.create(name, root)
    insert = _butler.insert_dimension_records
    camera = {"instrument": scene.INSTRUMENT}
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
    insert("band", {"name": scene.BAND}, skip_existing=True)
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
    _butler.register_dataset_type(scene.DATASET_TYPE, scene.DIMENSIONS, storage_class)


def open_repository(name: str) -> None:
    global _butler
    _butler = Butler(name)


def register_run(run: str) -> None:
    _butler.collections.register(run)


def make_chain(name: str, runs: list[str]) -> None:
    _butler.collections.register(name, type="CHAINED")
    _butler.collections.redefine_chain(name, runs)


def ingest(run: str, files: list[tuple[str, scene.Key]]) -> float:
    """Ingest in place; making the arguments is not timed."""
    register_run(run)
    given = [(path, scene.data_id(tuple(key))) for path, key in files]
    begun = time.perf_counter()
    _butler.ingest(scene.DATASET_TYPE, given, run=run, transfer="in_place")
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
            there = ref.data_id.records
            assert there["exposure"].exposure_time == 30.0
            assert there["detector"].purpose == "SCIENCE"
    taken = time.perf_counter() - begun
    assert len(found) == expected, len(found)
    return taken


def register_format(name: str, storage_class: str) -> None:
    _butler.register_dataset_type(f"format_{name}", scene.DIMENSIONS, storage_class)


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


def read(run: str, key: scene.Key) -> dict[str, Any]:
    """Open a dataset and read it once through; also tells where the descriptor leads."""
    values = scene.data_id(tuple(key))
    begun = time.perf_counter()
    with _butler.open(scene.DATASET_TYPE, values, collections=run) as file:
        opened = time.perf_counter()
        size = read_descriptor(file.fileno())
        ended = time.perf_counter()
        path = os.readlink(f"/proc/self/fd/{file.fileno()}")
        return {"s": ended - begun, "open_s": opened - begun, "bytes": size, "path": path}


def first_byte(run: str, key: scene.Key) -> float:
    begun = time.perf_counter()
    with _butler.open(scene.DATASET_TYPE, scene.data_id(tuple(key)), collections=run, partial=True) as file:
        assert len(file.read(1)) == 1
        return time.perf_counter() - begun


def prefetch(run: str, expected: int) -> float:
    begun = time.perf_counter()
    done = _butler.prefetch(scene.DATASET_TYPE, run)
    taken = time.perf_counter() - begun
    assert (done.files_done, done.failed_files) == (expected, 0), done
    return taken


def stage(run: str, directory: str, transfer: Any, expected: int) -> float:
    """Query and stage, as `pantry stage` does."""
    begun = time.perf_counter()
    done = _butler.stage(_butler.query_datasets(scene.DATASET_TYPE, run), directory, transfer=transfer)
    taken = time.perf_counter() - begun
    assert len(done.paths) == expected
    return taken


def make_bundle(run: str, directory: str, expected: int) -> float:
    begun = time.perf_counter()
    done = _butler.create_bundle(_butler.query_datasets(scene.DATASET_TYPE, run), directory, collections=run)
    taken = time.perf_counter() - begun
    assert done.datasets == expected
    return taken


def open_bundle(directory: str) -> float:
    """Take a bundle in the place of the repository."""
    global _butler
    begun = time.perf_counter()
    _butler = Butler.from_bundle(directory)
    return time.perf_counter() - begun


def read_plain(path: str) -> dict[str, Any]:
    """Read a file of the local file system once through."""
    begun = time.perf_counter()
    fd = os.open(path, os.O_RDONLY)
    try:
        opened = time.perf_counter()
        size = read_descriptor(fd)
        return {"s": time.perf_counter() - begun, "open_s": opened - begun, "bytes": size}
    finally:
        os.close(fd)


def cut_out(run: str, key: scene.Key, box: list[int]) -> int:
    """Get a part of an image; returns its number of pixels."""
    image: Any = _butler.get(
        scene.DATASET_TYPE, scene.data_id(tuple(key)), collections=run, parameters={"bbox": tuple(box)}
    )
    return int(image.data.size)


def read_in_threads(name: str, run: str, key: scene.Key, threads: int, head_bytes: int) -> list[str]:
    """Open one object in several threads with connections of their own; returns what went wrong."""
    wrong: list[str] = []
    start = threading.Barrier(threads)

    def one() -> None:
        try:
            with Butler(name) as butler:
                start.wait()
                with butler.open(scene.DATASET_TYPE, scene.data_id(tuple(key)), collections=run) as file:
                    if len(os.pread(file.fileno(), head_bytes, 0)) != head_bytes:
                        wrong.append("a short read")
        except Exception as exc:
            wrong.append(f"{type(exc).__name__}: {exc}")

    running = [threading.Thread(target=one) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return wrong


def evict() -> int:
    with connect() as connection:
        return connection.call(EvictObjects(everything=True)).objects


def cache_status() -> dict[str, int]:
    with connect() as connection:
        status = connection.call(GetCacheStatus())
    return {name: getattr(status, name) for name in status.__struct_fields__}


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
            "bare": formats.bare,
            "make_chain": make_chain,
            "read": read,
            "first_byte": first_byte,
            "prefetch": prefetch,
            "stage": stage,
            "make_bundle": make_bundle,
            "open_bundle": open_bundle,
            "read_plain": read_plain,
            "cut_out": cut_out,
            "read_in_threads": read_in_threads,
            "evict": evict,
            "cache_status": cache_status,
        }
    )
