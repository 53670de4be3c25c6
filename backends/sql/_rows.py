"""Rows of Parquet files, in tables of a database. Blocking; imported in worker threads only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa

from pantry.backends.sql.rules import MAX_NAME_BYTES, RESERVED, Rule
from pantry.errors import ConflictError, InvalidQueryError, InvalidRequestError, PantryError

_OBJECT, _ROW = f"{RESERVED}object", f"{RESERVED}row"
_BATCH_ROWS = 20_000
_MOST_COLUMNS = 1000
_BUFFER_BYTES = 1 << 20

_Type = type[sa.types.TypeEngine[Any]] | sa.types.TypeEngine[Any]
_TYPES: dict[pa.DataType, _Type] = {
    pa.bool_(): sa.Boolean,
    pa.int8(): sa.SmallInteger,
    pa.uint8(): sa.SmallInteger,
    pa.int16(): sa.SmallInteger,
    pa.uint16(): sa.Integer,
    pa.int32(): sa.Integer,
    pa.uint32(): sa.BigInteger,
    pa.int64(): sa.BigInteger,
    pa.float16(): sa.REAL,
    pa.float32(): sa.REAL,
    pa.float64(): sa.Double,
    pa.string(): sa.Text,
    pa.large_string(): sa.Text,
    pa.binary(): sa.LargeBinary,
    pa.large_binary(): sa.LargeBinary,
    pa.date32(): sa.Date,
}


class Target:
    """The table for the rows of one rule's objects, made if it is not there.

    Parameters
    ----------
    connection : sa.Connection
        In a transaction.
    rule : Rule
        Names it.
    objects : sa.Table
        Of the objects, with which rows go.
    schema : str or None
        Where it is.
    lock : callable
        Lets nobody else make tables until the transaction ends.
    """

    def __init__(
        self,
        connection: sa.Connection,
        rule: Rule,
        objects: sa.Table,
        schema: str | None,
        lock: Callable[[sa.Connection], None],
    ) -> None:
        self.connection = connection
        self.rule = rule
        self._objects = objects
        self._schema = schema
        self._lock = lock

    def fit(self, columns: Mapping[str, _Type], key: str) -> sa.Table:
        """Return the table with these columns, or raise if it has others."""
        name = self.rule.table
        metadata = sa.MetaData(schema=self._schema)
        number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
        table = sa.Table(
            name,
            metadata,
            sa.Column(_OBJECT, number, sa.ForeignKey(self._objects.c.number, ondelete="CASCADE"), primary_key=True),
            sa.Column(_ROW, sa.BigInteger, primary_key=True, autoincrement=False),
            *(sa.Column(one, kind) for one, kind in columns.items()),
        )
        if not self._is_there():
            # Only now: whoever writes rows of a table that is there waits for nobody.
            self._lock(self.connection)
            if not self._is_there():
                table.create(self.connection)
                return table
        inspector = sa.inspect(self.connection)
        there = {one["name"]: one["type"] for one in inspector.get_columns(name, schema=self._schema)}
        if _OBJECT not in there:
            raise ConflictError(
                f"the table {name!r} is none that Pantry made", hint="rename it, or another table in the option tables"
            )
        dialect = self.connection.dialect
        for column in table.columns:
            ours = column.type.compile(dialect)
            found = there.pop(column.name, None)
            if found is None or found.compile(dialect) != ours:
                what = "has no such column" if found is None else f"has it as {found.compile(dialect)}"
                raise InvalidRequestError(
                    f"{key!r} has a column {column.name!r} of {ours}, the table {name!r} {what}",
                    hint="datasets of one table have the same columns: alter the table, or give these another one",
                )
        if there:
            raise InvalidRequestError(
                f"{key!r} has no column {sorted(there)[0]!r}, which the table {name!r} has",
                hint="datasets of one table have the same columns: alter the table, or give these another one",
            )
        return table

    def _is_there(self) -> bool:
        return sa.inspect(self.connection).has_table(self.rule.table, schema=self._schema)


class DriverError(Exception):
    """Carries an error of PostgreSQL's driver, which SQLAlchemy has not seen."""


def refused(error: PantryError) -> PantryError:
    """Return the error of a database as that of a write: values that it cannot take are the dataset's."""
    if isinstance(error, InvalidQueryError):
        return InvalidRequestError(error.message, hint="leave such values out of datasets whose rows are in a database")
    return error


def write(target: Target, fd: int, key: str, number: int, check: Callable[[], None]) -> None:
    """Write the rows of a Parquet file.

    Parameters
    ----------
    target : Target
        Where to.
    fd : int
        Of a file that nobody changes.
    key, number
        The object's.
    check : callable
        Called between batches; raises to stop.

    Raises
    ------
    InvalidRequestError
        It is no Parquet file, has columns or values that a database has not, or others than the table.
    DriverError, SQLAlchemyError
        The database refuses, or fails.
    """
    table = target.rule.table
    try:
        # Else a row group comes into memory as a whole, however large it is.
        parquet = pq.ParquetFile(f"/proc/self/fd/{fd}", buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, ValueError, pa.ArrowException) as exc:
        raise InvalidRequestError(
            f"{key!r} cannot be read as Parquet: {str(exc)[:200]}",
            hint=f"objects of the table {table!r} are Parquet files: see the storage's option tables",
        ) from None
    with parquet:
        try:
            _write(target, parquet, key, number, check)
        except (OSError, ValueError, OverflowError, pa.ArrowException) as exc:
            raise InvalidRequestError(
                f"rows of {key!r} have no exact place in the table {table!r}: {str(exc)[:200]}",
                hint="leave such values out of the dataset, or the dataset out of the storage's option tables",
            ) from None


def _write(target: Target, parquet: pq.ParquetFile, key: str, number: int, check: Callable[[], None]) -> None:
    values = target.rule.values(key) or {}
    kinds = _kinds(parquet.schema_arrow, key, is_sqlite=target.connection.dialect.name == "sqlite")
    own = {name: value for name, value in values.items() if name not in kinds}
    columns = {name: sa.BigInteger if target.rule.columns[name] else sa.Text for name in own}
    table = target.fit({**columns, **kinds}, key)
    row = 0
    for batch in parquet.iter_batches(batch_size=_BATCH_ROWS):
        check()
        for name in values.keys() - own.keys():
            _check_same(batch.column(name), values[name], name, key)
        _insert(target.connection, table, number, row, list(own.values()), batch)
        row += batch.num_rows


def _kinds(schema: pa.Schema, key: str, *, is_sqlite: bool) -> dict[str, _Type]:
    # SQLite does not tell capital letters from small ones.
    names = [name.lower() if is_sqlite else name for name in schema.names]
    if len(set(names)) < len(names) or len(names) > _MOST_COLUMNS:
        raise InvalidRequestError(f"{key!r} has two columns of one name, or more than {_MOST_COLUMNS}")
    return {field.name: _kind(field, key, is_sqlite=is_sqlite) for field in schema}


def _kind(field: pa.Field, key: str, *, is_sqlite: bool) -> _Type:
    kind = field.type
    is_name = 0 < len(field.name.encode()) <= MAX_NAME_BYTES and "\0" not in field.name
    if not is_name or field.name.lower().startswith(RESERVED):
        raise InvalidRequestError(f"{key!r}: the column {field.name[:80]!r} cannot have this name in a database")
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if kind in _TYPES:
        return _TYPES[kind]
    if pa.types.is_timestamp(kind):
        return sa.DateTime(timezone=kind.tz is not None)
    if not is_sqlite and pa.types.is_uint64(kind):
        return sa.Numeric(20, 0)
    if not is_sqlite and pa.types.is_decimal(kind) and kind.scale >= 0:
        return sa.Numeric(kind.precision, kind.scale)
    raise InvalidRequestError(
        f"{key!r}: the column {field.name!r} of {kind} has no exact place in this database",
        hint="leave it out of the dataset, or the dataset out of the storage's option tables",
    )


def _check_same(column: pa.Array, value: object, name: str, key: str) -> None:
    if not pc.all(pc.equal(column, pa.scalar(value).cast(column.type)), skip_nulls=False).as_py():
        raise InvalidRequestError(f"{key!r} has rows whose {name!r} is not {value!r}, which its path says")


def _insert(
    connection: sa.Connection, table: sa.Table, number: int, first: int, own: list[object], batch: pa.RecordBatch
) -> None:
    places = range(first, first + batch.num_rows)
    rows = zip(repeat(number), places, *map(repeat, own), *map(_values, batch.columns), strict=False)
    if connection.dialect.name == "sqlite":
        names = [column.name for column in table.columns]
        connection.execute(sa.insert(table), [dict(zip(names, row, strict=True)) for row in rows])
        return
    import psycopg
    from psycopg import sql

    columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
    where = sql.Identifier(*filter(None, (table.schema, table.name)))
    driver: Any = connection.connection.driver_connection
    try:
        with driver.cursor() as cursor, cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(where, columns)) as copy:
            for row in rows:
                copy.write_row(row)
    except psycopg.Error as exc:
        raise DriverError from exc


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_timestamp(column.type):
        # Databases have microseconds: this raises where something would be cut off. SQLite has no zones.
        column = column.cast(pa.timestamp("us", column.type.tz and "UTC"))
    values: list[Any] = column.to_pylist()
    return values
