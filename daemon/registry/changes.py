"""Whether anything in an SQLite file was changed, by whichever connection of whichever process."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["FileChanges"]


class FileChanges:
    """Asks SQLite, by a connection that never writes itself.

    Times and sizes of the file and its log would not do: they change too when the log is brought into the file, by
    which nothing changes.

    Parameters
    ----------
    connect : callable
        Makes a connection.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._connection: Any = None
        self._lock = threading.Lock()
        # SQLite counts from one with each connection.
        self._name = secrets.token_hex(8)

    def state(self) -> str:
        """Return another text after each commit."""
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.detach()  # from the pool
            cursor = self._connection.cursor()
            try:
                (version,) = cursor.execute("PRAGMA data_version").fetchone()
            finally:
                cursor.close()
        return f"{self._name} {version}"

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
