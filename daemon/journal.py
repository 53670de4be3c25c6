"""The journal of writes and removals under way: what makes `put`, `ingest` and `delete` all-or-nothing under kill -9.

Before anything is stored an `Intent` is made durable here. When the registry has committed, the
intent is cleared. An intent that a start finds belongs to a write that was cut off: for each of its
targets the registry says whether the dataset was committed, and what was not is removed from the
storage. Recording is a group commit: all intents that wait share one fsync. Clearing is lazy, with the
next intent recorded, since recovery finds a committed write committed. The intent of a removal says where files are
to be deleted; it is cleared when they are gone.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import msgspec
import trio

from pantry.daemon.group_commit import GroupCommit

MAX_INTENTS = 256
"""Intents that share one fsync."""

ROOM_PAGES = 512
"""Pages of the write-ahead log that are on the disk from the beginning: to wait for data in the place of other data
takes half as long as for a file that grows, since the file system has nothing to note."""

_CHECKPOINT_PAGES = ROOM_PAGES // 2
_PAGE_BYTES = 4096

log = logging.getLogger(__name__)


class Target(msgspec.Struct, frozen=True, array_like=True):
    """One object to be stored.

    Attributes
    ----------
    repository : str
        Name in the site index.
    key : str
        In the repository's storage.
    dataset : bytes
        The dataset's id, 16 bytes.
    ingest_ns : int
        `StoredFile.ingest_ns` of what this write registers: a row with another time is of another write. 0 if the
        targets are all of one registry transaction, and nothing that it holds is ever taken back.
    """

    repository: str
    key: str
    dataset: bytes
    ingest_ns: int = 0


class Intent(msgspec.Struct, frozen=True, array_like=True):
    """What one put or ingest is about to store.

    Attributes
    ----------
    token : str
        Marks the objects in the storage as this intent's.
    targets : tuple of Target
        All of it; all or none.
    failed : bool
        Whether the caller was told that it failed: nothing of it may remain, even if every registry has its part.
    removal : bool
        Whether datasets are deleted: the one target names only the repository, whose registry knows which files go.
    """

    token: str
    targets: tuple[Target, ...]
    failed: bool = False
    removal: bool = False


class _Wish:
    """An intent waiting to become durable; None for one who waits that others are forgotten."""

    __slots__ = ("error", "intent")

    def __init__(self, intent: Intent | None) -> None:
        self.intent = intent
        self.error: BaseException | None = None


class Journal:
    """Intents in a SQLite file of the state directory; made by `opened_journal`."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS intent (token TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")
        self._make_room()
        self._group = GroupCommit(self._commit, most=MAX_INTENTS)
        self._cleared: deque[str] = deque()

    def close(self) -> None:
        """Clear what is to be cleared and close the file."""
        self._group.close()
        self._write([], list(self._cleared))
        self._db.close()

    def _make_room(self) -> None:
        """Let the write-ahead log have its final length, by writing so much and forgetting it."""
        self._db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("CREATE TABLE room (body BLOB)")
            self._db.execute("INSERT INTO room VALUES (zeroblob(?))", (ROOM_PAGES * _PAGE_BYTES,))
            self._db.execute("DROP TABLE room")
            self._db.execute("COMMIT")
            self._db.execute("PRAGMA wal_checkpoint(RESTART)")
        except sqlite3.OperationalError as exc:
            # A full disk: without room there is more to wait for, and no more than that.
            log.info("the journal gets no room of its own: %s", exc)
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def pending(self) -> list[Intent]:
        """Return the intents of writes that were cut off."""
        rows = self._db.execute("SELECT body FROM intent ORDER BY token").fetchall()
        return [msgspec.msgpack.decode(body, type=Intent) for (body,) in rows]

    def without(self, repository: str, datasets: Collection[bytes]) -> list[Intent]:
        """Give the writes to several repositories that stored one of these datasets there, without that repository.

        A write that is committed and not settled must not look like one that was cut off when what it stored in one of
        its repositories is deleted. For worker threads.
        """
        changed = []
        for intent in self.pending():
            others = tuple(target for target in intent.targets if target.repository != repository)
            there = {target.dataset for target in intent.targets if target.repository == repository}
            if others and not intent.failed and not there.isdisjoint(datasets):
                changed.append(msgspec.structs.replace(intent, targets=others))
        return changed

    async def record(self, intent: Intent) -> None:
        """Return when ``intent`` is durable, in place of an earlier one of this token."""
        # In a thread that is not left behind: an intent that may have become durable is the caller's to clear.
        await trio.to_thread.run_sync(partial(self.record_all, [intent]))

    def record_all(self, intents: Sequence[Intent]) -> None:
        """Return when all ``intents`` are durable; for worker threads."""
        wishes = [_Wish(intent) for intent in intents]
        if not self._group.run(wishes):
            raise sqlite3.ProgrammingError("the journal is closed")
        for wish in wishes:
            if wish.error is not None:
                raise wish.error

    def clear(self, token: str) -> None:
        """Forget an intent, some time soon: with the next one recorded, or at the end."""
        self._cleared.append(token)

    async def clear_now(self, token: str) -> None:
        """Forget an intent, and return when that is durable."""
        self._cleared.append(token)
        await trio.to_thread.run_sync(self._flush)

    def _flush(self) -> None:
        self._group.run([_Wish(None)])

    def _commit(self, wishes: list[_Wish]) -> None:
        # Other threads may append meanwhile: those come with the next.
        cleared = [self._cleared.popleft() for _ in range(len(self._cleared))]
        try:
            self._write([wish.intent for wish in wishes if wish.intent is not None], cleared)
        except BaseException as exc:
            self._cleared.extend(cleared)
            for wish in wishes:
                wish.error = exc

    def _write(self, intents: Sequence[Intent], cleared: Sequence[str]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT OR REPLACE INTO intent VALUES (?, ?)",
                [(intent.token, msgspec.msgpack.encode(intent)) for intent in intents],
            )
            self._db.executemany("DELETE FROM intent WHERE token = ?", [(token,) for token in cleared])
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


@contextmanager
def opened_journal(path: str) -> Iterator[Journal]:
    """Open the journal, and close it in the end."""
    journal = Journal(path)
    try:
        yield journal
    finally:
        journal.close()
