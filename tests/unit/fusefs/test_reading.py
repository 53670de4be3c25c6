"""Opened files without FUSE, against the fake daemon."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Callable

import pytest
import trio
from tests.unit.fusefs.fake import FakeDaemon, FakeDataset

from pantry.errors import DaemonUnavailableError, IntegrityError, TransientBackendError
from pantry.fusefs.link import DaemonLink
from pantry.fusefs.readahead import MIB
from pantry.fusefs.reading import Files
from pantry.fusefs.tree import File
from pantry.wire.envelope import Behalf

ANNA = Behalf(1000, 1000)


def node_of(dataset: FakeDataset, size: int | None = None) -> File:
    return File("r", dataset.id, dataset.size if size is None else size, 0, dataset.hash)


def with_files(daemon: FakeDaemon, scenario: Callable[[Files], Awaitable[None]]) -> None:
    """Afterwards no descriptor is open that was not before, and the daemon has all handles back."""

    async def run() -> None:
        link = DaemonLink(daemon.socket_path)
        files = Files(link)
        with trio.fail_after(20):
            async with daemon.serving(), link.running(), files.running():
                await scenario(files)
                while daemon.handles:  # noqa: ASYNC110
                    await trio.sleep(0.005)

    before = len(os.listdir("/proc/self/fd"))
    trio.run(run)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_complete_file_is_read_from_its_descriptor(daemon: FakeDaemon) -> None:
    content = random.Random(1).randbytes(3 * MIB + 17)
    dataset = daemon.repository("r").add("run", "t", content, visit=1)

    async def scenario(files: Files) -> None:
        opened = await files.open(node_of(dataset), ANNA)
        calls = daemon.calls.total()
        assert opened.complete
        for offset, size in ((0, 10), (5, MIB), (3 * MIB, MIB), (3 * MIB + 17, 5), (0, 3 * MIB + 17), (9 * MIB, 1)):
            assert bytes(await opened.read(offset, size)) == content[offset : offset + size]
        assert daemon.calls.total() == calls
        await opened.close()

    with_files(daemon, scenario)
    assert set(daemon.behalfs) == {ANNA}


def test_an_incomplete_file_is_fetched_as_it_is_read(daemon: FakeDaemon) -> None:
    content = random.Random(2).randbytes(8 * MIB)
    dataset = daemon.repository("r").add("run", "t", content, partial=True, visit=1)

    async def scenario(files: Files) -> None:
        opened = await files.open(node_of(dataset), None)
        for offset in (5 * MIB, 100, 7 * MIB, 3 * MIB):
            assert bytes(await opened.read(offset, 4096)) == content[offset : offset + 4096]
        assert sorted(daemon.fetched) == sorted((dataset.id, o, o + 4096) for o in (5 * MIB, 100, 7 * MIB, 3 * MIB))
        await opened.read(100, 4096)
        assert len(daemon.fetched) == 4
        await opened.close()

    with_files(daemon, scenario)


def test_a_sequential_reader_of_an_incomplete_file_is_run_ahead_of(daemon: FakeDaemon) -> None:
    content = random.Random(3).randbytes(64 * MIB)
    dataset = daemon.repository("r").add("run", "t", content, partial=True, visit=1)

    async def scenario(files: Files) -> None:
        opened = await files.open(node_of(dataset), None)
        step = MIB // 4
        for offset in range(0, 64 * MIB, step):
            assert bytes(await opened.read(offset, step)) == content[offset : offset + step]
            await trio.lowlevel.checkpoint()
        await opened.close()

    with_files(daemon, scenario)
    assert max(stop - start for _, start, stop in daemon.fetched) >= 8 * MIB
    assert len(daemon.fetched) < 64
    assert max(stop for _, _, stop in daemon.fetched) == 64 * MIB


def test_what_cannot_be_fetched_fails_the_read_and_only_that(daemon: FakeDaemon) -> None:
    dataset = daemon.repository("r").add("run", "t", b"x" * 100, partial=True, visit=1)

    async def scenario(files: Files) -> None:
        opened = await files.open(node_of(dataset), None)
        daemon.fetch_error = TransientBackendError("origin is down")
        with pytest.raises(TransientBackendError):
            await opened.read(0, 100)
        daemon.fetch_error = None
        assert bytes(await opened.read(0, 100)) == b"x" * 100
        await opened.close()

    with_files(daemon, scenario)


def test_a_file_of_another_length_than_listed_is_not_handed_out(daemon: FakeDaemon) -> None:
    dataset = daemon.repository("r").add("run", "t", b"x" * 100, visit=1)
    partial = daemon.repository("s").add("run", "t", b"", visit=1)

    async def scenario(files: Files) -> None:
        with pytest.raises(IntegrityError):
            await files.open(node_of(dataset, 101), None)
        opened = await files.open(node_of(dataset), None)
        os.truncate(dataset.content, 50)
        with pytest.raises(IntegrityError):
            await opened.read(0, 100)
        await opened.close()

    with_files(daemon, scenario)
    assert partial.size == 0


def test_an_incomplete_file_goes_on_after_the_daemon_came_back(daemon: FakeDaemon) -> None:
    content = random.Random(4).randbytes(MIB)
    partial = daemon.repository("r").add("run", "t", content, partial=True, visit=1)
    whole = daemon.repositories["r"].add("run", "u", content, visit=1)

    async def run() -> None:
        link = DaemonLink(daemon.socket_path)
        files = Files(link)
        with trio.fail_after(20):
            async with link.running(), files.running(), trio.open_nursery() as nursery:
                await nursery.start(daemon.serve)
                opened = await files.open(node_of(partial), ANNA)
                complete = await files.open(node_of(whole), ANNA)
                assert bytes(await opened.read(0, 100)) == content[:100]
                daemon.die()
                while daemon.handles:  # noqa: ASYNC110
                    await trio.sleep(0.005)
                assert bytes(await complete.read(5, 100)) == content[5:105]
                with pytest.raises(DaemonUnavailableError):
                    await opened.read(0, 101)
                await nursery.start(daemon.serve)
                while True:
                    try:
                        assert bytes(await opened.read(0, MIB)) == content
                        break
                    except DaemonUnavailableError:  # until the link tries again
                        await trio.sleep(0.01)
                await opened.close()
                await complete.close()
                nursery.cancel_scope.cancel()

    before = len(os.listdir("/proc/self/fd"))
    trio.run(run)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_cache_state_is_told_without_fetching(daemon: FakeDaemon) -> None:
    repository = daemon.repository("r")
    whole = repository.add("run", "t", b"x", visit=1)
    part = repository.add("run", "t", MIB, partial=True, visit=2)

    async def scenario(files: Files) -> None:
        assert await files.cached(node_of(whole), None) == "complete"
        assert await files.cached(node_of(part), None) == "no"
        assert not daemon.fetched
        opened = await files.open(node_of(part), None)
        await opened.read(0, 4096)
        assert await files.cached(node_of(part), None) == "partial"
        await opened.close()

    with_files(daemon, scenario)


def test_every_user_has_a_connection_and_idle_ones_are_closed(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.fusefs.link.MOST_CONNECTIONS", 4)
    dataset = daemon.repository("r").add("run", "t", b"x", visit=1)

    async def scenario(files: Files) -> None:
        found = []
        for uid in range(10):
            opened = await files.open(node_of(dataset), Behalf(uid, uid))
            found.append(await files.link.connection(Behalf(uid, uid)))
            await opened.close()
        assert len({id(connection) for connection in found}) == 10
        assert sum(connection.alive for connection in found) == 4

    with_files(daemon, scenario)
