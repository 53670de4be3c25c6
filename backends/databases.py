"""SQL databases as backends reach them: one engine, errors told apart. Blocking.

SQLAlchemy is imported with this module, so backends import it in their worker threads.
"""

from __future__ import annotations

import sqlite3
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from pantry.backends.credentials import BasicAuth, Credential
from pantry.backends.database_address import SQLITE, DatabaseAddress
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    InvalidQueryError,
    PantryError,
    TransientBackendError,
)

WRITES = "pantry_writes"
"""Execution option of connections that will write: SQLite lets them wait for their turn at the beginning."""


def make_engine(
    address: DatabaseAddress,
    credential: Credential | None,
    *,
    connect_timeout_s: float,
    statement_timeout_s: float,
    sslmode: str = "prefer",
    read_only: bool,
    kept: bool = True,
) -> sa.Engine:
    """Make an engine; nothing is connected yet.

    Parameters
    ----------
    address : DatabaseAddress
        Which database.
    credential : BasicAuth or None
        Who asks; for PostgreSQL.
    connect_timeout_s, statement_timeout_s : float
        For one connection, and for one statement or FETCH; in SQLite the second is how long a lock is waited for.
    sslmode : str
        As of libpq.
    read_only : bool
        The server refuses to write.
    kept : bool
        Connections are used again; not if a statement may be anybody's, and change the settings of its connection.

    Raises
    ------
    ConfigError
        If the driver is not installed.
    """
    given = credential if isinstance(credential, BasicAuth) else None
    # SQL errors without parameters: they may be anybody's, and messages are for all.
    if address.kind == SQLITE:
        return _sqlite_engine(address.database, statement_timeout_s, read_only=read_only, kept=kept)
    url = sa.URL.create(
        "postgresql+psycopg",
        host=address.host,
        port=address.port,
        database=address.database,
        username=given.username if given else None,
        password=given.password.reveal() if given else None,
    )
    settings = f"-c statement_timeout={round(statement_timeout_s * 1000)}"
    if read_only:
        settings += " -c default_transaction_read_only=on"
    try:
        return sa.create_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=kept,
            **_pool(kept),
            connect_args={
                "connect_timeout": max(2, round(connect_timeout_s)),
                "sslmode": sslmode,
                "options": settings,
            },
        )
    except ImportError:
        raise ConfigError(
            "PostgreSQL needs psycopg, which is not installed", hint="pip install 'butler-pantry[postgresql]'"
        ) from None


def _pool(kept: bool) -> dict[str, Any]:
    """Say how connections are kept; how many there are is limited above, by `Admission`."""
    return {"poolclass": sa.pool.QueuePool, "max_overflow": -1} if kept else {"poolclass": sa.pool.NullPool}


def _sqlite_engine(path: str, timeout_s: float, *, read_only: bool, kept: bool) -> sa.Engine:
    uri = f"file:{quote(path)}?mode={'ro' if read_only else 'rwc'}"

    def connect() -> sqlite3.Connection:
        # Transactions are begun by us: the driver's own way begins them late.
        connection = sqlite3.connect(uri, uri=True, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    engine = sa.create_engine("sqlite://", creator=connect, hide_parameters=True, **_pool(kept))

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get(WRITES) else "BEGIN DEFERRED"
        )

    return engine


def translated(exc: sa.exc.SQLAlchemyError, location: str) -> PantryError:
    """Return what went wrong in a database as an error of ours, its first line only."""
    if not isinstance(exc, sa.exc.DBAPIError):
        return BackendError(f"{location} cannot be asked: {type(exc).__name__}")
    return of_driver(exc.orig, location, is_lost=exc.connection_invalidated)


def of_driver(exc: BaseException | None, location: str, *, is_lost: bool = False) -> PantryError:
    """Return an error of the driver as one of ours; ``is_lost`` says that the connection is gone."""
    reason = str(exc).strip().partition("\n")[0][:300]
    told = f"{location}: {reason}"
    if isinstance(exc, sqlite3.Error):
        # What is wrong in the driver itself, such as a value that it cannot take or give, has no code.
        name = getattr(exc, "sqlite_errorname", None)
        return InvalidQueryError(told) if name is None else _of_sqlite(name, told)
    if not getattr(exc, "sqlstate", None) and _is_of_values(exc):
        return InvalidQueryError(told, hint="a value has no place in a database, or in an answer: cast it to a text")
    state = str(getattr(exc, "sqlstate", None) or "")
    # A failure to connect has no state, and says who was refused.
    if state.startswith(("28", "42501", "25006")) or "authentication failed" in reason or "no password" in reason:
        return BackendAccessError(told, hint="Check username and password, and the user's rights on the schema.")
    if state == "3D000" or ('database "' in reason and "does not exist" in reason):
        return BackendError(told, hint="Check the name of the database in the address of this service.")
    if is_lost or not state or state[:2] in ("08", "40", "53", "57"):
        return TransientBackendError(told)
    return InvalidQueryError(told) if state.startswith(("0A", "22", "42")) else BackendError(told)


def _is_of_values(exc: BaseException | None) -> bool:
    """Whether it was a driver of PostgreSQL that could not take or give a value; by name, to import none."""
    return bool({"DataError", "ProgrammingError", "NotSupportedError"} & {one.__name__ for one in type(exc).__mro__})


def _of_sqlite(name: str, told: str) -> PantryError:
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_INTERRUPT", "SQLITE_IOERR")):
        return TransientBackendError(told)
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_READONLY", "SQLITE_AUTH")):
        return BackendAccessError(told, hint="Check that the daemon's user may open and write the file.")
    if name in ("SQLITE_ERROR", "SQLITE_RANGE", "SQLITE_MISMATCH"):
        return InvalidQueryError(told)
    return BackendError(told)


def is_taken(exc: sa.exc.IntegrityError) -> bool:
    """Whether a row was refused because there is one with the same key."""
    original: Any = exc.orig
    return getattr(original, "sqlstate", None) == "23505" or getattr(original, "sqlite_errorname", "") in (
        "SQLITE_CONSTRAINT_UNIQUE",
        "SQLITE_CONSTRAINT_PRIMARYKEY",
    )
