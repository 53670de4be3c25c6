"""What the cache remembers between two runs; disposable.

A SQLite file with one row per object. Every `WRITE_S` seconds, and when the daemon leaves, what changed
is written, after the file system was told to write its data: so a row means that the object's content
is on the disk. A start that finds the file marked clean believes it; any other start looks at the tree
of objects itself. After a crash of the whole machine (another boot id) the contents of objects without
a row may be lost though names are there, so that these are read again before they are handed out.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from pantry.daemon.cache.object_id import ObjectId

log = logging.getLogger(__name__)

WRITE_S = 30.0
"""How often changes are written, in seconds."""

_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    realm TEXT NOT NULL, hash TEXT NOT NULL, size_bytes INTEGER NOT NULL, read_ns INTEGER NOT NULL,
    name TEXT NOT NULL, verified INTEGER NOT NULL, verified_ns INTEGER NOT NULL,
    repository TEXT NOT NULL, key TEXT NOT NULL, version TEXT NOT NULL, checked_ns INTEGER NOT NULL,
    content TEXT NOT NULL, PRIMARY KEY (realm, hash)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_libc = ctypes.CDLL(None, use_errno=True)


class Remembered(msgspec.Struct, kw_only=True):
    """One complete object.

    Attributes
    ----------
    size_bytes : int
        Its length.
    read_ns : int
        When it was last opened, nanoseconds since 1970-01-01 UTC.
    name : str
        A path by which it was read, for people.
    verified : bool
        Whether its content is known to be what its name says.
    verified_ns : int
        When it was last read and found to be so; 0 for never.
    repository, key : str
        Where it can be fetched from; empty if not known.
    version, checked_ns : str, int
        Of a plain object, which may change at the origin: which version it is, and when the origin last said
        that it is the present one.
    content : str
        The xxh3-128 of its content, if that is not its name.
    """

    size_bytes: int
    read_ns: int
    name: str = ""
    verified: bool = True
    verified_ns: int = 0
    repository: str = ""
    key: str = ""
    version: str = ""
    checked_ns: int = 0
    content: str = ""


_COLUMNS = Remembered.__struct_fields__


class CacheIndex:
    """The file ``index.sqlite3`` beside the objects; its methods block.

    Parameters
    ----------
    directory : str
        Of the cache.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, "index.sqlite3")
        self._objects = os.path.join(directory, "objects")

    def load(self) -> dict[ObjectId, Remembered]:
        """Return what is cached, and mark the index as not clean until it is written so."""
        try:
            rows, clean, boot = self._read()
        except sqlite3.DatabaseError as exc:
            log.warning("the cache's index cannot be read (%s); it is rebuilt from the objects", exc)
            for suffix in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
            self._read()
            rows, clean, boot = {}, False, ""
        if clean:
            return rows
        found = self.rebuild(rows, believed=boot == _boot_id())
        self._write(found, rows.keys() - found.keys(), clean=False)
        return found

    def rebuild(self, known: Mapping[ObjectId, Remembered], *, believed: bool) -> dict[ObjectId, Remembered]:
        """Return what the tree holds, with what is known of it; ``believed`` is for what is not known."""
        found: dict[ObjectId, Remembered] = {}
        for object_id, status in self._scan():
            old = known.get(object_id)
            if old is not None and old.size_bytes == status.st_size:
                found[object_id] = old
            else:
                found[object_id] = Remembered(
                    size_bytes=status.st_size, read_ns=status.st_mtime_ns, verified=believed and old is None
                )
        return found

    def _read(self) -> tuple[dict[ObjectId, Remembered], bool, str]:
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            if db.execute("PRAGMA user_version").fetchone() != (_VERSION,):
                db.executescript(f"DROP TABLE IF EXISTS object; PRAGMA user_version = {_VERSION}")
                db.executescript(_SCHEMA)
                db.execute("DELETE FROM state WHERE key = 'clean'")
            state = dict(db.execute("SELECT key, value FROM state"))
            rows = {
                ObjectId(realm, digest): Remembered(**dict(zip(_COLUMNS, values, strict=True)))
                for realm, digest, *values in db.execute(f"SELECT realm, hash, {', '.join(_COLUMNS)} FROM object")  # noqa: S608 - our own names
            }
            db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", [("clean", "no"), ("boot", _boot_id())])
        return rows, state.get("clean") == "yes", state.get("boot", "")

    def _scan(self) -> Iterable[tuple[ObjectId, os.stat_result]]:
        for realm in _directories(self._objects):
            for fan in _directories(realm.path):
                with os.scandir(fan.path) as files:
                    for file in files:
                        if file.is_file(follow_symlinks=False) and len(file.name) == 32:
                            yield ObjectId(realm.name, file.name), file.stat(follow_symlinks=False)

    def write(
        self, changed: Mapping[ObjectId, Remembered], gone: Iterable[ObjectId], *, clean: bool, synced: bool = False
    ) -> None:
        """Write what changed, after its data.

        Parameters
        ----------
        changed, gone
            Objects with new values, and those that are no more.
        clean : bool
            The next `load` may believe it without a look.
        synced : bool
            None of these objects is new, so that no data is to be written before.

        Raises
        ------
        OSError, sqlite3.Error
            The disk does not take it; what was written before still holds.
        """
        if synced:
            self._write(changed, gone, clean=clean)
            return
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if _libc.syncfs(fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
        finally:
            os.close(fd)
        self._write(changed, gone, clean=clean)

    def _write(self, changed: Mapping[ObjectId, Remembered], gone: Iterable[ObjectId], *, clean: bool) -> None:
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            db.executemany("DELETE FROM object WHERE realm = ? AND hash = ?", gone)
            places = ", ".join("?" * (2 + len(_COLUMNS)))
            db.executemany(
                f"INSERT OR REPLACE INTO object VALUES ({places})",  # noqa: S608 - question marks only
                [(*key, *(getattr(one, column) for column in _COLUMNS)) for key, one in changed.items()],
            )
            db.execute("INSERT OR REPLACE INTO state VALUES ('clean', ?)", ("yes" if clean else "no",))


def _directories(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
