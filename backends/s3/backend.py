"""The S3 backend: async methods over the blocking requests of this package."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from functools import partial

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
)
from pantry.backends.progress import Progress
from pantry.backends.pumping import Reading
from pantry.backends.resuming import read_on
from pantry.backends.s3._blocking import S3Store
from pantry.backends.s3._writing import Writer
from pantry.backends.s3.options import S3Options, parse_options, split_root
from pantry.errors import InvalidRequestError


class S3Backend:
    """Objects of one bucket whose names begin with one prefix.

    Parameters
    ----------
    root : str
        ``s3://bucket/prefix``.
    options : S3Options
        How to reach the service.
    admission : Admission
        Lets the blocking requests into threads.
    """

    def __init__(self, root: str, options: S3Options, admission: Admission) -> None:
        bucket, prefix = split_root(root)
        self._location = f"s3://{bucket}/{prefix}".rstrip("/")
        self._max_attempts = options.max_attempts
        self._admission = admission
        self._store = S3Store(bucket, prefix, options)
        self._writer = Writer(
            self._store,
            admission,
            part_bytes=options.multipart_size_bytes,
            conditional=False if options.conditional_writes == "never" else None,
        )

    def __repr__(self) -> str:
        return f"S3Backend({self._location!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do; a service is taken to honour conditions until it shows otherwise."""
        return Capabilities(conditional_write=self._writer.conditional is not False)

    @property
    def location(self) -> str:
        """The root as an ``s3:`` URI."""
        return self._location

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object by HeadObject."""
        check_key(key)
        return (await self._admission.call(partial(self._store.head, key)))[0]

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
        # botocore repeats the requests themselves.
        await read_on(self._store.read_span, reading, self._admission, most=self._max_attempts)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over the objects whose key begins with ``prefix``, page by page."""
        check_prefix(prefix)
        following: str | None = None
        while True:
            page = await self._admission.call(partial(self._store.list_page, prefix, following))
            for status in page.objects:
                yield status
            following = page.following
            if following is None:
                return

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store a new object, in one request or in parts, only if there is none by this key."""
        check_key(key)
        check_token(token)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and status.st_size < size_bytes:
            # Else the service would wait for bytes that never come.
            raise InvalidRequestError(f"the data of {key!r} has {status.st_size} bytes, not {size_bytes}")
        return await self._writer.write(key, fd, size_bytes, token)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Delete the object if it carries ``token``, and abort unfinished uploads of this key."""
        check_key(key)
        return await self._writer.undo(key, check_token(token))

    async def settle_write(self, key: str, *, token: str) -> None:
        """Do nothing: the token stays in the object's metadata and is in nobody's way."""
        check_key(key)
        check_token(token)
        await trio.lowlevel.checkpoint()

    async def delete(self, key: str) -> None:
        """Delete one object."""
        check_key(key)
        await self._admission.call(partial(self._store.delete, key))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._admission.call(self._store.close)


def make_s3_backend(root: str, options: Mapping[str, object], admission: Admission) -> S3Backend:
    """Make an `S3Backend` of ``s3://bucket/prefix``; see `S3Options` for the options.

    Raises
    ------
    ConfigError
        For a bad root or option.
    """
    return S3Backend(root, parse_options(options), admission)


S3BackendFactory: BackendFactory = make_s3_backend
"""What the entry point names."""
