"""Several tests at once, in pytest-xdist's workers; but nothing runs beside a test that is marked ``quiet``."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_KEY = "pantry_quiet_directory"


class Room:
    """A room that many share, or one has alone; for processes that agree on a directory.

    Parameters
    ----------
    directory : Path
        For the two files that are locked.

    Notes
    -----
    Locks are the kernel's, on open files: they end with the process that has them, however it ends.
    """

    def __init__(self, directory: Path) -> None:
        self._door = os.open(directory / "door", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._room = os.open(directory / "room", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextmanager
    def taken(self, *, alone: bool) -> Iterator[None]:
        """Be in the room."""
        # Whoever waits for the room has the door: those who come later cannot slip past one who wants to be alone.
        fcntl.flock(self._door, fcntl.LOCK_EX)
        try:
            fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def has_somebody_waiting(self) -> bool:
        """Whether one waits for the room, so that the door is closed."""
        try:
            fcntl.flock(self._door, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self._door, fcntl.LOCK_UN)
        return False

    def close(self) -> None:
        os.close(self._door)
        os.close(self._room)


class InTheController:
    """Gives all workers one directory."""

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="pty-quiet-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[_KEY] = self._directory

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


class InAWorker:
    """Runs each test in the room of all workers, from its set-up to its teardown."""

    def __init__(self, directory: str) -> None:
        self._room = Room(Path(directory))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        with self._room.taken(alone=item.get_closest_marker("quiet") is not None):
            return (yield)

    def pytest_unconfigure(self) -> None:
        self._room.close()


def register(config: pytest.Config) -> None:
    """Add what this process needs: nothing, if it runs all tests itself."""
    worker_input: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker_input is not None:
        config.pluginmanager.register(InAWorker(worker_input[_KEY]))
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(InTheController())
