# ruff: noqa: S608
"""What SQL query services answer: each type as the database has it, from both; and that they stop when nobody waits."""

from __future__ import annotations

import gc
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import trio
from tests.servers.postgresql import PostgresqlServer

from pantry.backends.admission import Admission
from pantry.backends.querying import ParameterValue, QueryBackend, Statement
from pantry.backends.sql import SqlQueryBackendFactory
from pantry.errors import InvalidQueryError, LimitExceededError, TransientBackendError


class Service:
    """A database that is asked; ``change`` is by another way."""

    def __init__(self, backend: QueryBackend, url: str) -> None:
        self.backend = backend
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    def change(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    def ask(self, text: str, max_rows: int = 1_000_000, **parameters: ParameterValue) -> pa.Table:
        statement = Statement(text=text, parameters=parameters, max_rows=max_rows)
        with tempfile.TemporaryFile() as file:
            outcome = trio.run(self.backend.run_into, statement, file.fileno())
            table = pq.read_table(file)
        assert outcome.rows == table.num_rows
        return table


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Service]:
    path = tmp_path / "x.db"
    sqlite3.connect(path).close()
    backend = SqlQueryBackendFactory(f"sql+sqlite://{path}", {}, Admission(user_limit=4, node_limit=4))
    yield Service(backend, f"sqlite:///{path}")
    trio.run(backend.aclose)


@pytest.fixture
def postgresql_service(postgresql: PostgresqlServer) -> Iterator[Service]:
    with postgresql.database() as url:
        root = f"sql+postgresql://127.0.0.1:{postgresql.port}/{url.rpartition('/')[2]}"
        options = {"username": "postgres", "password": postgresql.password}
        backend = SqlQueryBackendFactory(root, options, Admission(user_limit=4, node_limit=4))
        yield Service(backend, url)
        trio.run(backend.aclose)


POSTGRESQL_TYPES: list[tuple[str, Any, pa.DataType]] = [
    ("true", True, pa.bool_()),
    ("32767::int2", 32767, pa.int16()),
    ("-5", -5, pa.int32()),
    ("9223372036854775807", 2**63 - 1, pa.int64()),
    ("0.1::float4", pa.scalar(0.1, pa.float32()).as_py(), pa.float32()),
    ("5e-324::float8", 5e-324, pa.float64()),
    ("'-infinity'::float8", float("-inf"), pa.float64()),
    ("'ü''\"%s'", "ü'\"%s", pa.string()),
    ("'a'::char(3)", "a  ", pa.string()),
    ("'\\x00ff'::bytea", b"\0\xff", pa.binary()),
    ("'2026-11-27'::date", date(2026, 11, 27), pa.date32()),
    ("'2026-11-27 01:02:03.000001'::timestamp", datetime(2026, 11, 27, 1, 2, 3, 1), pa.timestamp("us")),
    ("'2026-11-27 01:02:03+02'::timestamptz", datetime(2026, 11, 26, 23, 2, 3, tzinfo=UTC), pa.timestamp("us", "UTC")),
    ("'00000000-0000-0000-0000-00000000000a'::uuid", "00000000-0000-0000-0000-00000000000a", pa.string()),
    ("ARRAY[1.5, NULL]::float8[]", [1.5, None], pa.list_(pa.float64())),
    ("ARRAY['a', 'b']::text[]", ["a", "b"], pa.list_(pa.string())),
]


@pytest.mark.parametrize(("text", "value", "kind"), POSTGRESQL_TYPES)
def test_types_of_postgresql(postgresql_service: Service, text: str, value: Any, kind: pa.DataType) -> None:
    """And where there is no value, or no row."""
    found = postgresql_service.ask(f"SELECT {text} AS v UNION ALL SELECT NULL")
    assert found.schema.field("v").type == kind
    assert not found.schema.field("v").metadata
    assert found["v"].to_pylist() == [value, None]
    assert postgresql_service.ask(f"SELECT {text} AS v WHERE false").schema.field("v").type == kind


def test_decimals_have_the_digits_that_were_declared(postgresql_service: Service) -> None:
    postgresql_service.change("CREATE TABLE d (v numeric(10, 2)); INSERT INTO d VALUES (1.5), (NULL)")
    found = postgresql_service.ask("SELECT v FROM d ORDER BY v")
    assert found.schema.field("v").type == pa.decimal128(10, 2)
    assert found["v"].to_pylist() == [Decimal("1.50"), None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT 1.5 AS v", "numeric without a precision"),
        ("SELECT '{}'::jsonb AS v", "jsonb"),
        ("SELECT 'infinity'::timestamp AS v", "infinity|too large"),
        ("SELECT '10000-01-01'::date AS v", "year|date|range|too large"),
        ("SELECT 'NaN'::numeric(5,1) AS v", "'v' has a value that is no decimal128"),
        ("SELECT ARRAY[ARRAY[1]] AS v", "'v' has a value that is no list"),
        ("SELECT 1 AS a, 2 AS a", "same name"),
    ],
)
def test_what_has_no_place_in_an_answer_of_postgresql(postgresql_service: Service, text: str, message: str) -> None:
    """Whoever asks can mend it, so that it is not asked again."""
    with pytest.raises(InvalidQueryError, match=message) as failed:
        postgresql_service.ask(text)
    assert failed.value.hint


def test_a_value_that_a_driver_cannot_take_is_the_askers(postgresql_service: Service) -> None:
    with pytest.raises(InvalidQueryError):
        postgresql_service.ask("SELECT :v AS v", v="a\0b")


LATE = 25_000
Value = int | float | str | bytes | None


def fill(sqlite: Service, early: Value, late: Value) -> None:
    """Make a table with a value of another kind far below the others."""
    connection = sqlite3.connect(str(sqlite.engine.url.database))
    with connection:
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, v)")
        connection.executemany("INSERT INTO t (v) VALUES (?)", [(early,)] * LATE + [(late,)])
    connection.close()


@pytest.mark.parametrize(
    ("early", "late", "kind"),
    [
        (1, 1.5, pa.float64()),
        (None, 5, pa.int64()),
        (None, b"\0\xff", pa.binary()),
        (None, "text", pa.string()),
        (None, None, pa.string()),
        (1.5, 7, pa.float64()),
    ],
)
def test_a_column_of_sqlite_has_the_type_of_all_its_values(
    sqlite: Service, early: Value, late: Value, kind: pa.DataType
) -> None:
    """Also of those that come late: nothing is cut off, and nothing made a text."""
    fill(sqlite, early, late)
    found = sqlite.ask("SELECT v FROM t ORDER BY n")
    assert found.schema.field("v").type == kind
    assert (found["v"][0].as_py(), found["v"][LATE].as_py()) == (early, late)


@pytest.mark.parametrize(("early", "late"), [(1, "a"), ("a", b"\0"), (2**53 + 1, 0.5)])
def test_a_column_of_sqlite_with_several_types_is_refused(sqlite: Service, early: Value, late: Value) -> None:
    fill(sqlite, early, late)
    with pytest.raises(InvalidQueryError, match="several types|has a value that is no double"):
        sqlite.ask("SELECT v FROM t ORDER BY n")


def test_names_of_sqlite_are_quoted(sqlite: Service) -> None:
    found = sqlite.ask('SELECT 1 AS "a""b", 2 AS "select", \'%\' AS "x y" WHERE :n = 3', n=3)
    assert found.to_pylist() == [{'a"b': 1, "select": 2, "x y": "%"}]


def test_text_that_is_none_is_the_databases(sqlite: Service) -> None:
    fill(sqlite, "a", b"\xff")
    with pytest.raises(InvalidQueryError, match="UTF-8"):
        sqlite.ask("SELECT CAST(v AS TEXT) AS v FROM t")


@pytest.fixture(params=["sqlite", "postgresql_service"])
def service(request: pytest.FixtureRequest) -> Service:
    found: Service = request.getfixturevalue(request.param)
    return found


OTHERS = "datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'"
SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c) SELECT COUNT(*) AS n FROM c",
    "postgresql": "SELECT pg_sleep(100)::text AS n",
}


def test_a_statement_that_nobody_waits_for_is_stopped(service: Service) -> None:
    text = SLOW[service.engine.dialect.name]
    begun = time.monotonic()

    async def give_up() -> None:
        with tempfile.TemporaryFile() as file, trio.move_on_after(1) as scope:
            await service.backend.run_into(Statement(text=text), file.fileno())
        assert scope.cancelled_caught

    trio.run(give_up)
    assert time.monotonic() - begun < 60, "nobody told the database"
    if service.engine.dialect.name == "postgresql":
        with service.engine.connect() as connection:
            others = f"SELECT COUNT(*) FROM pg_stat_activity WHERE {OTHERS}"
            assert connection.exec_driver_sql(others).scalar_one() == 0


def test_who_gives_up_while_it_connects_starts_nothing(sqlite: Service) -> None:
    """There was nobody to tell then."""
    from pantry.backends.sql import _connecting

    real = _connecting.Connecting.reading
    with mock.patch.object(_connecting.Connecting, "reading", autospec=True) as reading:

        async def give_up() -> None:
            with tempfile.TemporaryFile() as file, trio.CancelScope() as scope:

                def late(connecting: Any) -> Any:
                    trio.from_thread.run_sync(scope.cancel)
                    return real(connecting)

                reading.side_effect = late
                await sqlite.backend.run_into(Statement(text=SLOW["sqlite"]), file.fileno())
            assert scope.cancelled_caught

        trio.run(give_up)
        assert reading.called


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_database_that_cannot_be_told_hides_no_error(postgresql_service: Service) -> None:
    """The server ends the connection while the statement runs."""

    async def cut() -> None:
        with tempfile.TemporaryFile() as file:
            async with trio.open_nursery() as nursery:

                async def end() -> None:
                    while True:
                        with postgresql_service.engine.connect() as connection:
                            ended = connection.exec_driver_sql(
                                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                f"WHERE {OTHERS} AND query LIKE 'FETCH%%'"
                            ).all()
                        if ended:
                            return
                        await trio.sleep(0.02)

                nursery.start_soon(end)
                with pytest.raises(TransientBackendError):
                    await postgresql_service.backend.run_into(Statement(text=SLOW["postgresql"]), file.fileno())

    trio.run(cut)
    gc.collect()  # SQLAlchemy leaves the cursor of a lost connection as it is, which psycopg notes when it goes


def test_one_row_too_many(service: Service) -> None:
    service.change("CREATE TABLE t AS SELECT 1 AS n UNION ALL SELECT 2")
    assert service.ask("SELECT n FROM t ORDER BY n;", max_rows=2)["n"].to_pylist() == [1, 2]
    with pytest.raises(LimitExceededError, match="more than 1 rows"):
        service.ask("SELECT n FROM t", max_rows=1)
