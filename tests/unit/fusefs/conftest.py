from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.fusefs.fake import FakeDaemon


@pytest.fixture
def daemon(tmp_path: Path) -> FakeDaemon:
    return FakeDaemon(tmp_path)
