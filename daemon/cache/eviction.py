"""What to evict: least recently read first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

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


def plan_eviction(candidates: Iterable[Candidate], *, free_bytes: int) -> list[Candidate]:
    """Put candidates in the order in which to evict them until ``free_bytes`` are free.

    Parameters
    ----------
    candidates : iterable of Candidate
        In any order.
    free_bytes : int
        How much must become free, in bytes.

    Returns
    -------
    list of Candidate
        Least recently read first, no more than are needed if each can be evicted; all of them if
        even that would not do.
    """
    chosen: list[Candidate] = []
    freed = 0
    for candidate in sorted(candidates, key=lambda one: (one.read_ns, one.object_id)):
        if freed >= free_bytes:
            break
        chosen.append(candidate)
        freed += candidate.size_bytes
    return chosen
