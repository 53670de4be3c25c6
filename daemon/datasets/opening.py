"""The life of a read: from a resolved dataset to a read-only descriptor (DESIGN section 3)."""

from __future__ import annotations

import os

from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partial import PartialObject, PartialObjects
from pantry.daemon.repositories.repository import Repository
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

    async def open(self, repository: Repository, file: StoredFile, *, name: str, partial: bool) -> OpenedFile:
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
        """
        object_id = repository.object_id(file)
        fd = await self._cache.open(object_id, name=name)
        if fd is not None:
            self._cache.hits += 1
            return OpenedFile(fd, was_cached=True)
        self._cache.misses += 1
        source = repository.source(file)
        making = self._partials.acquire(object_id, file.size_bytes, source, name)
        if partial:
            return OpenedFile(
                os.open(making.path, os.O_RDONLY | os.O_CLOEXEC),
                was_cached=False,
                partial=OpenedPartial(self._partials, making),
            )
        # Opened before it is published, so that no eviction can come between.
        fd = os.open(making.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await making.ensure(0, file.size_bytes)
            await making.wait_published()
        except BaseException:
            os.close(fd)
            raise
        finally:
            self._partials.release(making)
        return OpenedFile(fd, was_cached=False)
