"""Which database of which server, or which file; known without SQLAlchemy."""

from __future__ import annotations

import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from pantry.errors import ConfigError

POSTGRESQL = "postgresql"
SQLITE = "sqlite"
_PORT = 5432


class DatabaseAddress(NamedTuple):
    """Which database of which server, or which file.

    Attributes
    ----------
    kind : str
        `POSTGRESQL` or `SQLITE`.
    host : str
        Name or address; empty for a file.
    port : int
        TCP port; 0 for a file.
    database : str
        Name of the database, or absolute path of the file.
    """

    kind: str
    host: str
    port: int
    database: str

    @property
    def location(self) -> str:
        """The address as a URI, without any secret."""
        if self.kind == SQLITE:
            return f"sqlite://{self.database}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}://{host}:{self.port}/{self.database}"


def split_address(uri: str, prefix: str) -> DatabaseAddress:
    """Split ``PREFIX+postgresql://host:port/database`` or ``PREFIX+sqlite:///path``.

    Raises
    ------
    ConfigError
        If it is written in another way, or has credentials in it.
    """
    how = ConfigError(
        f"a database is written {prefix}+postgresql://host:5432/database or {prefix}+sqlite:///absolute/path"
    )
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise how from None
    kind = parts.scheme.removeprefix(f"{prefix}+")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("a database's address has no credentials in it", hint="Give the options username, password.")
    if not parts.scheme.startswith(f"{prefix}+") or parts.query or parts.fragment:
        raise how
    if kind == SQLITE and not parts.netloc and parts.path.startswith("/") and not parts.path.endswith("/"):
        return DatabaseAddress(SQLITE, "", 0, os.path.normpath(unquote(parts.path)))
    database = parts.path.strip("/")
    if kind != POSTGRESQL or not parts.hostname or not database or "/" in database or "%" in database:
        raise how
    return DatabaseAddress(POSTGRESQL, parts.hostname, port or _PORT, database)
