"""The life of a write: a temporary file, an intent, the upload, the registry (DESIGN section 3)."""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
import trio

from pantry.backends.admission import Admission
from pantry.backends.contract import BatchWriting
from pantry.backends.sink import write_all
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.datasets.begun import (
    SMALL_BYTES,
    BegunPut,
    Columns,
    Written,
    checked_metadata,
    take_written,
    too_long,
)
from pantry.daemon.datasets.contents import ContentPut, OtherFormatterError
from pantry.daemon.datasets.in_the_way import exists_already
from pantry.daemon.datasets.lanes import CommitLane, LanePut, warn_unsettled
from pantry.daemon.datasets.recovery import recover_later, undo_intent
from pantry.daemon.datasets.removing import with_free_names
from pantry.daemon.journal import Intent, Journal, Target
from pantry.daemon.registry import PutWish
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.repositories.service import Repositories
from pantry.errors import (
    CacheDiskError,
    CacheFullError,
    InvalidRequestError,
    ObjectExistsError,
    PantryError,
)
from pantry.model.collections import check_collection_name
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.wire.operations.data import MAX_CONTENT_BYTES, PutContent

log = logging.getLogger(__name__)


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
    transfers : Admission
        Lets writes of small files into threads.
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
        transfers: Admission,
        put_bytes: int,
    ) -> None:
        self.cache = cache
        self._nursery = nursery
        self.under_way = 0
        self._journal = journal
        self._repositories = repositories
        self._put_bytes = put_bytes
        self._transfers = transfers
        self._lanes: dict[str, CommitLane] = {}

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
        wish = PutWish(dataset_type, run, data_id, extension, formatter)
        return (await self.begin_all(repository, [(wish, dataset_id)]))[0]

    async def begin_all(
        self, repository: Repository, wishes: Sequence[tuple[PutWish, uuid.UUID | None]]
    ) -> list[BegunPut]:
        """Check several as `begin` does; the registry is asked once."""
        for wish, _ in wishes:
            check_collection_name(wish.run)
            repository.origin.require_online(wish.run)
        queries = self._repositories.queries
        call = partial(queries.call, partial(repository.registry.prepare_puts, [wish for wish, _ in wishes]))
        begun = []
        for (wish, id_), one in zip(wishes, await with_free_names(repository, queries, call), strict=True):
            ref = DatasetRef(id=id_ or uuid.uuid4(), dataset_type=one.dataset_type, data_id=one.data_id, run=wish.run)
            begun.append(BegunPut(self, repository, ref, one.path, one.form))
        return begun

    async def commit(self, put: BegunPut, metadata: Mapping[str, object] = {}) -> DatasetRef:
        """Store what the client wrote, all or nothing (DMS-MWBT-REQ-0073, 0076)."""
        if put.committing:
            raise InvalidRequestError(f"the put of {put.ref} is being committed already")
        put.committing = True
        checked = checked_metadata(put, metadata)
        written = await self.take(put)
        try:
            await self._store(put, written.file, written.fd, checked)
            self.keep(put.repository, put.path, written.file)
        finally:
            written.close()
        return put.ref

    async def take(self, put: BegunPut) -> Written:
        """Take what the client wrote; see `take_written`."""
        return await take_written(put, self.cache, self._put_bytes)

    async def _store(self, put: BegunPut, file: StoredFile, fd: int, metadata: Columns) -> None:
        token = uuid.uuid4().hex
        intent = Intent(token, (Target(put.repository.name, put.key, put.ref.id.bytes, file.ingest_ns),))
        # Others in the lane would wait for what this one waits for.
        is_laned = file.size_bytes <= SMALL_BYTES and put.before_commit is None
        lane = self._lane(put.repository) if is_laned else None
        with put.repository.names.writing([put.key]):
            await self._store_by(lane, put, file, fd, intent, metadata)
        put.repository.origin.absent.forget(put.key)
        if lane is None:
            self._nursery.start_soon(self._settle, put.repository, put.key, token)

    async def _store_by(
        self, lane: CommitLane | None, put: BegunPut, file: StoredFile, fd: int, intent: Intent, metadata: Columns
    ) -> None:
        if lane is None:
            await self._journal.record(intent)
        try:
            if lane is not None:
                ready = LanePut()
                ready.accept(intent, put.ref, file, fd, metadata)
                await lane.commit(ready)
            else:
                await self._store_alone(put, file, fd, intent.token, metadata)
        except BaseException as exc:
            await self._undo_failed(put.repository, intent, put.key, exc)
            raise

    async def _undo_failed(self, repository: Repository, intent: Intent, key: str, exc: BaseException) -> None:
        with trio.CancelScope(shield=True):
            await self.undo(intent)
        if isinstance(exc, ObjectExistsError):
            raise await exists_already(repository, self._repositories.queries, key) from None

    async def put_content(self, repository: Repository, asked: PutContent) -> DatasetRef | None:
        """Store a small dataset whose content came with the request, all or nothing.

        Returns None, and stores nothing, if its type is written by another formatter.

        Raises
        ------
        DatasetExistsError
            The run has such a dataset.
        OriginUnavailableError
            This node works offline.
        """
        if len(asked.content) > MAX_CONTENT_BYTES:
            raise InvalidRequestError(
                f"{len(asked.content)} bytes are more than comes with a request", hint="begin a put, and commit it"
            )
        if len(asked.content) > self._put_bytes:
            raise too_long(len(asked.content), self._put_bytes)
        lane = self._lane(repository)
        if lane is None:
            return await self._begin_and_commit(repository, asked)
        check_collection_name(asked.run)
        repository.origin.require_online(asked.run)
        store = partial(self._put_in_lane, repository, lane, asked)
        return await with_free_names(repository, self._repositories.queries, store)

    async def _put_in_lane(self, repository: Repository, lane: CommitLane, asked: PutContent) -> DatasetRef | None:
        put = ContentPut(repository, asked)
        self.under_way += 1
        try:
            await lane.commit(put)
        except OtherFormatterError:
            return None
        except BaseException as exc:
            if put.ref is not None:
                await self._undo_failed(repository, put.intent, put.file.path, exc)
            raise
        finally:
            put.end_writing()
            self.under_way -= 1
        repository.origin.absent.forget(put.file.path)
        # After the answer, and before whatever is asked next.
        self._nursery.start_soon(self._keep_content, repository, put.file, asked.content)
        return put.ref

    async def _keep_content(self, repository: Repository, file: StoredFile, content: bytes) -> None:
        """Make a content that was stored part of the cache, as `keep` does."""
        if repository.origin.direct:
            return
        path = os.path.join(self.cache.incoming, f"{uuid.uuid4()}.put")
        try:
            self.cache.make_room_for_files(1)
            with self.cache.disk.watched():
                try:
                    _write_file(path, content)
                    self.keep(repository, path, file)
                finally:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(path)
        except PantryError as exc:
            # The dataset is stored; its next reader fetches it.
            log.debug("%s is not cached: %s", file.path, exc.message)

    async def _begin_and_commit(self, repository: Repository, asked: PutContent) -> DatasetRef | None:
        put = await self.begin(repository, asked.dataset_type, asked.data_id, asked.run, asked.id)
        if put.formatter != asked.formatter:
            return None
        try:
            put.write(asked.content)
            return await self.commit(put, asked.metadata)
        finally:
            with trio.CancelScope(shield=True):
                await put.release()

    def _lane(self, repository: Repository) -> CommitLane | None:
        """Give the lane for small puts into a repository; None if its storage has none."""
        lane = self._lanes.get(repository.name)
        if lane is None or lane.repository is not repository:
            if not isinstance(repository.backend, BatchWriting):
                return None
            lane = self._lanes[repository.name] = CommitLane(
                repository, repository.backend, self._journal, self._transfers, self._nursery
            )
        return lane

    async def _store_alone(self, put: BegunPut, file: StoredFile, fd: int, token: str, metadata: Columns) -> None:
        ref, registry = put.ref, put.repository.registry
        await put.repository.backend.write_from(put.key, fd, file.size_bytes, token=token)
        if put.before_commit is not None:
            await put.before_commit(file, fd)
        # The commit itself is not interrupted: afterwards it is either done or not.
        with trio.CancelScope(shield=True):
            new = [(ref.id, ref.data_id, file)]
            await self._repositories.queries.call(
                partial(registry.insert_datasets, ref.run, ref.dataset_type.name, new, metadata)
            )

    async def _settle(self, repository: Repository, key: str, token: str) -> None:
        """Tidy up after a commit; the client has its answer already."""
        with trio.CancelScope(shield=True):
            try:
                await repository.backend.settle_write(key, token=token)
            except PantryError as exc:
                # The intent stays in the journal, and the next start settles it.
                warn_unsettled(exc)
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

    def keep(self, repository: Repository, path: str, file: StoredFile) -> None:
        """Make what was written part of the cache, if there is room, and readers do not get the stored file itself."""
        if repository.origin.direct:
            return
        try:
            reservation = self.cache.reserve(file.size_bytes)
        except (CacheFullError, CacheDiskError):
            return
        try:
            object_id = ObjectId(repository.realm, file.hash)
            self.cache.publish(path, object_id, file.size_bytes, name=file.path)
            self.cache.came_from(object_id, repository.name, file.path)
            reservation.use(reservation.left_bytes)
        except OSError as exc:
            # The dataset is stored; its next reader fetches it.
            self.cache.disk.failed(exc)
        finally:
            reservation.release()


def _write_file(path: str, content: bytes) -> None:
    """Make a new file; its content is in the page cache before this returns, which is quicker than a thread's start."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, memoryview(content), 0)
    finally:
        os.close(fd)
