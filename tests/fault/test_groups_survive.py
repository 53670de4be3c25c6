"""A composite put to three repositories is all or nothing at every step, killed or failed there (MWBT-0076)."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import BackendError, DaemonUnavailableError

TARGETS = ("files", "bucket", "database")
IN_PARTS = {"dataset_types": {"bag": {"disassembled": True}}}
DATASETS = 3 * len(TARGETS)
"""The composite and its two components, in each."""
ROOT = Path(__file__).parents[2]


class World:
    """Three repositories, one in an object store and one with PostgreSQL, behind a daemon that stumbles when told."""

    def __init__(self, directory: Path, config: dict[str, Any], s3_root: str, postgresql: str, client: Any) -> None:
        self.daemon = PantryDaemon(directory, config, module="tests.fault.stepping_daemon")
        self.steps = directory / "steps"
        self.client = client
        self.s3_root = s3_root
        self.roots = {"files": directory / "files", "database": directory / "database"}
        self.exposure = 0
        self.start()
        for name in TARGETS:
            butler = Butler.create(
                name,
                s3_root if name == "bucket" else str(self.roots[name]),
                registry=postgresql if name == "database" else "",
                formats=IN_PARTS,
                socket=self.daemon.socket,
            )
            furnish(butler)
            butler.register_dataset_type("bag", ["exposure"], "StructuredDataDict")
        self.settled = self.stored()

    def start(self, at: int = -1, do: str = "", broken: str = "") -> None:
        env = {"STEPS_FILE": str(self.steps), "STEP_AT": str(at), "STEP_DO": do, "STEP_BROKEN": broken}
        env["PYTHONPATH"] = str(ROOT)
        self.daemon.start(env=env)

    def restart(self, at: int = -1, do: str = "") -> None:
        self.daemon.stop()
        self.start(at, do)

    def put(self) -> None:
        """Put the next exposure's dataset, while steps are counted."""
        self.exposure += 1
        self.steps.touch()
        try:
            butler = Butler("files", run="night", outputs=TARGETS, socket=self.daemon.socket)
            butler.put(self.content, "bag", instrument=INSTRUMENT, exposure=self.exposure)
            # Tidied up after the answer, unless it died before.
            deadline = time.monotonic() + 30
            while "Journal.clear" not in self.steps.read_text() and self.daemon.is_alive:
                assert time.monotonic() < deadline, self.steps.read_text()
                time.sleep(0.005)
        finally:
            self.seen = self.steps.read_text().split()
            self.steps.unlink()

    @property
    def content(self) -> dict[str, Any]:
        return {"image": [self.exposure] * 1000, "notes": {"n": self.exposure}}

    def found(self) -> list[bool]:
        """Say for each repository whether it has the last dataset; it must be whole there."""
        found = []
        for name in TARGETS:
            butler = Butler(name, collections="night", socket=self.daemon.socket)
            data_id = {"instrument": INSTRUMENT, "exposure": self.exposure}
            if "night" not in butler.collections.query("*"):
                found.append(False)
                continue
            found.append(butler.exists("bag", data_id))
            components = list(butler.query_datasets("bag.*", data_id=data_id))
            assert len(components) == 2 * found[-1], components
            if found[-1]:
                assert butler.get("bag", data_id) == self.content
        return found

    def stored(self) -> set[str]:
        """Return all files that the storages really hold."""
        found = {
            f"{name}/{os.path.relpath(path, root)}"
            for name, root in self.roots.items()
            for path in root.rglob("*")
            if path.is_file() and "sqlite" not in path.name
        }
        bucket, prefix = self.s3_root.removeprefix("s3://").split("/", 1)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
        return found | {
            "bucket" + one["Key"].removeprefix(prefix) for page in pages for one in page.get("Contents", ())
        }

    def judge(self) -> bool:
        """Return whether the last dataset is there, in all repositories or none; nothing else has changed."""
        found = self.found()
        assert len(set(found)) == 1, dict(zip(TARGETS, found, strict=True))
        new = self.stored() - self.settled
        assert len(new) == DATASETS * found[0], new
        assert self.settled <= self.stored()
        self.settled |= new
        return found[0]


@pytest.fixture
def world(
    seaweed: SeaweedServer,
    postgresql: PostgresqlServer,
    storage_config: dict[str, Any],
    s3_root: str,
    short_dir: Path,
) -> Iterator[World]:
    client = seaweed.client()
    with postgresql.database() as url:
        made = World(short_dir, storage_config, s3_root, url, client)
        yield made
        made.daemon.stop()
    client.close()


@pytest.mark.req("DMS-MWBT-REQ-0063")
@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_killed_at_every_step(world: World) -> None:
    world.put()
    assert world.judge(), "undisturbed, it is stored"
    steps = world.seen
    assert len(steps) == 1 + DATASETS + len(TARGETS) + DATASETS + 1, steps
    ends = []
    # Before a step is after the one before it, but for the first.
    todo = [(0, "kill-before"), *((at, "kill-after") for at in range(len(steps))), (-1, "")]
    world.restart(*todo[0])
    for (at, do), following in itertools.pairwise(todo):
        answered = True
        try:
            world.put()
        except DaemonUnavailableError:
            answered = False
        assert len(world.seen) > at, "it died before its step"
        world.daemon.kill()  # dead already, or about to be
        world.start(*following)
        ends.append(world.judge())
        assert ends[-1] or not answered, f"{do} {steps[at]}: acknowledged and lost"
    assert ends == sorted(ends), "what is killed later is not undone if what is killed earlier was kept"
    assert set(ends) == {False, True}


@pytest.mark.req("DMS-MWBT-REQ-0063")
@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_failed_at_every_step(world: World) -> None:
    world.put()
    world.judge()
    for at, step in enumerate(world.seen):
        if "settle" in step or "clear" in step:
            continue  # the answer is given by then
        do = ("fail-before", "fail-after")[at % 2]
        world.restart(at, do)
        with pytest.raises(BackendError, match="lets this step fail"):
            world.put()
        assert not world.judge(), f"{do} {step}: refused, and there"
        # At once, by the same daemon: it can be put again.
        world.exposure -= 1
        world.put()
        assert world.judge()


@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_what_cannot_be_taken_back_now_is_taken_back_by_the_next_start(world: World) -> None:
    world.put()
    world.judge()
    last = max(number for number, step in enumerate(world.seen) if step == "Registry.insert_together")
    # All three registries have it, the put fails, and then none of them can be asked to delete it.
    world.daemon.stop()
    world.start(last, "fail-after", broken="Registry.delete_datasets")
    with pytest.raises(BackendError, match="lets this step fail"):
        world.put()
    assert world.found() == [True] * 3
    world.daemon.kill()
    world.start()
    assert not world.judge()


@pytest.mark.req("DMS-MWBT-REQ-0004")
@pytest.mark.req("DMS-MWBT-REQ-0076")
def test_what_is_deleted_from_one_does_not_undo_the_others(world: World) -> None:
    world.put()
    world.judge()
    first = next(number for number, step in enumerate(world.seen) if "settle_write" in step)
    # It is committed everywhere and acknowledged, but its intent stays in the journal.
    world.daemon.expected_log = (" WARNING ",)
    world.restart(first, "fail-before")
    world.exposure += 1
    world.steps.touch()
    butler = Butler("files", run="night", outputs=TARGETS, socket=world.daemon.socket)
    butler.put(world.content, "bag", instrument=INSTRUMENT, exposure=world.exposure)
    assert world.found() == [True] * 3
    deadline = time.monotonic() + 30
    while "settle_write" not in world.steps.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    data_id = {"instrument": INSTRUMENT, "exposure": world.exposure}
    refs = butler.query_datasets("bag", "night", data_id=data_id)
    assert butler.delete(refs).datasets == 3
    butler.close()
    world.steps.unlink()
    world.daemon.kill()
    world.start()
    assert world.found() == [False, True, True]
