"""A base and a transformed EFD with the same data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
import yaml
from tests.servers.efd_data import descriptions, fill_influx, fill_postgresql
from tests.servers.influxdb import InfluxServer
from tests.servers.postgresql import PostgresqlServer

LENGTH_S = 12.0
"""Of each night in the tests' databases, around its middle."""


class Service(NamedTuple):
    """Where an EFD is, and how the backend reaches it."""

    root: str
    options: dict[str, Any]


class EfdPair(NamedTuple):
    """Both kinds.

    Attributes
    ----------
    base, transformed : Service
        Of `pantry.backends.efd`.
    influx : InfluxServer
        Of ``base``.
    url : str
        SQLAlchemy URL of ``transformed``.
    """

    base: Service
    transformed: Service
    influx: InfluxServer
    url: str

    def services(self) -> dict[str, Service]:
        return {"base": self.base, "transformed": self.transformed}


@contextmanager
def efd_pair(directory: Path, postgresql: PostgresqlServer, *, length_s: float = LENGTH_S) -> Iterator[EfdPair]:
    """Start an InfluxDB, make a database in PostgreSQL, and fill both."""
    file = directory / "descriptions.yaml"
    file.write_text(yaml.safe_dump(descriptions()))
    with InfluxServer(directory / "influx") as influx, postgresql.database() as url:
        fill_influx(influx, length_s)
        fill_postgresql(url, length_s)
        yield EfdPair(
            base=Service(influx.root, {**influx.options, "descriptions": str(file)}),
            transformed=transformed(url, topics_table="topics", fields_table="fields"),
            influx=influx,
            url=url,
        )


def transformed(url: str, **options: Any) -> Service:
    """Return the service of a database in PostgreSQL."""
    where = sa.make_url(url)
    return Service(
        f"efd+postgresql://{where.host}:{where.port}/{where.database}",
        {"username": where.username, "password": where.password, **options},
    )
