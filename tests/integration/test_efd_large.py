"""Ten million points of the engineering facility database, through the daemon in bounded memory, from both services."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow.parquet as pq
import pytest
import xxhash
from tests.servers.efd import transformed
from tests.servers.efd_data import NS
from tests.servers.influxdb import InfluxServer
from tests.servers.pantryd import PantryDaemon
from tests.servers.postgresql import PostgresqlServer

from pantry.client import QueryService
from pantry.model.queries import TopicQuery
from pantry.wire.operations import RunQuery

pytestmark = pytest.mark.soak

TOPIC = "lsst.sal.MTRotator.rotation"
POINTS = 10_000_000
RATE_HZ = 100
FIRST_S = 1_736_553_600
"""TAI seconds since 1970 of the first sample; UTC is 37 s less."""
MOST_MIB = 300


def lines() -> Iterator[str]:
    """Points of InfluxDB: the sender's time, and a value of which the expected sum is known."""
    for number in range(POINTS):
        second, rest = divmod(number, RATE_HZ)
        stamp = f"{FIRST_S + second}.{rest:02d}"
        utc_ns = (FIRST_S - 37 + second) * NS + rest * (NS // RATE_HZ)
        yield f"{TOPIC} private_sndStamp={stamp},actualPosition={number % 1000 / 8} {utc_ns}"


def fill_table(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute("CREATE SCHEMA efd")
        connection.execute(
            f'CREATE TABLE efd."{TOPIC}" AS SELECT '  # noqa: S608
            f"to_timestamp({FIRST_S - 37}) + n * interval '10 milliseconds' AS time, "
            f'({FIRST_S} + n / {RATE_HZ} + (n % {RATE_HZ}) / 100.0)::double precision AS "private_sndStamp", '
            '(n % 1000) / 8.0::double precision AS "actualPosition" '
            f"FROM generate_series(0, {POINTS} - 1) AS n"
        )
        connection.execute(f'CREATE INDEX ON efd."{TOPIC}" (time)')


@pytest.fixture(scope="module")
def daemon(postgresql: PostgresqlServer) -> Iterator[PantryDaemon]:
    with (
        tempfile.TemporaryDirectory(prefix="pty-") as directory,
        postgresql.database() as url,
        InfluxServer(Path(directory) / "influx") as influx,
    ):
        influx.write(lines(), batch=100_000)
        fill_table(url)
        common: dict[str, Any] = {"max_rows": 2 * POINTS, "timeout_s": 1800, "ttl_s": 60}
        services = {
            "base": {"root": influx.root, "options": influx.options, **common},
            "transformed": {**transformed(url)._asdict(), **common},
        }
        place = Path(directory) / "daemon"
        place.mkdir()
        with PantryDaemon(place, {"services": services}) as started:
            yield started
        assert started.unexpected_log_lines() == []


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


@pytest.mark.req("DMS-MWBT-REQ-0041")
def test_ten_million_points_from_both(daemon: PantryDaemon) -> None:
    question = TopicQuery(
        topic=TOPIC,
        fields=("actualPosition",),
        start_tai_ns=FIRST_S * NS,
        stop_tai_ns=(FIRST_S + POINTS // RATE_HZ) * NS,
        max_rows=2 * POINTS,
    )
    digests = []
    for service in ("base", "transformed"):
        connection = QueryService(service, socket=daemon.socket).connection
        answer, (fd,) = connection.call_with_fds(RunQuery(service=service, question=question))
        connection.close()
        try:
            state, rows, total = xxhash.xxh3_128(), 0, 0.0
            with pq.ParquetFile(f"/proc/self/fd/{fd}") as parquet:
                for batch in parquet.iter_batches(batch_size=100_000):
                    times = batch.column("time").cast("int64").to_numpy()
                    values = batch.column("actualPosition").to_numpy()
                    assert times[0] // (NS // RATE_HZ) == (FIRST_S * RATE_HZ) + rows
                    assert (np.diff(times) > 0).all()
                    state.update(times)
                    state.update(values)
                    rows += len(values)
                    total += float(values.sum())
        finally:
            os.close(fd)
        peak = peak_mib(daemon.pid)
        print(f"{service}: {answer.size_bytes / 2**20:.0f} MiB of Parquet, the daemon's peak {peak:.0f} MiB")
        assert rows == POINTS
        assert total == POINTS // 1000 * sum(range(1000)) / 8
        assert peak < MOST_MIB
        digests.append(state.hexdigest())
    assert digests[0] == digests[1]
