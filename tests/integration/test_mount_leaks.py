"""Many operations through a mount leave nothing behind: no descriptor, no inode, no handle, no memory.

What is left is looked at when the kernel was made to forget what it knows, so that a reference too many would show.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.integration.busy_programs import busy_programs
from tests.unit.fusefs.fake import FakeDaemon
from tests.unit.fusefs.mounted import MountProcess, can_mount, mounted, wait_until

from pantry.fusefs.handles import HANDLE_KIND
from pantry.fusefs.inodes import INODE_KIND
from pantry.fusefs.mounting import mounts_at
from pantry.fusefs.slots import Slots

pytestmark = [pytest.mark.root, can_mount]

RUNS = 20
FILES = 60
ROUNDS = 20
KIB = 1024
MOST_GROWTH_KIB = 6 * KIB
"""Of a process's memory after the warm-up: what an allocator does by chance. A hundred bytes kept of each operation
would be 16 times as much in the long test."""
MOST_SLOTS_GROWTH_BYTES = 4096


class Held(NamedTuple):
    """What the mount's processes hold, when the kernel has forgotten the names."""

    server_rss_kib: int
    server_fds: int
    holder_rss_kib: int
    holder_fds: int
    slots_bytes: int
    inodes: int
    handles: int


@pytest.fixture
def place() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pantry-mount-"))
    directory.chmod(0o755)
    yield directory
    assert not mounts_at(str(directory / "mnt"))
    shutil.rmtree(directory)


@pytest.fixture
def daemon(place: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(place)
    repository = fake.repository("dp1")
    rng = random.Random(11)
    for run in range(RUNS):
        for visit in range(FILES):
            repository.add(f"run{run}", "raw", rng.randbytes(5000), partial=visit % 10 == 0, visit=visit)
    with fake.running_in_thread():
        yield fake


def rss_kib(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1])


def state_of(pid: int) -> tuple[int, Counter[int]]:
    """Bytes of the memory that outlives a serving process, and how many records of each kind are in it."""
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        if "memfd:pantry-mount" in os.readlink(fd):
            with contextlib.closing(Slots(os.open(fd, os.O_RDWR))) as slots:
                return slots.used_bytes, Counter(slot.kind for slot in slots.left())
    raise AssertionError("the process that serves holds no state")


def forget_names() -> None:
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


def held(mount: MountProcess) -> Held:
    """Make the kernel forget, wait until the mount has been told so, and look."""
    server, holder = mount.server_pid(), mount.process.pid

    def forgotten() -> bool:
        forget_names()
        kinds = state_of(server)[1]
        return kinds[INODE_KIND] == kinds[HANDLE_KIND] == 0

    wait_until(forgotten, timeout_s=30, what="the kernel's forgetting")
    used_bytes, kinds = state_of(server)
    return Held(
        rss_kib(server),
        len(os.listdir(f"/proc/{server}/fd")),
        rss_kib(holder),
        len(os.listdir(f"/proc/{holder}/fd")),
        used_bytes,
        kinds[INODE_KIND],
        kinds[HANDLE_KIND],
    )


def check(now: Held, warm: Held) -> None:
    assert now.server_fds <= warm.server_fds
    assert now.holder_fds <= warm.holder_fds
    assert now.slots_bytes - warm.slots_bytes <= MOST_SLOTS_GROWTH_BYTES
    assert now.server_rss_kib - warm.server_rss_kib <= MOST_GROWTH_KIB
    assert now.holder_rss_kib - warm.holder_rss_kib <= MOST_GROWTH_KIB


def show(operations: int, now: Held) -> None:
    print(f"{operations:10,}", *(f"{value:10,}" for value in now))


def another_server(mount: MountProcess, before: int) -> None:
    wait_until(lambda: mount.server_pid() not in (0, before), what="a successor")
    assert os.listdir(mount.point) == ["dp1"]


@pytest.mark.parametrize(
    ("options", "operations"),
    [
        ((), 20_000),
        (("--no-passthrough",), 20_000),
        pytest.param((), 1_000_000, marks=pytest.mark.soak),
        pytest.param(("--no-passthrough",), 1_000_000, marks=pytest.mark.soak),
    ],
)
def test_nothing_grows(daemon: FakeDaemon, place: Path, options: tuple[str, ...], operations: int) -> None:
    with mounted(daemon.socket_path, place, *options) as mount:
        print("\noperations", *(f"{name:>10}" for name in ("RSS KiB", "fds", "holder KiB", "holder fds", "slots B")))
        with busy_programs(mount.point) as programs:
            assert programs.files == [RUNS * FILES] * len(programs.files)
            programs.do(operations // ROUNDS)
            warm = held(mount)
            show(operations // ROUNDS, warm)
            for done in range(2, ROUNDS + 1):
                programs.do(operations // ROUNDS)
                now = held(mount)
                show(done * operations // ROUNDS, now)
                check(now, warm)
            # A successor takes over what is there, and has no more than its predecessor had.
            for number, process in ((signal.SIGUSR1, mount.process.pid), (signal.SIGKILL, mount.server_pid)):
                before = mount.server_pid()
                os.kill(process if isinstance(process, int) else process(), number)
                another_server(mount, before)
                programs.do(operations // ROUNDS)
                now = held(mount)
                show(operations, now)
                check(now, warm)
        assert "Traceback" not in mount.log_text()
