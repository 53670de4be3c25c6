"""What a demo has started, on record, so that `--stop` ends exactly that and nothing else."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

PREFIX = "pantry-demo-"
FILE_NAME = "demo.json"
_LONGEST_DIRECTORY = 60
"""Sockets lie below it, and their paths have at most 107 bytes."""
_POLL_S = 0.02


class Started(msgspec.Struct, frozen=True):
    """One process, told from later ones of the same PID by when it started.

    Attributes
    ----------
    name : str
        For people.
    pid : int
        Its number.
    ticks : int
        When it started, in clock ticks since the kernel did.
    """

    name: str
    pid: int
    ticks: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A demo.

    Attributes
    ----------
    boot : str
        Of which run of the kernel the numbers are.
    demo : Started
        The demo itself.
    kept : bool
        Whether it was asked to leave the rest running.
    mount_point : str
        Where it mounts; empty for nowhere.
    services : tuple of Started
        In the order in which they were started.
    """

    boot: str
    demo: Started
    kept: bool = False
    mount_point: str = ""
    services: tuple[Started, ...] = ()


def boot_id() -> str:
    """Return what tells this run of the kernel from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process started, None if there is no such process (a zombie is none)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identify(name: str, pid: int) -> Started:
    """Put a running process on record."""
    return Started(name, pid, start_ticks(pid) or 0)


def is_alive(process: Started) -> bool:
    """Tell whether exactly this process is there."""
    return start_ticks(process.pid) == process.ticks


def write(directory: Path, record: Record) -> None:
    """Replace the record in a demo's directory, in one step."""
    temporary = directory / f".{FILE_NAME}"
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    temporary.rename(directory / FILE_NAME)


def read(directory: Path) -> Record | None:
    """Return the record in a directory, None if there is none of ours."""
    try:
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            return None
        record = msgspec.json.decode((directory / FILE_NAME).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, json.JSONDecodeError):
        return None
    return record


def new_directory() -> Path:
    """Make a directory that only this user may enter, with a path short enough for sockets."""
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=_places()[0]))


def directories() -> Iterator[Path]:
    """Give the directories of this user's demos."""
    for place in _places():
        for path in sorted(place.glob(PREFIX + "*")):
            if read(path) is not None:
                yield path


def _places() -> list[Path]:
    chosen = Path(tempfile.gettempdir()).absolute()
    fallback = Path("/tmp")  # noqa: S108 - mkdtemp below it
    return [chosen] if len(os.fsencode(chosen)) <= _LONGEST_DIRECTORY else [fallback]


def end(process: Started, *, timeout_s: float = 15.0) -> bool:
    """End exactly this process: SIGTERM, and SIGKILL after a while. Return whether it was there."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        # The descriptor holds the process; only now can its number not go to another one.
        if not is_alive(process) or os.stat(f"/proc/{process.pid}").st_uid not in (os.geteuid(), 0):
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            if not select.select([pidfd], [], [], timeout_s)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                select.select([pidfd], [], [], timeout_s)
    finally:
        os.close(pidfd)
    return True


def end_children(directory: Path, *, timeout_s: float = 10.0) -> list[int]:
    """End what this process started for a demo and does not know of, as when it was interrupted amid a start.

    A child is not reaped by anybody else, so its number cannot go to another process.
    """
    own = str(os.getpid())
    ended = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if fields[1] == own and os.fsencode(directory) in command:
            _end_child(int(entry.name), timeout_s)
            ended.append(int(entry.name))
    return ended


def _end_child(pid: int, timeout_s: float) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            time.sleep(_POLL_S)
