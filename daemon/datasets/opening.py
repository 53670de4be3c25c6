"""The life of a read: from a resolved dataset to a read-only descriptor (DESIGN section 3)."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import trio

from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partial import PartialObject
from pantry.daemon.cache.partials import PartialObjects
from pantry.daemon.datasets.direct import DirectFiles
from pantry.daemon.datasets.readahead import ReadAhead
from pantry.daemon.datasets.sharing import SharedObjects
from pantry.daemon.repositories.repository import Repository
from pantry.errors import (
    CacheDiskError,
    CacheFullError,
    NotCachedError,
    ObjectChangedError,
    PantryError,
    StaleHandleError,
)
from pantry.model.datasets import StoredFile

log = logging.getLogger(__name__)

MOST_READ_FOR_A_PART = 16 << 20
"""A stored file of more bytes is not read through to be checked when somebody wants a part of it."""


class Wanted(NamedTuple):
    """A file that somebody wants.

    Attributes
    ----------
    object_id : ObjectId
        By which the cache knows it.
    size_bytes : int
        Its length.
    source : Source
        Where it can be fetched from.
    name : str
        For people, in messages and listings.
    repository : str
        The repository or prefix that it is of.
    version, checked_ns : str, int
        Of a plain object: which version it is, and when the origin said so; else empty and 0.
    """

    object_id: ObjectId
    size_bytes: int
    source: Source
    name: str
    repository: str
    version: str = ""
    checked_ns: int = 0


class OpenedPartial:
    """An incomplete file that a connection has open; released with it."""

    def __init__(self, partials: PartialObjects, partial: PartialObject, *, ahead: bool) -> None:
        self._partials = partials
        self.partial = partial
        # Memory is for what is read, not for what may be.
        self._ahead = ReadAhead(partial.size_bytes) if ahead and not partial.is_uncached else None
        self._scopes: set[trio.CancelScope] = set()

    async def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Return when these bytes are in the file; what follows comes too if the reader goes straight on.

        Raises
        ------
        PantryError
            As of `PartialObject.ensure`, for the first range that fails.
        """
        for start, stop in ranges:
            self._look_ahead(start, stop)
        if len(ranges) == 1:
            await self.partial.ensure(*ranges[0])
            return
        try:
            async with trio.open_nursery() as nursery:
                for start, stop in ranges:
                    nursery.start_soon(self.partial.ensure, start, stop)
        except ExceptionGroup as group:
            first: Exception = group
            while isinstance(first, ExceptionGroup):
                first = first.exceptions[0]
            raise first from None

    def _look_ahead(self, start: int, stop: int) -> None:
        if self._ahead is None or not 0 <= start < stop <= self.partial.size_bytes:
            return
        if self._ahead.jumps(start):
            self._stop_ahead()
        begin, end = self._ahead.note(start, stop)
        if begin < end:
            scope = trio.CancelScope()
            self._scopes.add(scope)
            self._partials.nursery.start_soon(self._fetch_ahead, scope, begin, end)

    def _stop_ahead(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def _fetch_ahead(self, scope: trio.CancelScope, start: int, stop: int) -> None:
        """Fetch what nobody waits for yet; failures are left to whoever reads there."""
        try:
            with scope:
                await self.partial.ensure(start, stop, ahead=True)
        except PantryError as exc:
            log.debug("fetching ahead of a reader of %s failed: %s", self.partial.name, exc.message)
        finally:
            self._scopes.discard(scope)

    async def release(self) -> None:
        """Give the object back; what was fetched stays in the cache."""
        self._stop_ahead()
        self._partials.release(self.partial)


class OpenedFile:
    """What `Opener.open` gives.

    Attributes
    ----------
    fd : int
        Read-only; the caller closes it.
    was_cached : bool
        Whether the complete file was there.
    partial : OpenedPartial or None
        If the file is not complete.
    """

    def __init__(self, fd: int, *, was_cached: bool, partial: OpenedPartial | None = None) -> None:
        self.fd = fd
        self.was_cached = was_cached
        self.partial = partial


class Opener:
    """Opens files through the cache.

    Parameters
    ----------
    cache : ObjectCache
        Complete objects.
    partials : PartialObjects
        Objects in the making.
    """

    def __init__(self, cache: ObjectCache, partials: PartialObjects) -> None:
        self._cache = cache
        self._partials = partials
        self.direct = DirectFiles()
        self._shared = SharedObjects(cache, partials)

    async def open(
        self,
        repository: Repository,
        file: StoredFile,
        *,
        name: str,
        partial: bool,
        cached_only: bool = False,
        uncached: bool = False,
        ahead: bool = True,
    ) -> OpenedFile:
        """Open a stored file; the caller has checked that the asking user may read it.

        Parameters
        ----------
        repository : Repository
            That holds it.
        file : StoredFile
            What the registry says of it.
        name : str
            For people, in messages and listings.
        partial : bool
            Do not wait for the file to be complete.
        cached_only : bool
            `NotCachedError` if the file is not complete in the cache. An origin is asked for a piece at most, if it
            is one that users read with their own rights, and the credential is another one than that which brought it.
        uncached : bool
            Read it through memory if it is not complete in the cache: the disk could not take it before.
        ahead : bool
            Fetch ahead of a reader who goes straight on.

        Raises
        ------
        CacheFullError
            Neither the disk nor memory has room for it.
        """
        return await self.open_wanted(
            _registered(repository, file, name),
            partial=partial,
            cached_only=cached_only,
            uncached=uncached,
            ahead=ahead,
        )

    async def open_wanted(
        self, wanted: Wanted, *, partial: bool, cached_only: bool = False, uncached: bool = False, ahead: bool = True
    ) -> OpenedFile:
        """Open a file as `open` does."""
        if wanted.object_id.is_users:
            await self._require_right(wanted)
        fd = await self._open_complete(wanted)
        if fd is not None:
            return OpenedFile(fd, was_cached=True)
        if cached_only:
            raise NotCachedError(
                f"{wanted.name} is not complete in the cache", hint="`pantry cache prefetch` fetches it"
            )
        if (fd := await self._open_shared(wanted)) is not None:
            return OpenedFile(fd, was_cached=True)
        if self._is_direct(wanted, partial=partial):
            try:
                return OpenedFile(await self._open_direct(wanted), was_cached=False)
            except PantryError as exc:
                if len(wanted.source.origin.backends) == 1:
                    raise
                log.warning("%s: a copy is read, since the file itself cannot be: %s", wanted.name, exc.message)
        counters = self._cache.counters
        counters.misses += 1
        counters.joins += wanted.object_id in self._partials
        if not uncached:
            try:
                if partial:
                    return self._open_partial(wanted, ahead=ahead)
                return OpenedFile(await self._fetch_whole(wanted), was_cached=False)
            except (CacheFullError, CacheDiskError, StaleHandleError) as exc:
                refusal = exc
        counters.uncached_opens += 1
        counters.uncached_bytes += wanted.size_bytes
        try:
            if partial:
                return self._open_partial(wanted, uncached=True, ahead=False)
            fd = self._partials.memory.open(wanted.object_id)
            return OpenedFile(fd or await self._fetch_whole(wanted, uncached=True), was_cached=False)
        except CacheFullError as exc:
            if uncached:
                raise
            raise CacheFullError(f"{refusal.message}, and {exc.message}", hint=exc.hint) from None

    async def _require_right(self, wanted: Wanted) -> None:
        """See that what is here was brought by the user's present credential, or is proved by it."""
        source = wanted.source
        await self._shared.require(
            wanted.object_id, source.origin, source.key, version=wanted.version, size_bytes=wanted.size_bytes
        )

    async def _open_shared(self, wanted: Wanted) -> int | None:
        """Open what another user's rights have brought, if the origin gives it to this one too."""
        source = wanted.source
        if not wanted.object_id.is_users or wanted.object_id in self._partials:
            return None
        shared = await self._shared.share(
            wanted.object_id, source.origin, source.key, version=wanted.version, repository=wanted.repository
        )
        return await self._open_complete(wanted) if shared else None

    def _is_direct(self, wanted: Wanted, *, partial: bool) -> bool:
        origin, key = wanted.source.origin, wanted.source.key
        if not origin.direct or wanted.object_id.is_plain:
            return False
        # For a part of a large file, the whole is not read; a part comes through the cache.
        return (
            not partial or wanted.size_bytes <= MOST_READ_FOR_A_PART or self.direct.knows(origin, key, wanted.object_id)
        )

    async def _open_direct(self, wanted: Wanted) -> int:
        source = wanted.source
        return await self.direct.open(source.origin, source.key, wanted.object_id, wanted.size_bytes, name=wanted.name)

    async def _open_complete(self, wanted: Wanted) -> int | None:
        fd = await self._open_cached(wanted)
        if fd is None:
            fd = self._partials.memory.open(wanted.object_id)
        if fd is not None:
            self._cache.counters.hits += 1
            self._cache.counters.hit_bytes += wanted.size_bytes
        return fd

    async def _open_cached(self, wanted: Wanted) -> int | None:
        return await self._cache.open(
            wanted.object_id, name=wanted.name, repository=wanted.repository, key=wanted.source.key
        )

    def _open_partial(self, wanted: Wanted, *, uncached: bool = False, ahead: bool) -> OpenedFile:
        making = self._acquire(wanted, uncached=uncached)
        try:
            fd = making.open_for_reader()
        except BaseException:
            self._partials.release(making)
            raise
        return OpenedFile(fd, was_cached=False, partial=OpenedPartial(self._partials, making, ahead=ahead))

    def _acquire(self, wanted: Wanted, *, uncached: bool) -> PartialObject:
        making = self._partials.acquire(
            wanted.object_id,
            wanted.size_bytes,
            wanted.source,
            wanted.name,
            uncached=uncached,
            plain_version=wanted.version,
        )
        making.repository = making.repository or wanted.repository
        return making

    async def _fetch_whole(self, wanted: Wanted, *, uncached: bool = False) -> int:
        try:
            return await self._fetch_once(wanted, uncached=uncached)
        except ObjectChangedError:
            if wanted.version:
                raise
            # What had come was of an older version at the origin; a fresh copy shows whether it is still what
            # was registered.
            return await self._fetch_once(wanted, uncached=uncached)

    async def _fetch_once(self, wanted: Wanted, *, uncached: bool) -> int:
        making = self._acquire(wanted, uncached=uncached)
        try:
            # Opened before it is published, so that no eviction can come between.
            fd = making.open_for_reader()
            try:
                await making.ensure(0, wanted.size_bytes)
                await making.wait_published()
            except BaseException:
                os.close(fd)
                raise
        finally:
            self._partials.release(making)
        return fd

    async def prefetch(self, repository: Repository, file: StoredFile, *, name: str) -> bool:
        """See that a file is complete on the cache's disk; True if it was not."""
        wanted = _registered(repository, file, name)
        if wanted.object_id.is_users:
            await self._require_right(wanted)
        fd = await self._open_cached(wanted) or await self._open_shared(wanted)
        is_missing = fd is None
        if fd is None:
            self._cache.counters.misses += 1
            self._cache.counters.joins += wanted.object_id in self._partials
            fd = await self._fetch_whole(wanted)
        else:
            self._cache.counters.hits += 1
            self._cache.counters.hit_bytes += file.size_bytes
        os.close(fd)
        return is_missing

    async def refetch(self, wanted: Wanted) -> None:
        """Fetch an object again that was damaged in the cache, if it did not come back meanwhile."""
        if wanted.object_id not in self._cache:
            os.close(await self._fetch_whole(wanted))


def _registered(repository: Repository, file: StoredFile, name: str) -> Wanted:
    return Wanted(repository.object_id(file), file.size_bytes, repository.source(file), name, repository.name)
