from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from tests.unit.registry.world import create, fill, sqlite_url

from pantry.daemon.registry import Registry

# A server where databases may be made, e.g. postgresql+psycopg://postgres@127.0.0.1/postgres.
POSTGRESQL = os.environ.get("PANTRY_TEST_POSTGRESQL", "")


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    name = f"test_{uuid4().hex}"
    engine = sa.create_engine(POSTGRESQL, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
        yield sa.make_url(POSTGRESQL).set(database=name).render_as_string(hide_password=False)
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def empty(registry_url: str) -> Iterator[Registry]:
    registry = create(registry_url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    fill(empty)
    return empty
