"""A real distributed file system: GlusterFS with two replicas on loopback. Needs root. Stdlib only.

Every server has a loopback address of its own, because bricks call the management daemon back on port
24007 and no other; so two test runs on one machine do not meet.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.servers.fuse_mount import FuseMount
from tests.servers.process import ServerError, ServerProcess

VOLUME = "tst"
_PORT = 24007
_CONFIG = """volume management
    type mgmt/glusterd
    option working-directory {state}
    option run-directory {state}/run
    option glusterd-sockfile {socket}
    option transport-type socket
    option transport.socket.bind-address {address}
    option transport.socket.listen-port {port}
    option transport.address-family inet
    option base-port 41352
    option max-port 41952
end-volume
"""


class GlusterServer:
    """One volume of two bricks, each with all data; a context manager that ends all of its processes.

    Parameters
    ----------
    directory : Path
        For everything; a short path, since it holds a Unix socket.

    Attributes
    ----------
    address : str
        On loopback, of all its processes.
    """

    def __init__(self, directory: Path) -> None:
        self.address = f"127.{16 + secrets.randbelow(224)}.{secrets.randbelow(256)}.{2 + secrets.randbelow(248)}"
        self._directory = directory
        self._socket = directory / "d.sock"
        self._state = directory / "state"
        self._bricks = (directory / "brick0", directory / "brick1")
        self._mounts: list[FuseMount] = []
        self._process: ServerProcess | None = None

    def start(self, *, timeout_s: float = 60.0) -> Self:
        """Start the daemon, make the volume and start its bricks.

        Raises
        ------
        ServerError
            With what it said; nothing is left running.
        """
        for path in (self._state, *self._bricks):
            path.mkdir(parents=True, exist_ok=True)
        config = self._directory / "glusterd.vol"
        config.write_text(
            _CONFIG.format(state=self._state, socket=self._socket, address=self.address, port=_PORT), encoding="utf-8"
        )
        log = self._directory / "glusterd.log"
        argv = ["glusterd", "-N", "-f", str(config), "-l", "-"]
        process = ServerProcess("GlusterFS", argv, log, cwd=self._directory)
        process.wait_ready(lambda: self._command("pool", "list").returncode == 0, timeout_s=timeout_s)
        self._process = process
        try:
            bricks = [f"{self.address}:{path}" for path in self._bricks]
            self._run("volume", "create", VOLUME, "replica", "2", *bricks, "force")
            # Bricks that died are noticed at once, and not after 42 s.
            for name, value in (("transport.address-family", "inet"), ("network.ping-timeout", "3")):
                self._run("volume", "set", VOLUME, name, value)
            self._run("volume", "start", VOLUME)
        except BaseException:
            self.stop()
            raise
        return self

    def mount(self, name: str) -> FuseMount:
        """Mount the volume once more, as one more host would; unmounted by `stop` at the latest."""
        argv = ["glusterfs", "-N", f"--volfile-server={self.address}", f"--volfile-server-port={_PORT}"]
        argv += [f"--volfile-id={VOLUME}", "-l", "-", str(self._directory / name)]
        mount = FuseMount("GlusterFS's client", argv, self._directory / name, self._directory / f"{name}.log")
        self._mounts.append(mount)
        return mount.start()

    def kill_brick(self, number: int) -> None:
        """Kill one of the two servers that hold the data, as a machine that loses power."""
        file = self._brick_pid_file(number)
        _end(file, signal.SIGKILL)
        # Where nobody reaps the dead, the management daemon would take the number for that of a living one.
        file.unlink(missing_ok=True)

    def revive_bricks(self, *, timeout_s: float = 30.0) -> None:
        """Start the bricks that are dead, and wait until they answer."""
        self._run("volume", "start", VOLUME, "force")
        deadline = time.monotonic() + timeout_s
        while not all(_is_alive(self._brick_pid_file(number)) for number in (0, 1)):
            if time.monotonic() > deadline:
                raise ServerError("a brick of GlusterFS does not come back")
            time.sleep(0.05)

    def brick_file(self, number: int, path: str) -> Path:
        """Where one brick keeps the file ``path`` of the volume: a look from outside."""
        return self._bricks[number] / path

    def heal(self, *, timeout_s: float = 60.0) -> None:
        """Have the bricks made equal again, and wait until nothing is left to heal."""
        deadline = time.monotonic() + timeout_s
        while any(self._to_heal(brick) for brick in self._bricks):
            if time.monotonic() > deadline:
                raise ServerError("the bricks of GlusterFS do not become equal")
            self._command("volume", "heal", VOLUME)
            time.sleep(0.05)

    @staticmethod
    def _to_heal(brick: Path) -> list[str]:
        """Name what a brick knows the other one to lack: links to one file, ``xattrop-...``, each with a file's id."""
        index = brick / ".glusterfs" / "indices"
        return [name for kind in ("xattrop", "dirty") for name in os.listdir(index / kind) if not name.startswith(kind)]

    def stop(self) -> None:
        """Unmount all and end all processes, by their PIDs."""
        for mount in self._mounts:
            mount.stop()
        self._mounts.clear()
        if self._process is not None:
            self._process.stop()
            self._process = None
        for file in (self._state / "run").rglob("*.pid"):
            _end(file, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _brick_pid_file(self, number: int) -> Path:
        name = f"{self.address}{str(self._bricks[number]).replace('/', '-')}.pid"
        return self._state / "run" / "vols" / VOLUME / name

    def _command(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = ["gluster", "--mode=script", f"--glusterd-sock={self._socket}", "--log-file=/dev/null", *words]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)

    def _run(self, *words: str) -> None:
        done = self._command(*words)
        if done.returncode:
            raise ServerError(f"gluster {' '.join(words)}: {done.stdout}{done.stderr}")


def _pid(file: Path) -> int | None:
    try:
        pid = int(file.read_text())
        # A daemon that ended may have left its number to somebody else.
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if b"gluster" in command.split(b"\0")[0] and str(file).encode() in command.split(b"\0") else None


def _is_alive(file: Path) -> bool:
    return _pid(file) is not None


def _end(file: Path, number: signal.Signals) -> None:
    pid = _pid(file)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    deadline = time.monotonic() + 10
    while _is_alive(file) and time.monotonic() < deadline:
        time.sleep(0.01)
