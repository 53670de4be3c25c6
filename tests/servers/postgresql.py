"""A real PostgreSQL server on loopback with throw-away data, from Debian's package."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import sqlalchemy as sa
from tests.servers.process import ServerError, ServerProcess, free_ports

_SYSTEM = "postgres"
"""The user of Debian's package: the server refuses to run as root."""

_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "log_min_messages": "warning",
}


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs, of the newest version that is installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = str(versions[-1] / name) if versions else shutil.which(name)
    if found is None:
        raise ServerError("PostgreSQL is not installed; scripts/system-packages does it")
    return found


class PostgresqlServer:
    """One server; a context manager that stops it.

    Parameters
    ----------
    directory : Path
        For data, socket and log; made by us, and given to the user whom the server runs as.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._password = secrets.token_hex(16)
        self._port = 0
        self._process: ServerProcess | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def password(self) -> str:
        """Of the user ``postgres``."""
        return self._password

    def url(self, database: str) -> str:
        """SQLAlchemy URL of a database, password included."""
        return f"postgresql+psycopg://{_SYSTEM}:{self._password}@127.0.0.1:{self._port}/{database}"

    def start(self) -> PostgresqlServer:
        """Make a cluster, start the server and wait until it answers."""
        data, password = self.directory / "data", self.directory / "password"
        self.directory.mkdir(mode=0o700, parents=True)
        password.write_text(self._password)
        prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(_SYSTEM)
            for path in (self.directory, password):
                os.chown(path, user.pw_uid, user.pw_gid)
            prefix = ["setpriv", f"--reuid={_SYSTEM}", f"--regid={_SYSTEM}", "--clear-groups"]
        made = subprocess.run(
            [
                *(*prefix, program("initdb"), "-D", str(data), "-U", _SYSTEM, "-A", "scram-sha-256"),
                *(f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise ServerError(f"initdb failed:\n{made.stderr}")
        self._port = free_ports(1)
        settings = {**_SETTINGS, "listen_addresses": "127.0.0.1", "port": str(self._port)}
        settings["unix_socket_directories"] = str(self.directory)
        argv = [*prefix, program("postgres"), "-D", str(data)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        self._process = ServerProcess("postgres", argv, self.directory / "postgres.log", cwd=self.directory)
        self._process.wait_ready(self._answers, timeout_s=60)
        return self

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres").replace("+psycopg", ""), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Fast shutdown: connections are closed."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGINT)
            self._process.stop(timeout_s=30)
            self._process = None

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database, give its URL, and drop it in the end."""
        name = f"test_{uuid4().hex}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        try:
            yield self.url(name)
        finally:
            with engine.connect() as connection:
                connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
            engine.dispose()
