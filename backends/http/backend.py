"""The HTTP backend: async methods over the blocking requests of this package. Read-only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import NoReturn

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
    check_version,
    is_key,
)
from pantry.backends.http import _answers
from pantry.backends.http._blocking import HttpStore
from pantry.backends.http.options import HttpOptions, parse_options, split_root
from pantry.backends.progress import Progress
from pantry.backends.pumping import Reading
from pantry.backends.resuming import read_on, repeated
from pantry.errors import BackendAccessError, ObjectNotFoundError, TransientBackendError


class HttpBackend:
    """Objects below one URL, for reading.

    Parameters
    ----------
    root : str
        ``http(s)://host[:port]/path``.
    options : HttpOptions
        How to reach the server.
    admission : Admission
        Lets the blocking requests into threads.
    """

    def __init__(self, root: str, options: HttpOptions, admission: Admission) -> None:
        where = split_root(root, options)
        self._location = (where.origin + where.path).rstrip("/")
        self._max_attempts = options.max_attempts
        self._admission = admission
        self._store = HttpStore(where, options)

    def __repr__(self) -> str:
        return f"HttpBackend({self._location!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return Capabilities(conditional_write=False, writable=False, lists_dot_names=False)

    @property
    def location(self) -> str:
        """The root's URL."""
        return self._location

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object by HEAD."""
        check_key(key)
        return await repeated(lambda: self._admission.call(partial(self._store.head, key)), most=self._max_attempts)

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Stream ``span`` into ``fd``; a connection that is cut is taken up where it ended."""
        check_key(key)
        check_span(span)
        if span.size_bytes == 0:  # HTTP has no empty ranges
            check_version(key, (await self.stat(key)).version, if_version)
            return
        reading = Reading(key, span.start, span.stop, fd, if_version, trio.from_thread.check_cancelled, on_progress)
        await read_on(
            self._store.read_span, reading, self._admission, most=self._max_attempts, failing=TransientBackendError
        )

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the objects whose key begins with ``prefix``, directory by directory."""
        check_prefix(prefix)
        base, _, _ = prefix.rpartition("/")
        waiting = [f"{base}/" if base else ""]
        while waiting:
            directory = waiting.pop()
            index = await self._admission.call(
                partial(self._store.list_directory, directory, trio.from_thread.check_cancelled)
            )
            below = (f"{directory}{name}" for name in index.directories)
            waiting += [f"{one}/" for one in below if is_key(one) and _leads_to(f"{one}/", prefix)]
            files = [(f"{directory}{name}", size, seconds) for name, size, seconds in index.files]
            async for status in self._described([one for one in files if is_key(one[0]) and one[0].startswith(prefix)]):
                yield status

    async def _described(self, files: list[tuple[str, int, int]]) -> AsyncIterator[ObjectStat]:
        """Describe listed files as `stat` would.

        An index has no ETags. nginx makes them of time and size; whether this server does is seen at one
        file of each directory, and if not, each is asked for.
        """
        known = False
        for key, size_bytes, seconds in files:
            etag = _answers.nginx_etag(seconds, size_bytes)
            if known:
                yield ObjectStat(key=key, size_bytes=size_bytes, version=etag, modified_ns=seconds * 1_000_000_000)
                continue
            try:
                status = await self.stat(key)
            except ObjectNotFoundError:
                continue
            known = status.version == etag
            yield status

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Refuse."""
        check_key(key)
        check_token(token)
        self._refuse_to_write(key)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Do nothing: nothing was ever written."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()
        return False

    async def settle_write(self, key: str, *, token: str) -> None:
        """Do nothing."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()

    async def delete(self, key: str) -> None:
        """Refuse."""
        check_key(key)
        self._refuse_to_write(key)

    def _refuse_to_write(self, key: str) -> NoReturn:
        raise BackendAccessError(
            f"{self._location} is only read: {key!r} cannot be written or deleted",
            hint="Datasets can be put into repositories whose storage is S3, VOSpace or a file system.",
            key=key,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._admission.call(self._store.close)


def _leads_to(directory: str, prefix: str) -> bool:
    return directory.startswith(prefix) or prefix.startswith(directory)


def make_http_backend(root: str, options: Mapping[str, object], admission: Admission) -> HttpBackend:
    """Make an `HttpBackend` of ``http(s)://host[:port]/path``; see `HttpOptions` for the options.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    return HttpBackend(root, parse_options(options), admission)


HttpBackendFactory: BackendFactory = make_http_backend
"""What the entry point names."""
