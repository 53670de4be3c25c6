"""What may be evicted."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pantry.daemon.cache.object_id import ObjectId


class Candidate(NamedTuple):
    """An object that may be evicted.

    Attributes
    ----------
    object_id : ObjectId
        Which.
    size_bytes : int
        What its eviction frees.
    read_ns : int
        When it was last opened, nanoseconds since 1970-01-01 UTC.
    """

    object_id: ObjectId
    size_bytes: int
    read_ns: int


class EvictablePartials(Protocol):
    """Objects in the making, as far as eviction goes."""

    def candidates(self) -> list[Candidate]:
        """Return those that nobody has open."""
        ...

    def evict_one(self, object_id: ObjectId) -> bool:
        """Drop one unless it is in use."""
        ...
