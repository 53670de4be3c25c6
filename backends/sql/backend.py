"""Objects in a database: async methods over the blocking ones of `_store`."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import (
    BackendFactory,
    ByteRange,
    Capabilities,
    ObjectStat,
    check_key,
    check_prefix,
    check_span,
    check_token,
)
from pantry.backends.database_address import SQLITE, split_address
from pantry.backends.progress import Progress
from pantry.backends.sql.options import SqlStorageOptions, parse_options
from pantry.backends.sql.rules import parse_rules
from pantry.errors import ConfigError, InvalidRequestError

if TYPE_CHECKING:
    from pantry.backends.sql._store import SqlStore


class SqlBackend:
    """Objects of one database whose keys begin with one prefix.

    Parameters
    ----------
    root : str
        ``sql+postgresql://host:port/database/prefix`` or ``sql+sqlite:///absolute/path``.
    options : Mapping
        See `SqlStorageOptions`, and the usual ones of credentials.
    admission : Admission
        Lets the blocking calls into threads.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """

    def __init__(self, root: str, options: Mapping[str, object], admission: Admission) -> None:
        self._base, self._prefix = _split_root(root)
        self._address = split_address(self._base, "sql")
        self._options, self._credential = parse_options(options, SqlStorageOptions)
        if self._address.kind == SQLITE and (self._credential or self._options.schema):
            raise ConfigError("sql: SQLite has neither users nor schemas")
        self._rules = parse_rules(self._options.tables)
        self._admission = admission
        self._made: SqlStore | None = None

    def __repr__(self) -> str:
        return f"SqlBackend({self.location!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(conditional_write=True)

    @property
    def location(self) -> str:
        """The root as a URI."""
        return f"{self._base}/{self._prefix}".rstrip("/") if self._prefix else self._base

    def _store(self) -> SqlStore:
        """Return the store; for worker threads, since the first call imports SQLAlchemy."""
        if self._made is None:
            from pantry.backends.sql._store import SqlStore

            # Two threads at once may make two; nothing is connected before they are used, and one of them stays.
            made = SqlStore(self._address, self._prefix, self._options, self._credential, self._rules)
            self._made = self._made or made
        return self._made

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object."""
        check_key(key)
        return await self._admission.call(lambda: self._store().stat(key))

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Write ``span`` into ``fd``, some pieces at a time."""
        check_key(key)
        check_span(span)
        check = trio.from_thread.check_cancelled
        await self._admission.call(lambda: self._store().read_span(key, span, fd, if_version, check, on_progress))

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the objects whose key begins with ``prefix``, in the order of their keys."""
        check_prefix(prefix)
        after = ""
        while page := await self._admission.call(partial(self._page, prefix, after)):
            for status in page:
                yield status
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> list[ObjectStat]:
        return self._store().list_page(prefix, after)

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store a new object, with its rows if it is a table, in one transaction."""
        check_key(key)
        check_token(token)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size < size_bytes:
            raise InvalidRequestError(f"the data of {key!r} has {status.st_size} bytes, not {size_bytes}")
        check = trio.from_thread.check_cancelled
        return await self._admission.call(lambda: self._store().write(key, fd, size_bytes, token, check))

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Delete the object if ``token`` made it; unfinished writes are the database's own business."""
        check_key(key)
        check_token(token)
        return await self._admission.call(lambda: self._store().undo(key, token))

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget ``token``."""
        check_key(key)
        check_token(token)
        await self._admission.call(lambda: self._store().settle(key, token))

    async def delete(self, key: str) -> None:
        """Delete one object, with its rows."""
        check_key(key)
        await self._admission.call(lambda: self._store().delete(key))

    async def aclose(self) -> None:
        """Close all connections."""
        if self._made is not None:
            await self._admission.call(self._made.close)


def _split_root(root: str) -> tuple[str, str]:
    """Split a root into the address of the database and the prefix of keys, which a file has not."""
    scheme, separator, rest = root.partition("://")
    if scheme != "sql+postgresql" or not separator:
        return root, ""
    server, _, path = rest.partition("/")
    database, _, prefix = path.partition("/")
    prefix = prefix.strip("/")
    check_prefix(f"{prefix}/" if prefix else "")
    return f"{scheme}://{server}/{database}", f"{prefix}/" if prefix else ""


SqlBackendFactory: BackendFactory = SqlBackend
"""What the entry points name."""
