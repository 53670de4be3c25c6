"""The index of a bundle: one SQLite file, which many processes may read and write at once.

No daemon guards it: what may be written is for the file system to say. SQLite's rollback journal, and not its
write-ahead log, so that it also works on network file systems and read-only media. Writers wait for one another on a
lock of their own: SQLite's own waiting is a poll, under which the slowest of many processes may starve.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

from pantry.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    LimitExceededError,
    NotFoundError,
    PermissionDeniedError,
)

DIRECTORY = ".pantry-bundle"
"""Where a bundle keeps what is not data; no collection's name begins with a dot."""
FORMAT = 1
_FILE = "index.sqlite3"
_LOCK = "lock"
_WAIT_S = 60.0

_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE dataset_type (name TEXT PRIMARY KEY, definition BLOB NOT NULL, new INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE collection (
    name TEXT PRIMARY KEY, type TEXT NOT NULL, doc TEXT NOT NULL, children TEXT NOT NULL, new INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE record (
    element TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, new INTEGER NOT NULL, PRIMARY KEY (element, key)
) WITHOUT ROWID;
CREATE TABLE dataset (
    number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, dataset_type TEXT NOT NULL, run TEXT NOT NULL,
    data_id TEXT NOT NULL, path TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL, hash TEXT NOT NULL,
    formatter TEXT NOT NULL, ingest_ns INTEGER NOT NULL, modified_ns INTEGER NOT NULL, metadata BLOB,
    output INTEGER NOT NULL, UNIQUE (dataset_type, run, data_id)
);
CREATE TABLE member (
    collection TEXT NOT NULL, number INTEGER NOT NULL, begin_ns INTEGER, end_ns INTEGER,
    UNIQUE (collection, number, begin_ns)
);
CREATE TABLE quantum (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE quantum_dataset (
    dataset BLOB NOT NULL, quantum BLOB NOT NULL, kind INTEGER NOT NULL, PRIMARY KEY (dataset, kind, quantum)
) WITHOUT ROWID;
"""


class BundleIndex:
    """An open index; for all threads of one process, and of no use in a forked one.

    Parameters
    ----------
    directory : str
        The bundle's.

    Attributes
    ----------
    directory : str
        The bundle's, absolute.
    is_writable : bool
        Whether this process may write to it.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        self._own = os.path.join(self.directory, DIRECTORY)
        path = os.path.join(self._own, _FILE)
        if not os.path.isfile(path):
            raise NotFoundError(
                f"{self.directory} is not a bundle",
                hint="`pantry bundle create` makes one; a repository is called by its name, without slashes",
            )
        self.is_writable = os.access(path, os.W_OK) and os.access(self._own, os.W_OK)
        self._lock = threading.RLock()
        self._lock_fd = -1
        mode = "rw" if self.is_writable else "ro"
        with self._translated():
            self._database = sqlite3.connect(
                f"file:{quote(path)}?mode={mode}",
                uri=True,
                timeout=_WAIT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._check_format()
                # The index of somebody else runs nothing.
                self._database.execute("PRAGMA trusted_schema = OFF")
                # A process that is killed loses nothing; who loses power harvests what is whole.
                self._database.execute("PRAGMA synchronous = NORMAL")
                if self.is_writable:
                    self._database.execute("PRAGMA journal_mode = PERSIST")
            except BaseException:
                self._database.close()
                raise

    @classmethod
    def create(cls, directory: str, about: dict[str, bytes]) -> BundleIndex:
        """Make the index of a new bundle, complete or not at all; an existing one must be of the same repository."""
        own = os.path.join(os.path.abspath(directory), DIRECTORY)
        path = os.path.join(own, _FILE)
        os.makedirs(own, exist_ok=True)
        if not os.path.exists(path):
            draft = f"{path}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft)
            database = sqlite3.connect(draft, isolation_level=None)
            try:
                database.executescript("BEGIN;" + _SCHEMA)
                rows = {"format": str(FORMAT).encode(), "revision": b"0", **about}
                database.executemany("INSERT INTO about VALUES (?, ?)", rows.items())
                database.execute("COMMIT")
            finally:
                database.close()
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            os.unlink(draft)
        return cls(directory)

    def _check_format(self) -> None:
        try:
            (found,) = self._database.execute("SELECT value FROM about WHERE key = 'format'").fetchone()
        except (sqlite3.DatabaseError, TypeError):
            raise ConfigError(f"{self.directory}: its index cannot be read", hint="make the bundle anew") from None
        if int(found) > FORMAT:
            raise ConfigError(
                f"{self.directory} is a bundle of format {int(found)}; this Pantry knows up to {FORMAT}",
                hint="update Pantry here, or make the bundle with this version",
            )

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._database.close()
            if self._lock_fd >= 0:
                os.close(self._lock_fd)
                self._lock_fd = -1

    def disown(self) -> None:
        """Forget what a parent process opened; SQLite must not be touched after a fork, not even to close it."""
        self._lock = threading.RLock()
        _inherited.append(self._database)

    def path(self, name: str) -> str:
        """Return where a dataset's file is; a name that leads out of the bundle is refused, whoever made the index."""
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise IntegrityError(
                f"the bundle {self.directory} has a dataset whose file {name[:200]!r} would be outside of it",
                hint="do not use this bundle: it was not made by Pantry, or is damaged",
            )
        return os.path.join(self.directory, *parts)

    # -- reading and writing ------------------------------------------------------------------------

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read all rows."""
        with self._lock, self._translated():
            return self._database.execute(statement, values).fetchall()

    def row(self, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Read the first row."""
        with self._lock, self._translated():
            found: tuple[Any, ...] | None = self._database.execute(statement, values).fetchone()
            return found

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Change one thing, inside of `writing`; gives how many rows."""
        return self._database.execute(statement, values).rowcount

    def run_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        """Change many, inside of `writing`; gives how many rows."""
        return self._database.executemany(statement, rows).rowcount

    def about(self, key: str) -> bytes:
        """Read what the bundle says of itself; empty if it does not."""
        row = self.row("SELECT value FROM about WHERE key = ?", (key,))
        return b"" if row is None else bytes(row[0])

    @property
    def revision(self) -> int:
        """Another number after each change of dataset types, collections or records."""
        return int(self.about("revision"))

    def revise(self) -> None:
        """Say that definitions have changed, inside of `writing`."""
        self.run("UPDATE about SET value = CAST(CAST(value AS INTEGER) + 1 AS BLOB) WHERE key = 'revision'")

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Make changes, all or none; other writers wait."""
        if not self.is_writable:
            raise PermissionDeniedError(
                f"you may not write to the bundle {self.directory}", hint="copy it, and use that"
            )
        with self._lock, self._translated():
            if self._lock_fd < 0:
                self._lock_fd = os.open(os.path.join(self._own, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
            except OSError as exc:
                raise ConfigError(
                    f"{self.directory}: files cannot be locked here: {os.strerror(exc.errno or 0)}",
                    hint="write to a bundle on a local disk, or mount this one with locks",
                ) from None
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._database.execute("COMMIT")
                except BaseException:
                    # After an error of the disk SQLite may have done that itself.
                    if self._database.in_transaction:
                        self._database.execute("ROLLBACK")
                    raise
            finally:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as exc:
            raise ConflictError(f"{self.directory}: {exc}") from None
        except sqlite3.OperationalError as exc:
            text = str(exc)
            if "full" in text:
                raise LimitExceededError(
                    f"{self.directory}: the disk is full", hint="make room and try again"
                ) from None
            if "locked" in text or "busy" in text:
                raise LimitExceededError(
                    f"{self.directory}: another process has kept the bundle locked for {_WAIT_S:.0f} s",
                    hint="look for one that hangs",
                ) from None
            raise ConfigError(f"{self.directory}: its index cannot be used: {text}") from None
        except sqlite3.DatabaseError as exc:
            raise ConfigError(f"{self.directory}: its index is damaged: {exc}", hint="make the bundle anew") from None


_inherited: list[sqlite3.Connection] = []
"""Connections of a parent process, kept so that they are never closed here: that would release its locks."""
