"""Statements asked of a database, and their answers as Parquet. Blocking; imported in worker threads only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from pantry.backends.columnar import write_tables
from pantry.backends.credentials import BasicAuth
from pantry.backends.database_address import DatabaseAddress
from pantry.backends.placeholders import names_of, split_statement
from pantry.backends.querying import ParameterValue, QueryOutcome, Statement
from pantry.backends.sql._connecting import Connecting
from pantry.backends.sql.options import SqlOptions
from pantry.errors import BackendError, InvalidQueryError

_BATCH_ROWS = 10_000

# Of PostgreSQL's catalogue, pg_type.dat.
_OIDS: dict[int, pa.DataType] = {
    16: pa.bool_(),
    17: pa.binary(),
    18: pa.string(),
    19: pa.string(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    25: pa.string(),
    26: pa.uint32(),
    700: pa.float32(),
    701: pa.float64(),
    1000: pa.list_(pa.bool_()),
    1005: pa.list_(pa.int16()),
    1007: pa.list_(pa.int32()),
    1009: pa.list_(pa.string()),
    1016: pa.list_(pa.int64()),
    1021: pa.list_(pa.float32()),
    1022: pa.list_(pa.float64()),
    1042: pa.string(),
    1043: pa.string(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
    2950: pa.string(),
}
_NUMERIC, _UUID = 1700, 2950


class Answering:
    """One database, connected when it is first asked.

    Parameters
    ----------
    address, options, credential
        As of `Connecting`.
    """

    def __init__(self, address: DatabaseAddress, options: SqlOptions, credential: BasicAuth | None) -> None:
        self.connecting = Connecting(address, options, credential, read_only=True)

    def question(self, statement: Statement) -> Question:
        """Make a question of a statement.

        Raises
        ------
        InvalidQueryError
            A parameter has no value, or one that a database has not.
        """
        if statement.tables:
            raise InvalidQueryError(
                f"{self.connecting.location} takes no uploaded tables", hint="give a list as a parameter: IN :names"
            )
        return Question(self.connecting, *bound(statement, is_sqlite=self.connecting.is_sqlite), statement.max_rows)

    def close(self) -> None:
        """Close all connections."""
        self.connecting.close()


def bound(statement: Statement, *, is_sqlite: bool) -> tuple[str, dict[str, Any]]:
    """Return a statement as the driver takes it, and the values for it.

    The statement stands in brackets: it can only be a SELECT, and one alone.
    """
    pieces = split_statement(statement.text.strip().rstrip(";"))
    if names_of(pieces, "selection"):
        raise InvalidQueryError("a selection is not put in")
    named = set(names_of(pieces, "parameter"))
    if wrong := named ^ statement.parameters.keys():
        raise InvalidQueryError(f"each parameter has one value: {', '.join(sorted(wrong))}")
    mark = ":{}" if is_sqlite else "%({})s"
    # No parameter's name begins with a line.
    values: dict[str, Any] = {"_rows": statement.max_rows + 1}
    marks: dict[str, str] = {}
    for name in named:
        value = _plain(name, statement.parameters[name])
        if isinstance(value, tuple):
            each = {f"_{name}_{number}": one for number, one in enumerate(value)}
            marks[name] = f"({', '.join(map(mark.format, each))})"
            values |= each
        else:
            marks[name] = mark.format(name)
            values[name] = value
    text = "".join(
        marks[piece.text] if piece.kind == "parameter" else piece.text if is_sqlite else piece.text.replace("%", "%%")
        for piece in pieces
    )
    # On a line of its own: the statement may end with a comment.
    return f"SELECT * FROM (\n{text}\n) AS pantry_answer LIMIT {mark.format('_rows')}", values  # noqa: S608


def _plain(name: str, value: ParameterValue) -> bool | int | float | str | tuple[Any, ...] | None:
    if isinstance(value, tuple) and not value:
        raise InvalidQueryError(f"the parameter {name!r}: an empty list has no place in a statement")
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return value
    raise InvalidQueryError(
        f"the parameter {name!r}: a database has no {type(value).__name__.lower()}",
        hint="give right ascension, declination and radius as numbers, and the condition in SQL",
    )


class Question:
    """One statement, asked once.

    Parameters
    ----------
    connecting : Connecting
        The database.
    text, values
        As of `bound`.
    max_rows : int
        Most rows of the answer.
    """

    def __init__(self, connecting: Connecting, text: str, values: Mapping[str, Any], max_rows: int) -> None:
        self._connecting = connecting
        self._text = text
        self._values = values
        self._max_rows = max_rows
        self._lock = threading.Lock()
        self._driver: Any = None

    def run(self, fd: int, check: Callable[[], None]) -> QueryOutcome:
        """Write the answer into ``fd``; see `QueryBackend.run_into`."""
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": _BATCH_ROWS}
        with self._connecting.reading() as connection:
            self._driver = connection.connection.driver_connection
            try:
                result = connection.exec_driver_sql(self._text, dict(self._values), options)
                # Of an empty answer it is gone after the first part.
                described = result.cursor.description
                parts = result.partitions(_BATCH_ROWS)
                first = next(parts, ())
                schema = self._schema(described, first)

                def tables() -> Iterator[pa.Table]:
                    rows = first
                    while rows:
                        check()
                        yield self._table(rows, schema)
                        rows = next(parts, ())

                hint = "ask for less, or for a part at a time"
                return write_tables(tables(), schema, fd, self._max_rows, hint=hint)
            finally:
                with self._lock:
                    self._driver = None

    def interrupt(self) -> None:
        """Tell the database that nobody waits; from another thread, and no matter if it has ended."""
        with self._lock:
            if self._driver is not None:
                stop = getattr(self._driver, "interrupt", None) or self._driver.cancel
                stop()

    def _schema(self, described: Any, first: Any) -> pa.Schema:
        names = [str(column[0]) for column in described]
        if len(set(names)) < len(names):
            raise InvalidQueryError("two columns of the answer have the same name", hint="give them names: AS")
        kinds = (
            [_inferred(name, [row[number] for row in first]) for number, name in enumerate(names)]
            if self._connecting.is_sqlite
            else [_declared(column) for column in described]
        )
        return pa.schema(list(zip(names, kinds, strict=True)))

    def _table(self, rows: Any, schema: pa.Schema) -> pa.Table:
        arrays = []
        for field, values in zip(schema, zip(*rows, strict=True), strict=True):
            try:
                given = [None if one is None else str(one) for one in values] if field.type == pa.string() else values
                arrays.append(pa.array(given, type=field.type))
            except (pa.ArrowException, OverflowError, TypeError) as exc:
                raise BackendError(
                    f"{self._connecting.location}: the column {field.name!r} has values of several types: "
                    f"{str(exc)[:100]}",
                    hint="CAST it to one",
                ) from None
        return pa.Table.from_arrays(arrays, schema=schema)


def _declared(column: Any) -> pa.DataType:
    """Return the type of a column of PostgreSQL."""
    if column.type_code in _OIDS:
        return _OIDS[column.type_code]
    if column.type_code == _NUMERIC and column.precision and column.precision <= 38:
        return pa.decimal128(column.precision, column.scale or 0)
    kind = "numeric without a precision" if column.type_code == _NUMERIC else getattr(column, "type_display", "")
    raise InvalidQueryError(
        f"the column {column.name!r} is of a type that has no place in the answer ({kind})",
        hint=f'cast it, such as "{column.name}"::text or ::float8',
    )


def _inferred(name: str, values: list[object]) -> pa.DataType:
    """Return the type of a column of SQLite, whose values have types of their own."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {str}:
        return pa.string()
    if kinds == {int}:
        return pa.int64()
    if kinds == {bytes}:
        return pa.binary()
    if kinds <= {int, float}:
        return pa.float64()
    raise InvalidQueryError(f"the column {name!r} has values of several types", hint="CAST it to one")
