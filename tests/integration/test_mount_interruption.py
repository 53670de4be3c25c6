"""Readers of what does not come: they can be killed at once and interrupted, and nobody else waits with them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.unit.fusefs.fake import FakeDaemon, FakeDataset
from tests.unit.fusefs.mounted import MountProcess, can_mount, mounted, public_place, wait_until

from pantry.fusefs import mounting

pytestmark = [pytest.mark.root, can_mount]

MIB = 1 << 20
LEAVES_S = 1.0
IS_OUT_S = 2.0
"""For who handles a signal, and is told EINTR a little later, for few programs expect it."""

READ = "import os, sys; print(len(open(sys.argv[1], 'rb', buffering=0).read()))"
PREAD = "import os, sys; print(len(os.pread(os.open(sys.argv[1], os.O_RDONLY), 100, 1 << 20)))"
DIRECT = (
    "import mmap, os, sys; print(os.preadv(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT), [mmap.mmap(-1, 4096)], 0))"
)
MAP = "import mmap, sys; file = open(sys.argv[1], 'rb'); print(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[12345])"
WAYS = {"read": READ, "pread": PREAD, "direct": DIRECT, "mapped": MAP}


class Node(NamedTuple):
    daemon: FakeDaemon
    mount: MountProcess
    far: FakeDataset

    @property
    def path(self) -> Path:
        return self.mount.point / "dp1/run/far" / self.far.name


@contextmanager
def node_with(*options: str) -> Iterator[Node]:
    with public_place() as place:
        daemon = FakeDaemon(place)
        repository = daemon.repository("dp1")
        far = repository.add("run", "far", os.urandom(3 * MIB), partial=True, visit=1)
        repository.add("run", "big", b"here", visit=1)
        with (
            daemon.running_in_thread(),
            mounted(daemon.socket_path, place, "--collections-ttl", "0", *options) as mount,
        ):
            yield Node(daemon, mount, far)
            daemon.gate.set()
            daemon.stalled.clear()
            assert "Traceback" not in mount.log_text()


@pytest.fixture
def node() -> Iterator[Node]:
    with node_with() as found:
        yield found


@contextmanager
def readers(code: str, path: Path, count: int) -> Iterator[Sequence[subprocess.Popen[str]]]:
    """Python programs that read; killed at the end."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(count)
    ]
    try:
        yield running
    finally:
        for reader in running:
            reader.kill()
            reader.communicate()


def waits_in_mount(pid: int) -> bool:
    """Whether a process sleeps in the kernel for an answer of the mount, or for a page that somebody else reads."""
    place = Path(f"/proc/{pid}/stack").read_text()
    return "fuse_" in place or "filemap_" in place


def stall(node: Node, running: Sequence[subprocess.Popen[str]]) -> None:
    """Wait until all have opened the file and wait for its content."""

    def stalled() -> bool:
        assert all(reader.poll() is None for reader in running)
        calls = node.daemon.calls
        opened = calls["OpenDataset"] >= len(running) and calls["FetchRanges"] > 0
        return opened and all(waits_in_mount(reader.pid) for reader in running)

    wait_until(stalled, what="readers that wait")


def leaves(reader: subprocess.Popen[str], number: signal.Signals, *, within_s: float = LEAVES_S) -> int:
    begun = time.monotonic()
    reader.send_signal(number)
    status = reader.wait(20)
    assert time.monotonic() - begun < within_s
    return status


@pytest.mark.quiet
@pytest.mark.parametrize("count", [1, 4], ids=["alone", "with others"])
@pytest.mark.parametrize("code", WAYS.values(), ids=WAYS)
def test_a_killed_reader_leaves_at_once(node: Node, code: str, count: int) -> None:
    node.daemon.gate.clear()
    with readers(code, node.path, count) as running:
        stall(node, running)
        assert leaves(running[0], signal.SIGKILL) == -signal.SIGKILL
        for reader in running[1:]:
            assert waits_in_mount(reader.pid)
        assert (node.path.parent.parent / "big/big_1.dat").read_bytes() == b"here"
        for reader in running[1:-1]:
            assert leaves(reader, signal.SIGKILL) == -signal.SIGKILL
        node.daemon.gate.set()
        if count > 1:
            out, err = running[-1].communicate(timeout=20)
            assert (running[-1].returncode, err) == (0, "")
            expected = {READ: 3 * MIB, PREAD: 100, DIRECT: 4096, MAP: node.far.content.read_bytes()[12345]}
            assert int(out) == expected[code]


@pytest.mark.quiet
@pytest.mark.parametrize("code", [READ, PREAD, DIRECT], ids=["read", "pread", "direct"])
def test_ctrl_c_gets_python_out_of_a_read(node: Node, code: str) -> None:
    node.daemon.gate.clear()
    with readers(code, node.path, 1) as (reader,):
        stall(node, [reader])
        assert leaves(reader, signal.SIGINT, within_s=IS_OUT_S) == -signal.SIGINT
        assert "KeyboardInterrupt" in reader.communicate()[1]


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1])
def test_other_signals_do_not_disturb_a_read(node: Node, number: signal.Signals) -> None:
    node.daemon.gate.clear()
    code = f"import signal; signal.signal({int(number)}, lambda *_: None)\n" + PREAD
    with readers(code, node.path, 1) as (reader,):
        stall(node, [reader])
        for _ in range(5):
            reader.send_signal(number)
            time.sleep(0.05)  # so that they do not become one
        node.daemon.gate.set()
        assert reader.communicate(timeout=20) == ("100\n", "")


@pytest.mark.quiet
def test_a_mapped_reader_handles_its_signals_and_goes_on(node: Node) -> None:
    """The kernel lets it out of the page fault for that, and does not take the failed page for SIGBUS."""
    node.daemon.gate.clear()
    code = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: None)\n"
    code += "os.set_blocking(1, False); signal.set_wakeup_fd(1)\n" + MAP
    with readers(code, node.path, 1) as (reader,):
        stall(node, [reader])
        assert reader.stdout is not None
        reader.terminate()
        assert select.select([reader.stdout], [], [], IS_OUT_S)[0]
        assert reader.stdout.read(1) == chr(signal.SIGTERM)
        node.daemon.gate.set()
        assert reader.communicate(timeout=20) == (f"{node.far.content.read_bytes()[12345]}\n", "")
        assert reader.returncode == 0


LIST = "import os, sys; print(os.listdir(sys.argv[1]))"
STAT = "import os, sys; print(os.stat(sys.argv[1]).st_size)"
OPEN = "import os, sys; print(os.open(sys.argv[1], os.O_RDONLY))"
XATTR = "import os, sys; print(os.getxattr(sys.argv[1], 'user.pantry.run'))"


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("code", "operation"),
    [(LIST, "ListTree"), (LIST, "QueryCollections"), (STAT, "ListTree"), (OPEN, "OpenDataset"), (XATTR, "GetDataset")],
    ids=["list a type", "list collections", "stat", "open", "xattr"],
)
def test_who_waits_for_a_daemon_that_does_not_answer_can_be_killed(node: Node, code: str, operation: str) -> None:
    target = node.path.parent if code == LIST else node.path
    if code not in (LIST, STAT):
        assert node.path.stat().st_size == 3 * MIB  # what the kernel knows need not be asked for
    node.daemon.stalled = {operation}
    before = node.daemon.calls[operation]
    with readers(code, target, 1) as (reader,):
        wait_until(lambda: node.daemon.calls[operation] > before and waits_in_mount(reader.pid), what="one who waits")
        assert leaves(reader, signal.SIGKILL) == -signal.SIGKILL
        assert os.listdir(node.mount.point) == ["dp1"]


def test_every_request_has_a_deadline() -> None:
    with node_with("--deadline", "0.5") as node:
        assert node.path.stat().st_size == 3 * MIB
        for operation in ("OpenDataset", "GetDataset", "ListTree", "QueryCollections", "ListRepositories"):
            node.daemon.stalled = {operation}
            with pytest.raises(TimeoutError):
                {
                    "OpenDataset": lambda: node.path.read_bytes(),
                    "GetDataset": lambda: os.getxattr(node.path, "user.pantry.run"),
                    "ListTree": lambda: os.listdir(node.path.parent),
                    "QueryCollections": lambda: os.listdir(node.mount.point / "dp1"),
                    "ListRepositories": lambda: os.listdir(node.mount.point),
                }[operation]()
        node.daemon.stalled = set()
        assert (node.path.parent.parent / "big/big_1.dat").read_bytes() == b"here"


def test_df_does_not_wait_for_a_daemon_that_does_not_answer(node: Node) -> None:
    node.daemon.stalled = {"GetCacheStatus"}
    begun = time.monotonic()
    assert os.statvfs(node.mount.point).f_blocks == 0
    assert time.monotonic() - begun < 5
    node.daemon.stalled = set()
    assert os.statvfs(node.mount.point).f_blocks > 0


def test_unmounting_and_looking_beside_it_do_not_wait(node: Node) -> None:
    node.daemon.gate.clear()
    with readers(READ, node.path, 2) as running:
        stall(node, running)
        begun = time.monotonic()
        subprocess.run(["ls", "-la", node.mount.point.parent], check=True, stdout=subprocess.DEVNULL, timeout=20)
        subprocess.run(["df", node.mount.point], check=True, stdout=subprocess.DEVNULL, timeout=20)
        mounting.unmount(str(node.mount.point), lazy=True)
        assert time.monotonic() - begun < 5
        assert os.listdir(node.mount.point) == []
        node.daemon.gate.set()
        assert [reader.communicate(timeout=20)[0] for reader in running] == [f"{3 * MIB}\n"] * 2
        assert node.mount.process.wait(20) == 0
