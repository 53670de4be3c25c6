from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.postgresql import PostgresqlServer
from tests.unit.registry.world import create, fill, sqlite_url

from pantry.daemon.registry import Registry


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_url(tmp_path)
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with server.database() as url:
        yield url


@pytest.fixture
def empty(registry_url: str) -> Iterator[Registry]:
    registry = create(registry_url)
    yield registry
    registry.close()


@pytest.fixture
def registry(empty: Registry) -> Registry:
    fill(empty)
    return empty
