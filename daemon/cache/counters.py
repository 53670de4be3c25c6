"""What the cache did since the daemon started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Totals; only the trio thread changes them.

    Attributes
    ----------
    hits, misses, joins : int
        Opens that found the complete object; that did not; and those of the latter that found it in the making.
    hit_bytes : int
        Sizes of the files that hits opened.
    fetches, fetched_bytes : Counter of (str, int)
        Requests for bytes made upstream and bytes that came, by the origin's location and the uid for whom.
    failures : Counter of str
        Transfers that failed, by the origin's location.
    waits, waited_s : int, float
        Reads that had to wait for bytes, and for how long altogether, in seconds.
    evicted_objects, evicted_bytes : int
        What made room.
    uncached_opens, uncached_bytes : int
        Files served from memory since the disk could not take them.
    verified_objects, verified_bytes : int
        Read again and found whole.
    quarantined_objects : int
        Read again and found damaged.
    cancelled_flights : int
        Transfers given up since nobody waited any more.
    coalesced_chunks : int
        Chunks that came with a neighbour's request.
    ahead_bytes : int
        Asked for ahead of sequential readers.
    """

    hits: int = 0
    misses: int = 0
    joins: int = 0
    hit_bytes: int = 0
    fetches: Counter[tuple[str, int]] = field(default_factory=Counter)
    fetched_bytes: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    waits: int = 0
    waited_s: float = 0.0
    evicted_objects: int = 0
    evicted_bytes: int = 0
    uncached_opens: int = 0
    uncached_bytes: int = 0
    verified_objects: int = 0
    verified_bytes: int = 0
    quarantined_objects: int = 0
    cancelled_flights: int = 0
    coalesced_chunks: int = 0
    ahead_bytes: int = 0
