"""Deletion is all or nothing at every step, killed or failed there, and a deleted dataset never comes back."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.client.butler.deleting import Deleted
from pantry.errors import BackendError, DatasetNotFoundError, PantryError, RepositoryNotFoundError
from pantry.model.datasets import DatasetRef

ROOT = Path(__file__).parents[2]
FILES = 3


class World:
    """A repository behind a daemon that stumbles when told, with three datasets that are deleted together."""

    def __init__(self, directory: Path, config: dict[str, Any], root: str, registry: str, client: Any) -> None:
        self.daemon = PantryDaemon(directory, config, module="tests.fault.stepping_daemon")
        self.daemon.expected_log = (" WARNING ",)
        self.steps = directory / "steps"
        self.root = root
        self.registry = registry
        self.client = client
        self.within = ""
        self.refs: list[DatasetRef] = []
        self.start()
        with Butler.create("stored", root, registry=registry, socket=self.daemon.socket) as butler:
            furnish(butler, n_exposures=FILES, n_detectors=1)
            butler.collections.register("night")
        self.others = self.stored()

    def start(self, at: int = -1, do: str = "") -> None:
        env = {"STEPS_FILE": str(self.steps), "STEP_AT": str(at), "STEP_DO": do, "PYTHONPATH": str(ROOT)}
        self.daemon.start(env={**env, "STEP_WITHIN": self.within})

    def restart(self, at: int = -1, do: str = "") -> None:
        """End the daemon cleanly, with all that is being tidied up, and start it again."""
        self.daemon.stop()
        self.start(at, do)

    def butler(self) -> Butler:
        return Butler("stored", run="night", socket=self.daemon.socket)

    def put(self, content: bytes) -> None:
        """Put each dataset that is not there; none may be refused."""
        with self.butler() as butler:
            for exposure in range(1, FILES + 1):
                if not butler.exists("blob", where(exposure)):
                    butler.put(content, "blob", where(exposure))
            self.refs = sorted(butler.query_datasets("blob"), key=lambda ref: ref.data_id["exposure"])
        assert len(self.refs) == FILES

    def delete(self) -> Deleted:
        """Delete all, while steps are counted."""
        self.steps.touch()
        try:
            with self.butler() as butler:
                return butler.delete(self.refs)
        finally:
            self.seen = self.steps.read_text().split()
            self.steps.unlink()

    def there(self) -> bool:
        """Whether the datasets are there, all or none; then their files are, and else nothing is left of them."""
        with self.butler() as butler:
            found = [butler.exists("blob", where(exposure)) for exposure in range(1, FILES + 1)]
            assert len(set(found)) == 1, found
            if found[0]:
                for ref in self.refs:
                    assert butler.get(ref)
            else:
                for ref in self.refs:
                    with pytest.raises(DatasetNotFoundError):
                        butler.get(ref)
        # A daemon that has just started deletes what is left while it answers.
        self.wait_for(lambda: len(self.stored() - self.others) == FILES * found[0])
        return found[0]

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < deadline
            os.sched_yield()

    def stored(self) -> set[str]:
        """Return all files that the storage really holds, but for the proofs of puts that are not tidied up yet."""
        if not self.root.startswith("s3:"):
            while True:
                # Directories that become empty go while they are looked through.
                with contextlib.suppress(FileNotFoundError):
                    files = [path for path in Path(self.root).rglob("*") if path.is_file()]
                    break
            return {str(path) for path in files if "sqlite" not in path.name and not path.name.startswith(".pantry-")}
        bucket, prefix = self.root.removeprefix("s3://").split("/", 1)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
        return {one["Key"] for page in pages for one in page.get("Contents", ())}


def where(exposure: int) -> dict[str, object]:
    return {"instrument": INSTRUMENT, "exposure": exposure, "detector": 0}


@pytest.fixture(params=["POSIX, SQLite", "S3, SQLite", "S3, PostgreSQL"])
def world(request: pytest.FixtureRequest, short_dir: Path) -> Iterator[World]:
    seaweed: SeaweedServer = request.getfixturevalue("seaweed")
    postgresql: PostgresqlServer = request.getfixturevalue("postgresql")
    root = request.getfixturevalue("s3_root") if "S3" in request.param else str(short_dir / "files")
    client = seaweed.client()
    with postgresql.database() as url:
        registry = url if "PostgreSQL" in request.param else ""
        made = World(short_dir, request.getfixturevalue("storage_config"), root, registry, client)
        yield made
        made.daemon.stop()
    client.close()


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_killed_at_every_step(world: World) -> None:
    world.within = "remove"
    world.put(b"first")
    assert world.there()
    world.restart()
    assert world.delete().left == 0
    assert not world.there()
    steps = world.seen
    assert len(steps) == 1 + 1 + 1 + FILES + 1 + 1, steps
    assert steps[:2] == ["Remover._record", "Registry.remove_datasets"], "remembered before it is done"
    world.put(b"again")
    ends = []
    # Before a step is after the one before it, but for the first.
    for at, do in [(0, "kill-before"), *((at, "kill-after") for at in range(len(steps)))]:
        world.restart(at, do)
        answered = True
        try:
            world.delete()
        except PantryError:
            answered = False
        assert len(world.seen) > at, "it died before its step"
        world.daemon.kill()  # dead already, or about to be
        world.start()
        ends.append(not world.there())
        assert ends[-1] or not answered, f"{do} {steps[at]}: acknowledged, and there"
        # At once, by the same names.
        world.put(f"{do} {at}".encode())
        assert world.there()
    assert ends == sorted(ends), "what is killed later is not there if what is killed earlier was deleted"
    assert set(ends) == {False, True}


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_failed_at_every_step(world: World) -> None:
    world.within = "remove"  # what the step before left is gone on with when the daemon starts
    world.put(b"first")
    world.restart()
    world.delete()
    for at, step in enumerate(world.seen):
        if "clear" in step:
            continue  # a set in memory
        for do in ("fail-before", "fail-after"):
            world.put(f"{do} {step}".encode())
            world.restart(at, do)
            gone = True
            try:
                left = world.delete().left
            except BackendError:
                # Refused before the registry committed, or it is not known whether it has.
                gone = (step, do) == ("Registry.remove_datasets", "fail-after")
            else:
                assert left > 0, "told"
            with world.butler() as butler:
                assert butler.exists("blob", where(1)) is not gone, f"{do} {step}"
            # By the same daemon, before it tries again by itself: who wants the names finishes the deletion.
            world.put(b"at once")
            assert world.there()
            with world.butler() as butler:
                got = {butler.get(ref) for ref in world.refs}
            assert got == ({b"at once"} if gone else {f"{do} {step}".encode()})
            world.delete()


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_while_the_storage_is_away(
    seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> None:
    client = seaweed.client()
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {
            "endpoint_url": proxy.endpoint_url,
            "max_attempts": 1,
            "read_timeout_s": 2,
        }
        world = World(short_dir, storage_config, s3_root, "", client)
        try:
            world.put(b"first")
            proxy.refusing = True
            done = world.delete()
            assert (done.datasets, done.files, done.left) == (FILES, FILES, FILES)
            assert done.reason
            with world.butler() as butler:
                assert not butler.exists("blob", where(1)), "it is gone, whatever becomes of its file"
                with pytest.raises(BackendError):
                    butler.put(b"second", "blob", where(1))
            # Neither a restart nor a new dataset brings it back, or loses the new one.
            world.daemon.kill()
            world.start()
            with world.butler() as butler:
                assert not butler.exists("blob", where(1))
            proxy.refusing = False
            world.wait_for(lambda: world.stored() == world.others)
            world.put(b"second")
            world.restart()
            assert world.there()
            with world.butler() as butler:
                assert {butler.get(ref) for ref in world.refs} == {b"second"}
        finally:
            proxy.refusing = False
            world.daemon.stop()
            client.close()


@pytest.fixture
def proxied(
    seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str, short_dir: Path
) -> Iterator[tuple[World, FaultProxy]]:
    client = seaweed.client()
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        # Longer than a test waits for anything.
        options = {"endpoint_url": proxy.endpoint_url, "max_attempts": 1, "read_timeout_s": 120}
        storage_config["storage"][0]["options"] |= options
        world = World(short_dir, storage_config, s3_root, "", client)
        yield world, proxy
        proxy.clear()
        world.daemon.stop()
        client.close()


def answers(world: World, work: Callable[[], object]) -> threading.Thread:
    """Let a thread ask; its daemon may die."""

    def ask() -> None:
        with contextlib.suppress(PantryError):
            work()

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_a_storage_that_hangs_keeps_nobody_from_the_daemon(proxied: tuple[World, FaultProxy]) -> None:
    """It starts, answers, and goes on with the deletion meanwhile."""
    world, proxy = proxied
    world.put(b"first")
    release = threading.Event()
    proxy.inject(Fault(method="DELETE", times=-1, wait_for=release))
    asker = answers(world, world.delete)
    proxy.wait_for_request(lambda one: one.method == "DELETE")
    world.daemon.kill()
    asker.join(30)
    begun = proxy.count("DELETE")
    world.start()
    with world.butler() as butler:
        assert not butler.exists("blob", where(1))
        proxy.wait_for_request(lambda _: proxy.requests[begun:] != [] and proxy.requests[-1].method == "DELETE")
        assert not butler.exists("blob", where(2))
        release.set()
        world.wait_for(lambda: world.stored() == world.others)
        # What was deleted is cleared from the journal: its name is free, and stays so.
        world.put(b"second")
        assert world.there()


@pytest.mark.req("DMS-MWBT-REQ-0004")
def test_a_write_begun_before_is_not_lost_to_a_deletion_that_is_tried_again(
    proxied: tuple[World, FaultProxy], tmp_path: Path
) -> None:
    """An ingest was prepared; a dataset of the same name comes and goes; its deletion is obeyed, and not answered."""
    world, proxy = proxied
    for name in ("one.bin", "two.bin"):
        (tmp_path / name).write_bytes(b"ingested")
    release = [threading.Event(), threading.Event()]
    failures: list[PantryError] = []

    def ingest() -> None:
        items = [(str(tmp_path / "one.bin"), where(1)), (str(tmp_path / "two.bin"), where(2))]
        try:
            butler.ingest("blob", items, transfer="copy")
        except PantryError as exc:
            failures.append(exc)

    with world.butler() as butler, world.butler() as other:
        unrelated = other.put(b"unrelated", "blob", where(3))
        held = [Fault(method="PUT", wait_for=one) for one in release]
        proxy.inject(*held)
        thread = threading.Thread(target=ingest)
        thread.start()
        uploads = [proxy.wait_for_request(lambda one, of=of: one.fault is of) for of in held]  # type: ignore[misc]
        first = next(number for number, upload in enumerate(uploads) if "TestCam_1_" in upload.target)
        short = other.put(b"short-lived", "blob", where(1))
        proxy.inject(Fault(method="DELETE", cut_after=-1))
        assert other.delete([short]).left == 1
        # The ingest stores its file there if it can, and then the deletion is tried again.
        release[first].set()
        world.wait_for(lambda: uploads[first].status != 0)
        other.delete([unrelated])
        release[1 - first].set()
        thread.join(60)
        # Nobody may be told that it is stored, and its file be gone.
        assert failures or [butler.get("blob", where(number)) for number in (1, 2)] == [b"ingested"] * 2
        if failures:
            ingest()
        assert [butler.get("blob", where(number)) for number in (1, 2)] == [b"ingested"] * 2


@pytest.mark.req("DMS-MWBT-REQ-0005")
def test_removal_of_a_repository_killed_at_every_step(world: World) -> None:
    """Whatever was done, the same call goes on, and in the end nothing is left."""

    def remove() -> bool:
        world.steps.touch()
        try:
            return Butler.remove_repository("stored", socket=world.daemon.socket).left == 0
        except RepositoryNotFoundError:
            return True
        except PantryError:
            return False
        finally:
            world.seen = world.steps.read_text().split()
            world.steps.unlink()

    world.put(b"first")
    world.restart()
    assert remove()
    steps = world.seen
    assert len(steps) > FILES + 8, steps
    for at in range(len(steps)):
        world.restart()
        with Butler.create("stored", world.root, registry=world.registry, socket=world.daemon.socket) as butler:
            furnish(butler, n_exposures=FILES, n_detectors=1)
            butler.collections.register("night")
        world.put(b"again")
        world.restart(at, "kill-after")
        answered = remove()
        assert len(world.seen) > at
        assert not answered or at == len(steps) - 1
        world.daemon.kill()
        world.start()
        assert remove(), steps[at]
        assert world.stored() == set(), steps[at]
        assert [info.name for info in Butler.repositories(socket=world.daemon.socket)] == []
