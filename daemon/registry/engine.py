"""The database below a registry: connections, transactions, prepared statements.

Everything that differs between SQLite and PostgreSQL stands here and in `connecting`, and DBAPI errors
become `BackendError` here and nowhere else. Statements are built with SQLAlchemy Core and compiled once;
they run on plain DBAPI cursors, since SQLAlchemy's per-execution work costs more than SQLite's own.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pantry.daemon.registry.changes import FileChanges
from pantry.daemon.registry.connecting import make_engine, parse_url
from pantry.daemon.registry.prepared import Prepared, parameter
from pantry.daemon.registry.session import Rows, Session
from pantry.errors import BackendError, InvalidRequestError, PantryError, TransientBackendError

__all__ = ["ConstraintError", "Database", "Prepared", "Rows", "Session", "TransactionLostError", "parameter"]

# Data ids may name any combination of columns, each a statement of its own.
_MAX_PREPARED = 4096
_ADVISORY_LOCK = 0x70616E747279  # "pantry"
# Connections to an SQLite file that are kept open between transactions, apart from SQLAlchemy's pool.
_MOST_IDLE = 16

_cursor_numbers = itertools.count()


_GLOB, _LIKE = re.compile(r"[*?\[]"), re.compile(r"[\\%_]")


def _plain(part: str) -> str:
    """Take the backslash from an escaped character of a pattern."""
    return part[1:] if len(part) == 2 and part[0] == "\\" and part[1] in "*?\\" else part


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
        parsed = parse_url(url)
        self.name = parsed.get_backend_name()
        self.shown_url = parsed.render_as_string(hide_password=True)
        self.engine = make_engine(parsed, read_only=read_only, namespace=namespace)
        self.dialect = self.engine.dialect
        self._generation = 0
        # Out of the pool and into it again takes as long as a statement: these stay out.
        self._idle: deque[Any] = deque()
        self._closed = False
        self._changes = FileChanges(self._connect)
        self._prepared: dict[Hashable, Prepared] = {}
        self._texts: dict[Hashable, str] = {}

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.name == "sqlite"

    def close(self) -> None:
        """Close all idle connections, and make no more."""
        self._closed = True
        self._changes.close()
        self.close_idle()

    def close_idle(self) -> None:
        """Close all connections that nobody uses."""
        while (idle := self._take_idle()) is not None:
            idle.close()
        self.engine.dispose()

    @property
    def connections_in_use(self) -> int:
        """Connections that somebody uses now."""
        pool: Any = self.engine.pool
        return int(pool.checkedout()) - len(self._idle)

    def state(self) -> str:
        """Return another text after each commit, also of other processes."""
        if not self.is_sqlite:
            snapshot = sa.cast(sa.func.pg_current_snapshot(), sa.Text)
            with self.reading() as session:
                row = session.row(self.prepare("state", lambda: sa.select(snapshot)))
            assert row is not None  # noqa: S101 - a SELECT without FROM
            return str(row[0])
        try:
            return self._changes.state()
        except Exception as exc:
            self.raise_translated(exc)

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
        return session.row(self.prepare("has table", self._build_has_table), {"name": name}) is not None

    def _build_has_table(self) -> sa.Select[Any]:
        name = parameter("name", sa.Text)
        if self.is_sqlite:
            master = sa.table("sqlite_master", sa.column("name"))
            return sa.select(master.c.name).where(master.c.name == name)
        return sa.select(sa.literal(1)).where(sa.func.to_regclass(name).is_not(None))

    def now_ns(self, session: Session) -> int:
        """Give the time that all who write here agree on, in nanoseconds since 1970: the server's, else this node's."""
        if self.is_sqlite:
            return time.time_ns()
        clock = sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000
        row = session.row(self.prepare("now", lambda: sa.select(sa.cast(clock, sa.BigInteger))))
        assert row is not None  # noqa: S101 - a SELECT without FROM
        return int(row[0]) * 1000

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
        if self._closed:
            # The pool would connect again, and make an SQLite file anew that was removed.
            raise TransientBackendError("the registry is closed", registry=self.shown_url)
        try:
            connection: Any = self._take_idle() or self.engine.raw_connection()
            # SQLite reads the planner's statistics when a connection is opened: older ones are replaced.
            while self.is_sqlite and connection.info.setdefault("generation", self._generation) != self._generation:
                connection.invalidate()
                connection = self.engine.raw_connection()
            return connection
        except Exception as exc:
            self.raise_translated(exc)

    def _take_idle(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:  # no look before: another thread may be quicker
            return None

    def _give_back(self, connection: Any) -> None:
        try:
            if not self.is_sqlite or len(self._idle) >= _MOST_IDLE:
                connection.close()  # the pool rolls back what was not committed
                return
            connection.rollback()
            self._idle.append(connection)
            # Looked at afterwards: whoever closes either finds it there, or has said so by now.
            if self._closed and (idle := self._take_idle()) is not None:
                idle.detach()  # else the pool would have it, which nobody closes any more
                idle.close()
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
