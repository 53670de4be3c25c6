"""Statements in one transaction, on a plain DBAPI cursor."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from pantry.daemon.registry.prepared import ROWS_AT_ONCE, Prepared

if TYPE_CHECKING:
    from pantry.daemon.registry.engine import Database

Rows = list[tuple[Any, ...]]


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
        return self.rows_sql(statement.sql, statement.bind(values))

    def rows_sql(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Run SQL text that asks, and return all of its rows."""
        cursor = self._cursor
        self.statements += 1
        try:
            cursor.execute(sql, values)
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
