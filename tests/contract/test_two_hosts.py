"""Two hosts that write to one distributed file system: nothing is replaced, what one wrote the other reads."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from tests.contract.conftest import PosixOutside
from tests.servers.fuse_mount import FuseMount
from tests.servers.glusterfs import GlusterServer

from pantry.backends.admission import Admission
from pantry.backends.mounted import mounted_at
from pantry.backends.posix import PosixBackend
from pantry.backends.suite_calls import listed, pattern, read, run, write
from pantry.errors import ObjectExistsError, TransientBackendError

ROUNDS = 10
SIZE = 100_000
_numbers = itertools.count()
Mounts = tuple[FuseMount, FuseMount]


@pytest.fixture(params=["gluster_mounts", "seaweed_mounts"])
def mounts(request: pytest.FixtureRequest) -> Mounts:
    found: Mounts = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def roots(mounts: Mounts) -> tuple[Path, Path]:
    name = f"hosts-{next(_numbers):04d}"
    (mounts[0].directory / name).mkdir()
    return mounts[0].directory / name, mounts[1].directory / name


@pytest.fixture
def hosts(roots: tuple[Path, Path]) -> Iterator[tuple[PosixBackend, PosixBackend]]:
    made = [PosixBackend(str(root), Admission(user_limit=8, node_limit=8)) for root in roots]
    yield made[0], made[1]
    for one in made:
        run(one.aclose)


@pytest.mark.parametrize("links", [True, False])
def test_of_writers_on_two_hosts_one_wins_and_losers_leave_nothing(
    hosts: tuple[PosixBackend, PosixBackend], roots: tuple[Path, Path], links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hard links, and by what comes in their place where there are none.

    The mount of SeaweedFS lets two hosts link to one name, rename to it or make it with O_EXCL; without the
    claims on names this fails there within a few rounds.
    """
    if not links:
        monkeypatch.setattr("os.link", _refuse)
    for round_number in range(ROUNDS):
        start = threading.Barrier(4)
        won: list[int] = []

        def attempt(writer: int, number: int, start: threading.Barrier, won: list[int]) -> None:
            async def body() -> None:
                host = PosixBackend(str(roots[writer % 2]), Admission(user_limit=8, node_limit=8))
                start.wait(30)
                try:
                    await write(host, f"prize-{number}", bytes([65 + writer]) * SIZE, f"t-{writer}")
                except ObjectExistsError:
                    await host.undo_write(f"prize-{number}", token=f"t-{writer}")
                else:
                    won.append(writer)
                    await host.settle_write(f"prize-{number}", token=f"t-{writer}")
                await host.aclose()

            trio.run(body)

        threads = [threading.Thread(target=attempt, args=(one, round_number, start, won)) for one in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(won) == 1, f"round {round_number}: {won} won"
        key, expected = f"prize-{round_number}", bytes([65 + won[0]]) * SIZE
        for host in hosts:
            assert run(lambda host=host, key=key: read(host, key, 0, SIZE)) == expected  # type: ignore[misc]
    assert PosixOutside(roots[0]).residue() == set()


def _refuse(*_: object, **__: object) -> None:
    raise OSError(95, "Operation not supported")


def test_what_one_host_wrote_the_other_reads_at_once(hosts: tuple[PosixBackend, PosixBackend]) -> None:
    """Also when it looked before, and found nothing; whole, and of the right size."""

    async def check() -> None:
        for number in range(20):
            key = f"run/{number}"
            assert key not in await listed(hosts[1], "run/")
            written = await write(hosts[0], key, pattern(SIZE + number))
            assert written.size_bytes == SIZE + number
            assert await read(hosts[1], key, 0, SIZE + number) == pattern(SIZE + number)

    run(check)


def test_both_are_known_to_be_shared(mounts: Mounts, tmp_path: Path) -> None:
    for mount in mounts:
        assert mounted_at(str(mount.directory / "run" / "x")).point == str(mount.directory)
        assert mounted_at(str(mount.directory)).is_shared
    assert not mounted_at(str(tmp_path)).is_shared


def test_a_client_that_crashed_and_was_mounted_again_is_found_again(
    mounts: Mounts, hosts: tuple[PosixBackend, PosixBackend]
) -> None:
    async def check() -> None:
        await write(hosts[1], "k", b"kept")
        mounts[1].kill()
        try:
            with pytest.raises(TransientBackendError):
                await read(hosts[1], "k", 0, 4)
        finally:
            mounts[1].restart()
        assert await read(hosts[1], "k", 0, 4) == b"kept", "not at the first call after it came back"

    run(check)


@pytest.mark.req("DMS-MWBT-REQ-0030")
def test_a_brick_dies_and_comes_back_while_files_are_read_and_written(
    gluster: GlusterServer, gluster_mounts: Mounts, admission: Admission
) -> None:
    root = gluster_mounts[0].directory / "brick-dies"
    root.mkdir()
    backend = PosixBackend(str(root), admission)

    async def life(first: int, stop: trio.Event) -> None:
        for number in itertools.count(first):
            await write(backend, f"run/{number}", pattern(SIZE))
            assert await read(backend, f"run/{number // 2}", 0, SIZE) == pattern(SIZE)
            if stop.is_set():
                break

    async def check() -> None:
        await write(backend, "run/0", pattern(SIZE))
        async with trio.open_nursery() as nursery:
            stop = trio.Event()
            nursery.start_soon(life, 1, stop)
            await trio.to_thread.run_sync(gluster.kill_brick, 0)
            await write(backend, "meanwhile", pattern(SIZE))
            assert not gluster.brick_file(0, "brick-dies/meanwhile").exists()
            await trio.to_thread.run_sync(gluster.revive_bricks)
            stop.set()
        await trio.to_thread.run_sync(gluster.heal)

    run(check)
    for brick in (0, 1):
        assert gluster.brick_file(brick, "brick-dies/meanwhile").read_bytes() == pattern(SIZE)
    run(backend.aclose)
