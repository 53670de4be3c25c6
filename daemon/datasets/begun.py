"""A put between its beginning and its end: its temporary file, and what was written into it."""

from __future__ import annotations

import errno
import logging
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import trio

from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.leases import is_written
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.repositories.repository import Repository
from pantry.errors import LimitExceededError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.formats import StoredForm
from pantry.model.metadata import MetadataValue, check_columns

if TYPE_CHECKING:
    from pantry.daemon.datasets.putting import Puts

log = logging.getLogger(__name__)

Columns = Mapping[str, list[MetadataValue]]
"""Declared metadata: for each entry a value for each dataset."""

BeforeCommit = Callable[[StoredFile, int], Awaitable[None]]
"""Gets a put's file, and a descriptor of it."""

SMALL_BYTES = 256 * 1024
"""Files up to this size, in bytes, are hashed without a thread, and stored in the lane of their repository."""


class BegunPut:
    """A put between its beginning and its end; released if the client goes.

    Attributes
    ----------
    ref : DatasetRef
        What it will be.
    key : str
        Where it will be stored.
    before_commit : callable, optional
        What is done when the file is in its storage and before the registry commits; if it raises, all is undone.
    """

    def __init__(self, puts: Puts, repository: Repository, ref: DatasetRef, key: str, form: StoredForm) -> None:
        self.repository = repository
        self.ref = ref
        self.key = key
        self.formatter = form.formatter
        self.python_type = form.python_type
        # Not by the dataset's id, which several puts of a group may share.
        self.path = os.path.join(puts.cache.incoming, f"{uuid.uuid4()}.put")
        self.committing = False
        self.before_commit: BeforeCommit | None = None
        self._is_open = False
        self._puts = puts

    def open_for_client(self) -> int:
        """Make the temporary file and open it for the client to write.

        Raises
        ------
        CacheDiskError
            The disk does not take it.
        """
        self._puts.under_way += 1
        self._is_open = True
        cache = self._puts.cache
        cache.make_room_for_files(1)
        with cache.disk.watched():
            return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, content: bytes) -> None:
        """Write a small content in the client's place; `CacheDiskError` if the disk does not take it."""
        with self._puts.cache.disk.watched(), open(self.open_for_client(), "wb", buffering=0) as file:
            file.write(content)

    async def release(self) -> None:
        """Remove the temporary file, if there is one that did not become part of the cache."""
        if not self._is_open:
            return
        self._puts.under_way -= 1
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            log.debug("put %s left no temporary file", self.ref.id)


class Written(NamedTuple):
    """What a client wrote, and nobody changes any more.

    Attributes
    ----------
    put : BegunPut
        To which it belongs.
    fd : int
        To read it by.
    file : StoredFile
        What the registry will say of it.
    """

    put: BegunPut
    fd: int
    file: StoredFile

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


async def take_written(put: BegunPut, cache: ObjectCache, most_bytes: int) -> Written:
    """Take what the client wrote: from here on nobody but the daemon can change it.

    Raises
    ------
    LimitExceededError
        It is longer than ``most_bytes``.
    CacheDiskError
        The disk does not take a copy of it.
    """
    with cache.disk.watched():
        fd = os.open(put.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        if size > most_bytes:
            raise too_long(size, most_bytes)
        if is_written(fd):
            with cache.disk.watched():
                fd = await trio.to_thread.run_sync(_private_copy, put.path, fd, size)
        if size <= SMALL_BYTES:
            digest = hash_file(fd, size)  # just written, so in memory: quicker than a thread's start
        else:
            digest = await trio.to_thread.run_sync(hash_file, fd, size)
    except BaseException:
        os.close(fd)
        raise
    file = StoredFile(path=put.key, size_bytes=size, hash=digest, formatter=put.formatter, ingest_ns=time.time_ns())
    return Written(put, fd, file)


def too_long(size_bytes: int, most_bytes: int) -> LimitExceededError:
    """Return the error for a file that is longer than a put may write."""
    return LimitExceededError(f"{size_bytes} bytes are more than one put may write ({most_bytes})")


def checked_metadata(put: BegunPut, metadata: Mapping[str, object]) -> Columns:
    """Return what the client says of a put's declared metadata, checked, as columns of one row."""
    columns = {name: [value] for name, value in metadata.items()}
    return check_columns(put.ref.dataset_type.metadata, columns, [str(put.ref)])


def _private_copy(path: str, fd: int, size_bytes: int) -> int:
    """Replace the file by a copy that nobody else has open; return its descriptor and close ``fd``."""
    copy_path = path + ".copy"
    copy = os.open(copy_path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        offset = 0
        while offset < size_bytes:
            sent = os.copy_file_range(fd, copy, size_bytes - offset, offset, offset)
            if not sent:
                raise OSError(errno.EIO, "the file became shorter while it was stored")
            offset += sent
        os.rename(copy_path, path)
        readable = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(copy)
    os.close(fd)
    return readable
