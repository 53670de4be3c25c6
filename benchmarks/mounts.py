"""Mounts that are measured: ours, rclone's, s3fs's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from tests.servers.process import ServerProcess
from tests.servers.seaweedfs import SeaweedServer

from benchmarks.processes import START_TIMEOUT_S, Daemon, ReadyProcess

_RSS = "VmRSS:"


class Mount(Protocol):
    """A mount that is there until it is stopped."""

    mount_point: Path

    def stop(self) -> None:
        """Unmount."""
        ...


M = TypeVar("M", bound=Mount)


@contextmanager
def mounted(start: Callable[[], M]) -> Iterator[M]:
    """Mount, and unmount at the end."""
    mount = start()
    try:
        yield mount
    finally:
        mount.stop()


class PantryMount(ReadyProcess):
    """Our mounted view at ``mount_point``.

    Parameters
    ----------
    daemon : Daemon
        Whose repositories.
    mount_point, log : Path
        Where, and where its processes write.
    options : sequence of str
        More of its options.
    """

    def __init__(self, daemon: Daemon, mount_point: Path, log: Path, options: Sequence[str] = ()) -> None:
        mount_point.mkdir(parents=True, exist_ok=True)
        self.mount_point = mount_point
        arguments = ["pantry.fusefs.main", "--socket", daemon.socket, *options, str(mount_point)]
        super().__init__("pantry mount", arguments, log=log, env=daemon.env)

    def memory_mib(self) -> float:
        """Resident memory of the process that holds the mount and of the one that serves it, in MiB."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_resident_kib(pid) for pid in (self.pid, *map(int, children))) / 1024

    def stop(self) -> None:
        """End the process, which unmounts; unmount by force what it left."""
        super().stop()
        unmount(self.mount_point)


class PeerMount:
    """A mount of another program, which runs in the foreground."""

    def __init__(self, name: str, argv: Sequence[str], mount_point: Path, log: Path) -> None:
        mount_point.mkdir(parents=True, exist_ok=True)
        self.mount_point = mount_point
        self._process = ServerProcess(name, argv, log, cwd=mount_point.parent)
        self._process.wait_ready(lambda: os.path.ismount(mount_point), timeout_s=START_TIMEOUT_S)

    def memory_mib(self) -> float:
        """Resident memory of its process, in MiB."""
        return _resident_kib(self._process.pid) / 1024

    def stop(self) -> None:
        """End the process, which unmounts; unmount by force what it left."""
        self._process.stop()
        unmount(self.mount_point)


def mount_rclone(config: Path, remote: str, mount_point: Path, cache: Path, log: Path) -> PeerMount:
    """Mount ``remote`` by rclone with its full VFS cache in ``cache``."""
    argv = [rclone_program(), "mount", remote, str(mount_point), "--config", str(config)]
    argv += ["--vfs-cache-mode", "full", "--cache-dir", str(cache)]
    return PeerMount("rclone mount", argv, mount_point, log)


def mount_s3fs(server: SeaweedServer, bucket: str, mount_point: Path, cache: Path, log: Path) -> PeerMount:
    """Mount a bucket by s3fs with its cache of files in ``cache``."""
    passwords = log.with_suffix(".passwd")
    passwords.touch(mode=0o600)  # before any secret is in it
    passwords.write_text(f"{server.access_key}:{server.secret_key}\n")
    cache.mkdir(parents=True, exist_ok=True)
    argv = [s3fs_program(), bucket, str(mount_point), "-f", "-o", f"url={server.endpoint_url}"]
    argv += ["-o", "use_path_request_style", "-o", f"passwd_file={passwords}", "-o", f"use_cache={cache}"]
    return PeerMount("s3fs", argv, mount_point, log)


def rclone_program() -> str:
    """Path of rclone, beside this Python or on PATH; empty if there is none."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.exists() else shutil.which("rclone") or ""


def s3fs_program() -> str:
    """Path of s3fs; empty if there is none."""
    return shutil.which("s3fs") or ""


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


def _resident_kib(pid: int) -> int:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(_RSS)]
    return int(line.split()[1])
