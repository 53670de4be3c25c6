"""Connections to a database, and transactions that are all or nothing. Blocking."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from pantry.backends.credentials import BasicAuth
from pantry.backends.database_address import SQLITE, DatabaseAddress
from pantry.backends.databases import WRITES, make_engine, translated
from pantry.backends.sql.options import SqlOptions


class Connecting:
    """Makes the engine when it is first needed.

    Parameters
    ----------
    address : DatabaseAddress
        Which database.
    options : SqlOptions
        How to reach it.
    credential : BasicAuth or None
        As whom.
    read_only : bool
        The database refuses to write.
    """

    def __init__(
        self, address: DatabaseAddress, options: SqlOptions, credential: BasicAuth | None, *, read_only: bool
    ) -> None:
        self.location = f"sql+{address.location}"
        self.is_sqlite = address.kind == SQLITE
        self._address = address
        self._options = options
        self._credential = credential
        self._read_only = read_only
        self._lock = threading.Lock()
        self._made: sa.Engine | None = None

    @property
    def engine(self) -> sa.Engine:
        """The engine."""
        with self._lock:
            if self._made is None:
                self._made = make_engine(
                    self._address,
                    self._credential,
                    connect_timeout_s=self._options.connect_timeout_s,
                    statement_timeout_s=self._options.statement_timeout_s,
                    sslmode=self._options.sslmode,
                    read_only=self._read_only,
                    kept=not self._read_only,
                )
            return self._made

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection; what goes wrong in the database is an error of ours."""
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as exc:
            raise translated(exc, self.location) from exc

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """Give a connection in a transaction, which is committed if the block ends without an error."""
        try:
            with self.engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
                yield connection
        except sa.exc.SQLAlchemyError as exc:
            raise translated(exc, self.location) from exc

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.dispose()
