"""The database below a registry: connections, transactions, prepared statements.

Everything that differs between SQLite and PostgreSQL stands here, and DBAPI errors become
`BackendError` here and nowhere else. Statements are built with SQLAlchemy Core and compiled once;
they run on plain DBAPI cursors, since SQLAlchemy's per-execution work costs more than SQLite's own.
"""

from __future__ import annotations

import binascii
import itertools
import re
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from pantry.daemon.registry.prepared import ROWS_AT_ONCE, Prepared, parameter
from pantry.errors import BackendError, ConfigError, InvalidRequestError, PantryError, TransientBackendError

__all__ = ["ConstraintError", "Database", "Prepared", "Rows", "Session", "TransactionLostError", "parameter"]

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
# Data ids may name any combination of columns, each a statement of its own.
_MAX_PREPARED = 4096
_ADVISORY_LOCK = 0x70616E747279  # "pantry"

Rows = list[tuple[Any, ...]]
_cursor_numbers = itertools.count()


_GLOB, _LIKE = re.compile(r"[*?\[]"), re.compile(r"[\\%_]")


def _plain(part: str) -> str:
    """Take the backslash from an escaped character of a pattern."""
    return part[1:] if len(part) == 2 and part[0] == "\\" and part[1] in "*?\\" else part


class Session:
    """One connection in one transaction, for one thread at a time.

    Parameters
    ----------
    database : Database
        Which it belongs to.
    connection : DBAPI connection
        With a transaction begun.

    Attributes
    ----------
    statements : int
        How many have run.
    """

    __slots__ = ("_cursor", "connection", "database", "new_statistics", "statements")

    def __init__(self, database: Database, connection: Any) -> None:
        self.database = database
        self.connection = connection
        self._cursor = connection.cursor()
        self.new_statistics = False
        self.statements = 0

    def rows(self, statement: Prepared, values: Mapping[str, Any] = {}) -> Rows:
        """Run a query and return all of its rows."""
        cursor = self._cursor
        self.statements += 1
        try:
            cursor.execute(statement.sql, statement.bind(values))
            return cursor.fetchall()  # type: ignore[no-any-return]
        except Exception as exc:
            self.database.raise_translated(exc)

    def row(self, statement: Prepared, values: Mapping[str, Any] = {}) -> tuple[Any, ...] | None:
        """Run a query and return its first row, if it has one."""
        found = self.rows(statement, values)
        return found[0] if found else None

    def run(self, statement: Prepared, values: Mapping[str, Any] = {}) -> int:
        """Run a statement that returns no rows; give the number of rows it changed."""
        return self.run_sql(statement.sql, statement.bind(values))

    def run_sql(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run SQL text that returns no rows."""
        self.statements += 1
        try:
            self._cursor.execute(sql, values)
            return int(self._cursor.rowcount)
        except Exception as exc:
            self.database.raise_translated(exc)

    def run_many(self, statement: Prepared, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row; values stand in the order of `Prepared.names`."""
        self.statements += 1
        several = statement.for_many_rows() if self.database.is_sqlite and len(rows) >= ROWS_AT_ONCE else ""
        try:
            if several:
                whole = len(rows) - len(rows) % ROWS_AT_ONCE
                for begin in range(0, whole, ROWS_AT_ONCE):
                    values = list(itertools.chain.from_iterable(rows[begin : begin + ROWS_AT_ONCE]))
                    self._cursor.execute(several, values)
                rows = rows[whole:]
            self._cursor.executemany(statement.sql, rows)
        except Exception as exc:
            self.database.raise_translated(exc)

    def batches(self, statement: Prepared, size: int, values: Mapping[str, Any] = {}) -> Iterator[Rows]:
        """Run a query and give its rows in lists of at most ``size``; an own cursor, closed at the end."""
        cursor = self.database.streaming_cursor(self.connection)
        self.statements += 1
        try:
            cursor.execute(statement.sql, statement.bind(values))
            while rows := cursor.fetchmany(size):
                yield rows
        except GeneratorExit:
            raise
        except Exception as exc:
            self.database.raise_translated(exc)
        finally:
            cursor.close()

    def create(self, *tables: sa.Table) -> None:
        """Create tables, with their indexes, inside this transaction."""
        for table in tables:
            self.run_sql(str(CreateTable(table).compile(dialect=self.database.dialect)))
            for index in table.indexes:
                self.run_sql(str(CreateIndex(index).compile(dialect=self.database.dialect)))

    def analyze(self, *tables: sa.Table) -> None:
        """Tell the planner how large the tables have become."""
        for table in tables:
            self.run_sql(f"ANALYZE {self.database.dialect.identifier_preparer.format_table(table)}")
        self.new_statistics = True

    def create_temporary(self, table: sa.Table) -> None:
        """Make an empty temporary table that lives as long as this transaction."""
        ddl = self.database.text(
            ("create", table),
            lambda: str(CreateTable(table, if_not_exists=True).compile(dialect=self.database.dialect)),
        )
        self.run_sql(ddl)
        self.run(self.database.prepare(("clear", table), lambda: sa.delete(table)))


class Database:
    """An engine with its pool of connections, and what its dialect needs.

    Parameters
    ----------
    url : str
        SQLAlchemy URL of an SQLite file or a PostgreSQL database.
    read_only : bool
        Never write to it: somebody else's.
    namespace : str
        Schema of a PostgreSQL database to look for tables in, if not the connection's own.
    """

    def __init__(self, url: str, *, read_only: bool = False, namespace: str = "") -> None:
        try:
            parsed = sa.make_url(url)
        except sa.exc.ArgumentError:
            raise ConfigError(
                "the registry's URL cannot be parsed", hint="sqlite:////path or postgresql://host/db"
            ) from None
        self.name = parsed.get_backend_name()
        self.shown_url = parsed.render_as_string(hide_password=True)
        if self.name not in ("sqlite", "postgresql"):
            raise ConfigError(f"registries live in SQLite or PostgreSQL, not in {self.name!r}", hint=self.shown_url)
        options: dict[str, Any] = {"pool_size": _POOL_SIZE, "max_overflow": _POOL_OVERFLOW}
        if not self.is_sqlite and "+" not in parsed.drivername:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise ConfigError("an SQLite registry needs a file", hint="sqlite:////path/to/registry.sqlite3")
            # Files, not a server: no stalled stream may keep others from a connection of their own.
            options["max_overflow"] = -1
            options["connect_args"] = {
                "isolation_level": None,  # transactions are begun by us, so that savepoints work
                "check_same_thread": False,  # an iterator may be continued by another worker thread
                "timeout": _BUSY_TIMEOUT_S,
                "cached_statements": 512,
            }
            if read_only:
                parsed = parsed.set(database=f"file:{quote(parsed.database)}", query={"mode": "ro", "uri": "true"})
        else:
            options |= {"paramstyle": "format", "pool_pre_ping": True}
            if namespace:
                options["connect_args"] = {"options": f"-csearch_path={_libpq_word(namespace)}"}
        try:
            self.engine = sa.create_engine(parsed, **options)
        except (ImportError, sa.exc.ArgumentError) as exc:
            raise ConfigError(f"no driver for {self.shown_url}: {exc}") from None
        self.dialect = self.engine.dialect
        self._generation = 0
        self._prepared: dict[Hashable, Prepared] = {}
        self._texts: dict[Hashable, str] = {}
        prepare = _prepare_sqlite_to_read if read_only else _prepare_sqlite
        sa.event.listen(self.engine, "connect", prepare if self.is_sqlite else _prepare_postgresql)

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.name == "sqlite"

    def close(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()

    # -- statements ------------------------------------------------------------------------------

    def compile(self, statement: sa.ClauseElement) -> Prepared:
        """Compile a statement that is used once."""
        return Prepared(statement, self.dialect)

    def prepare(self, key: Hashable, build: Callable[[], sa.ClauseElement]) -> Prepared:
        """Return the statement known by ``key``, built and compiled at its first use."""
        # Two threads may both build it: the same statement twice, no harm.
        found = self._prepared.get(key)
        if found is None:
            if len(self._prepared) >= _MAX_PREPARED:
                self._prepared.clear()
            found = self._prepared[key] = Prepared(build(), self.dialect)
        return found

    def prepare_insert(self, table: sa.Table) -> Prepared:
        """Return the statement that inserts whole rows, with values in the order of the columns."""
        return self.prepare(
            ("insert", table),
            lambda: sa.insert(table).values(
                {column.name: parameter(f"p_{column.name}", column.type) for column in table.c}
            ),
        )

    def text(self, key: Hashable, build: Callable[[], str]) -> str:
        """Return the SQL text known by ``key``, built at its first use."""
        found = self._texts.get(key)
        if found is None:
            found = self._texts[key] = build()
        return found

    def insert_ignoring(self, table: sa.Table, key: Sequence[str], source: sa.Select[Any] | None = None) -> Any:
        """Build an INSERT that leaves rows with an equal ``key`` alone; other conflicts stay errors."""
        insert = self._insert(table)
        if source is not None:
            insert = insert.from_select([column.name for column in source.selected_columns], source)
        # An empty key: any conflict at all (the one row of the group without dimensions).
        return insert.on_conflict_do_nothing(index_elements=[table.c[name] for name in key] or None)

    def insert_replacing(
        self, table: sa.Table, key: Sequence[str], changed: Sequence[str], source: sa.Select[Any]
    ) -> Any:
        """Build an INSERT that sets the ``changed`` columns of rows with an equal ``key``."""
        insert = self._insert(table).from_select([column.name for column in source.selected_columns], source)
        return insert.on_conflict_do_update(
            index_elements=[table.c[name] for name in key],
            set_={name: insert.excluded[name] for name in changed},
        )

    def insert_joining(self, table: sa.Table, key: Sequence[str], flags: Sequence[str], source: sa.Select[Any]) -> Any:
        """Build an INSERT that sets the ``flags`` of rows with an equal ``key`` where they are set in either."""
        insert = self._insert(table).from_select([column.name for column in source.selected_columns], source)
        return insert.on_conflict_do_update(
            index_elements=[table.c[name] for name in key],
            set_={name: sa.or_(table.c[name], insert.excluded[name]) for name in flags},
        )

    def _insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    def glob(self, column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
        """Match text with ``*`` and ``?``, case-sensitively, all other characters literally.

        As in Gen3, a backslash before one of these or before another one takes its meaning from it.
        """
        parts = [part for part in re.split(r"(\\[*?\\]|[*?])", pattern) if part]
        if self.is_sqlite:
            # SQLite's LIKE ignores case; in its GLOB what has a meaning is quoted by a class of its own.
            text = "".join(part if part in ("*", "?") else _GLOB.sub(r"[\g<0>]", _plain(part)) for part in parts)
            return column.op("GLOB", is_comparison=True)(sa.literal(text, sa.String()))
        marks = {"*": "%", "?": "_"}
        text = "".join(marks.get(part) or _LIKE.sub(r"\\\g<0>", _plain(part)) for part in parts)
        return column.like(sa.literal(text, sa.String()), escape="\\")

    def has_table(self, session: Session, name: str) -> bool:
        """Whether the database has a table of this name."""
        if self.is_sqlite:
            master = sa.table("sqlite_master", sa.column("name"))
            statement: sa.Select[Any] = sa.select(master.c.name).where(master.c.name == name)
        else:
            statement = sa.select(sa.func.to_regclass(name)).where(sa.func.to_regclass(name).is_not(None))
        return session.row(self.compile(statement)) is not None

    def streaming_cursor(self, connection: Any) -> Any:
        """Open a cursor that never holds more rows than were asked for."""
        # psycopg's ordinary cursor fetches a whole result into memory before the first row is given.
        return connection.cursor() if self.is_sqlite else connection.cursor(f"stream_{next(_cursor_numbers)}")

    # -- transactions ----------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Give a session in a read transaction, which ends with the block."""
        connection = self._connect()
        try:
            session = Session(self, connection)
            if self.is_sqlite:
                session.run_sql("BEGIN")
            yield session
        finally:
            self._give_back(connection)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Give a session in the one write transaction of the registry; committed if the block succeeds."""
        connection = self._connect()
        try:
            session = Session(self, connection)
            # One writer at a time, in every process: what a job has looked up stays true until it commits.
            if self.is_sqlite:
                session.run_sql("BEGIN IMMEDIATE")
            else:
                session.run_sql("SELECT pg_advisory_xact_lock(%s)", (_ADVISORY_LOCK,))
            yield session
            try:
                connection.commit()
            except Exception as exc:
                self.raise_translated(exc)
            if session.new_statistics:
                self._generation += 1
        finally:
            self._give_back(connection)

    @contextmanager
    def savepoint(self, session: Session) -> Iterator[None]:
        """Undo what the block did if it fails, without ending the transaction."""
        session.run_sql("SAVEPOINT job")
        try:
            yield
        except BaseException as failure:
            try:
                session.run_sql("ROLLBACK TO SAVEPOINT job")
                session.run_sql("RELEASE SAVEPOINT job")
            except BackendError:
                # A full disk ends an SQLite transaction, a lost server any other: nothing that
                # follows may run as if the transaction were still there.
                raise TransactionLostError(f"a transaction of the registry broke: {failure}") from failure
            raise
        session.run_sql("RELEASE SAVEPOINT job")

    def _connect(self) -> Any:
        try:
            connection: Any = self.engine.raw_connection()
            # SQLite reads the planner's statistics when a connection is opened: older ones are replaced.
            while self.is_sqlite and connection.info.setdefault("generation", self._generation) != self._generation:
                connection.invalidate()
                connection = self.engine.raw_connection()
            return connection
        except Exception as exc:
            self.raise_translated(exc)

    def _give_back(self, connection: Any) -> None:
        # The pool rolls back what was not committed.
        try:
            connection.close()
        except Exception as exc:
            self.raise_translated(exc)

    # -- errors ----------------------------------------------------------------------------------

    def raise_translated(self, exc: Exception) -> NoReturn:
        """Raise what ``exc`` means above the database."""
        if isinstance(exc, PantryError):
            raise exc
        dbapi: Any = self.dialect.dbapi
        if isinstance(exc, (OverflowError, UnicodeError, dbapi.DataError)):
            raise InvalidRequestError(f"a value that the registry cannot hold: {exc}") from exc
        if isinstance(exc, dbapi.IntegrityError):
            raise ConstraintError(f"the registry refused a row: {exc}") from exc
        if isinstance(exc, sa.exc.TimeoutError):
            raise TransientBackendError("all connections to the registry are in use", registry=self.shown_url) from exc
        refused = getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        if not refused and isinstance(exc, (dbapi.OperationalError, sa.exc.OperationalError, dbapi.InterfaceError)):
            raise TransientBackendError(
                f"the registry's database failed: {exc}",
                hint="look at its disk space and permissions, or whether its server runs",
                registry=self.shown_url,
            ) from exc
        if isinstance(exc, (dbapi.Error, sa.exc.SQLAlchemyError)):
            raise BackendError(f"the registry's database refused: {exc}", registry=self.shown_url) from exc
        raise exc


class ConstraintError(BackendError):
    """A unique or foreign key stopped a row; callers that expect it say what it means."""


class TransactionLostError(TransientBackendError):
    """The database has ended a transaction on its own; nothing of it is stored."""


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
