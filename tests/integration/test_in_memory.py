"""Datasets that stay in the memory of the process that puts them, with a real daemon for their data ids."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from astropy.nddata import CCDData
from astropy.table import Table
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.errors import (
    CollectionTypeError,
    ConfigError,
    DataIdValueError,
    DatasetExistsError,
    DatasetNotFoundError,
    FormatterError,
    InvalidRequestError,
    PermissionDeniedError,
)
from pantry.model.datasets import DatasetRef

MEMORY = {"dataset_types": {"config": {"memory": True}, "img*": {"memory": True}, "catalog": {"memory": True}}}
DATA_ID = {"instrument": INSTRUMENT, "exposure": 1}


class Anything:
    """An object that no formatter could write."""


@pytest.fixture
def daemon(make_daemon: Callable[..., PantryDaemon]) -> PantryDaemon:
    return make_daemon()


@pytest.fixture
def butler(daemon: PantryDaemon, short_dir: Path) -> Iterator[Butler]:
    with Butler.create("m", str(short_dir / "root"), formats=MEMORY, socket=daemon.socket) as made:
        furnish(made, 3)
        made.register_dataset_type("img", ["exposure"], "CCDData")
        made.register_dataset_type("catalog", ["exposure"], "ArrowAstropy")
        yield made.clone(run="run")
        made.prune_memory()


def files(short_dir: Path) -> set[str]:
    found = {str(path.relative_to(short_dir / "root")) for path in (short_dir / "root").rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith(".pantry/")}


@pytest.mark.req("DMS-MWBT-REQ-0027")
def test_the_object_itself_stays_and_nothing_is_stored(butler: Butler, daemon: PantryDaemon, short_dir: Path) -> None:
    obj = Anything()
    ref = butler.put(obj, "config", DATA_ID)
    assert isinstance(ref.id, UUID)
    assert (ref.dataset_type.name, ref.run) == ("config", "run")
    assert ref.data_id == DATA_ID
    assert ref.data_id["band"] == "r"  # complete, as of every put
    for found in (
        butler.get("config", DATA_ID),
        butler.get(ref),
        butler.get("config", exposure="1", instrument=INSTRUMENT),
        butler.get("config", {"exposure.obs_id": "T_1"}),
        butler.get_deferred("config", DATA_ID).get(),
        butler.get_deferred(ref).get(),
        butler.get(ref.dataset_type, DATA_ID),
        Butler("m", collections=["other", "r*"], socket=daemon.socket).get("config", DATA_ID),
    ):
        assert found is obj
    assert butler.find_dataset("config", DATA_ID) == butler.get_dataset(ref.id) == ref
    assert butler.exists("config", DATA_ID)
    assert butler.exists(ref)
    assert not butler.exists("config", instrument=INSTRUMENT, exposure=2)
    assert butler.datasets_in_memory("config") == butler.datasets_in_memory() == [ref]
    # The run is there, as after every put; the dataset is not in the registry, the storage or the daemon's cache.
    assert butler.query_datasets("config", "*") == []
    assert files(short_dir) == {"pantry.yaml"}
    assert list((daemon.cache / "incoming").iterdir()) == []
    assert list((daemon.cache / "objects").rglob("*")) == []


@pytest.mark.req("DMS-MWBT-REQ-0027")
def test_collections_are_searched_in_their_order(butler: Butler) -> None:
    for run in ("b", "a"):
        butler.put(run, "config", DATA_ID, run=run)
    butler.put("stored", "config", DATA_ID, run="c")
    butler.collections.register("chain", type="CHAINED")
    butler.collections.redefine_chain("chain", ["b", "a"])
    assert butler.get("config", DATA_ID, collections=["a", "b"]) == "a"
    assert butler.get("config", DATA_ID, collections=["chain", "a"]) == "b"
    assert butler.get("config", DATA_ID, collections=["nowhere", "c", "chain"]) == "stored"
    assert butler.get("config", DATA_ID, collections="[ab]") == "b"
    with pytest.raises(DatasetNotFoundError):
        butler.get("config", instrument=INSTRUMENT, exposure=2, collections=["a", "b"])


def test_what_is_stored_is_found_too(butler: Butler, daemon: PantryDaemon) -> None:
    stored = Butler("m", run="stored", formats={"dataset_types": {"config": {"memory": False}}}, socket=daemon.socket)
    ref = stored.put({"a": 1}, "config", DATA_ID)
    assert butler.get(ref) == butler.get("config", DATA_ID, collections="stored") == {"a": 1}
    # And counts for "no clobber".
    with pytest.raises(DatasetExistsError, match="the run 'stored' already has a config"):
        butler.put({}, "config", DATA_ID, run="stored")
    # What another Butler of this process put in memory, this one finds, whatever its own formats say.
    kept = butler.put({"b": 2}, "config", DATA_ID)
    assert stored.get(kept) is butler.get(kept)


def test_mistakes(butler: Butler, daemon: PantryDaemon, short_dir: Path) -> None:
    ref = butler.put(1, "config", DATA_ID)
    with pytest.raises(DatasetExistsError, match=r"the run 'run' already has a config .* in memory"):
        butler.put(2, "config", DATA_ID)
    with pytest.raises(DatasetExistsError):
        butler.put(2, ref)
    assert butler.get(ref) == 1
    with pytest.raises(DataIdValueError, match="77"):
        butler.put(1, "config", instrument=INSTRUMENT, exposure=77)
    butler.collections.register("tags", type="TAGGED")
    with pytest.raises(CollectionTypeError, match="tags"):
        butler.put(1, "config", DATA_ID, run="tags")
    with pytest.raises(InvalidRequestError, match="bad collection name"):
        butler.put(1, "config", DATA_ID, run="../x")
    with pytest.raises(PermissionDeniedError, match="read-only"):
        Butler("m", run="r", writeable=False, socket=daemon.socket).put(1, "config", DATA_ID)
    with pytest.raises(InvalidRequestError, match="goes to no repository or service"):
        butler.put(1, "config", DATA_ID, outputs=["m"])
    with (short_dir / "x").open("w+b") as file, pytest.raises(InvalidRequestError, match="put the object"):
        butler.put_file(file, "config", DATA_ID)
    with pytest.raises(InvalidRequestError, match="is in memory and has no file"):
        butler.open(ref)
    with pytest.raises(InvalidRequestError, match="is in memory and has no file"), butler.path("config", DATA_ID):
        pass
    with pytest.raises(DatasetNotFoundError, match="no dataset.*\n.*only the process that put it has it"):
        butler.get("config", instrument=INSTRUMENT, exposure=3)
    strange = DatasetRef(id=uuid4(), dataset_type=ref.dataset_type, data_id=ref.data_id, run="run")
    for read in (butler.get, lambda one: butler.get_deferred(one).get()):
        with pytest.raises(DatasetNotFoundError, match="only the process that put it has it"):
            read(strange)
    for wrong in (
        {"storage_classes": {"CCDData": {"memory": True}}},
        {"dataset_types": {"config": {"memory": "yes"}}},
    ):
        path = short_dir / "formats.yaml"
        path.write_text(str(wrong))
        with pytest.raises(ConfigError, match="memory"):
            Butler("m", formats=path, socket=daemon.socket)


def test_parts_are_those_that_a_stored_dataset_would_have(butler: Butler) -> None:
    pixels = np.arange(48, dtype="f4").reshape(6, 8)
    butler.put(CCDData(pixels, unit="adu", meta={"OBJECT": "M31"}), "img", DATA_ID)
    part = butler.get("img", DATA_ID, parameters={"bbox": (2, 1, 5, 4)})
    assert isinstance(part, CCDData)
    assert (part.data == pixels[1:4, 2:5]).all()
    assert butler.get("img.header", DATA_ID)["OBJECT"] == "M31"
    assert butler.get_deferred("img", DATA_ID).get(component="header")["OBJECT"] == "M31"
    assert type(butler.get("img", DATA_ID, storage_class="NumpyArray")) is np.ndarray
    table = Table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
    butler.put(table, "catalog", DATA_ID)
    columns = butler.get("catalog", DATA_ID, parameters={"columns": ["b"]})
    assert isinstance(columns, Table)
    assert columns.colnames == ["b"]
    butler.put(Anything(), "config", DATA_ID)
    with pytest.raises(FormatterError, match="Anything"):
        butler.get("config.part", DATA_ID)


@pytest.mark.req("DMS-MWBT-REQ-0027")
def test_objects_live_until_they_are_pruned(butler: Butler, daemon: PantryDaemon) -> None:
    """As Gen3's in-memory datastore: by reference, so that memory is its user's to bound."""
    obj = Anything()
    seen = weakref.ref(obj)
    ref = butler.put(obj, "config", DATA_ID)
    other = butler.put([1], "config", DATA_ID, run="other")
    del obj
    gc.collect()
    assert butler.get(ref) is seen()
    # A change of the object is seen by whoever gets it.
    butler.get(other).append(2)
    assert butler.get(other) == [1, 2]
    with Butler("m", socket=daemon.socket) as third:
        assert third.prune_memory([ref, ref]) == 1
    gc.collect()
    assert seen() is None
    assert butler.find_dataset("config", DATA_ID) is None
    assert butler.prune_memory([ref]) == 0
    assert butler.put(3, "config", DATA_ID).id != ref.id
    assert butler.prune_memory() == 2
    assert butler.datasets_in_memory() == []


def test_all_threads_share_them_and_one_wins(butler: Butler) -> None:
    start = threading.Barrier(8)
    outcomes: list[Any] = []

    def put(number: int) -> None:
        start.wait()
        try:
            outcomes.append(butler.put(number, "config", DATA_ID))
        except DatasetExistsError as exc:
            outcomes.append(exc)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [one for one in outcomes if isinstance(one, DatasetRef)]
    assert len(won) == 1
    assert len(outcomes) == 8
    assert butler.get(won[0]) in range(8)


OTHER = """
import pickle, sys
handle = pickle.load(sys.stdin.buffer)
try:
    handle.get()
except Exception as exc:
    print(type(exc).__name__, exc)
"""


def test_other_processes_have_them_not(butler: Butler) -> None:
    ref = butler.put(1, "config", DATA_ID)
    handle = pickle.dumps(butler.get_deferred("config", DATA_ID))
    assert pickle.loads(handle).get() == 1  # noqa: S301 - our own bytes
    done = subprocess.run([sys.executable, "-c", OTHER], input=handle, capture_output=True, timeout=60, check=True)
    assert done.stdout.startswith(b"DatasetNotFoundError")
    assert b"only the process that put it has it" in done.stdout
    # A forked child sees what was there, and keeps for itself what it puts.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            there = butler.get(ref)
            butler.put(2, "config", instrument=INSTRUMENT, exposure=2)
            os.write(writing, f"{there} {len(butler.datasets_in_memory())}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as said:
        assert said.read() == b"1 2"
    os.waitpid(child, 0)
    assert butler.datasets_in_memory() == [ref]


@pytest.mark.req("DMS-MWBT-REQ-0027")
def test_in_a_bundle_and_in_several_repositories_read_as_one(
    butler: Butler, daemon: PantryDaemon, short_dir: Path
) -> None:
    stored = Butler("m", run="in", formats={"dataset_types": {"config": {"memory": False}}}, socket=daemon.socket)
    refs = [stored.put({"n": number}, "config", instrument=INSTRUMENT, exposure=number) for number in (1, 2)]
    stored.create_bundle(refs, short_dir / "bundle", run="out")
    with Butler.from_bundle(short_dir / "bundle") as bundle:
        obj = Anything()
        ref = bundle.put(obj, "config", DATA_ID, run="out")
        assert bundle.get(ref) is bundle.get("config", DATA_ID, collections="out") is obj
        with pytest.raises(DatasetExistsError):
            bundle.put(obj, "config", DATA_ID, run="in")
        # The repository has the same id, and is another place.
        assert butler.datasets_in_memory() == []
        assert bundle.prune_memory() == 1
    with Butler.create("other", str(short_dir / "other"), socket=daemon.socket):
        chain = Butler(["m", "other"], run="both", socket=daemon.socket)
        obj = Anything()
        ref = chain.put(obj, "config", DATA_ID)
        assert chain.get(ref) is obj
        assert butler.get("config", DATA_ID, collections="both") is obj  # what is written goes to the first
