"""Child processes that are servers: started, watched until ready, stopped by their own PID. Stdlib only."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.02
_TAIL_BYTES = 4000
_PORTS = range(12000, 32000)


class ServerError(RuntimeError):
    """A server did not start; the message ends with the tail of its log."""


class ServerProcess:
    """One child process in the foreground, with its log in a file.

    Parameters
    ----------
    name : str
        For messages.
    argv : Sequence[str]
        Program and arguments; no shell.
    log_path : Path
        Where stdout and stderr go.
    env : Mapping[str, str], optional
        The whole environment; ours if not given.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log_path: Path, *, cwd: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=cwd, env=env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Poll ``ready`` until it holds; stop the process and raise `ServerError` if it never does."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                what = f"ended with code {code}" if code is not None else f"was not ready after {timeout_s} s"
                self.stop()
                raise ServerError(f"{self.name} {what}; the end of its log:\n{self.log_tail()}")
            time.sleep(POLL_S)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """SIGTERM, and SIGKILL after ``timeout_s``; returns when the process is gone."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """SIGKILL, as in a crash; returns when the process is gone."""
        self._process.kill()
        self._process.wait()

    def log_tail(self) -> str:
        with self.log_path.open("rb") as log:
            log.seek(max(0, self.log_path.stat().st_size - _TAIL_BYTES))
            return log.read().decode(errors="replace")


class Server:
    """What has one child process while it runs; a context manager that stops it."""

    _process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and wait until it is gone; no error if it is not running."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def kill(self) -> None:
        """Kill the server without warning, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def on_free_ports(count: int, launch: Callable[[int], None], *, attempts: int = 3) -> None:
    """Call ``launch`` with the first of ``count`` free ports; with others if somebody took one in between."""
    for left in reversed(range(attempts)):
        try:
            launch(free_ports(count))
        except ServerError:
            if not left:
                raise
        else:
            return


def free_ports(count: int, *, attempts: int = 200) -> int:
    """Find ``count`` consecutive loopback ports that are free now, and return the first.

    They lie below the kernel's ephemeral range, so that no outgoing connection takes one before the
    server does; every one is proved free by binding it. Each of pytest-xdist's workers has a range of its
    own, so that no other takes one in between, or while a server is down that will come again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = max(worker + 1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    width = (_PORTS.stop - _PORTS.start) // workers
    begin = _PORTS.start + worker * width
    for _ in range(attempts):
        # Not the common generator, which Hypothesis begins anew at the same number.
        first = secrets.randbelow(width - count + 1) + begin
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return first
    raise ServerError(f"no {count} consecutive free ports found on 127.0.0.1")


def http_answer(url: str, *, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET, whatever the status; ``(0, b"")`` if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - loopback http only
            return response.status, response.read()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read()
    except OSError:
        return 0, b""
