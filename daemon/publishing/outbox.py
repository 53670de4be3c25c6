"""What is to be published, kept until a service has accepted it; survives kill -9.

A publication is *begun* before its dataset is committed, *waiting* from the commit on, and then *accepted*, *refused*,
or *unknown*: nobody knows whether the service did it, and the target's configuration says that an operator must look.
Where the commit waits for the service, it is *sending* before; an *orphan* may have been accepted by the service, but
the dataset was never committed. What a start finds begun is decided by
the registry, as the journal's intents are: the dataset is there, or it is not.

All of it is in one SQLite file of the state directory. Changes that wait at the same time share one fsync.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import trio

from pantry.wire.operations.publishing import PublicationState

T = TypeVar("T")

HISTORY_S = 30 * 86_400
"""How long it is remembered what was accepted, in seconds."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS publication (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL,
    dataset BLOB NOT NULL,
    repository TEXT NOT NULL,
    dataset_type TEXT NOT NULL,
    uid INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    parts_done INTEGER NOT NULL DEFAULT 0,
    next_ns INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    status INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT '',
    undo_path TEXT NOT NULL DEFAULT '',
    UNIQUE (target, dataset)
);
CREATE INDEX IF NOT EXISTS publication_due ON publication (target, state, next_ns);
"""
_COLUMNS = (
    "id, target, dataset, repository, dataset_type, uid, state, attempts, parts_done, next_ns, created_ns,"
    " changed_ns, status, problem, undo_path"
)


_TO_DO = "(state = 'waiting' OR (state = 'orphan' AND undo_path != ''))"


class Entry(NamedTuple):
    """One dataset for one target.

    Attributes
    ----------
    id : int
        In the outbox.
    target : str
        Name of the target.
    dataset : bytes
        The dataset's id, 16 bytes.
    repository, dataset_type : str
        Where and what it is.
    uid : int
        Who wanted it published.
    state : str
        See the module.
    attempts : int
        How often it was tried.
    parts_done : int
        How many of its requests were accepted.
    next_ns, created_ns, changed_ns : int
        When it is tried next, was begun, and changed last; nanoseconds since 1970 UTC.
    status : int
        Of the last answer; 0 for none.
    problem : str
        What went wrong last.
    undo_path : str
        Of an orphan: path and query by which the service can remove it; empty if it is left to people.
    """

    id: int
    target: str
    dataset: bytes
    repository: str
    dataset_type: str
    uid: int
    state: PublicationState
    attempts: int
    parts_done: int
    next_ns: int
    created_ns: int
    changed_ns: int
    status: int
    problem: str
    undo_path: str


class NewEntry(NamedTuple):
    """What is to be published; fields as of `Entry`."""

    target: str
    dataset: bytes
    repository: str
    dataset_type: str
    uid: int


class _Wish:
    """A change or question that waits for its turn."""

    def __init__(self, func: Callable[[sqlite3.Connection], Any]) -> None:
        self.func = func
        self.done = trio.Event()
        self.result: Any = None
        self.error: Exception | None = None


class Outbox:
    """The file of publications; made by `running_outbox`."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        self._wishes: list[_Wish] = []
        self._wake = trio.Event()

    def close(self) -> None:
        """Do what still waits, and close the file."""
        self._do(self._wishes)
        self._db.close()

    async def run(self) -> None:
        """Do what is wished for, in batches, for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            wishes, self._wishes = self._wishes, []
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._do, wishes)
            for wish in wishes:
                wish.done.set()

    def _do(self, wishes: list[_Wish]) -> None:
        if not wishes:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for wish in wishes:
                self._db.execute("SAVEPOINT wish")
                try:
                    wish.result = wish.func(self._db)
                except Exception as exc:
                    self._db.execute("ROLLBACK TO wish")
                    wish.error = exc
                self._db.execute("RELEASE wish")
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            for wish in wishes:
                wish.error = wish.error or exc
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    async def _ask(self, func: Callable[[sqlite3.Connection], T]) -> T:
        wish = self._wish(func)
        # Not cancellable: what may have become durable is the caller's to take back.
        with trio.CancelScope(shield=True):
            await wish.done.wait()
        if wish.error is not None:
            raise wish.error
        return cast(T, wish.result)

    def _wish(self, func: Callable[[sqlite3.Connection], Any]) -> _Wish:
        wish = _Wish(func)
        self._wishes.append(wish)
        self._wake.set()
        return wish

    # -- changes -----------------------------------------------------------------------------------

    async def add(self, entries: Sequence[NewEntry], state: PublicationState) -> list[int]:
        """Return the numbers of these publications when they are durable.

        One that is there already keeps its state, unless it had failed for good: then it begins anew.
        """
        return await self._ask(partial(_add, entries, state))

    async def change(self, ids: Iterable[int], state: PublicationState, **columns: int | str) -> int:
        """Give publications another state, and other columns new values; returns how many there were."""
        return await self._ask(partial(_change, tuple(ids), state, columns))

    def committed(self, ids: Iterable[int], accepted: Collection[int] = ()) -> None:
        """Let begun publications be sent, soon: a start that finds them begun asks the registry."""
        now = time.time_ns()
        wanted = [("accepted" if one in accepted else "waiting", now, one) for one in ids]
        asked = "UPDATE publication SET state = ?, changed_ns = ? WHERE id = ? AND state IN ('begun', 'sending')"
        self._wish(lambda db: db.executemany(asked, wanted))

    async def withdraw(self, ids: Iterable[int], orphans: Mapping[int, str] = {}) -> None:
        """Forget publications that are only begun; those that a service may have become orphans, for a reason."""
        now = time.time_ns()
        lost = [(now, now, problem, one) for one, problem in orphans.items()]
        wanted = [(one,) for one in ids]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                "UPDATE publication SET state = 'orphan', changed_ns = ?, next_ns = ?, problem = ? WHERE id = ?", lost
            )
            db.executemany("DELETE FROM publication WHERE id = ? AND state IN ('begun', 'sending')", wanted)

        await self._ask(work)

    async def remove(self, ids: Iterable[int]) -> None:
        """Forget publications."""
        wanted = [(one,) for one in ids]
        await self._ask(lambda db: db.executemany("DELETE FROM publication WHERE id = ?", wanted))

    async def prune(self) -> None:
        """Forget what was accepted long ago."""
        before = time.time_ns() - HISTORY_S * 1_000_000_000
        await self._ask(
            lambda db: db.execute("DELETE FROM publication WHERE state = 'accepted' AND changed_ns < ?", (before,))
        )

    async def again(self, uid: int | None, target: str) -> list[str]:
        """Let all failed and waiting publications begin anew; returns a target's name for each of them."""
        states: tuple[PublicationState, ...] = ("waiting", "refused", "unknown")
        conditions, values = _conditions(uid, target, states)
        now = time.time_ns()
        asked = (
            "UPDATE publication SET state = 'waiting', next_ns = ?, created_ns = ?, changed_ns = ?, attempts = 0"  # noqa: S608
            f" WHERE {conditions} RETURNING target"
        )
        rows = await self._ask(lambda db: db.execute(asked, (now, now, now, *values)).fetchall())
        return [row[0] for row in rows]

    async def part_done(self, id_: int, parts_done: int) -> None:
        """Remember that so many requests of a publication were accepted."""
        await self._ask(lambda db: db.execute("UPDATE publication SET parts_done = ? WHERE id = ?", (parts_done, id_)))

    # -- questions ---------------------------------------------------------------------------------

    async def due(self, target: str, now_ns: int, limit: int) -> list[Entry]:
        """Return waiting publications whose time has come, the one that waits longest first."""
        where = f"target = ? AND {_TO_DO} AND next_ns <= ? ORDER BY next_ns, id LIMIT ?"
        return await self._entries(where, (target, now_ns, limit))

    async def next_due_ns(self, target: str, now_ns: int) -> int | None:
        """Return when the next one of a target comes after ``now_ns``, nanoseconds since 1970 UTC; None if none."""
        asked = f"SELECT min(next_ns) FROM publication WHERE target = ? AND {_TO_DO} AND next_ns > ?"  # noqa: S608
        found: int | None = await self._ask(lambda db: db.execute(asked, (target, now_ns)).fetchone()[0])
        return found

    async def begun(self) -> list[Entry]:
        """Return all publications whose dataset was not known as committed, oldest first."""
        return await self._entries("state IN ('begun', 'sending') ORDER BY id", ())

    async def by_id(self, ids: Iterable[int]) -> dict[int, Entry]:
        """Return publications by their numbers."""
        wanted = tuple(ids)
        found: dict[int, Entry] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ", ".join("?" * len(part))
            found.update({one.id: one for one in await self._entries(f"id IN ({marks})", part)})
        return found

    async def listed(self, uid: int | None, target: str, states: Sequence[PublicationState], limit: int) -> list[Entry]:
        """Return publications of one user, or with None of all, newest change first."""
        conditions, values = _conditions(uid, target, states)
        return await self._entries(f"{conditions} ORDER BY changed_ns DESC, id DESC LIMIT ?", (*values, limit))

    async def counts(self, uid: int | None, target: str) -> list[tuple[str, PublicationState, int]]:
        """Return for each target and state how many publications there are."""
        conditions, values = _conditions(uid, target, ())
        asked = f"SELECT target, state, count(*) FROM publication WHERE {conditions} GROUP BY 1, 2 ORDER BY 1, 2"  # noqa: S608
        return await self._ask(lambda db: db.execute(asked, values).fetchall())

    async def _entries(self, where: str, values: Sequence[Any]) -> list[Entry]:
        # Only our own text and marks for values go into it.
        asked = f"SELECT {_COLUMNS} FROM publication WHERE {where}"  # noqa: S608
        return await self._ask(lambda db: [Entry(*row) for row in db.execute(asked, values)])


def _conditions(uid: int | None, target: str, states: Sequence[PublicationState]) -> tuple[str, tuple[Any, ...]]:
    conditions, values = ["1 = 1"], []
    for condition, value in (("uid = ?", uid), ("target = ?", target or None)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if states:
        conditions.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    return " AND ".join(conditions), tuple(values)


def _add(entries: Sequence[NewEntry], state: PublicationState, db: sqlite3.Connection) -> list[int]:
    now = time.time_ns()
    found = []
    for one in entries:
        db.execute(
            "INSERT INTO publication (target, dataset, repository, dataset_type, uid, state, next_ns, created_ns,"
            " changed_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (target, dataset) DO UPDATE SET"
            " state = excluded.state, uid = excluded.uid, repository = excluded.repository, attempts = 0,"
            " next_ns = excluded.next_ns, created_ns = excluded.created_ns, changed_ns = excluded.changed_ns,"
            " status = 0, problem = '' WHERE state IN ('refused', 'unknown', 'orphan')",
            (*one, state, now, now, now),
        )
        row = db.execute("SELECT id FROM publication WHERE target = ? AND dataset = ?", one[:2]).fetchone()
        found.append(row[0])
    return found


def _change(ids: Sequence[int], state: PublicationState, columns: dict[str, int | str], db: sqlite3.Connection) -> int:
    names = ["state", "changed_ns", *columns]
    assignments = ", ".join(f"{name} = ?" for name in names)
    values = (state, time.time_ns(), *columns.values())
    asked = f"UPDATE publication SET {assignments} WHERE id = ?"  # noqa: S608 - names of our own columns
    return sum(db.execute(asked, (*values, one)).rowcount for one in ids)


@asynccontextmanager
async def running_outbox(path: str) -> AsyncIterator[Outbox]:
    """Open the outbox and own the task that writes it."""
    outbox = Outbox(path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outbox.run)
            yield outbox
            nursery.cancel_scope.cancel()
    finally:
        outbox.close()
