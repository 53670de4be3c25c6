"""One file in the cache for several users, each with his own rights: after proof that the origin gives it to him too.

That another user has an object is neither told nor used before the asking user's own request to the origin has
brought a piece of it. A description of the object would not do: many services give size and version to who may not
read the content. The piece lies where nobody can foresee, and must be the same as in the cache.

A proof is of the credential that was shown. What a user's earlier credential brought is his with the next one after
the same proof.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import OrderedDict

import trio

from pantry.backends.contract import ByteRange
from pantry.daemon.cache.namesakes import give_name, namesakes
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partials import PartialObjects
from pantry.daemon.credentials.held import Rights
from pantry.daemon.transfers.origin import Origin
from pantry.errors import CacheDiskError, CacheFullError, ObjectChangedError

PIECE_BYTES = 4096
"""Length of the piece that proves the right to the whole, in bytes."""

MOST_PROVED = 100_000
"""Objects of which is remembered by which credential they are a user's; of others a piece is asked for again."""

log = logging.getLogger(__name__)


class SharedObjects:
    """Gives objects of one user's realm a name in another's, and of one credential's to the next.

    Parameters
    ----------
    cache : ObjectCache
        Where they are.
    partials : PartialObjects
        Those in the making.
    """

    def __init__(self, cache: ObjectCache, partials: PartialObjects) -> None:
        self._cache = cache
        self._partials = partials
        self._proving: dict[ObjectId, trio.Lock] = {}
        self._renewing: dict[ObjectId, trio.Lock] = {}
        self._proved: OrderedDict[ObjectId, Rights] = OrderedDict()

    async def require(self, object_id: ObjectId, origin: Origin, key: str, *, version: str, size_bytes: int) -> None:
        """See that what is here of an object in a user's realm was brought, or is proved, by his present credential.

        Parameters
        ----------
        object_id, origin, key, version
            As of `share`.
        size_bytes : int
            Its length.

        Raises
        ------
        BackendError
            The origin does not give it to this user any more, or cannot be asked.
        """
        lock = self._renewing.setdefault(object_id, trio.Lock())
        try:
            # Whoever finds the credential changed when the piece has come asks again with the new one.
            while self._proved.get(object_id) != (rights := origin.rights()):
                if size_bytes == 0 or not self._is_here(object_id):
                    # What comes now is brought by this credential.
                    self._note(object_id, rights)
                    break
                async with lock:
                    if self._proved.get(object_id) != rights:
                        await self._renew(object_id, origin, key, version, size_bytes)
                        if origin.rights() == rights:
                            self._note(object_id, rights)
        finally:
            if not lock.locked():
                self._renewing.pop(object_id, None)

    def _is_here(self, object_id: ObjectId) -> bool:
        return object_id in self._cache or object_id in self._partials or object_id in self._partials.memory

    def _note(self, object_id: ObjectId, rights: Rights) -> None:
        self._proved[object_id] = rights
        self._proved.move_to_end(object_id)
        if len(self._proved) > MOST_PROVED:
            self._proved.popitem(last=False)

    async def _renew(self, object_id: ObjectId, origin: Origin, key: str, version: str, size_bytes: int) -> None:
        """Prove what is here by a piece; what turns out to be another object at the origin is dropped."""
        fd = await self._cache.open(object_id)
        if fd is None:
            fd = self._partials.memory.open(object_id)
        made_of = next((one.version for one in self._partials.of(object_id) if fd is None and one.version), version)
        try:
            if not await self._is_same(fd, _piece(size_bytes), origin, key, made_of):
                self._drop(object_id, key)
        finally:
            if fd is not None:
                os.close(fd)

    def _drop(self, object_id: ObjectId, key: str) -> None:
        changed = ObjectChangedError(f"{key} is another one at the origin", hint="open it anew to read the present one")
        for one in self._partials.of(object_id):
            one.give_up(changed)
        self._partials.memory.forget(object_id)
        if object_id in self._cache and not self._cache.drop(object_id):
            raise CacheDiskError(f"{key} is another one at the origin, and cannot be removed from the cache")

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
            if not await self._is_same(fd, _piece(os.fstat(fd).st_size), origin, key, version):
                return False
        finally:
            os.close(fd)
        try:
            return give_name(self._cache, other, object_id, repository=repository)
        except (CacheFullError, CacheDiskError) as exc:
            log.debug("an object that is in the cache gets no other name: %s", exc.message)
            return False

    async def _is_same(self, fd: int | None, span: ByteRange, origin: Origin, key: str, version: str) -> bool:
        """Whether the origin gives a piece, as it is in a file; without one, that it gives it will do."""
        mine = os.memfd_create("piece", os.MFD_CLOEXEC)
        try:
            await origin.read_into(key, span, mine, if_version=version or None)
            return fd is None or os.pread(mine, span.size_bytes, span.start) == os.pread(
                fd, span.size_bytes, span.start
            )
        except ObjectChangedError:
            # Whoever opens it learns so by fetching it.
            return False
        finally:
            os.close(mine)


def _piece(size_bytes: int) -> ByteRange:
    """Choose where a piece lies."""
    start = secrets.randbelow(max(1, size_bytes - PIECE_BYTES + 1))
    return ByteRange(start, min(size_bytes, start + PIECE_BYTES))
