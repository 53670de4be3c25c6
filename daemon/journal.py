"""The journal of writes under way: what makes `put` and `ingest` all-or-nothing under kill -9.

Before anything is stored an `Intent` is made durable here. When the registry has committed, the
intent is cleared. An intent that a start finds belongs to a write that was cut off: for each of its
targets the registry says whether the dataset was committed, and what was not is removed from the
storage. Recording is a group commit: all intents that wait share one fsync. Clearing is lazy, since
recovery finds a committed write committed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import trio

CLEAR_AT_ONCE = 64
"""Cleared intents that may wait for a write; a start after a crash looks each of them up."""


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
    """

    token: str
    targets: tuple[Target, ...]
    failed: bool = False


class _Wish:
    """An intent waiting to become durable."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.done = trio.Event()
        self.error: BaseException | None = None


class Journal:
    """Intents in a SQLite file of the state directory; made by `running_journal`."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS intent (token TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID")
        self._wishes: list[_Wish] = []
        self._cleared: list[str] = []
        self._wake = trio.Event()

    def close(self) -> None:
        """Clear what is to be cleared and close the file."""
        self._write([], self._cleared)
        self._db.close()

    def pending(self) -> list[Intent]:
        """Return the intents of writes that were cut off."""
        rows = self._db.execute("SELECT body FROM intent ORDER BY token").fetchall()
        return [msgspec.msgpack.decode(body, type=Intent) for (body,) in rows]

    async def record(self, intent: Intent) -> None:
        """Return when ``intent`` is durable, in place of an earlier one of this token."""
        wish = _Wish(intent)
        self._wishes.append(wish)
        self._wake.set()
        # Not cancellable: an intent that may have become durable is the caller's to clear.
        with trio.CancelScope(shield=True):
            await wish.done.wait()
        if wish.error is not None:
            raise wish.error

    def clear(self, token: str, *, at_once: bool = False) -> None:
        """Forget an intent, some time soon: with the next one recorded, or when many have gathered."""
        self._cleared.append(token)
        if at_once or len(self._cleared) >= CLEAR_AT_ONCE:
            self._wake.set()

    async def run(self) -> None:
        """Write wishes and clearings in batches, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            wishes, self._wishes = self._wishes, []
            cleared, self._cleared = self._cleared, []
            error: BaseException | None = None
            try:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._write, wishes, cleared)
            except sqlite3.Error as exc:
                error = exc
                self._cleared += cleared
            for wish in wishes:
                wish.error = error
                wish.done.set()

    def _write(self, wishes: list[_Wish], cleared: list[str]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(
                "INSERT OR REPLACE INTO intent VALUES (?, ?)",
                [(wish.intent.token, msgspec.msgpack.encode(wish.intent)) for wish in wishes],
            )
            self._db.executemany("DELETE FROM intent WHERE token = ?", [(token,) for token in cleared])
            self._db.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise


@asynccontextmanager
async def running_journal(path: str) -> AsyncIterator[Journal]:
    """Open the journal and own the task that writes it."""
    journal = Journal(path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.run)
            yield journal
            nursery.cancel_scope.cancel()
    finally:
        journal.close()
