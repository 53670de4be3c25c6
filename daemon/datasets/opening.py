"""The life of a read: from a resolved dataset to a read-only descriptor (DESIGN section 3)."""

from __future__ import annotations

import os

from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partial import PartialObject, PartialObjects, Source
from pantry.daemon.repositories.repository import Repository
from pantry.errors import NotCachedError, ObjectChangedError
from pantry.model.datasets import StoredFile


class OpenedPartial:
    """An incomplete file that a connection has open; released with it."""

    def __init__(self, partials: PartialObjects, partial: PartialObject) -> None:
        self._partials = partials
        self.partial = partial

    async def release(self) -> None:
        """Give the object back; what was fetched stays in the cache."""
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

    async def open(
        self, repository: Repository, file: StoredFile, *, name: str, partial: bool, cached_only: bool = False
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
            Ask no origin: `NotCachedError` if the file is not complete in the cache.
        """
        object_id = repository.object_id(file)
        counters = self._cache.counters
        fd = await self._cache.open(object_id, name=name)
        if fd is not None:
            counters.hits += 1
            counters.hit_bytes += file.size_bytes
            return OpenedFile(fd, was_cached=True)
        if cached_only:
            raise NotCachedError(f"{name} is not complete in the cache", hint="`pantry cache prefetch` fetches it")
        counters.misses += 1
        counters.joins += object_id in self._partials
        source = repository.source(file)
        if partial:
            making = self._partials.acquire(object_id, file.size_bytes, source, name)
            return OpenedFile(
                os.open(making.path, os.O_RDONLY | os.O_CLOEXEC),
                was_cached=False,
                partial=OpenedPartial(self._partials, making),
            )
        try:
            return OpenedFile(await self._fetch_whole(object_id, file.size_bytes, source, name), was_cached=False)
        except ObjectChangedError:
            # What had come was of an older version at the origin; a fresh copy shows whether it is still what
            # was registered.
            return OpenedFile(await self._fetch_whole(object_id, file.size_bytes, source, name), was_cached=False)

    async def _fetch_whole(self, object_id: ObjectId, size_bytes: int, source: Source, name: str) -> int:
        making = self._partials.acquire(object_id, size_bytes, source, name)
        # Opened before it is published, so that no eviction can come between.
        fd = os.open(making.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await making.ensure(0, size_bytes)
            await making.wait_published()
        except BaseException:
            os.close(fd)
            raise
        finally:
            self._partials.release(making)
        return fd

    async def prefetch(self, repository: Repository, file: StoredFile, *, name: str) -> bool:
        """See that a file is complete in the cache; True if it was not."""
        opened = await self.open(repository, file, name=name, partial=False)
        os.close(opened.fd)
        return not opened.was_cached
