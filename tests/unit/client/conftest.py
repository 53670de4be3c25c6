from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.fake_daemon import Answer, FakeDaemon
from tests.unit.client.fake_repository import FakeRepository

from pantry.client import Butler


def open_descriptors() -> int:
    """Count this process's descriptors."""
    return len(os.listdir("/proc/self/fd"))


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it is so; the fake daemon's threads share this process and may be behind."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., FakeDaemon]]:
    made: list[FakeDaemon] = []

    def make(answer: Answer, **options: Any) -> FakeDaemon:
        made.append(FakeDaemon(str(tmp_path / f"s{len(made)}"), answer, **options))
        return made[-1]

    yield make
    for daemon in made:
        daemon.close()
        assert daemon.errors == []


@pytest.fixture
def repository(tmp_path: Path) -> FakeRepository:
    (tmp_path / "files").mkdir()
    made = FakeRepository(str(tmp_path / "files"))
    made.add_type("config", ("instrument", "detector"), "StructuredDataDict")
    made.add_type("blob", ("instrument", "detector"), "Bytes")
    made.add_type("image", ("instrument", "detector"), "FitsArray")
    return made


@pytest.fixture
def daemon(make_daemon: Callable[..., FakeDaemon], repository: FakeRepository) -> FakeDaemon:
    return make_daemon(repository)


@pytest.fixture
def butler(daemon: FakeDaemon) -> Iterator[Butler]:
    with Butler("r", run="u/run", socket=daemon.path) as made:
        yield made
