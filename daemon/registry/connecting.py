"""How a registry's database is reached: its URL, the pool, and what each connection is told first."""

from __future__ import annotations

import binascii
import re
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

from pantry.errors import ConfigError

# Measured on a laptop: beyond these, find and query do not get faster.
_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=268435456",
    "PRAGMA cache_size=-32768",
    "PRAGMA temp_store=MEMORY",
    # Rows that ANALYZE looks at in each index: 12 ms for 300,000 datasets.
    "PRAGMA analysis_limit=1000",
)
_BUSY_TIMEOUT_S = 30.0
_POOL_SIZE = 16
_POOL_OVERFLOW = 64


def parse_url(url: str) -> sa.URL:
    """Parse the SQLAlchemy URL of an SQLite file or a PostgreSQL database; `ConfigError` for any other."""
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigError(
            "the registry's URL cannot be parsed", hint="sqlite:////path or postgresql://host/db"
        ) from None
    name, shown = parsed.get_backend_name(), parsed.render_as_string(hide_password=True)
    if name not in ("sqlite", "postgresql"):
        raise ConfigError(f"registries live in SQLite or PostgreSQL, not in {name!r}", hint=shown)
    if name == "sqlite" and (not parsed.database or parsed.database == ":memory:"):
        raise ConfigError("an SQLite registry needs a file", hint="sqlite:////path/to/registry.sqlite3")
    return parsed


def without_password(url: str) -> str:
    """Give a URL without the passwords in it."""
    parsed = sa.make_url(url).difference_update_query(["password", "sslpassword"])
    # Its `set` takes None for "as it is".
    return parsed._replace(password=None).render_as_string(hide_password=False)


def make_engine(parsed: sa.URL, *, read_only: bool, namespace: str) -> sa.Engine:
    """Make the engine of a database; arguments as of `Database`."""
    is_sqlite = parsed.get_backend_name() == "sqlite"
    options: dict[str, Any] = {"pool_size": _POOL_SIZE, "max_overflow": _POOL_OVERFLOW}
    shown = parsed.render_as_string(hide_password=True)
    if is_sqlite:
        # Files, not a server: no stalled stream may keep others from a connection of their own.
        options["max_overflow"] = -1
        options["connect_args"] = {
            "isolation_level": None,  # transactions are begun by us, so that savepoints work
            "check_same_thread": False,  # an iterator may be continued by another worker thread
            "timeout": _BUSY_TIMEOUT_S,
            "cached_statements": 512,
        }
        if read_only:
            parsed = parsed.set(database=f"file:{quote(parsed.database or '')}", query={"mode": "ro", "uri": "true"})
    else:
        if "+" not in parsed.drivername:
            parsed = parsed.set(drivername="postgresql+psycopg")
        options |= {"paramstyle": "format", "pool_pre_ping": True}
        if namespace:
            options["connect_args"] = {"options": f"-csearch_path={_libpq_word(namespace)}"}
    try:
        engine = sa.create_engine(parsed, **options)
    except (ImportError, sa.exc.ArgumentError) as exc:
        raise ConfigError(f"no driver for {shown}: {exc}") from None
    prepare = _prepare_sqlite_to_read if read_only else _prepare_sqlite
    sa.event.listen(engine, "connect", prepare if is_sqlite else _prepare_postgresql)
    return engine


def _libpq_word(text: str) -> str:
    # In the `options` of a connection, blanks and backslashes are quoted by backslashes.
    quoted = '"' + text.replace('"', '""') + '"'
    return re.sub(r"([\\\s])", r"\\\1", quoted)


def _prepare_sqlite_to_read(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA temp_store=MEMORY").close()
    # What Gen3 stores as text (see `registry.gen3`); SQLite 3.40 cannot decode it itself.
    connection.create_function("pantry_unhex", 1, _or_none(bytes.fromhex), deterministic=True)
    connection.create_function("pantry_unbase64", 1, _or_none(binascii.a2b_base64), deterministic=True)
    connection.create_function(
        "pantry_base64_to_hex", 1, _or_none(lambda t: binascii.a2b_base64(t).hex()), deterministic=True
    )


def _or_none(function: Callable[[str], Any]) -> Callable[[str | None], Any]:
    return lambda text: None if text is None else function(text)


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(pragma).close()


def _prepare_postgresql(connection: Any, _record: object) -> None:
    # A stream is read to its end: plan a cursor for all of its rows, not for the first tenth. Not by
    # `connect_args`, which would take the place of options in the URL, as a search path.
    connection.execute("SET cursor_tuple_fraction = 1.0")
    connection.commit()
