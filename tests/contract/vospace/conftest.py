"""People who ask the VOSpace test server, each test below a container of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import pytest
from tests.contract.vospace.asker import Asker
from tests.servers.vospace import VospaceServer

_numbers = itertools.count()


@pytest.fixture
def root(vospace: VospaceServer) -> Iterator[str]:
    """A container that is readable by all and its owner's; the server's habits are plain again afterwards."""
    path = f"clauses-{next(_numbers)}"
    vospace.make_containers(path)
    yield path
    vospace.set_dialect()


@pytest.fixture
def owner(vospace: VospaceServer, root: str) -> Iterator[Asker]:
    with Asker(vospace, vospace.owner, root) as asker:
        yield asker


@pytest.fixture
def others(vospace: VospaceServer, root: str) -> Iterator[dict[str, Asker]]:
    people = {"member": vospace.member, "stranger": vospace.stranger, "anonymous": None}
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(Asker(vospace, person, root)) for name, person in people.items()}
