"""A real ``pantryd`` on throw-away directories, started and stopped by PID."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from tests.servers.process import ServerProcess

_BEGINS = re.compile(r"\d{4}-\d\d-\d\d ")


class PantryDaemon:
    """One daemon; a context manager that stops it.

    Parameters
    ----------
    directory : Path
        For its socket, state, cache, configuration and log; a short path.
    config : Mapping
        Further configuration.
    system : bool
        Serve all users.
    module : str
        What runs: the daemon, or a test's version of it.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any] | None = None,
        *,
        system: bool = False,
        module: str = "pantry.daemon.main",
    ) -> None:
        self.directory = directory
        self.config: dict[str, Any] = dict(config or {})
        self.system = system
        self.module = module
        self.socket = str(directory / "pantryd.sock")
        self.state = directory / "state"
        self.cache = directory / "cache"
        self.log = directory / "pantryd.log"
        self.expected_log: tuple[str, ...] = ()
        """Texts of warnings that the test provokes."""
        self._logs = 0
        self._process: ServerProcess | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive

    def start(self, *, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Self:
        """Start it and wait until it answers on its socket."""
        config_file = self.directory / "pantryd.yaml"
        config_file.write_text(yaml.safe_dump(self.config))
        config_file.chmod(0o600)
        self._logs += 1
        self.log = self.directory / f"pantryd-{self._logs}.log"
        argv = [sys.executable, "-m", self.module, "--config", str(config_file), "--socket", self.socket]
        argv += ["--state", str(self.state), "--cache", str(self.cache)]
        argv += ["--system"] if self.system else []
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self._process = ServerProcess("pantryd", argv, self.log, cwd=self.directory, env=environment)
        self._process.wait_ready(lambda: "serves " + self.socket in self.log.read_text(), timeout_s=timeout_s)
        return self

    def stop(self) -> None:
        """Ask it to end and wait until it has."""
        if self._process is not None:
            self._process.stop(timeout_s=30)
            self._process = None

    def kill(self) -> None:
        """Kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def unexpected_log_lines(self) -> list[str]:
        """Return warnings and errors of all its runs, and tracebacks with all of their lines as one."""
        lines: list[str] = []
        for path in sorted(self.directory.glob("pantryd-*.log")):
            in_traceback = False
            for line in path.read_text().splitlines():
                if _BEGINS.match(line):
                    in_traceback = False
                if in_traceback:
                    lines[-1] += "\n" + line
                elif "Traceback" in line:
                    in_traceback = True
                    lines.append(line)
                elif " WARNING " in line or " ERROR " in line:
                    lines.append(line)
        return lines

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
