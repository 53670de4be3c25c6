"""The life of a write: a temporary file, an intent, the upload, the registry (DESIGN section 3)."""

from __future__ import annotations

import errno
import logging
import os
import time
import uuid
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import msgspec
import trio

from pantry.daemon.cache.hashing import hash_file
from pantry.daemon.cache.leases import is_written
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.datasets.recovery import recover_later, undo_intent
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.errors import (
    CacheDiskError,
    CacheFullError,
    DatasetExistsError,
    InvalidRequestError,
    LimitExceededError,
    ObjectExistsError,
    PantryError,
)
from pantry.model.collections import check_collection_name
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.formats import StoredForm
from pantry.model.metadata import MetadataValue, check_columns

log = logging.getLogger(__name__)

Columns = Mapping[str, list[MetadataValue]]
"""Declared metadata: for each entry a value for each dataset."""

SMALL_BYTES = 256 * 1024
"""Files up to this size, in bytes, are hashed without a thread of their own."""


class BegunPut:
    """A put between its beginning and its end; released if the client goes.

    Attributes
    ----------
    ref : DatasetRef
        What it will be.
    key : str
        Where it will be stored.
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


class Puts:
    """Begins and commits puts.

    Parameters
    ----------
    cache : ObjectCache
        Gives the temporary files room, and keeps what was written for its readers.
    journal : Journal
        Remembers what is being stored.
    repositories : Repositories
        For undoing.
    nursery : trio.Nursery
        Owns what is still to be tidied up after an answer.
    put_bytes : int
        Longest file that one put may write.
    """

    def __init__(
        self,
        cache: ObjectCache,
        journal: Journal,
        repositories: Repositories,
        nursery: trio.Nursery,
        *,
        put_bytes: int,
    ) -> None:
        self.cache = cache
        self._nursery = nursery
        self.under_way = 0
        self._journal = journal
        self._repositories = repositories
        self._put_bytes = put_bytes

    async def begin(
        self,
        repository: Repository,
        dataset_type: str,
        data_id: Mapping[str, object],
        run: str,
        dataset_id: uuid.UUID | None,
        *,
        formatter: str = "",
        extension: str | None = None,
    ) -> BegunPut:
        """Check everything that can be known before the object is written.

        Raises
        ------
        DatasetExistsError
            The run has such a dataset (DMS-MWBT-REQ-0074).
        OriginUnavailableError
            This node works offline.
        """
        check_collection_name(run)
        repository.origin.require_online(run)
        prepared = await self._repositories.queries.call(
            partial(repository.registry.prepare_put, dataset_type, run, data_id, extension, formatter)
        )
        ref = DatasetRef(
            id=dataset_id or uuid.uuid4(), dataset_type=prepared.dataset_type, data_id=prepared.data_id, run=run
        )
        return BegunPut(self, repository, ref, prepared.path, prepared.form)

    async def commit(self, put: BegunPut, metadata: Mapping[str, object] = {}) -> DatasetRef:
        """Store what the client wrote, all or nothing (DMS-MWBT-REQ-0073, 0076)."""
        if put.committing:
            raise InvalidRequestError(f"the put of {put.ref} is being committed already")
        put.committing = True
        checked = checked_metadata(put, metadata)
        written = await self.take(put)
        try:
            await self._store(put, written.file, written.fd, checked)
            self.keep(put, written.file)
        finally:
            written.close()
        return put.ref

    async def take(self, put: BegunPut) -> Written:
        """Take what the client wrote: from here on nobody but the daemon can change it."""
        with self.cache.disk.watched():
            fd = os.open(put.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = os.fstat(fd).st_size
            if size > self._put_bytes:
                raise LimitExceededError(f"{size} bytes are more than one put may write ({self._put_bytes})")
            if is_written(fd):
                with self.cache.disk.watched():
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

    async def _store(self, put: BegunPut, file: StoredFile, fd: int, metadata: Columns) -> None:
        token = uuid.uuid4().hex
        intent = Intent(token, (Target(put.repository.name, put.key, put.ref.id.bytes, file.ingest_ns),))
        await self._journal.record(intent)
        new = [(put.ref.id, put.ref.data_id, file)]
        ref, registry = put.ref, put.repository.registry
        try:
            await put.repository.backend.write_from(put.key, fd, file.size_bytes, token=token)
            # The commit itself is not interrupted: afterwards it is either done or not.
            with trio.CancelScope(shield=True):
                await self._repositories.queries.call(
                    partial(registry.insert_datasets, ref.run, ref.dataset_type.name, new, metadata)
                )
        except BaseException as exc:
            with trio.CancelScope(shield=True):
                await self.undo(intent)
            if isinstance(exc, ObjectExistsError):
                raise exists_already(put) from None
            raise
        put.repository.origin.absent.forget(put.key)
        self._nursery.start_soon(self._settle, put.repository, put.key, token)

    async def _settle(self, repository: Repository, key: str, token: str) -> None:
        """Tidy up after a commit; the client has its answer already."""
        with trio.CancelScope(shield=True):
            try:
                await repository.backend.settle_write(key, token=token)
            except PantryError as exc:
                # The intent stays in the journal, and the next start settles it.
                log.warning("a committed write cannot be settled now: %s", exc.message)
            else:
                self._journal.clear(token)

    async def undo(self, intent: Intent) -> None:
        """Remove what a failed write left; what cannot be removed now is tried again, also after a restart."""
        failed = msgspec.structs.replace(intent, failed=True)
        try:
            await undo_intent(self._repositories, failed)
        except PantryError as exc:
            log.error("a failed write cannot be undone now: %s", exc.message)
            await self._journal.record(failed)
            self._nursery.start_soon(recover_later, self._journal, self._repositories, [failed])
        else:
            self._journal.clear(intent.token)

    def keep(self, put: BegunPut, file: StoredFile) -> None:
        """Make what was written part of the cache, if there is room."""
        try:
            reservation = self.cache.reserve(file.size_bytes)
        except (CacheFullError, CacheDiskError):
            return
        try:
            object_id = ObjectId(put.repository.realm, file.hash)
            self.cache.publish(put.path, object_id, file.size_bytes, name=put.key)
            self.cache.came_from(object_id, put.repository.name, put.key)
            reservation.use(reservation.left_bytes)
        except OSError as exc:
            # The dataset is stored; its next reader fetches it.
            self.cache.disk.failed(exc)
        finally:
            reservation.release()


def checked_metadata(put: BegunPut, metadata: Mapping[str, object]) -> Columns:
    """Return what the client says of a put's declared metadata, checked, as columns of one row."""
    columns = {name: [value] for name, value in metadata.items()}
    return check_columns(put.ref.dataset_type.metadata, columns, [str(put.ref)])


def exists_already(put: BegunPut) -> DatasetExistsError:
    """Return the error for a file that is in the way."""
    return DatasetExistsError(
        f"{put.key} exists in {put.repository.backend.location} already",
        hint="another write of the same dataset is under way, or a file was put there by other means",
    )


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
