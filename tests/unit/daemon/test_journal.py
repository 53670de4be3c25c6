"""The journal's file: what is in it after a crash, and how much is on the disk from the beginning."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pantry.daemon.journal import ROOM_PAGES, Intent, Journal, Target, opened_journal

PAGE_BYTES = 4096


def intent(number: int) -> Intent:
    return Intent(f"{number:032x}", (Target("survey", f"run/log/{number}.json", bytes(16), 1),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite3"


def crashed(path: Path) -> Path:
    """Give what a daemon that was killed now would leave."""
    left = path.parent / "left"
    left.mkdir()
    for one in path.parent.glob("journal.sqlite3*"):
        shutil.copy(one, left / one.name)
    return left / path.name


def test_intents_survive_a_crash_until_they_are_cleared(path: Path) -> None:
    with opened_journal(str(path)) as journal:
        journal.record_all([intent(1), intent(2)])
        journal.clear(intent(1).token)
        journal.record_all([intent(3)])
        with opened_journal(str(crashed(path))) as left:
            assert left.pending() == [intent(2), intent(3)]


def test_the_log_does_not_grow(path: Path) -> None:
    log = path.with_name(path.name + "-wal")
    with opened_journal(str(path)) as journal:
        begun_bytes = log.stat().st_size
        assert begun_bytes > ROOM_PAGES * PAGE_BYTES
        for number in range(ROOM_PAGES):
            journal.record_all([intent(number)])
            journal.clear(intent(number).token)
        assert log.stat().st_size == begun_bytes
    # What was only room is used again by the next one.
    size_bytes = path.stat().st_size
    with opened_journal(str(path)):
        assert path.stat().st_size == size_bytes


@contextmanager
def short_files(most_bytes: int) -> Iterator[None]:
    """Let files become no longer, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_without_room_is_no_reason_not_to_begin(path: Path) -> None:
    with opened_journal(str(path)) as journal:
        journal.record_all([intent(1)])
        left = crashed(path)
    with short_files(ROOM_PAGES * PAGE_BYTES // 2):
        journal = Journal(str(left))
        assert journal.pending() == [intent(1)]
        journal.record_all([intent(2)])
        journal.close()
    with opened_journal(str(left)) as journal:
        assert journal.pending() == [intent(1), intent(2)]
