"""A real mount by the real mount process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self


class PantryMount:
    """``python -m pantry.fusefs.main``; a context manager that unmounts.

    Parameters
    ----------
    socket : str
        Of the daemon.
    directory : Path
        Where to mount; made if need be.
    allow_other : bool
        Serve all users.
    repositories : sequence of str
        Show only these.
    """

    def __init__(
        self, socket: str, directory: Path, *, allow_other: bool = False, repositories: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        self.log = directory.with_name(directory.name + "-mount.log")
        read_end, write_end = os.pipe()
        argv = [sys.executable, "-m", "pantry.fusefs.main", "--socket", socket, "--ready-fd", str(write_end)]
        argv += ["--allow-other"] if allow_other else []
        argv += [f"--repository={name}" for name in repositories]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*argv, str(directory)],
                pass_fds=[write_end],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        os.close(write_end)
        with open(read_end, "rb") as ready:
            answer = ready.readline()
        if answer != b"ready\n":
            self._process.wait(30)
            raise RuntimeError("the mount did not come up:\n" + self.log.read_text())

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
