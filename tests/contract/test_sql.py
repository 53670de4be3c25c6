"""A database held to the contract of object backends, on SQLite and a real PostgreSQL; and the rows beside objects."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import trio
from tests.servers.postgresql import PostgresqlServer

from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange
from pantry.backends.sql import SqlBackend, SqlBackendFactory, _store
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import descriptor, listed, read, run, write
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    ConflictError,
    InvalidRequestError,
    ObjectExistsError,
    ObjectNotFoundError,
    PantryError,
    TransientBackendError,
)

RULE = "{run}/src/{visit:int}/* -> src"


class Place:
    """Where a test's objects are: a root, its options, and an engine of the test's own."""

    def __init__(self, root: str, options: dict[str, object], url: str, prefix: str) -> None:
        self.root = root
        self.options = options
        self.prefix = prefix
        self.engine = sa.create_engine(url, pool_size=1, pool_pre_ping=True)

    def backend(self, admission: Admission | None = None, **changed: object) -> SqlBackend:
        admission = admission or Admission(user_limit=8, node_limit=8)
        made = SqlBackendFactory(self.root, self.options | changed, admission)
        assert isinstance(made, SqlBackend)
        return made

    def rows(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query), values)]

    def change(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement), values)


class SqlOutside:
    """Sees the tables by SQL of its own."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._numbers = itertools.count(1_000_000)

    def _has_tables(self) -> bool:
        return sa.inspect(self._place.engine).has_table("pantry_object")

    def put(self, key: str, content: bytes) -> None:
        if not self._has_tables():
            backend = self._place.backend()
            run(lambda: write(backend, "made", b""))
            run(lambda: backend.delete("made"))
            run(backend.aclose)
        name, number = self._place.prefix + key, next(self._numbers)
        self._place.change(
            "DELETE FROM pantry_piece WHERE object IN (SELECT number FROM pantry_object WHERE key=:k)", k=name
        )
        self._place.change("DELETE FROM pantry_object WHERE key = :k", k=name)
        self._place.change(
            "INSERT INTO pantry_object (number, key, size_bytes, version, modified_ns) VALUES (:n, :k, :s, :v, :t)",
            n=number, k=name, s=len(content), v=uuid4().hex, t=time.time_ns(),
        )  # fmt: skip
        for place in range(-(-len(content) // (1 << 20))):
            piece = content[place << 20 : (place + 1) << 20]
            self._place.change("INSERT INTO pantry_piece VALUES (:n, :p, :c)", n=number, p=place, c=piece)

    def get(self, key: str) -> bytes | None:
        name = self._place.prefix + key
        if not self._has_tables() or not self._place.rows("SELECT 1 FROM pantry_object WHERE key = :k", k=name):
            return None
        query = "SELECT content FROM pantry_piece JOIN pantry_object ON object = number WHERE key = :k ORDER BY place"
        return b"".join(bytes(row[0]) for row in self._place.rows(query, k=name))

    def keys(self) -> set[str]:
        if not self._has_tables():
            return set()
        return {row[0].removeprefix(self._place.prefix) for row in self._place.rows("SELECT key FROM pantry_object")}

    def residue(self) -> set[str]:
        """Name pieces of no object, and objects whose pieces are not all there."""
        if not self._has_tables():
            return set()
        found = self._place.rows(
            "SELECT key, size_bytes, COALESCE(SUM(LENGTH(content)), 0) FROM pantry_object "
            "LEFT JOIN pantry_piece ON object = number GROUP BY key, size_bytes"
        )
        lost = self._place.rows(
            "SELECT object FROM pantry_piece WHERE object NOT IN (SELECT number FROM pantry_object)"
        )
        return {key for key, size, there in found if size != there} | {str(one) for (one,) in lost}


@contextmanager
def sqlite_place(directory: Path) -> Iterator[Place]:
    path = directory / "o'b #%1.db"
    place = Place(f"sql+sqlite://{path}".replace("%", "%25").replace("#", "%23"), {}, f"sqlite:///{path}", "")
    yield place
    place.engine.dispose()


@contextmanager
def postgresql_place(server: PostgresqlServer) -> Iterator[Place]:
    with server.database() as url:
        database = url.rpartition("/")[2]
        options: dict[str, object] = {"username": "postgres", "password": server.password}
        place = Place(f"sql+postgresql://127.0.0.1:{server.port}/{database}/a/b", options, url, "a/b/")
        yield place
        place.engine.dispose()


class TestSqlite(ObjectBackendContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Iterator[Place]:
        with sqlite_place(tmp_path) as place:
            yield place

    @pytest.fixture
    def outside(self, place: Place) -> SqlOutside:
        return SqlOutside(place)

    @pytest.fixture
    def backend(self, place: Place) -> Iterator[SqlBackend]:
        made = place.backend()
        yield made
        run(made.aclose)


class TestPostgresql(TestSqlite):
    @pytest.fixture
    def place(self, postgresql: PostgresqlServer) -> Iterator[Place]:  # type: ignore[override]
        with postgresql_place(postgresql) as place:
            yield place


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with (
        sqlite_place(tmp_path)
        if request.param == "sqlite"
        else postgresql_place(request.getfixturevalue("postgresql")) as place
    ):
        yield place


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


async def put(backend: SqlBackend, key: str, content: bytes, token: str = "t-1") -> None:  # noqa: S107
    with descriptor(content) as fd:
        await backend.write_from(key, fd, len(content), token=token)


@pytest.mark.req("DMS-MWBT-REQ-0065")
def test_rows_are_there_with_their_object_and_go_with_it(place: Place) -> None:
    backend = place.backend(tables=RULE)
    first = parquet(id=[1, 2], ra=[0.1, 359.9], name=["a", None], flag=[True, False])
    second = parquet(id=[3], ra=[1 / 3], name=["ü'\"%s"], flag=pa.array([None], pa.bool_()))

    async def check() -> None:
        await put(backend, "u/me/src/17/a.parquet", first)
        await put(backend, "u/me/src/-18/b.parquet", second, "t-2")
        await put(backend, "u/me/other/17/c.parquet", b"no table")
        assert await read(backend, "u/me/src/17/a.parquet", 0, len(first), None) == first
        query = "SELECT run, visit, id, ra, name, flag FROM src ORDER BY id"
        assert place.rows(query) == [
            ("u/me", 17, 1, 0.1, "a", True),
            ("u/me", 17, 2, 359.9, None, False),
            ("u/me", -18, 3, 1 / 3, "ü'\"%s", None),
        ]
        await backend.delete("u/me/src/17/a.parquet")
        assert await backend.undo_write("u/me/src/-18/b.parquet", token="t-2")
        assert place.rows(query) == []
        await backend.aclose()

    run(check)


@pytest.mark.req("DMS-MWBT-REQ-0076")
@pytest.mark.parametrize("step", ["before rows", "between batches", "before the commit"])
def test_a_write_that_fails_leaves_neither_object_nor_rows(place: Place, step: str) -> None:
    backend = place.backend(tables=RULE)
    content = parquet(id=np.arange(50_000))

    class BrokenError(Exception):
        pass

    def failing(*args: Any, **options: Any) -> Any:
        raise BrokenError

    async def check() -> None:
        await put(backend, "r/src/1/a", parquet(id=[1]))
        store = backend._store()
        calls = itertools.count()
        real = _store._rows._insert

        def second(*args: Any) -> None:
            if next(calls):
                raise BrokenError
            real(*args)

        def after(*args: Any) -> None:
            _store._rows.write(*args)
            raise BrokenError

        patch = {
            "before rows": mock.patch.object(_store._rows, "write", failing),
            "between batches": mock.patch.object(_store._rows, "_insert", second),
            "before the commit": mock.patch.object(
                store, "_write_rows", lambda *args: (type(store)._write_rows(store, *args), failing())
            ),
        }[step]
        with patch, pytest.raises(BrokenError):
            await put(backend, "r/src/2/b", content)
        assert place.rows("SELECT visit, id FROM src") == [(1, 1)]
        assert set(await listed(backend, "")) == {"r/src/1/a"}
        # And it can be done again.
        await put(backend, "r/src/2/b", content)
        assert place.rows("SELECT COUNT(*), SUM(id) FROM src WHERE visit = 2") == [(50_000, sum(range(50_000)))]
        await backend.aclose()

    run(check)
    assert not SqlOutside(place).residue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (parquet(id=[1], more=[2]), "no such column"),
        (parquet(id=[1.5]), "the table 'src' has it as"),
        (parquet(other=[1]), "no such column|has no column"),
        (parquet(id=[[1, 2]]), "'id' of list<.*> has no exact place"),
        (parquet(id=[1], visit=[3]), "'visit' is not 2, which its path says"),
        (parquet(id=[1], pantry_row=[3]), "cannot have this name"),
        (parquet(**{"id": [1], "x" * 64: [3]}), "cannot have this name"),
        (parquet(**{"id": [1], "": [3]}), "cannot have this name"),
        (b"PAR1 no parquet", "cannot be read as Parquet"),
        (b"", "cannot be read as Parquet"),
    ],
)
def test_what_does_not_fit_is_refused_whole(place: Place, content: bytes, message: str) -> None:
    backend = place.backend(tables=RULE)

    async def check() -> None:
        await put(backend, "r/src/1/a", parquet(id=[1]))
        with pytest.raises(InvalidRequestError, match=message):
            await put(backend, "r/src/2/b", content)
        with pytest.raises(ObjectNotFoundError):
            await backend.stat("r/src/2/b")
        assert place.rows("SELECT visit, id FROM src") == [(1, 1)]
        await backend.aclose()

    run(check)


def test_each_type_comes_as_it_is(place: Place) -> None:
    """What a database has no exact place for is refused by name."""
    stamps = np.array(["2026-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"], "M8[us]")
    columns = {
        "i1": pa.array([-128, 127], pa.int8()),
        "u1": pa.array([0, 255], pa.uint8()),
        "u2": pa.array([0, 65535], pa.uint16()),
        "u4": pa.array([0, 2**32 - 1], pa.uint32()),
        "i8": pa.array([-(2**63), 2**63 - 1], pa.int64()),
        "f4": pa.array([-1.5, None], pa.float32()),
        "f8": pa.array([5e-324, 1.7976931348623157e308], pa.float64()),
        "day": pa.array([0, 20000], pa.date32()),
        "at": pa.array(stamps),
        "raw": pa.array([b"\0\xff", None], pa.binary()),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
    }
    backend = place.backend(tables="{run}/t/* -> t")
    run(lambda: put(backend, "r/t/a", parquet(**columns)))
    query = sa.select(sa.table("t", *(sa.column(name) for name in columns)))
    if place.engine.dialect.name == "sqlite":
        query = sa.select(sa.Table("t", sa.MetaData(), autoload_with=place.engine).c[*columns])
    with place.engine.connect() as connection:
        found = connection.execute(query).all()
    expected = list(zip(*(array.to_pylist() for array in columns.values()), strict=True))
    assert [tuple(row) for row in found] == expected
    with pytest.raises(InvalidRequestError, match="no exact place in the table 't': Casting from timestamp"):
        run(lambda: put(backend, "r/t/b", parquet(**columns | {"at": pa.array(stamps.astype("M8[ns]") + 1)})))
    wide = parquet(n=pa.array([2**64 - 1], pa.uint64()), d=pa.array([Decimal("1.50")]))
    other = place.backend(tables="{run}/w/* -> w")
    if place.engine.dialect.name == "sqlite":
        with pytest.raises(InvalidRequestError, match="'n' of uint64 has no exact place"):
            run(lambda: put(other, "r/w/a", wide))
    else:
        run(lambda: put(other, "r/w/a", wide))
        assert place.rows("SELECT n, d FROM w") == [(Decimal(2**64 - 1), Decimal("1.50"))]
    run(backend.aclose)
    run(other.aclose)


def test_times_with_a_zone_are_utc(place: Place) -> None:
    """SQLite keeps no zones; else rows of one table would be in several of them."""
    noon = datetime(2026, 11, 27, 12, tzinfo=UTC)
    backend = place.backend(tables=RULE)
    for number, zone in enumerate(("UTC", "+02:00", "America/Santiago")):
        content = parquet(at=pa.array([noon], pa.timestamp("us", zone)))
        run(partial(put, backend, f"r/src/{number}/a", content))
    with place.engine.connect() as connection:
        table = sa.Table("src", sa.MetaData(), autoload_with=connection)
        found = connection.execute(sa.select(table.c.at)).scalars().all()
    assert {one if one.tzinfo else one.replace(tzinfo=UTC) for one in found} == {noon}
    assert len(found) == 3
    run(backend.aclose)


def test_a_row_group_is_not_in_memory_as_a_whole(place: Place) -> None:
    rows = 1_500_000
    out = io.BytesIO()
    numbers = pa.array(np.random.default_rng(1).random(rows))
    pq.write_table(pa.table({"a": numbers, "b": numbers}), out, row_group_size=rows, use_dictionary=False)
    content = out.getvalue()
    assert len(content) > 20 << 20
    backend = place.backend(tables=RULE)
    before, seen = pa.total_allocated_bytes(), []

    def insert(*_: Any) -> None:
        seen.append(pa.total_allocated_bytes() - before)

    with mock.patch.object(_store._rows, "_insert", insert):
        run(partial(put, backend, "r/src/1/a", content))
    assert max(seen) < 10 << 20
    run(backend.aclose)


def test_many_at_once_wait_for_no_connection(place: Place) -> None:
    """As many as the node lets in: the pool is not another limit."""
    backend = place.backend(admission=Admission(user_limit=30, node_limit=30))
    barrier = threading.Barrier(25)

    async def check() -> None:
        await put(backend, "k", b"content")

        async def one() -> None:
            with descriptor() as fd:
                await backend.read_into("k", ByteRange(0, 7), fd, on_progress=lambda _: barrier.wait(30) and None)

        async with trio.open_nursery() as nursery:
            for _ in range(25):
                nursery.start_soon(one)
        await backend.aclose()

    run(check)


def test_without_a_place_for_copies_only_tables_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = place.backend(tables=RULE)
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")

    async def check() -> None:
        with tempfile.TemporaryFile(dir="/tmp") as file:
            await backend.write_from("r/other/1", file.fileno(), 0, token="t")
            with pytest.raises(BackendError, match="cannot be copied to /nonexistent"):
                await backend.write_from("r/src/1/a", file.fileno(), 0, token="t")
        await backend.aclose()

    run(check)


def test_odd_names_of_columns(place: Place) -> None:
    backend = place.backend(tables=RULE)
    odd = {"a%b": [1], 'q"s': [2], "select": [3], "Ü": [4], "a b": [5]}
    run(partial(put, backend, "r/src/1/a", parquet(**odd)))
    with place.engine.connect() as connection:
        row = connection.execute(sa.select(sa.Table("src", sa.MetaData(), autoload_with=connection))).mappings().one()
    assert {name: row[name] for name in odd} == {name: values[0] for name, values in odd.items()}
    capitals = parquet(a=[1], A=[2])
    if place.engine.dialect.name == "sqlite":
        with pytest.raises(InvalidRequestError, match="two columns of one name"):
            run(partial(put, place.backend(tables="{run}/c/* -> c"), "r/c/a", capitals))
    run(backend.aclose)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"\xff"]).cast(pa.string(), safe=False),
        pa.array([2**62], pa.timestamp("us")),
        pa.array([2**31 - 1], pa.date32()),
        pa.array([1], pa.timestamp("ns")),
    ],
    ids=["text", "time", "date", "nanosecond"],
)
def test_values_that_no_database_has_are_the_datasets(place: Place, values: pa.Array) -> None:
    backend = place.backend(tables=RULE)
    with pytest.raises(InvalidRequestError, match="no exact place in the table 'src'"):
        run(partial(put, backend, "r/src/1/a", parquet(v=values)))
    assert not SqlOutside(place).keys()
    run(backend.aclose)


def test_a_table_of_somebody_else_is_left_alone(place: Place) -> None:
    place.change("CREATE TABLE src (id INTEGER)")
    backend = place.backend(tables=RULE)
    with pytest.raises(ConflictError, match="none that Pantry made"):
        run(lambda: put(backend, "r/src/1/a", parquet(id=[1])))
    assert place.rows("SELECT * FROM src") == []
    run(backend.aclose)


def test_writers_who_begin_at_once_make_the_tables_once(place: Place) -> None:
    backends = [place.backend(tables=RULE) for _ in range(4)]
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(backends))

    def work(number: int) -> None:
        async def one() -> None:
            await put(backends[number], f"r/src/{number}/a", parquet(id=[number]))

        barrier.wait()
        try:
            run(one)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work, args=[number]) for number in range(len(backends))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert place.rows("SELECT id FROM src ORDER BY id") == [(0,), (1,), (2,), (3,)]
    for backend in backends:
        run(backend.aclose)


def test_who_writes_rows_of_a_table_waits_for_nobody(postgresql: PostgresqlServer) -> None:
    with postgresql_place(postgresql) as place:
        backend = place.backend(tables=RULE)
        real = _store._rows._insert
        order: list[str] = []

        async def check() -> None:
            await put(backend, "r/src/1/a", parquet(id=[1]))
            held, go = threading.Event(), threading.Event()

            def slow(*args: Any) -> None:
                real(*args)
                if not held.is_set():
                    held.set()
                    assert go.wait(60)

            async def first() -> None:
                await put(backend, "r/src/2/b", parquet(id=[2]))
                order.append("first")

            with mock.patch.object(_store._rows, "_insert", slow):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(first)
                    await trio.to_thread.run_sync(held.wait)
                    await put(backend, "r/src/3/c", parquet(id=[3]))
                    order.append("second")
                    go.set()
            await backend.aclose()

        run(check)
        assert order == ["second", "first"]
        assert place.rows("SELECT id FROM src ORDER BY id") == [(1,), (2,), (3,)]


def test_rows_are_of_what_was_stored_when_the_sender_changes_the_file(place: Place) -> None:
    backend = place.backend(tables=RULE)
    before, after = parquet(id=[1, 2, 3]), parquet(id=[4, 5, 6])
    assert len(before) == len(after)

    async def check() -> None:
        with descriptor(before) as fd:
            store = backend._store()
            real = store._write_rows

            def changed(*args: Any) -> None:
                os.pwrite(fd, after, 0)
                real(*args)

            with mock.patch.object(store, "_write_rows", changed):
                await backend.write_from("r/src/1/a", fd, len(before), token="t")
        assert place.rows("SELECT id FROM src ORDER BY id") == [(1,), (2,), (3,)]
        assert await read(backend, "r/src/1/a", 0, len(before), None) == before
        await backend.aclose()

    run(check)


def test_who_may_not_write_is_told(postgresql: PostgresqlServer) -> None:
    with postgresql_place(postgresql) as place:
        backend = place.backend(password="wrong")
        with pytest.raises(BackendAccessError, match="password authentication failed") as caught:
            run(lambda: put(backend, "k", b"1"))
        assert "wrong" not in str(caught.value)
        run(backend.aclose)
        name = f"reader_{uuid4().hex}"
        place.change(f"CREATE ROLE {name} LOGIN PASSWORD 'p'")
        try:
            backend = place.backend(username=name, password="p")
            with pytest.raises(BackendAccessError, match="permission denied"):
                run(lambda: put(backend, "k", b"1"))
            with pytest.raises(ObjectNotFoundError):
                run(lambda: backend.stat("k"))
            run(backend.aclose)
        finally:
            place.change(f"DROP ROLE {name}")


def test_text_that_postgresql_cannot_take_is_the_datasets(postgresql: PostgresqlServer) -> None:
    """It is no failure that may pass."""
    with postgresql_place(postgresql) as place:
        backend = place.backend(tables=RULE)
        with pytest.raises(InvalidRequestError, match="NUL") as failed:
            run(partial(put, backend, "r/src/1/a", parquet(id=["a\0b"])))
        assert failed.value.hint
        assert not SqlOutside(place).keys()
        run(backend.aclose)


def test_a_server_that_is_away_comes_back_by_itself(postgresql: PostgresqlServer) -> None:
    """Connections that the server ended are made anew."""
    with postgresql_place(postgresql) as place:
        backend = place.backend()
        run(lambda: put(backend, "k", b"1"))
        place.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert run(lambda: read(backend, "k", 0, 1, None)) == b"1"
        with pytest.raises(ObjectExistsError):
            run(lambda: put(backend, "k", b"2"))
        run(backend.aclose)


@pytest.mark.parametrize("step", ["object", "pieces", "rows"])
def test_a_connection_that_is_cut_during_a_write_leaves_nothing(postgresql: PostgresqlServer, step: str) -> None:
    """It is an error that may pass, and the same write is done a moment later."""
    with postgresql_place(postgresql) as place:
        backend = place.backend(tables=RULE)
        content = parquet(id=np.arange(60_000))

        def cut() -> None:
            place.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        async def check() -> None:
            await put(backend, "r/src/1/a", parquet(id=[1]))
            store = backend._store()
            patched = {
                "object": (store, "_write_pieces", type(store)._write_pieces.__get__(store)),
                "pieces": (store, "_write_rows", type(store)._write_rows.__get__(store)),
                "rows": (_store._rows, "_insert", _store._rows._insert),
            }[step]
            owner, name, real = patched

            def cutting(*args: Any) -> None:
                if step == "rows":
                    real(*args)
                cut()
                if step != "rows":
                    real(*args)

            with mock.patch.object(owner, name, cutting), pytest.raises(TransientBackendError):
                await put(backend, "r/src/2/b", content)
            assert set(await listed(backend, "")) == {"r/src/1/a"}
            assert place.rows("SELECT visit, id FROM src") == [(1, 1)]
            assert not SqlOutside(place).residue()
            await put(backend, "r/src/2/b", content)
            assert place.rows("SELECT COUNT(*) FROM src") == [(60_001,)]
            await backend.aclose()

        run(check)


def test_a_connection_that_is_cut_during_a_read_is_an_error_that_may_pass(postgresql: PostgresqlServer) -> None:
    with postgresql_place(postgresql) as place:
        backend = place.backend()
        content = os.urandom(20 << 20)

        async def check() -> None:
            await put(backend, "k", content)
            told: list[int] = []

            def cut(position: int) -> None:
                if not told:
                    place.rows(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                told.append(position)

            with descriptor() as fd, pytest.raises(TransientBackendError):
                await backend.read_into("k", ByteRange(0, len(content)), fd, on_progress=cut)
            assert await read(backend, "k", 0, len(content), None) == content
            await backend.aclose()

        run(check)


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        ("sql+postgresql://host", {}, "is written"),
        ("sql+mysql://host/db", {}, "is written"),
        ("sql+postgresql://me:secret@host/db", {}, "no credentials in it"),
        ("sql+sqlite:relative.db", {}, "is written"),
        ("sql+sqlite:///d/x.db", {"username": "a", "password": "secret"}, "neither users nor schemas"),
        ("sql+postgresql://host/db", {"token": "secret"}, "not for it"),
        ("sql+postgresql://host/db", {"statement_timeout_s": 0}, "must be positive"),
        ("sql+postgresql://host/db", {"colour": "red"}, "unknown options"),
        ("sql+postgresql://host/db", {"tables": "src"}, "is no rule"),
        ("sql+postgresql://host/db", {"tables": "* -> pantry_object"}, "is no rule"),
        ("sql+postgresql://host/db", {"tables": "{a}/{a} -> t"}, "stands twice"),
        ("sql+postgresql://host/db", {"tables": "{a:float}/* -> t"}, "cannot be understood from"),
    ],
)
def test_mistakes_in_a_configuration(root: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(PantryError, match=message) as caught:
        SqlBackendFactory(root, options, Admission(user_limit=1, node_limit=1))
    assert isinstance(caught.value, ConfigError)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    backend = SqlBackendFactory(f"sql+sqlite://{tmp_path}/no/x.db", {}, Admission(user_limit=1, node_limit=1))
    with pytest.raises(BackendError, match="unable to open"):
        run(lambda: backend.stat("k"))
