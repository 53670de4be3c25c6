"""One file in the cache for several users, each with his own rights: after proof that the origin gives it to him too.

That another user has an object is neither told nor used before the asking user's own request to the origin has
brought a piece of it. A description of the object would not do: many services give size and version to who may not
read the content. The piece lies where nobody can foresee, and must be the same as in the cache.
"""

from __future__ import annotations

import logging
import os
import secrets

import trio

from pantry.backends.contract import ByteRange
from pantry.daemon.cache.namesakes import give_name, namesakes
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.transfers.origin import Origin
from pantry.errors import CacheDiskError, CacheFullError, ObjectChangedError

PIECE_BYTES = 4096
"""Length of the piece that proves the right to the whole, in bytes."""

log = logging.getLogger(__name__)


class SharedObjects:
    """Gives objects of one user's realm a name in another's.

    Parameters
    ----------
    cache : ObjectCache
        Where they are.
    """

    def __init__(self, cache: ObjectCache) -> None:
        self._cache = cache
        self._proving: dict[ObjectId, trio.Lock] = {}

    async def share(self, object_id: ObjectId, origin: Origin, key: str, *, version: str, repository: str) -> bool:
        """Make an object that another realm of the same root has one of ``object_id``'s realm, after proof.

        Parameters
        ----------
        object_id : ObjectId
            Of a user's realm.
        origin : Origin
            Asks with that user's rights.
        key : str
            Of the object there; only what was read by the same key is looked at.
        version : str
            That it must have there; empty if its content is known by its hash.
        repository : str
            By which it is read.

        Returns
        -------
        bool
            Whether it is in the cache now.

        Raises
        ------
        BackendError
            The origin does not give it to this user.
        """
        if not object_id.is_users or not self._candidate(object_id, key):
            return False
        lock = self._proving.setdefault(object_id, trio.Lock())
        try:
            async with lock:
                if object_id in self._cache:
                    return True
                return await self._prove(object_id, origin, key, version, repository)
        finally:
            if not lock.locked():
                self._proving.pop(object_id, None)

    def _candidate(self, object_id: ObjectId, key: str) -> ObjectId | None:
        """Find a complete object of the same content in another realm of the same root."""
        for other in namesakes(self._cache, object_id):
            entry = self._cache.entry(other)
            if entry is not None and entry.key == key and entry.size_bytes:
                return other
        return None

    async def _prove(self, object_id: ObjectId, origin: Origin, key: str, version: str, repository: str) -> bool:
        other = self._candidate(object_id, key)
        fd = await self._cache.open(other) if other is not None else None
        if fd is None or other is None:
            return False
        try:
            size = os.fstat(fd).st_size
            start = secrets.randbelow(max(1, size - PIECE_BYTES + 1))
            span = ByteRange(start, min(size, start + PIECE_BYTES))
            if not await self._is_same(fd, span, origin, key, version):
                return False
        finally:
            os.close(fd)
        try:
            return give_name(self._cache, other, object_id, repository=repository)
        except (CacheFullError, CacheDiskError) as exc:
            log.debug("an object that is in the cache gets no other name: %s", exc.message)
            return False

    async def _is_same(self, fd: int, span: ByteRange, origin: Origin, key: str, version: str) -> bool:
        mine = os.memfd_create("piece", os.MFD_CLOEXEC)
        try:
            await origin.read_into(key, span, mine, if_version=version or None)
            return os.pread(mine, span.size_bytes, span.start) == os.pread(fd, span.size_bytes, span.start)
        except ObjectChangedError:
            # Whoever opens it learns so by fetching it.
            return False
        finally:
            os.close(mine)
