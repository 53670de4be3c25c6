"""Start a daemon of the user's own where none runs (DESIGN section 1: nothing to set up in a notebook)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
import time
from collections.abc import Iterator

from pantry.client.connection.transport import dial
from pantry.errors import DaemonUnavailableError
from pantry.wire.paths import runtime_directory

START_DEADLINE_S = 20.0
"""Longest wait for a daemon that is being started, by whomever, in seconds."""
_LOCK_POLL_S = 0.02
_LOG_TAIL_BYTES = 2000

_started: list[int] = []
"""Process numbers of daemons that this process started, which it must reap if they end before it."""


def start_daemon(socket_path: str, *, deadline_s: float = START_DEADLINE_S) -> None:
    """Start a daemon on demand and wait until it listens; only one, however many ask at once.

    Parameters
    ----------
    socket_path : str
        Where it will listen: `pantry.wire.paths.user_socket`.
    deadline_s : float
        Longest wait, in seconds.

    Raises
    ------
    DaemonUnavailableError
        It did not start; the message has the end of its log. Or the runtime directory is not safe.
    """
    until = time.monotonic() + deadline_s
    directory = secure_runtime_directory()
    with _start_lock(os.path.join(directory, "start.lock"), until):
        if not _listens(socket_path):
            _spawn(socket_path, os.path.join(directory, "pantryd.log"), until)


def secure_runtime_directory() -> str:
    """Return the runtime directory, made if need be, after checking that only this user can write to it."""
    directory = runtime_directory()
    try:
        with contextlib.suppress(FileExistsError):
            os.makedirs(directory, mode=0o700)
        found = os.lstat(directory)
    except OSError as exc:
        raise DaemonUnavailableError(
            f"the runtime directory {directory} cannot be made: {exc.strerror}",
            hint="set XDG_RUNTIME_DIR to a directory of your own",
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise DaemonUnavailableError(
            f"{directory} is not a directory that only you can write to",
            hint=f"set XDG_RUNTIME_DIR to a directory of your own, or put this one right: chmod 700 {directory}",
        )
    return directory


@contextlib.contextmanager
def _start_lock(path: str, until: float) -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise DaemonUnavailableError(
                        "another process has been starting a daemon for too long", hint=f"who holds {path}?"
                    ) from None
                time.sleep(_LOCK_POLL_S)  # flock has no time-out of its own
        yield
    finally:
        os.close(fd)


def _listens(socket_path: str) -> bool:
    try:
        dial(socket_path, timeout_s=1.0).close()
    except DaemonUnavailableError as exc:
        return exc.fields.get("reason") != "absent"
    return True


def _spawn(socket_path: str, log_path: str, until: float) -> None:
    import subprocess

    _reap()
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    begun_at = os.fstat(log).st_size
    ready, ready_for_daemon = os.pipe()
    try:
        daemon = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pantry.daemon.main",
                "--on-demand",
                "--socket",
                socket_path,
                "--ready-fd",
                str(ready_for_daemon),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            env={**os.environ, "PYTHONPATH": _absolute_python_path()},
            pass_fds=(ready_for_daemon,),
            start_new_session=True,
        )
        os.close(ready_for_daemon)
        ready_for_daemon = -1
        if _says_ready(ready, until) or _listens(socket_path):
            _started.append(daemon.pid)
            daemon.returncode = 0  # it goes on without us: Popen need not complain of that
            return
        ended = daemon.poll()
        daemon.kill()
        daemon.wait()
        raise DaemonUnavailableError(
            "the daemon did not start" + ("" if ended is None else f" (exit code {ended})") + _tail(log_path, begun_at),
            hint=f"its log is {log_path}",
        )
    finally:
        os.close(log)
        os.close(ready)
        if ready_for_daemon >= 0:
            os.close(ready_for_daemon)


def _reap() -> None:
    for pid in list(_started):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0]
        except ChildProcessError:  # the parent of this forked process started it
            ended = pid
        if ended:
            _started.remove(pid)


def _absolute_python_path() -> str:
    # The daemon runs in "/", so that it keeps no file system busy; relative entries must not change meaning.
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(os.path.abspath(entry) for entry in entries if entry)


def _says_ready(fd: int, until: float) -> bool:
    said = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while not said.endswith(b"ready\n"):
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            return False
        chunk = os.read(fd, 64)
        if not chunk:
            return False
        said += chunk
    return True


def _tail(path: str, begin: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(begin, file.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "".join(f"\n  | {line}" for line in lines[-10:])
