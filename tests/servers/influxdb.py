"""A real InfluxDB 1 on loopback with throw-away data, from Debian's package."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from tests.servers.process import ServerError, ServerProcess, free_ports

_CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{directory}/meta"
[data]
  dir = "{directory}/data"
  wal-dir = "{directory}/wal"
  index-version = "inmem"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{http}"
  auth-enabled = true
  log-enabled = false
[subscriber]
  enabled = false
[continuous_queries]
  enabled = false
"""


class InfluxServer:
    """One server; a context manager that stops it.

    Parameters
    ----------
    directory : Path
        For data, configuration and log.

    Attributes
    ----------
    database : str
        Which ``reader`` may read.
    """

    database = "efd"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.password = secrets.token_hex(16)
        self.reader = ("reader", secrets.token_hex(16))
        self.port = 0
        self._process: ServerProcess | None = None

    @property
    def root(self) -> str:
        """Address as the EFD backend is given it."""
        return f"efd+http://127.0.0.1:{self.port}/{self.database}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """Options that reach it."""
        return {"username": self.reader[0], "password": self.reader[1]}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start, wait until it answers, and make the users and the database."""
        program = shutil.which("influxd")
        if program is None:
            raise ServerError("InfluxDB is not installed; scripts/system-packages does it")
        self.directory.mkdir(mode=0o700, parents=True)
        self.port = free_ports(2)
        config = self.directory / "influxdb.conf"
        config.write_text(_CONFIG.format(directory=self.directory, http=self.port, rpc=self.port + 1))
        argv = [program, "run", "-config", str(config)]
        self._process = ServerProcess("influxd", argv, self.directory / "influxd.log", cwd=self.directory)
        self._process.wait_ready(self._answers, timeout_s=30)
        self._first()
        user, password = self.reader
        for statement in (
            f"CREATE DATABASE {self.database}",
            f"CREATE USER {user} WITH PASSWORD '{password}'",
            f"GRANT READ ON {self.database} TO {user}",
        ):
            self.query(statement)
        return self

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/ping", timeout=2).status_code == 204
        except requests.ConnectionError:
            return False

    def _first(self) -> None:
        # The one statement that is allowed without a user.
        statement = f"CREATE USER admin WITH PASSWORD '{self.password}' WITH ALL PRIVILEGES"
        requests.post(f"{self.url}/query", data={"q": statement}, timeout=10).raise_for_status()

    def query(self, statement: str, **more: str) -> dict[str, Any]:
        """Run a statement as administrator."""
        answer = requests.post(
            f"{self.url}/query", data={"q": statement, **more}, auth=("admin", self.password), timeout=60
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        assert not any("error" in one for one in found["results"]), found
        return found

    def write(self, lines: Iterable[str], *, database: str | None = None, batch: int = 20_000) -> None:
        """Write points in line protocol, times in nanoseconds."""
        pending: list[str] = []
        with requests.Session() as session:
            session.auth = ("admin", self.password)
            for line in lines:
                pending.append(line)
                if len(pending) == batch:
                    self._send(session, pending, database)
                    pending = []
            if pending:
                self._send(session, pending, database)

    def _send(self, session: requests.Session, lines: list[str], database: str | None) -> None:
        parameters = {"db": database or self.database, "precision": "ns"}
        answer = session.post(f"{self.url}/write", params=parameters, data="\n".join(lines).encode(), timeout=120)
        if answer.status_code != 204:
            raise ServerError(f"InfluxDB did not take the points: {answer.status_code} {answer.text[:500]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop(timeout_s=30)
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def line(measurement: str, values: Mapping[str, Any], time_ns: int, tags: Mapping[str, str] | None = None) -> str:
    """Write one point in line protocol; fields without a value are left out."""
    head = _escaped(measurement, ", ") + "".join(
        f",{_escaped(name, ',= ')}={_escaped(value, ',= ')}" for name, value in (tags or {}).items()
    )
    fields = ",".join(f"{_escaped(name, ',= ')}={_value(value)}" for name, value in values.items() if value is not None)
    return f"{head} {fields} {time_ns}"


def _escaped(text: str, chars: str) -> str:
    return "".join("\\" + char if char in chars else char for char in text)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "t" if value else "f"
        case int():
            return f"{value}i"
        case float():
            return repr(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
