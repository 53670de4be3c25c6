"""One file of the cache by several names: the same content, in realms that differ only in whose rights it came by."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

from pantry.daemon.cache.account import charged
from pantry.daemon.cache.object_id import ObjectId

if TYPE_CHECKING:
    from pantry.daemon.cache.objects import ObjectCache


def namesakes(cache: ObjectCache, object_id: ObjectId) -> list[ObjectId]:
    """Return the other complete objects of the same hash in realms that differ only in whose rights they came by."""
    realm = object_id.realm_of_all
    try:
        realms = os.listdir(cache.disk.objects)
    except OSError as exc:
        cache.disk.failed(exc)
        return []
    found = [ObjectId(one, object_id.hash) for one in realms]
    return [one for one in found if one.realm_of_all == realm and one != object_id and one in cache]


def give_name(cache: ObjectCache, source: ObjectId, target: ObjectId, *, repository: str) -> bool:
    """Give a complete object one more name, in another realm; it is charged for once more.

    Parameters
    ----------
    cache : ObjectCache
        Where it is.
    source, target : ObjectId
        The name that it has, and the new one.
    repository : str
        By which it is read by the new one.

    Returns
    -------
    bool
        False if it is not there any more.

    Raises
    ------
    CacheFullError, CacheDiskError
        As of `ObjectCache.reserve`, or the disk does not do it.
    """
    entry = cache.entry(source)
    if entry is None:
        return False
    reservation = cache.reserve(entry.size_bytes)
    try:
        if source not in cache:
            return False  # evicted for its own second name
        path = os.path.join(cache.incoming, f"{uuid.uuid4()}.share")
        with cache.disk.watched():
            os.link(cache.path_of(source), path)
            cache.publish(path, target, entry.size_bytes, name=entry.name)
        reservation.use(charged(entry.size_bytes))
    finally:
        reservation.release()
    made = cache.entry(target)
    if made is not None:
        made.verified, made.verified_ns = entry.verified, entry.verified_ns
        made.repository, made.key = repository, entry.key
        made.version, made.content, made.checked_ns = entry.version, entry.content, time.time_ns()
    return True
