"""A mount process for tests, always ended by its own PID, and its mount point always let go."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
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


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0, what: str = "the condition") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s} s"
        time.sleep(0.01)


class MountProcess:
    """One `python -m pantry.fusefs.main`."""

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

    def kill(self) -> int:
        self.process.kill()
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
