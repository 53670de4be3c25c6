"""Tests at once, and a quiet one alone."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.quiet import Room

PROJECT = Path(__file__).parents[2]

_CONFTEST = """
from tests import quiet

def pytest_configure(config):
    config.addinivalue_line("markers", "quiet: alone")
    quiet.register(config)
"""

# Each names itself while it runs; a quiet one waits for company that must not come, others for each other.
_TESTS = """
import os, time
import pytest
from pathlib import Path

here = Path(__file__).parent / "here"
begun = Path(__file__).parent / "begun"

def others():
    return [name for name in os.listdir(here) if name != str(os.getpid())]

@pytest.fixture(autouse=True)
def named():
    path = here / str(os.getpid())
    path.touch()
    yield
    path.unlink()

@pytest.mark.parametrize("number", range(8))
def test_in_company(number):
    (begun / str(os.getpid())).touch()
    deadline = time.monotonic() + 20
    while len(os.listdir(begun)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.001)

@pytest.mark.quiet
@pytest.mark.parametrize("number", range(8))
def test_alone(number):
    for _ in range(10):
        assert others() == []
        time.sleep(0.001)
"""


def test_one_alone_waits_for_all_and_is_not_overtaken(tmp_path: Path) -> None:
    seen: list[str] = []
    rooms = [Room(tmp_path) for _ in range(3)]
    inside = threading.Event()

    def enter(room: Room, name: str, *, alone: bool) -> None:
        with room.taken(alone=alone):
            seen.append(name)

    with rooms[0].taken(alone=False):
        with rooms[1].taken(alone=False):
            inside.set()  # two share it
        alone = threading.Thread(target=enter, args=(rooms[1], "alone"), kwargs={"alone": True})
        alone.start()
        while not rooms[2].has_somebody_waiting():
            assert alone.is_alive()
        late = threading.Thread(target=enter, args=(rooms[2], "late"), kwargs={"alone": False})
        late.start()
        assert seen == []
    alone.join(10)
    late.join(10)
    assert inside.is_set()
    assert seen == ["alone", "late"]
    for room in rooms:
        room.close()


def test_workers_leave_a_quiet_test_alone(tmp_path: Path) -> None:
    for name in ("here", "begun"):
        (tmp_path / name).mkdir()
    (tmp_path / "conftest.py").write_text(_CONFTEST)
    (tmp_path / "test_it.py").write_text(_TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)],
        env={**environment, "PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "16 passed" in done.stdout
    assert list(tmp_path.glob("pty-quiet-*")) == []
