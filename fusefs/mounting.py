"""Mount points: what is wrong with them, what is left of an earlier mount, and how they are let go."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from pantry.errors import ConfigError, ConflictError, NotFoundError, PantryError

logger = logging.getLogger(__name__)

FILE_SYSTEM_NAME = "pantry"
"""Source and subtype of our mounts: mountinfo shows the type ``fuse.pantry``."""
READ_AHEAD_KIB = 1024
"""Largest request that the kernel sends; the kernel's own setting of 128 KiB halves the throughput."""
BACKGROUND_REQUESTS = 2048
"""Reads through the page cache that a mount may have under way. The kernel's 12 would let a dozen readers of files
that are still being fetched hold back everybody, also those who read what is there."""
_CONTROL_DIRECTORY = "/sys/fs/fuse/connections"
_HINTS = {
    "allow_other": "--allow-other needs user_allow_other in /etc/fuse.conf unless you are root",
    "open /dev/fuse": "the administrator must permit users to open it: chmod 666 /dev/fuse",
}
"""What to do about what fusermount3 says."""
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


def mount(path: str, options: Sequence[str]) -> int:
    """Mount, and return the kernel's end; who wants to be served must be quick to read from it.

    Parameters
    ----------
    path : str
        As `prepare` returned it.
    options : sequence of str
        For fusermount3, which mounts for users without privileges too.

    Raises
    ------
    ConfigError
        It could not be mounted.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            done = subprocess.run(
                ["fusermount3", "-o", ",".join(options), "--", path],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise _no_fusermount() from None
        if done.returncode:
            raise ConfigError(
                f"cannot mount at {path}: {done.stderr.strip()}",
                hint=next((hint for text, hint in _HINTS.items() if text in done.stderr), ""),
            )
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        return fds[0]


def is_alive(device_fd: int) -> bool:
    """Whether the mount of this descriptor is still there."""
    poll = select.poll()
    poll.register(device_fd, 0)
    return not poll.poll(0)  # POLLERR once it is unmounted


def let_go(path: str, device_fd: int) -> None:
    """Unmount, also when files are open, if what is mounted there is still the mount of this descriptor.

    Parameters
    ----------
    path : str
        The mount point.
    device_fd : int
        The kernel's end; if it says that it is unmounted, nothing is done.
    """
    if not is_alive(device_fd):
        return
    mounts = mounts_at(path)
    if mounts and is_ours(mounts[-1]):
        try:
            _fusermount(path, "-z")
        except PantryError as exc:
            logger.warning("%s", exc.message)


def _no_fusermount() -> ConfigError:
    return ConfigError("fusermount3 is not installed", hint="install the package fuse3")


def _fusermount(path: str, *options: str) -> None:
    try:
        done = subprocess.run(["fusermount3", "-u", *options, path], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _no_fusermount() from None
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


def set_read_ahead(path: str, kib: int) -> str:
    """Set how far the kernel reads ahead in the mount at ``path``; return what stood against it, or nothing."""
    return _write_setting(f"{bdi_directory(path)}/read_ahead_kb", kib)


def raise_background(path: str, requests: int = BACKGROUND_REQUESTS) -> str:
    """Let the mount at ``path`` have more background requests under way; return what stood against it, or nothing.

    The settings are in the file system ``fusectl``, which the owner of a mount may write to. Where the node
    does not have it mounted, root mounts it for a moment.
    """
    connection = str(os.minor(os.stat(path).st_dev))
    if os.path.isdir(f"{_CONTROL_DIRECTORY}/{connection}"):
        return _write_background(f"{_CONTROL_DIRECTORY}/{connection}", requests)
    if os.geteuid():
        return f"{_CONTROL_DIRECTORY} is not mounted"
    with tempfile.TemporaryDirectory(prefix="pantry-fusectl-") as directory:
        done = subprocess.run(
            ["mount", "-t", "fusectl", "none", directory], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return done.stderr.strip()
        try:
            return _write_background(f"{directory}/{connection}", requests)
        finally:
            subprocess.run(["umount", "-l", directory], capture_output=True, check=False)


def _write_background(directory: str, requests: int) -> str:
    return _write_setting(f"{directory}/max_background", requests) or _write_setting(
        f"{directory}/congestion_threshold", requests * 3 // 4
    )


def _write_setting(path: str, value: int) -> str:
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{value}\n")
    except OSError as exc:
        return f"{path}: {os.strerror(exc.errno or 0)}"
    return ""
