"""Mount points: what is wrong with them, what is left of an earlier mount, and how they are let go.

Nothing here needs pyfuse3.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import time
from typing import NamedTuple

from pantry.errors import ConfigError, ConflictError, NotFoundError, PantryError

FILE_SYSTEM_NAME = "pantry"
"""Source and subtype of our mounts: mountinfo shows the type ``fuse.pantry``."""
READ_AHEAD_KIB = 1024
"""Largest request that libfuse takes; the kernel's own setting of 128 KiB halves the throughput."""
_ESCAPE = re.compile(r"\\([0-7]{3})")
_POLL_S = 0.02


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo."""

    device: str
    path: str
    kind: str


def mounts_at(path: str) -> list[Mount]:
    """List what is mounted at exactly this absolute path, the topmost last."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
            if point == path:
                found.append(Mount(fields[2], point, fields[fields.index("-") + 1]))
    return found


def is_ours(mount: Mount) -> bool:
    """Whether a mount was made by this program."""
    return mount.kind == f"fuse.{FILE_SYSTEM_NAME}"


def resolve(path: str) -> str:
    """Return the absolute path as mountinfo shows it; the last component need not answer."""
    parent, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(parent), name) if name else "/"


def prepare(path: str) -> str:
    """Check a mount point, and clear away a dead mount of ours; return its resolved path.

    Raises
    ------
    NotFoundError, ConfigError, ConflictError
        What stands against mounting there, and what to do.
    """
    path = resolve(path)
    if not os.path.exists("/dev/fuse"):
        raise ConfigError(
            "this kernel or container offers no /dev/fuse",
            hint="load the kernel module (modprobe fuse), or start the container with --device /dev/fuse",
        )
    try:
        info = os.stat(path)
        if any(is_ours(mount) for mount in mounts_at(path)):
            # The kernel may still know the attributes of a dead mount, but it cannot open it.
            os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    except FileNotFoundError:
        raise NotFoundError(f"the mount point {path} does not exist", hint=f"mkdir -p {path}") from None
    except OSError as exc:
        if exc.errno not in (errno.ENOTCONN, errno.ECONNABORTED):
            raise ConfigError(f"the mount point {path} cannot be used: {os.strerror(exc.errno or 0)}") from exc
        _clear_dead(path)
        return prepare(path)
    if not stat.S_ISDIR(info.st_mode):
        raise ConfigError(f"the mount point {path} is not a directory")
    if any(is_ours(mount) for mount in mounts_at(path)):
        raise ConflictError(f"Pantry is already mounted at {path}", hint=f"pantry umount {path}")
    return path


def is_empty(path: str) -> bool:
    """Whether a mount hides nothing there."""
    with os.scandir(path) as entries:
        return next(entries, None) is None


def _clear_dead(path: str) -> None:
    mounts = mounts_at(path)
    if not mounts or not is_ours(mounts[-1]):
        kind = mounts[-1].kind if mounts else "file system"
        raise ConflictError(
            f"a dead {kind} mount that is not Pantry's lies at {path}", hint=f"fusermount3 -u -z {path}"
        )
    _fusermount(path, "-z")


def unmount(path: str, *, lazy: bool = False, timeout_s: float = 10.0) -> None:
    """Unmount Pantry from ``path`` and wait until it is gone.

    Parameters
    ----------
    path : str
        The mount point.
    lazy : bool
        Also when files are open: nobody new gets in, and the mount goes with the last of them.
    timeout_s : float
        How long to wait, in seconds.

    Raises
    ------
    PantryError
        It is not mounted there, is in use, or is somebody else's.
    """
    path = resolve(path)
    mounts = mounts_at(path)
    if not mounts or not is_ours(mounts[-1]):
        raise NotFoundError(f"Pantry is not mounted at {path}")
    _fusermount(path, *(["-z"] if lazy else []))
    deadline = time.monotonic() + timeout_s
    while len(mounts_at(path)) >= len(mounts):
        if time.monotonic() > deadline:
            raise PantryError(f"{path} is still mounted after {timeout_s:g} s")
        time.sleep(_POLL_S)


def _fusermount(path: str, *options: str) -> None:
    try:
        done = subprocess.run(["fusermount3", "-u", *options, path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ConfigError("fusermount3 is not installed", hint="install the package fuse3") from None
    if done.returncode:
        reason = done.stderr.strip().removeprefix("fusermount3: ")
        busy = "busy" in reason.lower()
        raise PantryError(
            f"cannot unmount {path}: {reason}",
            hint="end the programs that use it (fuser -m), or unmount lazily with --lazy" if busy else "",
        )


def bdi_directory(path: str) -> str:
    """Directory in /sys of the kernel's settings for the file system mounted at ``path``."""
    device = os.stat(path).st_dev
    return f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}"


def tune(path: str, *, read_ahead_kib: int = READ_AHEAD_KIB, background: int = 256) -> list[str]:
    """Raise the kernel's limits for a mount; return what was not permitted, for the log.

    Parameters
    ----------
    path : str
        The mount point, answering.
    read_ahead_kib : int
        How far the kernel reads ahead of sequential readers, in KiB.
    background : int
        Reads ahead that may be under way at once in the whole mount. The default of 12 would let a few
        readers of files that are still being fetched stop the read-ahead of all others.
    """
    minor = os.minor(os.stat(path).st_dev)
    refused = []
    for setting, value in (
        (f"{bdi_directory(path)}/read_ahead_kb", read_ahead_kib),
        (f"/sys/fs/fuse/connections/{minor}/max_background", background),
        (f"/sys/fs/fuse/connections/{minor}/congestion_threshold", background * 3 // 4),
    ):
        try:
            with open(setting, "w", encoding="ascii") as file:
                file.write(f"{value}\n")
        except OSError as exc:
            refused.append(f"{setting}: {os.strerror(exc.errno or 0)}")
    return refused
