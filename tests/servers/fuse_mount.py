"""A file system that a FUSE client process of somebody else's mounts: hung, woken, killed, unmounted. Stdlib only."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.process import ServerError, ServerProcess

_GONE_WITHIN_S = 10.0
_POLL_S = 0.02


class FuseMount:
    """One mounted file system and the process that serves it; a context manager that unmounts.

    Parameters
    ----------
    name : str
        For messages.
    argv : Sequence[str]
        The client in the foreground; it ends when its directory is unmounted.
    directory : Path
        The mount point; made if need be.
    log_path : Path
        Where stdout and stderr of the client go.
    """

    def __init__(self, name: str, argv: Sequence[str], directory: Path, log_path: Path) -> None:
        self.directory = directory
        self._name = name
        self._argv = list(argv)
        self._log_path = log_path
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError(f"{self._name} is not mounted")
        return self._process.pid

    def start(self, *, timeout_s: float = 30.0) -> Self:
        """Mount, and wait until the directory lists.

        Raises
        ------
        ServerError
            With the tail of the client's log; nothing is left mounted.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        process = ServerProcess(self._name, self._argv, self._log_path, cwd=self._log_path.parent)
        try:
            process.wait_ready(self._is_ready, timeout_s=timeout_s)
        except BaseException:
            process.stop()
            self._unmount()
            raise
        self._process = process
        return self

    def hang(self) -> None:
        """Stop the client where it is: calls into the file system do not return, and cannot be interrupted."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on after `hang`."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the client as a crash does: the mount point stays, and every call gets ENOTCONN."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        """Unmount, and end the client whatever state it is in."""
        if self._process is not None and self._process.is_alive:
            self.wake()
        # First: a client that is told to end may wait for its server, one that lost its directory does not.
        self._unmount()
        if self._process is not None:
            self._process.stop()
            self._process = None

    def restart(self) -> None:
        """Mount again in the same place, after `kill` or `stop`."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _is_ready(self) -> bool:
        if not is_mounted(self.directory):
            return False
        try:
            os.listdir(self.directory)
        except OSError:
            return False
        return True

    def _unmount(self) -> None:
        deadline = time.monotonic() + _GONE_WITHIN_S
        while is_mounted(self.directory):
            command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
            subprocess.run([*command, str(self.directory)], capture_output=True, check=False, timeout=_GONE_WITHIN_S)
            if time.monotonic() > deadline:
                raise ServerError(f"{self.directory} cannot be unmounted")
            time.sleep(_POLL_S)


def is_mounted(directory: Path) -> bool:
    """Whether a file system is mounted there; asks the kernel only, so that a dead one cannot hang it."""
    wanted = str(directory).replace(" ", r"\040")
    with open("/proc/self/mountinfo", encoding="utf-8") as lines:
        return any(line.split(" ")[4] == wanted for line in lines)
