"""What the origin last said of each key of a prefix, and when."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

import xxhash

from pantry.backends.contract import ObjectStat
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache

MOST_KEYS = 100_000
"""Keys of one prefix that are remembered; those asked for longest ago go first."""


class Current(NamedTuple):
    """The version of an object that readers get.

    Attributes
    ----------
    stat : ObjectStat
        As the origin said; ``modified_ns`` is 0 if it said so to an earlier run of the daemon.
    checked_ns : int
        When it said so, nanoseconds since 1970-01-01 UTC; 0 if it did not say so to whoever asks now.
    """

    stat: ObjectStat
    checked_ns: int

    def is_within(self, seconds: float) -> bool:
        """Whether it was said at most so long ago; never if the clock was set back since."""
        return 0 <= time.time_ns() - self.checked_ns < seconds * 1e9


class CurrentVersions:
    """The current version of each key that was asked for.

    What is cached of an older version is dropped when a newer one is seen; whoever has it open keeps it. Of
    complete objects the index remembers version and time, so that it is known after a restart.

    Parameters
    ----------
    realm : str
        Of the prefix in the cache.
    location : str
        Of the root: with another one, nothing is the same object.
    cache : ObjectCache
        Where the objects are.
    """

    def __init__(self, realm: str, location: str, cache: ObjectCache) -> None:
        self._realm = realm
        self._location = location
        self._cache = cache
        self._known: OrderedDict[str, Current] = OrderedDict()
        for object_id, entry in cache.items():
            if object_id.realm != realm:
                continue
            stat = ObjectStat(key=entry.key, size_bytes=entry.size_bytes, version=entry.version, modified_ns=0)
            if self.object_id(stat) != object_id:
                # Of another root.
                cache.drop(object_id)
            else:
                self._known[entry.key] = Current(stat, entry.checked_ns)

    def object_id(self, stat: ObjectStat) -> ObjectId:
        """Return by which name the cache knows a version of an object."""
        what = "\0".join((self._location, stat.key, stat.version, str(stat.size_bytes)))
        return ObjectId(self._realm, xxhash.xxh3_128_hexdigest(what.encode()))

    def believe_nothing(self) -> None:
        """Ask for each key again before its version is handed out."""
        self._known = OrderedDict((key, one._replace(checked_ns=0)) for key, one in self._known.items())

    def get(self, key: str) -> Current | None:
        """Return what was last said of a key."""
        return self._known.get(key)

    def note(self, stat: ObjectStat) -> Current:
        """Take note of what the origin says now."""
        object_id, before = self.object_id(stat), self._known.pop(stat.key, None)
        if before is not None and self.object_id(before.stat) != object_id:
            self._drop(before.stat)
        current = self._known[stat.key] = Current(stat, time.time_ns())
        self._cache.checked(object_id, current.checked_ns)
        if len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)
        return current

    def forget(self, key: str) -> None:
        """Take note that there is no such object any more."""
        if (before := self._known.pop(key, None)) is not None:
            self._drop(before.stat)

    def _drop(self, stat: ObjectStat) -> None:
        object_id = self.object_id(stat)
        if not self._cache.drop(object_id) and self._cache.partials is not None:
            self._cache.partials.evict_one(object_id)
