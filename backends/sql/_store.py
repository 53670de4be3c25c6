"""Objects in the tables of a database. Blocking; imported in worker threads only."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import BinaryIO, cast
from uuid import uuid4

import sqlalchemy as sa

from pantry.backends.contract import ByteRange, ObjectStat, check_version
from pantry.backends.credentials import BasicAuth
from pantry.backends.database_address import DatabaseAddress
from pantry.backends.databases import is_taken, of_driver, translated
from pantry.backends.progress import Progress, reporting
from pantry.backends.sink import write_all
from pantry.backends.sql import _rows
from pantry.backends.sql._connecting import Connecting
from pantry.backends.sql._tables import PIECE_BYTES, Tables
from pantry.backends.sql.options import SqlStorageOptions
from pantry.backends.sql.rules import Rule
from pantry.errors import (
    BackendError,
    InvalidRequestError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    TransientBackendError,
)

_PAGE = 1000
_PIECES_AT_ONCE = 8
_LOCK = 0x70616E7472792E73  # "pantry.s"

Check = Callable[[], None]
"""Called between steps; raises to stop."""


class SqlStore:
    """Objects whose keys begin with one prefix.

    Parameters
    ----------
    address, options, credential
        As of `Connecting`.
    prefix : str
        Empty, or ends with a slash.
    rules : list of Rule
        Which of them are tables.
    """

    def __init__(
        self,
        address: DatabaseAddress,
        prefix: str,
        options: SqlStorageOptions,
        credential: BasicAuth | None,
        rules: list[Rule],
    ) -> None:
        self._connecting = Connecting(address, options, credential, read_only=False)
        self._prefix = prefix
        self._schema = options.schema or None
        self._rules = rules
        self._tables = Tables.of(self._schema)
        self._is_there = False

    def stat(self, key: str) -> ObjectStat:
        """Describe one object."""
        return self._found(key)[1]

    def _found(self, key: str) -> tuple[int, ObjectStat]:
        objects = self._tables.objects
        query = sa.select(objects).where(objects.c.key == self._prefix + key)
        with self._connecting.reading() as connection:
            row = connection.execute(query).one_or_none() if self._has_tables(connection) else None
        if row is None:
            raise ObjectNotFoundError(f"no object {key!r} in {self._connecting.location}", key=key)
        return row.number, self._described(row)

    def _described(self, row: sa.Row[tuple[object, ...]]) -> ObjectStat:
        return ObjectStat(
            key=row.key.removeprefix(self._prefix),
            size_bytes=row.size_bytes,
            version=row.version,
            modified_ns=row.modified_ns,
        )

    def _has_tables(self, connection: sa.Connection) -> bool:
        if not self._is_there:
            self._is_there = sa.inspect(connection).has_table(self._tables.objects.name, schema=self._schema)
        return self._is_there

    def _make_tables(self, connection: sa.Connection) -> None:
        if self._has_tables(connection):
            return
        self._lock(connection)
        self._tables.objects.metadata.create_all(connection)

    def _lock(self, connection: sa.Connection) -> None:
        """Let nobody else make tables until the transaction ends; SQLite has one writer anyway."""
        if not self._connecting.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))

    def read_span(
        self, key: str, span: ByteRange, fd: int, if_version: str | None, check: Check, on_progress: Progress | None
    ) -> None:
        """Write the bytes of ``span`` into ``fd``; see `ObjectBackend.read_into`."""
        number, status = self._found(key)
        check_version(key, status.version, if_version)
        if span.stop > status.size_bytes:
            raise TransientBackendError(
                f"{key!r} gave {max(0, status.size_bytes - span.start)} of {span.size_bytes} bytes", key=key
            )
        position = span.start
        pieces = self._tables.pieces
        with reporting(on_progress) as report, self._connecting.reading() as connection:
            # Some at a time: a driver has a whole answer in memory, and sends BLOBs twice as long.
            while position < span.stop:
                check()
                first = position // PIECE_BYTES
                last = min((span.stop - 1) // PIECE_BYTES, first + _PIECES_AT_ONCE - 1)
                rows = connection.execute(
                    sa.select(pieces.c.place, pieces.c.content)
                    .where(pieces.c.object == number, pieces.c.place.between(first, last))
                    .order_by(pieces.c.place)
                ).all()
                if [row.place for row in rows] != list(range(first, last + 1)):
                    # Numbers are not used again: the object went while it was read.
                    raise ObjectChangedError(f"{key!r} was deleted while it was read", key=key)
                for row in rows:
                    begin = row.place * PIECE_BYTES
                    part = memoryview(row.content)[position - begin : span.stop - begin]
                    write_all(fd, part, position)
                    position += len(part)
                    report(position)

    def list_page(self, prefix: str, after: str) -> list[ObjectStat]:
        """Describe the next objects whose keys begin with ``prefix`` and follow ``after``; none at the end."""
        objects, wanted = self._tables.objects, self._prefix + prefix
        query = (
            sa.select(objects)
            .where(objects.c.key > self._prefix + after if after else objects.c.key >= wanted)
            .order_by(objects.c.key)
            .limit(_PAGE)
        )
        with self._connecting.reading() as connection:
            rows = connection.execute(query).all() if self._has_tables(connection) else []
        return [self._described(row) for row in rows if row.key.startswith(wanted)]

    def write(self, key: str, fd: int, size_bytes: int, token: str, check: Check) -> ObjectStat:
        """Store a new object, and its rows if it is a table; all or nothing."""
        objects = self._tables.objects
        about = {
            "key": self._prefix + key,
            "size_bytes": size_bytes,
            "version": uuid4().hex,
            "modified_ns": time.time_ns(),
            "token": token,
        }
        rule = next((rule for rule in self._rules if rule.values(key) is not None), None)
        with ExitStack() as stack:
            if rule is not None:
                # Rows are of what is stored: the file is its sender's, who may still change it.
                fd = stack.enter_context(self._copied(key, fd, size_bytes, check)).fileno()
            connection = stack.enter_context(self._connecting.writing())
            self._make_tables(connection)
            try:
                number = connection.execute(sa.insert(objects).values(about).returning(objects.c.number)).scalar_one()
            except sa.exc.IntegrityError as exc:
                if is_taken(exc):
                    raise ObjectExistsError(f"{key!r} exists in {self._connecting.location}", key=key) from None
                raise
            self._write_pieces(connection, number, key, fd, size_bytes, check)
            if rule is not None:
                self._write_rows(connection, rule, key, number, fd, check)
        return ObjectStat(
            key=key, size_bytes=size_bytes, version=str(about["version"]), modified_ns=int(str(about["modified_ns"]))
        )

    @contextmanager
    def _copied(self, key: str, fd: int, size_bytes: int, check: Check) -> Iterator[BinaryIO]:
        """Give a copy of a file, without a name; whatever fails with it is this node's."""
        with ExitStack() as stack:
            try:
                copy = stack.enter_context(tempfile.TemporaryFile(buffering=0))
                for content in _pieces(key, fd, size_bytes):
                    check()
                    write_all(copy.fileno(), memoryview(content), os.fstat(copy.fileno()).st_size)
            except OSError as exc:
                raise BackendError(
                    f"{key!r} cannot be copied to {tempfile.gettempdir()} on this node, for its rows: {exc.strerror}"
                ) from exc
            yield cast(BinaryIO, copy)

    def _write_pieces(
        self, connection: sa.Connection, number: int, key: str, fd: int, size_bytes: int, check: Check
    ) -> None:
        insert = sa.insert(self._tables.pieces)
        rows = (
            {"object": number, "place": place, "content": content}
            for place, content in enumerate(_pieces(key, fd, size_bytes))
        )
        while some := list(islice(rows, _PIECES_AT_ONCE)):
            check()
            connection.execute(insert, some)

    def _write_rows(self, connection: sa.Connection, rule: Rule, key: str, number: int, fd: int, check: Check) -> None:
        target = _rows.Target(connection, rule, self._tables.objects, self._schema, self._lock)
        try:
            _rows.write(target, fd, key, number, check)
        except sa.exc.SQLAlchemyError as exc:
            raise _rows.refused(translated(exc, self._connecting.location)) from exc
        except _rows.DriverError as exc:
            raise _rows.refused(of_driver(exc.__cause__, self._connecting.location)) from exc

    def undo(self, key: str, token: str) -> bool:
        """Delete the object if ``token`` made it."""
        objects = self._tables.objects
        return self._delete(sa.delete(objects).where(objects.c.key == self._prefix + key, objects.c.token == token))

    def settle(self, key: str, token: str) -> None:
        """Forget ``token``."""
        objects = self._tables.objects
        with self._connecting.writing() as connection:
            if self._has_tables(connection):
                connection.execute(
                    sa.update(objects)
                    .where(objects.c.key == self._prefix + key, objects.c.token == token)
                    .values(token=None)
                )

    def delete(self, key: str) -> None:
        """Delete one object, with its pieces and rows."""
        objects = self._tables.objects
        self._delete(sa.delete(objects).where(objects.c.key == self._prefix + key))

    def _delete(self, statement: sa.Delete) -> bool:
        with self._connecting.writing() as connection:
            return self._has_tables(connection) and connection.execute(statement).rowcount > 0

    def close(self) -> None:
        """Close all connections."""
        self._connecting.close()


def _pieces(key: str, fd: int, size_bytes: int) -> Iterator[bytes]:
    """Read the first bytes of a file, in pieces; `InvalidRequestError` if it has not so many."""
    for begin in range(0, size_bytes, PIECE_BYTES):
        wanted = min(PIECE_BYTES, size_bytes - begin)
        content = _read_all(fd, begin, wanted)
        if len(content) < wanted:
            raise InvalidRequestError(f"the data of {key!r} has {begin + len(content)} bytes, not {size_bytes}")
        yield content


def _read_all(fd: int, offset: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size and (part := os.pread(fd, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)
