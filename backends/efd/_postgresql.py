"""A transformed EFD: tables of PostgreSQL, asked through SQLAlchemy Core. Blocking; imported by `_blocking` only.

Names are taken from the database's own catalogue and quoted by SQLAlchemy; values are bound.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from pantry.backends.credentials import Credential
from pantry.backends.database_address import DatabaseAddress
from pantry.backends.databases import make_engine, translated
from pantry.backends.efd.options import PostgresqlOptions, Root
from pantry.backends.efd.source import Batch, Checkpoint, Rows, column
from pantry.backends.efd.topics import Field, FieldType, Topic, natural
from pantry.errors import BackendError

_TYPES: dict[str, tuple[FieldType, type[sa.types.TypeEngine[Any]]]] = {
    "double precision": ("float", sa.Double),
    "real": ("float", sa.Double),
    "numeric": ("float", sa.Double),
    "smallint": ("int", sa.BigInteger),
    "integer": ("int", sa.BigInteger),
    "bigint": ("int", sa.BigInteger),
    "boolean": ("bool", sa.Boolean),
    "text": ("string", sa.Text),
    "character varying": ("string", sa.Text),
    "character": ("string", sa.Text),
}
"""Types of columns that are fields; others are passed over."""

_TIMESTAMP, _BIGINT = "timestamp with time zone", "bigint"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_columns = sa.table(
    "columns",
    *(sa.column(one, sa.Text) for one in ("table_schema", "table_name", "column_name", "data_type")),
    schema="information_schema",
)


class _Layout(NamedTuple):
    """Where the topics and fields are."""

    tables: dict[str, str]
    descriptions: dict[str, str]


class PostgresqlSource:
    """One schema of one database; a `Source`."""

    def __init__(self, root: Root, options: PostgresqlOptions, credential: Credential | None) -> None:
        self._root = root
        self._options = options
        self._credential = credential
        self._lock = threading.Lock()
        self._made: sa.Engine | None = None

    @property
    def location(self) -> str:
        """The root as a URI."""
        return self._root.location

    @property
    def _engine(self) -> sa.Engine:
        with self._lock:
            if self._made is None:
                self._made = self._make_engine()
            return self._made

    def _make_engine(self) -> sa.Engine:
        return make_engine(
            DatabaseAddress(self._root.scheme, self._root.host, self._root.port, self._root.database),
            self._credential,
            connect_timeout_s=self._options.connect_timeout_s,
            # For each FETCH, as the other kind's is for each piece of its answer.
            statement_timeout_s=self._options.read_timeout_s,
            sslmode=self._options.sslmode,
            read_only=True,
        )

    @contextmanager
    def _connected(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as exc:
            raise translated(exc, self.location) from exc

    def topics(self) -> dict[str, str]:
        """List the topics of the topics table, or the tables that have the time column."""
        with self._connected() as connection:
            return self._layout(connection).descriptions

    def _layout(self, connection: sa.Connection) -> _Layout:
        name = self._options.topics_table
        if not name:
            query = sa.select(_columns.c.table_name).where(
                _columns.c.table_schema == self._options.schema, _columns.c.column_name == self._options.time_column
            )
            found = sorted(str(one) for one in connection.scalars(query))
            return _Layout({one: one for one in found}, dict.fromkeys(found, ""))
        table = self._table(name, "topic", "table_name", "description")
        rows = connection.execute(sa.select(table).order_by(table.c.topic)).all()
        return _Layout(
            {str(one.topic): str(one.table_name) for one in rows},
            {str(one.topic): str(one.description or "") for one in rows},
        )

    def _table(self, name: str, *columns: str) -> sa.TableClause:
        return sa.table(name, *(sa.column(one) for one in columns), schema=self._options.schema)

    def topic(self, name: str) -> Topic:
        """List the columns of a topic's table that are fields."""
        with self._connected() as connection:
            layout = self._layout(connection)
            described = self._described(connection, name)
            fields = []
            for column_name, kind in self._types(connection, layout.tables[name]).items():
                if kind not in _TYPES or column_name == self._options.time_column:
                    continue
                field, unit, description = described.get(column_name, (column_name, "", ""))
                fields.append(Field(name=field, type=_TYPES[kind][0], unit=unit, description=description))
            return Topic(
                name=name,
                fields=tuple(sorted(fields, key=lambda one: natural(one.name))),
                description=layout.descriptions[name],
            )

    def _types(self, connection: sa.Connection, table: str) -> dict[str, str]:
        query = sa.select(_columns.c.column_name, _columns.c.data_type).where(
            _columns.c.table_schema == self._options.schema, _columns.c.table_name == table
        )
        return {str(one.column_name): str(one.data_type) for one in connection.execute(query)}

    def _described(self, connection: sa.Connection, topic: str) -> dict[str, tuple[str, str, str]]:
        """Return by column the name of the field, its unit and its description."""
        if not self._options.fields_table:
            return {}
        table = self._table(self._options.fields_table, "topic", "field", "column_name", "unit", "description")
        rows = connection.execute(sa.select(table).where(table.c.topic == topic)).all()
        return {
            str(one.column_name or one.field): (str(one.field), str(one.unit or ""), str(one.description or ""))
            for one in rows
        }

    def batches(self, rows: Rows, checkpoint: Checkpoint) -> Iterator[Batch]:
        """Iterate over parts of a server-side cursor."""
        with self._connected() as connection:
            statement = self._select(connection, rows)
            options: dict[str, Any] = {"stream_results": True, "max_row_buffer": rows.batch_rows}
            with connection.execute(statement, execution_options=options) as result:
                for part in result.partitions(rows.batch_rows):
                    checkpoint()
                    times, *columns = zip(*part, strict=True)
                    yield Batch(
                        column(times, Field(name=self._options.time_column, type="int"), self.location),
                        [column(one, field, self.location) for one, field in zip(columns, rows.fields, strict=True)],
                    )

    def _select(self, connection: sa.Connection, rows: Rows) -> sa.Select[Any]:
        name = self._layout(connection).tables[rows.topic.name]
        types = self._types(connection, name)
        columns = {field: one for one, (field, *_) in self._described(connection, rows.topic.name).items()}
        time_name = self._options.time_column
        table = self._table(name, *types)
        time = table.c[time_name]
        begin: Any
        end: Any
        if types.get(time_name) == _TIMESTAMP:
            # Microseconds, which the database counts exactly; the bounds have room for what they cut off.
            index = sa.cast(sa.extract("epoch", time) * 1_000_000, sa.BigInteger) * 1000
            begin, end = (_EPOCH + timedelta(microseconds=one // 1000) for one in (rows.begin, rows.end + 999))
        elif types.get(time_name) == _BIGINT:
            index, begin, end = time, rows.begin, rows.end
        else:
            raise BackendError(
                f"{self.location}: the column {time_name!r} of {name!r} is neither {_TIMESTAMP} nor {_BIGINT}",
                hint="See the option time_column.",
            )
        chosen = []
        for field in rows.fields:
            column_name = columns.get(field.name, field.name)
            chosen.append(sa.cast(table.c[column_name], _TYPES[types[column_name]][1]).label(None))
        query = sa.select(index.label(None), *chosen).where(time >= begin, time < end, time.is_not(None))
        order = [time.desc() if rows.descending else time]
        index_column = columns.get(self._options.index_field, self._options.index_field)
        if index_column in types:
            order.append(table.c[index_column])
            if rows.instance is not None:
                query = query.where(table.c[index_column] == rows.instance)
        return query.order_by(*order)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.dispose()
