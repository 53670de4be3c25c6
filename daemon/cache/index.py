"""What the cache remembers between two runs; disposable.

A SQLite file with one row per object, written when the daemon leaves. A start that finds it marked
clean believes it; any other start looks at the tree of objects itself. After a crash of the whole
machine (another boot id) file contents may be lost though names are there, so that objects are
then read again before they are handed out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from pantry.daemon.cache.object_id import ObjectId

log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (
    realm TEXT NOT NULL, hash TEXT NOT NULL, size_bytes INTEGER NOT NULL, read_ns INTEGER NOT NULL,
    name TEXT NOT NULL, PRIMARY KEY (realm, hash)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Remembered(msgspec.Struct, kw_only=True):
    """One complete object.

    Attributes
    ----------
    size_bytes : int
        Its length.
    read_ns : int
        When it was last opened.
    name : str
        A path by which it was read, for people.
    verified : bool
        Whether its content is known to be what its name says.
    """

    size_bytes: int
    read_ns: int
    name: str = ""
    verified: bool = True


class CacheIndex:
    """The file ``index.sqlite3`` beside the objects.

    Parameters
    ----------
    directory : str
        Of the cache.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "index.sqlite3")
        self._objects = os.path.join(directory, "objects")

    def load(self) -> dict[ObjectId, Remembered]:
        """Return what is cached, and mark the index as not clean until `save`."""
        try:
            rows, clean, boot = self._read()
        except sqlite3.DatabaseError as exc:
            log.warning("the cache's index cannot be read (%s); it is rebuilt from the objects", exc)
            for suffix in ("", "-wal", "-shm", "-journal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path + suffix)
            rows, clean, boot = {}, False, ""
            self._read()
        if clean:
            return rows
        return self.rebuild(rows, verified=boot == _boot_id())

    def rebuild(self, known: Mapping[ObjectId, Remembered], *, verified: bool = False) -> dict[ObjectId, Remembered]:
        """Return what the tree holds, with what is known of it; ``verified`` says whether its content is believed."""
        found: dict[ObjectId, Remembered] = {}
        for object_id, status in self._scan():
            old = known.get(object_id)
            found[object_id] = Remembered(
                size_bytes=status.st_size,
                read_ns=old.read_ns if old else status.st_mtime_ns,
                name=old.name if old else "",
                verified=verified,
            )
        return found

    def _read(self) -> tuple[dict[ObjectId, Remembered], bool, str]:
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            db.executescript(_SCHEMA)
            state = dict(db.execute("SELECT key, value FROM state"))
            rows = {
                ObjectId(realm, digest): Remembered(size_bytes=size, read_ns=read, name=name)
                for realm, digest, size, read, name in db.execute(
                    "SELECT realm, hash, size_bytes, read_ns, name FROM object"
                )
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

    def save(self, objects: Mapping[ObjectId, Remembered]) -> None:
        """Write what is cached; the next `load` believes it. Unverified objects spoil that."""
        clean = all(one.verified for one in objects.values())
        with contextlib.closing(sqlite3.connect(self._path)) as db, db:
            db.execute("DELETE FROM object")
            db.executemany(
                "INSERT INTO object VALUES (?, ?, ?, ?, ?)",
                [(key.realm, key.hash, one.size_bytes, one.read_ns, one.name) for key, one in objects.items()],
            )
            boot = _boot_id() if clean else "unverified"
            state = [("clean", "yes" if clean else "no"), ("boot", boot)]
            db.executemany("INSERT OR REPLACE INTO state VALUES (?, ?)", state)


def _directories(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
