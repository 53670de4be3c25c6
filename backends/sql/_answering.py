"""Statements asked of a database, and their answers as Parquet. Blocking; imported in worker threads only."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from pantry.backends.columnar import write_tables
from pantry.backends.credentials import BasicAuth
from pantry.backends.database_address import DatabaseAddress
from pantry.backends.placeholders import names_of, split_statement
from pantry.backends.querying import ParameterValue, QueryOutcome, Statement
from pantry.backends.sql._connecting import Connecting
from pantry.backends.sql.options import SqlOptions
from pantry.errors import InvalidQueryError

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
_NUMERIC = 1700

# Of SQLite's typeof().
_KINDS: dict[frozenset[str], pa.DataType] = {
    frozenset(): pa.string(),
    frozenset({"text"}): pa.string(),
    frozenset({"blob"}): pa.binary(),
    frozenset({"integer"}): pa.int64(),
    frozenset({"real"}): pa.float64(),
    frozenset({"integer", "real"}): pa.float64(),
}
_PYTHON: dict[pa.DataType, set[type]] = {
    pa.string(): {str},
    pa.binary(): {bytes},
    pa.int64(): {int},
    pa.float64(): {float, int},
}


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
        with self._connecting.reading() as connection:
            self._driver = connection.connection.driver_connection
            try:
                # Whoever waited may have gone before there was anybody to tell.
                check()
                return self._run(connection, fd, check)
            finally:
                with self._lock:
                    self._driver = None

    def _run(self, connection: sa.Connection, fd: int, check: Callable[[], None]) -> QueryOutcome:
        is_sqlite = self._connecting.is_sqlite
        fields = self._found_fields(connection) if is_sqlite else None
        options: dict[str, Any] = {"stream_results": True, "max_row_buffer": _BATCH_ROWS}
        with contextlib.closing(connection.exec_driver_sql(self._text, dict(self._values), options)) as result:
            # Of an empty answer it is gone after the first part.
            fields = fields or _distinct([_declared(column) for column in result.cursor.description])
            schema = pa.schema(fields)

            def tables() -> Iterator[pa.Table]:
                for rows in result.partitions(_BATCH_ROWS):
                    check()
                    columns = zip(*rows, strict=True)
                    arrays = [self._array(field, values) for field, values in zip(fields, columns, strict=True)]
                    yield pa.Table.from_arrays(arrays, schema=schema)

            hint = "ask for less, or for a part at a time"
            return write_tables(tables(), schema, fd, self._max_rows, hint=hint)

    def _found_fields(self, connection: sa.Connection) -> list[pa.Field]:
        """Return the columns of an answer of SQLite, whose values have types of their own: it is asked which."""
        values = dict(self._values)
        empty = connection.exec_driver_sql(self._text, {**values, "_rows": 0})
        names = [str(column[0]) for column in empty.cursor.description]
        empty.close()
        quoted = ('"' + name.replace('"', '""') + '"' for name in names)
        asked = ", ".join(f"group_concat(DISTINCT typeof({name}))" for name in quoted)
        kinds = connection.exec_driver_sql(f"SELECT {asked} FROM (\n{self._text}\n)", values).one()  # noqa: S608
        return _distinct([pa.field(name, _typed(name, kind)) for name, kind in zip(names, kinds, strict=True)])

    def interrupt(self) -> None:
        """Tell the database that nobody waits; from another thread, and no matter if it has ended."""
        with self._lock:
            if self._driver is not None:
                stop = getattr(self._driver, "interrupt", None) or self._driver.cancel
                # What cannot be told has mostly gone.
                with contextlib.suppress(Exception):
                    stop()

    def _array(self, field: pa.Field, values: Any) -> pa.Array:
        try:
            if self._connecting.is_sqlite:
                if not {type(one) for one in values if one is not None} <= _PYTHON[field.type]:
                    raise TypeError("the types of values have changed between two readings")
                if field.type == pa.float64():
                    values = [None if one is None else _exact(one) for one in values]
            elif field.type == pa.string():
                # Those of uuid are objects.
                values = [one if one is None or isinstance(one, str) else str(one) for one in values]
            return pa.array(values, type=field.type)
        except (pa.ArrowException, ValueError, OverflowError, TypeError) as exc:
            raise InvalidQueryError(
                f"{self._connecting.location}: the column {field.name!r} has a value that is no {field.type}: "
                f"{str(exc)[:100]}",
                hint="cast it to a text",
            ) from None


def _distinct(fields: list[pa.Field]) -> list[pa.Field]:
    if len({field.name for field in fields}) < len(fields):
        raise InvalidQueryError("two columns of the answer have the same name", hint="give them names: AS")
    return fields


def _declared(column: Any) -> pa.Field:
    """Return a column of PostgreSQL."""
    name = str(column.name)
    if column.type_code in _OIDS:
        return pa.field(name, _OIDS[column.type_code])
    if column.type_code == _NUMERIC and column.precision and column.precision <= 38:
        return pa.field(name, pa.decimal128(column.precision, column.scale or 0))
    kind = "numeric without a precision" if column.type_code == _NUMERIC else getattr(column, "type_display", "")
    raise InvalidQueryError(
        f"the column {name!r} is of a type that has no place in the answer ({kind})",
        hint=f'cast it, such as "{name}"::text or ::float8',
    )


def _typed(name: str, kinds: str | None) -> pa.DataType:
    """Return the type of a column in which SQLite has values of these kinds."""
    found = frozenset((kinds or "").split(",")) - {"null", ""}
    if found not in _KINDS:
        raise InvalidQueryError(f"the column {name!r} has values of several types", hint="CAST it to one")
    return _KINDS[found]


def _exact(value: float) -> float:
    """Return a number as a float; `ValueError` if it is not the same then."""
    made = float(value)
    if isinstance(value, int) and int(made) != value:
        raise ValueError(f"{value} has no float of the same value")
    return made
