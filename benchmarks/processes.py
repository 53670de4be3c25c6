"""Programs that a measurement needs running: our daemon, our mount, rclone's mount."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.process import ServerProcess

from benchmarks.channel import REPOSITORY_ROOT

_START_TIMEOUT_S = 30.0


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
            said = select.select([ready], [], [], _START_TIMEOUT_S)[0] and os.read(ready, 16)
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


class PantryMount(ReadyProcess):
    """Our mounted view at ``mount_point``."""

    def __init__(self, daemon: Daemon, mount_point: Path, log: Path) -> None:
        mount_point.mkdir(parents=True, exist_ok=True)
        self.mount_point = mount_point
        arguments = ["pantry.fusefs.main", "--socket", daemon.socket, str(mount_point)]
        super().__init__("pantry mount", arguments, log=log, env=daemon.env)

    def stop(self) -> None:
        """End the process, which unmounts; unmount by force what it left."""
        super().stop()
        unmount(self.mount_point)


class RcloneMount:
    """rclone's mount of ``remote`` with its full VFS cache in ``cache_directory``."""

    def __init__(self, config: Path, remote: str, mount_point: Path, cache_directory: Path, log: Path) -> None:
        mount_point.mkdir(parents=True, exist_ok=True)
        self.mount_point = mount_point
        argv = [rclone_program(), "mount", remote, str(mount_point), "--config", str(config)]
        argv += ["--vfs-cache-mode", "full", "--cache-dir", str(cache_directory)]
        self._process = ServerProcess("rclone mount", argv, log, cwd=mount_point.parent)
        self._process.wait_ready(lambda: os.path.ismount(mount_point), timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """End the process, which unmounts; unmount by force what it left."""
        self._process.stop()
        unmount(self.mount_point)


def rclone_program() -> str:
    """Path of rclone, beside this Python or on PATH; empty if there is none."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone") or ""


def unmount(mount_point: Path) -> None:
    """Unmount if it is still a mount."""
    for _ in range(50):
        if not _is_mounted(mount_point):
            return
        subprocess.run(["fusermount3", "-u", str(mount_point)], check=False, capture_output=True)
        time.sleep(0.1)
    subprocess.run(["fusermount3", "-u", "-z", str(mount_point)], check=False, capture_output=True)


def _is_mounted(mount_point: Path) -> bool:
    # Not os.path.ismount: of a dead mount it says no.
    wanted = str(mount_point)
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return any(line.split(" ", 2)[1].encode().decode("unicode_escape") == wanted for line in lines)
