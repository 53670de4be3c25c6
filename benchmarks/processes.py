"""Programs of ours that a measurement needs running."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.channel import REPOSITORY_ROOT

START_TIMEOUT_S = 30.0


class ReadyProcess:
    """A program of ours that writes ``ready`` to a descriptor when it serves."""

    def __init__(self, name: str, arguments: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        ready, ready_for_child = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", *arguments, "--ready-fd", str(ready_for_child)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=REPOSITORY_ROOT,
                    env=dict(env),
                    pass_fds=(ready_for_child,),
                    start_new_session=True,
                )
            os.close(ready_for_child)
            ready_for_child = -1
            said = select.select([ready], [], [], START_TIMEOUT_S)[0] and os.read(ready, 16)
            if said != b"ready\n":
                self.stop()
                raise RuntimeError(f"{name} did not start; the end of {log}:\n{log.read_text()[-3000:]}")
        finally:
            os.close(ready)
            if ready_for_child >= 0:
                os.close(ready_for_child)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after 30 s; returns when it is gone."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()


class Daemon(ReadyProcess):
    """Our daemon with its state below ``directory``.

    Attributes
    ----------
    env : dict
        Environment in which clients find it.
    """

    def __init__(self, directory: Path, runtime: Path, *, storage: Sequence[Mapping[str, object]] = ()) -> None:
        directory.mkdir(parents=True)
        runtime.mkdir(parents=True, mode=0o700)
        self.socket = str(runtime / "pantryd.sock")
        self.cache_directory = directory / "cache"
        config = directory / "pantryd.yaml"
        config.touch(mode=0o600)  # before any secret is in it
        config.write_text(json.dumps({"storage": list(storage), "log_level": "warning"}))
        self.env = {**os.environ, "PANTRY_SOCKET": self.socket}
        arguments = ["pantry.daemon.main", "--config", str(config), "--socket", self.socket]
        arguments += ["--state", str(directory / "state"), "--cache", str(self.cache_directory)]
        super().__init__("pantryd", arguments, log=directory / "pantryd.log", env=self.env)
