"""Files in memory and files without names are counted as long as anybody has them open."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.daemon.cache.account import Account, Reservation
from pantry.daemon.cache.backing import MemoryBacking
from pantry.daemon.cache.leases import LingeringFiles
from pantry.daemon.cache.memory import MemoryStore, reopen
from pantry.daemon.cache.object_id import ObjectId
from pantry.errors import CacheFullError

PAGE = 4096
LIMIT = 10 * PAGE
TAKEN = 6 * PAGE
ONE = ObjectId("realm", "1" * 32)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    made = MemoryStore(LIMIT)
    yield made
    made.close()
    assert made.used_bytes == 0


def written(store: MemoryStore, content: bytes) -> MemoryBacking:
    backing = MemoryBacking(store, len(content))
    reservation = backing.reserve(len(content))
    os.pwrite(backing.fd, content, 0)
    reservation.use(len(content))
    return backing


def test_a_kept_file_is_shared_and_goes_with_its_last_reader(store: MemoryStore) -> None:
    written(store, b"x" * TAKEN).publish(ONE, TAKEN, "name")
    readers = [store.open(ONE), store.open(ONE)]
    for reader in readers:
        assert reader is not None
        assert os.pread(reader, LIMIT, 0) == b"x" * TAKEN
        store.settle()
        assert store.used_bytes == TAKEN
        os.close(reader)
    assert ONE in store
    store.settle()
    assert ONE not in store
    assert store.open(ONE) is None
    assert store.used_bytes == 0


def test_a_mapped_file_counts_as_open(store: MemoryStore) -> None:
    written(store, b"x" * TAKEN).publish(ONE, TAKEN, "name")
    reader = store.open(ONE)
    assert reader is not None
    mapped = mmap.mmap(reader, TAKEN, prot=mmap.PROT_READ)
    os.close(reader)
    store.settle()
    assert store.used_bytes == TAKEN
    assert mapped[:2] == b"xx"
    mapped.close()
    store.settle()
    assert store.used_bytes == 0


def test_room_is_found_by_letting_go_what_nobody_reads(store: MemoryStore) -> None:
    written(store, b"x" * TAKEN).publish(ONE, TAKEN, "name")
    reader = store.open(ONE)
    assert reader is not None
    with pytest.raises(CacheFullError, match=f"{4 * PAGE + 1} bytes"):
        store.reserve(4 * PAGE + 1)
    os.close(reader)
    store.reserve(4 * PAGE + 1).release()
    assert (store.used_bytes, store.reserved_bytes) == (0, 0)


def test_what_is_given_up_stays_counted_while_it_is_read(store: MemoryStore) -> None:
    backing = written(store, b"x" * TAKEN)
    reader = reopen(backing.fd)
    backing.discard(TAKEN)
    assert store.used_bytes == TAKEN
    os.close(reader)
    store.settle()
    assert store.used_bytes == 0


def test_nobody_can_write_to_a_kept_file(store: MemoryStore) -> None:
    backing = written(store, b"x" * TAKEN)
    writer = os.dup(backing.fd)
    backing.publish(ONE, TAKEN, "name")
    with pytest.raises(PermissionError):
        os.pwrite(writer, b"y", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(writer, 10)
    os.close(writer)


def test_the_same_content_twice_is_kept_once(store: MemoryStore) -> None:
    for _ in range(2):
        written(store, b"x" * 4 * PAGE).publish(ONE, 4 * PAGE, "name")
    store.settle()
    assert store.used_bytes == 0


def test_an_unlinked_file_stays_counted_while_it_is_open(tmp_path: Path) -> None:
    account = Account()
    lingering = LingeringFiles(account)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300)
    Reservation(account, 300).use(300)
    with path.open("rb") as reader:
        lingering.unlink(str(path), 300)
        assert not path.exists()
        lingering.settle()
        assert (account.used_bytes, lingering.size_bytes) == (300, 300)
        assert reader.read() == b"x" * 300
    lingering.settle()
    assert (account.used_bytes, len(lingering)) == (0, 0)


def test_a_closed_or_missing_file_is_free_at_once(tmp_path: Path) -> None:
    account = Account()
    account.used_bytes = 500
    lingering = LingeringFiles(account)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300)
    lingering.unlink(str(path), 300)
    lingering.unlink(str(tmp_path / "missing"), 200)
    assert (account.used_bytes, len(lingering)) == (0, 0)
