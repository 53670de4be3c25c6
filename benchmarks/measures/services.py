"""Databases, TAP and the engineering facility database: our backends against the bare libraries on the same servers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pyvo
import requests
import sqlalchemy as sa
import trio
from tests.servers.dachs import DachsServer
from tests.servers.influxdb import InfluxServer
from tests.servers.postgresql import PostgresqlServer
from tests.servers.process import ServerError

from benchmarks.bench import Bench
from benchmarks.rows import Measurement, Row, Series, SkippedError, make_row
from benchmarks.timing import in_turns, timed
from pantry.backends.admission import Admission
from pantry.backends.efd import EfdBackendFactory
from pantry.backends.querying import Query, QueryBackend, Statement, TopicQuery
from pantry.backends.sql import SqlBackendFactory, SqlQueryBackendFactory
from pantry.backends.tap import TapBackendFactory

_NS = 1_000_000_000
_FIRST_S = 1_736_553_600
_TOPIC = "lsst.sal.MTRotator.rotation"


def databases(bench: Bench) -> list[Row]:
    rows = bench.sizes.rows
    with _postgresql() as server, server.database() as url, tempfile.TemporaryDirectory() as directory:
        name = url.rpartition("/")[2]
        root = f"sql+postgresql://127.0.0.1:{server.port}/{name}"
        options = {"username": "postgres", "password": server.password}
        plain = url.replace("+psycopg", "")
        columns = "n AS id, n / 7.0::float8 AS flux, n % 3 = 0 AS flag, 'star ' || n % 1000 AS name"
        with psycopg.connect(plain) as connection:
            connection.execute(f"CREATE TABLE t AS SELECT {columns} FROM generate_series(1, {rows}) AS n")  # noqa: S608
        engine = sa.create_engine(url)
        asking = SqlQueryBackendFactory(root, options, _admission())
        statement = Statement(text="SELECT * FROM t", max_rows=rows)
        path = Path(directory) / "answer.parquet"
        read = in_turns(
            bench.sizes.few_rounds,
            {
                "ours": lambda: timed(lambda: _answer(asking, statement, path, rows)),
                "pandas": lambda: timed(lambda: pd.read_sql("SELECT * FROM t", engine).to_parquet(path)),
            },
        )
        table = pa.table({"id": np.arange(rows // 10), "flux": np.arange(rows // 10) / 7})
        file = Path(directory) / "put.parquet"
        pq.write_table(table, file)
        storing = SqlBackendFactory(root, options | {"tables": "{run}/src/* -> src"}, _admission())
        numbers = iter(range(1000))

        def put() -> None:
            with open(file, "rb") as opened:
                write = partial(storing.write_from, token="bench")
                trio.run(write, f"run/src/{next(numbers)}", opened.fileno(), file.stat().st_size)

        with psycopg.connect(plain) as connection:
            connection.execute("CREATE TABLE by_copy (id bigint, flux double precision)")
        written = in_turns(
            bench.sizes.few_rounds, {"ours": lambda: timed(put), "COPY": lambda: timed(partial(_copy, plain, file))}
        )
        trio.run(asking.aclose)
        trio.run(storing.aclose)
        engine.dispose()
    return [
        _rates(
            "SQL: rows of an answer",
            read,
            "pandas",
            rows,
            f"{rows} rows of four columns from PostgreSQL into a Parquet file: our query backend, in bounded "
            "memory, against pandas.read_sql and to_parquet",
        ),
        _rates(
            "SQL: rows of a dataset",
            written,
            "COPY",
            rows / 10,
            f"a Parquet file of {rows // 10} rows into PostgreSQL: object and rows in one transaction, "
            "against its rows alone by psycopg's COPY",
        ),
    ]


def _rates(name: str, found: Mapping[str, Series], peer: str, rows: float, compared: str) -> Row:
    """Make a row of rates out of seconds."""
    ours, theirs = (found[side].map(lambda s: rows / s) for side in ("ours", peer))
    return make_row(name, ours=ours, peer=theirs, unit="1/s", goal="", compared=compared)


def _copy(url: str, file: Path) -> None:
    table = pq.read_table(file)
    with psycopg.connect(url) as connection, connection.cursor().copy("COPY by_copy FROM STDIN") as copy:
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            copy.write_row(row)


def tap(bench: Bench) -> list[Row]:
    stars = bench.sizes.rows // 10
    with _postgresql() as database, tempfile.TemporaryDirectory(prefix="pantry-bench-") as directory:
        Path(directory).chmod(0o755)
        server = DachsServer(database, Path(directory) / "dachs")
        try:
            server.start(stars=stars)
        except ServerError as exc:
            raise SkippedError(str(exc)) from None
        try:
            backend = TapBackendFactory(f"tap+{server.tap_url}", {}, _admission())
            path = Path(directory) / "answer"
            text = "SELECT star_id, ra, dec, mag FROM cat.stars"

            def by_pyvo() -> None:
                table = pyvo.dal.TAPService(server.tap_url).run_sync(text, maxrec=stars).to_table()
                table.write(path, format="parquet", overwrite=True)
                assert len(table) == stars

            found = in_turns(
                bench.sizes.few_rounds,
                {
                    "ours": lambda: timed(
                        lambda: _answer(backend, Statement(text=text, max_rows=2 * stars), path, stars)
                    ),
                    "pyvo": lambda: timed(by_pyvo),
                },
            )
            trio.run(backend.aclose)
        finally:
            server.stop()
    return [
        _rates(
            "TAP: rows of an answer",
            found,
            "pyvo",
            stars,
            f"{stars} rows of four columns from DaCHS into a Parquet file: our query backend against pyvo and astropy",
        )
    ]


def efd(bench: Bench) -> list[Row]:
    points = bench.sizes.rows
    with tempfile.TemporaryDirectory(prefix="pantry-bench-") as directory, _influx(Path(directory)) as server:
        server.write(_lines(points), batch=100_000)
        backend = EfdBackendFactory(server.root, server.options, _admission())
        stop_s = _FIRST_S + -(-points // 100)
        question = TopicQuery(
            topic=_TOPIC,
            fields=("actualPosition",),
            start_tai_ns=_FIRST_S * _NS,
            stop_tai_ns=stop_s * _NS,
            max_rows=points,
        )
        path = Path(directory) / "answer.parquet"

        def by_requests() -> None:
            text = f'SELECT "actualPosition","private_sndStamp" FROM "{_TOPIC}"'  # noqa: S608
            values: list[Any] = []
            with requests.post(
                f"{server.url}/query",
                data={"q": text, "db": server.database, "epoch": "ns", "chunked": "true"},
                auth=("admin", server.password),
                timeout=600,
                stream=True,
            ) as answer:
                for line in answer.iter_lines(1 << 20):
                    for series in json.loads(line)["results"][0].get("series", ()):
                        values += series["values"]
            pd.DataFrame(values, columns=["time", "actualPosition", "private_sndStamp"]).to_parquet(path)
            assert len(values) == points

        found = in_turns(
            bench.sizes.few_rounds,
            {
                "ours": lambda: timed(lambda: _answer(backend, question, path, points)),
                "requests": lambda: timed(by_requests),
            },
        )
        trio.run(backend.aclose)
    return [
        _rates(
            "EFD: samples",
            found,
            "requests",
            points,
            f"{points} samples of one field and their times from InfluxDB into a Parquet file: our "
            "backend, in bounded memory, against requests, json and pandas",
        )
    ]


def _answer(backend: QueryBackend, question: Query, path: Path, rows: int) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        outcome = trio.run(backend.run_into, question, fd)
    finally:
        os.close(fd)
    assert outcome.rows == rows


def _lines(points: int) -> Iterator[str]:
    for number in range(points):
        second, rest = divmod(number, 100)
        utc_ns = (_FIRST_S - 37 + second) * _NS + rest * (_NS // 100)
        yield f"{_TOPIC} private_sndStamp={_FIRST_S + second}.{rest:02d},actualPosition={number % 1000 / 8} {utc_ns}"


def _admission() -> Admission:
    return Admission(user_limit=4, node_limit=4)


@contextmanager
def _postgresql() -> Iterator[PostgresqlServer]:
    with tempfile.TemporaryDirectory(prefix="pantry-bench-") as directory:
        Path(directory).chmod(0o755)  # its own user must reach what is below
        server = PostgresqlServer(Path(directory) / "pg")
        try:
            yield server.start()
        except ServerError as exc:
            raise SkippedError(str(exc)) from None
        finally:
            server.stop()


@contextmanager
def _influx(directory: Path) -> Iterator[InfluxServer]:
    server = InfluxServer(directory / "influx")
    try:
        server.start()
    except ServerError as exc:
        raise SkippedError(str(exc)) from None
    try:
        yield server
    finally:
        server.stop()


MEASUREMENTS = (
    Measurement("databases", "rows from and into PostgreSQL, against pandas and COPY", databases),
    Measurement("tap", "rows of a TAP service, against pyvo", tap),
    Measurement("efd", "samples of an EFD, against requests and pandas", efd),
)
