"""A mount process for tests, always ended by its own PID, and its mount point always let go."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pantry.fusefs.mounting import mounts_at

READY_S = 20.0

can_mount = pytest.mark.skipif(
    os.getuid() != 0 or not os.access("/dev/fuse", os.W_OK), reason="mounting needs root and /dev/fuse"
)


@contextmanager
def public_place() -> Iterator[Path]:
    """A directory that other users can reach, which tmp_path is not; nothing may be left mounted in it."""
    directory = Path(tempfile.mkdtemp(prefix="pantry-mount-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        assert not mounts_at(str(directory / "mnt"))
        shutil.rmtree(directory)


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0, what: str = "the condition") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.01)


def words_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def mount_pids(point: Path) -> list[int]:
    """Processes of the mount at a directory."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            words = words_of(int(entry))
            if b"pantry.fusefs.main" in words and os.fsencode(point) in words:
                found.append(int(entry))
    return found


def kill_all(point: Path) -> None:
    """Kill what holds and what serves the mount at a directory; stopped first, so that neither replaces the other."""
    pids: list[int] = []
    while (found := mount_pids(point)) != pids:
        pids = found
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


class MountProcess:
    """One `python -m pantry.fusefs.main`, which holds the mount, and what it starts."""

    def __init__(self, socket_path: str, point: Path, log: Path, *options: str) -> None:
        self.point = point
        self.log = log
        ready, for_child = os.pipe()
        try:
            with log.open("ab") as out:
                self.process = subprocess.Popen(
                    [sys.executable, "-m", "pantry.fusefs.main", "--socket", socket_path, "--ready-fd", str(for_child),
                     *options, str(point)],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[for_child],
                )  # fmt: skip
            os.close(for_child)
            readable, _, _ = select.select([ready], [], [], READY_S)
            answer = os.read(ready, 16) if readable else b""
        finally:
            os.close(ready)
        if answer != b"ready\n":
            self.end()
            pytest.fail(f"the mount did not come up:\n{log.read_text()}")

    def end(self) -> int:
        """SIGTERM and wait; SIGKILL and a lazy unmount if that does not help."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            return self.kill()

    def server_pid(self) -> int:
        """Of the process that serves now; 0 while there is none."""
        for pid in mount_pids(self.point):
            if pid != self.process.pid and b"--serve" in words_of(pid):
                return pid
        return 0

    def kill(self) -> int:
        """Kill what holds and what serves, so that nothing goes on."""
        kill_all(self.point)
        return self.process.wait()

    def log_text(self) -> str:
        return self.log.read_text()


@contextmanager
def mounted(socket_path: str, directory: Path, *options: str) -> Iterator[MountProcess]:
    point = directory / "mnt"
    point.mkdir(exist_ok=True)
    mount = MountProcess(socket_path, point, directory / "mount.log", *options)
    try:
        yield mount
    finally:
        mount.end()
        if mounts_at(str(point)):
            subprocess.run(["fusermount3", "-u", "-z", str(point)], check=False)
