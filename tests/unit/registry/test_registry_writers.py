"""Three processes, each with a registry of its own over one PostgreSQL database, write and read at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
import sqlalchemy as sa
from tests.servers.postgresql import PostgresqlServer
from tests.unit.registry.world import BIAS, CAMERA, create, fill, find_raw, put_raw, record, rows_of

from pantry.daemon.registry import Registry
from pantry.errors import ConflictError
from pantry.model.collections import CollectionType
from pantry.wire.operations.registry import QueryDatasets
from pantry.wire.operations.repositories import QueryCollections

PROCESSES = 3
ROUNDS = 12
STALL_FACTOR = 10
"""How many times its fair wait, a median write of all processes, the longest single write may take."""

_WRITER = """
import json, sys, threading, time
from tests.unit.registry.world import CALEXP, CAMERA, EXPOSURES, put, rows_of
from pantry.daemon.registry import Registry
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.timespan import Timespan

url, me, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
registry = Registry.open(url)
taken, counts, ended = [], [], threading.Event()

def timed(func, *args):
    begun = time.perf_counter()
    result = func(*args)
    taken.append(time.perf_counter() - begun)
    return result

def read():
    while not ended.is_set():
        counts.append(len(rows_of(registry, dataset_types=("*",), collections=("run*",))))

reader = threading.Thread(target=read)
print("ready", flush=True)
sys.stdin.readline()
reader.start()
made = []
try:
    for number in range(rounds):
        detector = 100 + me * rounds + number
        # All want the same collections and types in each round, and one of their own.
        timed(registry.register_collection, f"tag{number}", CollectionType.TAGGED)
        timed(registry.register_collection, f"calib{number}", CollectionType.CALIBRATION)
        shared = DatasetType(name=f"type{number}", dimensions=("detector",), storage_class="CCDData")
        timed(registry.register_dataset_type, shared)
        own = DatasetType(name=f"own{me}_{number}", dimensions=("detector",), storage_class="CCDData")
        timed(registry.register_dataset_type, own)
        ids = [
            timed(lambda: put(registry, "bias", f"run{me}", instrument=CAMERA, detector=detector)),
            timed(lambda: put(registry, f"type{number}", "run_shared", instrument=CAMERA, detector=detector)),
        ]
        assert timed(registry.associate, f"tag{number}", ids) == 2
        assert timed(registry.certify, f"calib{number}", ids[:1], Timespan(0, 1000)) == 1
        made += [str(one) for one in ids]
finally:
    ended.set()
    reader.join()
    registry.close()
print(json.dumps({"made": made, "taken": taken, "counts": counts}))
"""

# In the middle of a transaction: the lock is held, rows are written and not committed.
_KILLED = """
import sys, threading
from uuid import uuid4
from tests.unit.registry.world import CAMERA, EXPOSURES, stored
from pantry.daemon.registry import Registry

registry = Registry.open(sys.argv[1])

def work(session):
    registry._datasets.insert(session, "unfinished", "raw", [(uuid4(), (CAMERA, 0, EXPOSURES[0]), stored("x"))])
    print("inside", flush=True)
    threading.Event().wait()

registry._writer.run(work)
"""


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.fixture
def url(postgresql: PostgresqlServer) -> Iterator[str]:
    with postgresql.database() as made:
        yield made


@pytest.fixture
def registry(url: str) -> Iterator[Registry]:
    made = create(url)
    fill(made)
    made.insert_dimension_records(
        [
            record("detector", instrument=CAMERA, id=number, full_name=f"D{number}")
            for number in range(100, 100 + PROCESSES * ROUNDS)
        ]
    )
    yield made
    made.close()


@pytest.mark.quiet
def test_processes_write_and_read_at_once(registry: Registry, url: str) -> None:
    running = [start(_WRITER, url, str(number), str(ROUNDS)) for number in range(PROCESSES)]
    for one in running:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in running:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    found = []
    for one in running:
        out, _ = one.communicate(timeout=120)
        assert one.returncode == 0
        found.append(json.loads(out))
    # Everything is there, once.
    made = {UUID(id_) for answer in found for id_ in answer["made"]}
    assert len(made) == PROCESSES * ROUNDS * 2
    every = rows_of(registry, dataset_types=("*",), collections=("run*",))
    assert {row["id"] for row in every} == made
    assert len(every) == len(made)
    names = [one.name for one in registry.query_collections(QueryCollections(repository="r"))]
    assert len(names) == len(set(names))
    types = [one.name for one in registry.list_dataset_types(["type*", "own*"])]
    assert len(types) == ROUNDS * (1 + PROCESSES)
    for number in range(ROUNDS):
        assert len(rows_of(registry, dataset_types=("*",), collections=(f"tag{number}",))) == 2 * PROCESSES
        valid = QueryDatasets(
            repository="r", dataset_types=(BIAS.name,), collections=(f"calib{number}",), find_first=False
        )
        assert sum(len(batch.run_index) for batch in registry.query_datasets(valid)) == PROCESSES
    # Readers went on meanwhile, and never saw fewer than before.
    for answer in found:
        assert len(answer["counts"]) > 1
        assert answer["counts"] == sorted(answer["counts"])
    # No writer waited much longer than for a turn of each of the others.
    taken = sorted(one for answer in found for one in answer["taken"])
    fair_s = PROCESSES * taken[len(taken) // 2]
    print(f"median write {taken[len(taken) // 2] * 1000:.1f} ms, longest {taken[-1] * 1000:.1f} ms of {len(taken)}")
    assert taken[-1] < STALL_FACTOR * fair_s


def test_a_killed_writer_holds_up_nobody(registry: Registry, url: str) -> None:
    child = start(_KILLED, url)
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == "inside\n"
        # Readers do not wait for it, and do not see what it has not committed.
        assert not rows_of(registry, collections=("*",))
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        done = put_raw(registry, "run", detector=0)
    assert [row["id"] for row in rows_of(registry, collections=("*",))] == [done]
    assert "unfinished" not in [one.name for one in registry.query_collections(QueryCollections(repository="r"))]


def test_two_repositories_in_schemas_of_one_database(url: str) -> None:
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        for name in ("one", "two"):
            connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    urls = [
        sa.make_url(url).update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)
        for name in ("one", "two")
    ]
    registries = [create(one) for one in urls]
    try:
        for one in registries:
            fill(one)
        stored = [put_raw(one, "run") for one in registries]
        assert [find_raw(one, "run") for one in registries] == stored
        registries[0].register_collection("only_here", CollectionType.RUN)
        assert [len(one.query_collections(QueryCollections(repository="r"))) for one in registries] == [2, 1]
        with pytest.raises(ConflictError, match="a registry already"):
            create(urls[0])
    finally:
        for one in registries:
            one.close()
