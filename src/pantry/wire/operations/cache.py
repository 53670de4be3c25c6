"""Operations on the daemon itself and its cache."""

from __future__ import annotations

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.repositories import Done


class CacheStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the cache holds and did since the daemon started.

    Attributes
    ----------
    quota_bytes : int
        Most that it may hold.
    used_bytes : int
        Complete objects, and the chunks of incomplete ones that are there.
    reserved_bytes : int
        Promised to transfers and puts under way.
    objects, partial_objects : int
        Complete and incomplete ones.
    hits, misses : int
        Opens that found the complete object, and those that did not.
    fetches : int
        Requests made upstream.
    fetched_bytes, evicted_objects, evicted_bytes : int
        Totals since the start.
    joins : int
        Misses that found the object in the making.
    hit_bytes : int
        Sizes of the files that hits opened.
    failures : int
        Transfers that failed.
    waits, waited_s : int, float
        Reads that had to wait for bytes, and for how long altogether, in seconds.
    uncached_opens, uncached_bytes : int
        Files served from memory since the disk could not take them.
    verified_objects, verified_bytes, quarantined_objects : int
        Objects read again and found whole, and found damaged.
    cancelled_flights, coalesced_chunks, ahead_bytes : int
        Transfers given up, chunks that came with a neighbour's request, bytes asked for ahead of readers.
    pins, pinned_objects, pinned_bytes : int
        Pins, and what they keep, whether it is cached or not.
    disk_state, disk_reason : str
        Whether the cache's disk can be written: ``ok``, ``full``, ``failing`` or ``gone``; and why not.
    memory_bytes : int
        Taken by files that are read through memory, as the disk could not take them.
    unlinked_bytes : int
        Of ``used_bytes``: files that were removed and are still open.
    quarantine_bytes : int
        Of ``used_bytes``: damaged objects that are kept aside.
    scrub_due_objects : int
        Those that were not read again within ``cache.scrub_interval_s``, when the scrub last looked.
    offline : bool
        Whether no origin is asked for anything (`SetOffline`).
    """

    quota_bytes: int
    used_bytes: int
    reserved_bytes: int
    objects: int
    partial_objects: int
    hits: int
    misses: int
    fetches: int
    fetched_bytes: int
    evicted_objects: int
    evicted_bytes: int
    joins: int = 0
    hit_bytes: int = 0
    failures: int = 0
    waits: int = 0
    waited_s: float = 0.0
    uncached_opens: int = 0
    uncached_bytes: int = 0
    verified_objects: int = 0
    verified_bytes: int = 0
    quarantined_objects: int = 0
    cancelled_flights: int = 0
    coalesced_chunks: int = 0
    ahead_bytes: int = 0
    pins: int = 0
    pinned_objects: int = 0
    pinned_bytes: int = 0
    disk_state: str = "ok"
    disk_reason: str = ""
    memory_bytes: int = 0
    unlinked_bytes: int = 0
    quarantine_bytes: int = 0
    scrub_due_objects: int = 0
    offline: bool = False


class GetCacheStatus(Operation[CacheStatus], frozen=True, kw_only=True, tag="cache.status"):
    """Ask for `CacheStatus`."""

    result_type = CacheStatus


class CachedObject(msgspec.Struct, frozen=True, array_like=True):
    """One object in the cache.

    Attributes
    ----------
    realm, hash : str
        Which object.
    size_bytes : int
        Length of the whole object.
    cached_bytes : int
        How much of it is there.
    read_ns : int
        When it was last opened, nanoseconds since 1970-01-01 UTC.
    open_count : int
        Opens under way.
    name : str
        A path by which it was read, for people; empty if not known.
    pinned : bool
        Whether a pin keeps it.
    """

    realm: str
    hash: str
    size_bytes: int
    cached_bytes: int
    read_ns: int
    open_count: int
    name: str = ""
    pinned: bool = False


class CacheListing(msgspec.Struct, frozen=True):
    """A batch of cached objects."""

    objects: list[CachedObject]


class ListCache(StreamOperation[CacheListing], frozen=True, kw_only=True, tag="cache.list"):
    """List the cached objects of the repositories that the user may read, last read first."""

    result_type = CacheListing


class Evicted(msgspec.Struct, frozen=True):
    """What was evicted."""

    objects: int
    bytes: int


class EvictObjects(Operation[Evicted], frozen=True, kw_only=True, omit_defaults=True, tag="cache.evict"):
    """Evict objects by hash, those of a query, or with ``everything`` all; only administrators may.

    Attributes
    ----------
    hashes : tuple of str
        Which, by hash.
    everything : bool
        All.
    repository, dataset_types, collections, where, data_id
        Or what a query finds, as of `QueryDatasets`; not asked if ``repository`` is empty.
    """

    result_type = Evicted
    hashes: tuple[str, ...] = ()
    everything: bool = False
    repository: str = ""
    dataset_types: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    where: str = ""
    data_id: dict[str, DataIdValue] = {}


class SetOffline(Operation[Done], frozen=True, kw_only=True, tag="cache.offline"):
    """Ask no origin for anything from now on, or again; only administrators may. Ends with the daemon."""

    result_type = Done
    offline: bool


class Metrics(msgspec.Struct, frozen=True):
    """Metrics in the text format of Prometheus, version 0.0.4."""

    text: str


class GetMetrics(Operation[Metrics], frozen=True, kw_only=True, tag="metrics"):
    """Ask for all metrics; rows by user only about oneself, for administrators about everybody."""

    result_type = Metrics


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon.

    Attributes
    ----------
    version : str
        Of the software.
    mode : str
        ``user`` or ``system``.
    pid, uid : int
        Of its process.
    started_ns : int
        When it started, nanoseconds since 1970-01-01 UTC.
    socket, config : str
        Its socket, and its configuration file or empty.
    connections, requests : int
        Open connections, and requests answered so far.
    repositories : int
        Registered ones.
    puts_under_way : int
        Begun and not yet ended.
    cache : CacheStatus
        See there.
    """

    version: str
    mode: str
    pid: int
    uid: int
    started_ns: int
    socket: str
    config: str
    connections: int
    requests: int
    repositories: int
    puts_under_way: int
    cache: CacheStatus


class GetStatus(Operation[Status], frozen=True, kw_only=True, tag="status"):
    """Ask for `Status`."""

    result_type = Status
