"""Answers put together of parts: what was given already, and all of it in order; in bounded memory."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

_CACHE_KIB = 4096


class Seen:
    """Keys, each with the part of the answer that gave it first; many are kept on disk.

    Used by one thread at a time, not always the same.
    """

    def __init__(self) -> None:
        self._database = _temporary()
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, part INTEGER NOT NULL) WITHOUT ROWID")

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def new(self, part: int, keys: Iterable[object]) -> list[int]:
        """Tell which of ``keys`` no earlier part has given, and remember them.

        Parameters
        ----------
        part : int
            Number of this part, not below that of the call before.
        keys : iterable
            Of plain values; equal ones are of one thing.

        Returns
        -------
        list of int
            Positions among ``keys``.
        """
        encode = msgspec.msgpack.Encoder().encode
        found = []
        self._database.execute("BEGIN")
        for position, key in enumerate(keys):
            digest = hashlib.blake2b(encode(key), digest_size=16).digest()
            ((first,),) = self._database.execute(
                "INSERT INTO seen VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET part = part RETURNING part",
                (digest, part),
            ).fetchall()
            if first == part:
                found.append(position)
        self._database.execute("COMMIT")
        return found


class Sorter:
    """Sorts rows; absent keys come last in both directions, text by code points.

    Parameters
    ----------
    descending : sequence of bool
        For each key, whether from high to low.
    """

    def __init__(self, descending: Sequence[bool]) -> None:
        self._database = _temporary()
        # Without a type, a column keeps what it is given.
        columns = [f"k{number}" for number in range(len(descending))]
        self._database.execute(f"CREATE TABLE rows ({', '.join(columns)}, row BLOB NOT NULL)")
        self._database.execute("CREATE TABLE kept (digest BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        places = ", ".join("?" * (len(columns) + 1))
        self._insert = f"INSERT INTO rows VALUES ({places})"  # noqa: S608 - names are our own
        terms = [
            f"{column} {'DESC' if down else 'ASC'} NULLS LAST" for column, down in zip(columns, descending, strict=True)
        ]
        self._select = f"SELECT row FROM rows ORDER BY {', '.join([*terms, 'rowid'])} LIMIT ?"  # noqa: S608

    def close(self) -> None:
        """Forget everything."""
        self._database.close()

    def add(self, keys: Iterable[Sequence[Any]], rows: Iterable[object]) -> None:
        """Add rows with their keys."""
        encode = msgspec.msgpack.Encoder().encode
        self._database.execute("BEGIN")
        self._database.executemany(self._insert, ((*key, encode(row)) for key, row in zip(keys, rows, strict=True)))
        self._database.execute("COMMIT")

    def keep(self, value: bytes) -> bytes:
        """Keep what many rows have in common, and give what `kept` finds it by."""
        digest = hashlib.blake2b(value, digest_size=16).digest()
        self._database.execute("INSERT INTO kept VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, value))
        return digest

    def kept(self, digest: bytes) -> bytes:
        """Give what `keep` took."""
        ((value,),) = self._database.execute("SELECT value FROM kept WHERE digest = ?", (digest,)).fetchall()
        return bytes(value)

    def batches(self, size: int, limit: int | None) -> Iterator[list[Any]]:
        """Give the rows in order, up to ``size`` at once, ``limit`` in all."""
        cursor = self._database.execute(self._select, (-1 if limit is None else limit,))
        while found := cursor.fetchmany(size):
            yield [msgspec.msgpack.decode(row) for (row,) in found]


def _temporary() -> sqlite3.Connection:
    # The empty name is a temporary file of SQLite's, gone when it is closed.
    database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
    for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}"):
        database.execute(f"PRAGMA {setting}")
    return database
