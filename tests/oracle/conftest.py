from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.oracle.asking import GenThreeButler


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenThreeButler]:
    """The Gen3 Butler in a process of its own."""
    made = GenThreeButler(tmp_path_factory.mktemp("oracle") / "worker.log")
    yield made
    made.close()
