"""Files of removed datasets: who deletes them, when that ends, and whose they are not (docs/decisions/0065)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from uuid import UUID

import pytest
import sqlalchemy as sa
import trio
import trio.testing
from tests.unit.registry.world import create, fill, put_all_raws, sqlite_url

from pantry.backends.admission import Admission
from pantry.backends.flaky import After, FlakyBackend, Hold
from pantry.backends.memory import MemoryBackend
from pantry.daemon.datasets import removing, retrying
from pantry.daemon.datasets.removing import Left, Remover, delete_files
from pantry.daemon.datasets.retrying import RemovalRetries
from pantry.daemon.journal import Intent, Journal, Target, opened_journal
from pantry.daemon.registry import Registry
from pantry.daemon.registry.file_marks import FileBeingRemovedError
from pantry.daemon.registry.removed_files import ABANDONED_NS
from pantry.daemon.repositories.removals import FileNames, Removals
from pantry.errors import BackendAccessError, RepositoryNotFoundError, TransientBackendError

DOWN = TransientBackendError("it is down")


class Daemon(NamedTuple):
    """One daemon with a registry that others use too."""

    repository: Any
    queries: Admission
    backend: FlakyBackend

    async def delete(self) -> Left:
        return await delete_files(self.repository, self.queries)


class World:
    """A registry with datasets whose files are in memory."""

    def __init__(self, directory: Path) -> None:
        self.url = sqlite_url(directory)
        self.registry = create(self.url)
        fill(self.registry)
        self.ids = [one.bytes for one in put_all_raws(self.registry, "run")]
        self.files = [file.path for file in map(self.file, self.ids)]
        self.storage = MemoryBackend(dict.fromkeys(self.files, b"old"))

    def file(self, id_: bytes) -> Any:
        return self.registry.get_dataset(UUID(bytes=id_)).file

    @contextmanager
    def daemon(self, *faults: Any) -> Iterator[Daemon]:
        backend = FlakyBackend(self.storage, faults, only="delete")
        registry = Registry.open(self.url)
        repository = SimpleNamespace(
            name="demo",
            registry=registry,
            backend=backend,
            removals=Removals(),
            names=FileNames(),
            object_id=lambda file: file.path,
        )
        try:
            yield Daemon(repository, Admission(user_limit=20, node_limit=20), backend)
        finally:
            registry.close()

    def remove(self, token: str) -> None:
        self.registry.remove_datasets(self.ids, token)

    def tried(self, daemon: Daemon) -> int:
        return len([call for call in daemon.backend.calls if call.method == "delete"])

    def age(self) -> None:
        """Let a long time pass."""
        engine = sa.create_engine(self.url)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE removed_file SET since_ns = since_ns - :by"), {"by": 2 * ABANDONED_NS})
        engine.dispose()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.registry.close()


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        with trio.fail_after(30):
            await work()

    trio.run(limited)


def test_all_are_deleted_slice_by_slice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removing, "SLICE", 5)
    world.remove("t")

    async def main() -> None:
        with world.daemon() as daemon:
            daemon.repository.removals.tokens.add("t")
            assert await daemon.delete() == Left()
            assert world.tried(daemon) == len(world.ids)

    run(main)
    assert world.storage.objects == {}
    assert world.registry.count_removed_files(["t"]) == {}


def test_a_storage_that_is_away_is_not_asked_for_every_file(world: World) -> None:
    world.remove("t")

    async def main() -> None:
        with world.daemon(*[DOWN] * len(world.ids)) as daemon:
            daemon.repository.removals.tokens.add("t")
            assert await daemon.delete() == Left(len(world.ids), "it is down", frozenset(["t"]))
            assert world.tried(daemon) <= removing._PARALLEL_DELETIONS < len(world.ids)

    run(main)


def test_one_file_that_cannot_be_deleted_does_not_stop_the_others(world: World) -> None:
    world.remove("t")

    async def main() -> None:
        with world.daemon(BackendAccessError("forbidden")) as daemon:
            daemon.repository.removals.tokens |= {"t", "of nothing"}
            assert await daemon.delete() == Left(1, "forbidden", frozenset(["t"]))
            assert await daemon.delete() == Left()

    run(main)
    assert world.storage.objects == {}


def test_a_pass_that_takes_too_long_deletes_nothing_of_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes after it was given files they may be another daemon's, and their names those of new files."""
    clock = [1000.0]
    monkeypatch.setattr(removing, "_clock_s", lambda: clock[0])
    monkeypatch.setattr(removing, "_PARALLEL_DELETIONS", 1)
    world.remove("slow's")
    hold = Hold(trio.Event(), trio.Event())

    async def main() -> None:
        with world.daemon(hold) as slow, world.daemon() as other:
            slow.repository.removals.tokens.add("slow's")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow.delete)
                await hold.reached.wait()
                clock[0] += removing.SLICE_S + 1
                world.age()
                assert await other.delete() == Left()
                assert world.storage.objects == {}
                for path in world.files:
                    world.storage.put(path, b"new")
                hold.release.set()
            assert world.tried(slow) == 1, "what was begun before ends; nothing more is begun"

    run(main)
    assert len(world.storage.objects) == len(world.files) - 1


def test_what_is_removed_is_removed_whoever_waits_and_its_files_are_left_to_others(
    world: World, tmp_path: Path
) -> None:
    hold = Hold(trio.Event(), trio.Event())
    retried: list[tuple[str, bool]] = []

    def retry(intent: Intent, *, at_once: bool) -> None:
        retried.append((intent.token, at_once))

    async def main(journal: Journal) -> None:
        evicted: list[str] = []
        cache: Any = SimpleNamespace(evict_one=evicted.append)
        with world.daemon(hold) as daemon:
            remover = Remover(cache, journal, daemon.queries, retry)
            with trio.CancelScope() as asker:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leave, asker)
                    await remover.remove(daemon.repository, world.ids[:1], missing_ok=False)
            assert asker.cancelled_caught
            assert daemon.repository.removals.tokens == {retried[0][0]}
        assert [at_once for _, at_once in retried] == [True]
        assert evicted == world.files[:1]

    async def leave(asker: trio.CancelScope) -> None:
        await hold.reached.wait()
        asker.cancel()

    with opened_journal(str(tmp_path / "journal")) as journal:
        run(lambda: main(journal))
        assert [intent.token for intent in journal.pending()] == [retried[0][0]]
    assert world.file(world.ids[0]) is None
    assert world.registry.count_removed_files([retried[0][0]]) == {retried[0][0]: 1}


def test_a_name_that_is_being_written_is_not_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage deleted it, and the answer was lost; then a write that was prepared before stores its file."""
    path = world.files[0]
    world.registry.remove_datasets(world.ids[:1], "t")

    async def main() -> None:
        with world.daemon(After(DOWN)) as daemon:
            daemon.repository.removals.tokens.add("t")
            assert (await daemon.delete()).files == 1
            assert path not in world.storage.objects
            with daemon.repository.names.writing([path, *world.files[1:3]]):
                world.storage.put(path, b"another's")
                # It waits a while for those who are soon done.
                monkeypatch.setattr(removing, "WRITE_S", 0.01)
                left = await daemon.delete()
                monkeypatch.undo()
                assert left.files == 1
                assert "another write" in left.reason
            assert path in world.storage.objects
            # It was not registered, and undone.
            results: list[Left] = []

            async def delete() -> None:
                results.append(await daemon.delete())

            async with trio.open_nursery() as nursery:
                with daemon.repository.names.writing([path]):
                    nursery.start_soon(delete)
                    await trio.testing.wait_all_tasks_blocked(0.1)
                    assert path in world.storage.objects
            assert results == [Left()]

    run(main)


def test_a_name_that_is_being_deleted_is_not_written() -> None:
    names = FileNames()
    with names.deleting("a") as free:
        assert free
        with pytest.raises(FileBeingRemovedError, match="a is the name"), names.writing(["b", "a"]):
            pytest.fail("it would be deleted")
        with names.writing(["b"]), names.writing(["b"]):
            pass
    with names.writing(["a", "b"]), names.writing(["b"]), names.deleting("b") as free:
        assert not free
    for name in "ab":
        with names.deleting(name) as free:
            assert free


class Site:
    """The repositories of a daemon, as far as retries ask."""

    def __init__(self, daemon: Daemon | None) -> None:
        self.queries = Admission(user_limit=20, node_limit=20)
        self.removals = daemon.repository.removals if daemon else Removals()
        self.asked = 0
        self._daemon = daemon

    def removals_from(self, _: str) -> Removals:
        return self.removals

    async def get(self, _: str) -> Any:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self._daemon is None:
            raise RepositoryNotFoundError("gone")
        return self._daemon.repository


def removal(token: str) -> Intent:
    return Intent(token, (Target("demo", "", bytes(16)),), removal=True)


def test_one_task_goes_on_with_all_removals_from_a_repository(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "RETRY_S", 0.01)
    tokens = [f"t{number}" for number in range(5)]
    for token, id_ in zip(tokens, world.ids, strict=False):
        world.registry.remove_datasets([id_], token)

    async def main(journal: Journal) -> None:
        for token in tokens:
            await journal.record(removal(token))
        # The registry is asked for nothing before, so that a put of one of the names can finish the deletion.
        with world.daemon(*[DOWN] * 3 * removing._PARALLEL_DELETIONS) as daemon:
            site: Any = Site(daemon)
            async with trio.open_nursery() as nursery:
                retries = RemovalRetries(journal, site, nursery)
                for token in tokens:
                    retries.begin(removal(token), at_once=True)
                assert set(tokens) == site.removals.tokens
                assert len(nursery.child_tasks) == 1
            assert site.removals.tokens == set()
            assert site.asked < len(tokens) + 8
            # Another one later: another task.
            world.registry.remove_datasets(world.ids[5:6], "later")
            async with trio.open_nursery() as nursery:
                retries = RemovalRetries(journal, site, nursery)
                retries.begin(removal("later"), at_once=False)

    with opened_journal(str(tmp_path / "journal")) as journal:
        run(lambda: main(journal))
    with opened_journal(str(tmp_path / "journal")) as journal:
        assert journal.pending() == []
    assert set(world.storage.objects) == set(world.files[6:])


def test_removals_from_a_repository_that_is_gone_are_forgotten(tmp_path: Path) -> None:
    async def main(journal: Journal) -> None:
        await journal.record(removal("t"))
        site: Any = Site(None)
        async with trio.open_nursery() as nursery:
            RemovalRetries(journal, site, nursery).begin(removal("t"), at_once=True)
        assert site.removals.tokens == set()

    with opened_journal(str(tmp_path / "journal")) as journal:
        run(lambda: main(journal))
    with opened_journal(str(tmp_path / "journal")) as journal:
        assert journal.pending() == []
