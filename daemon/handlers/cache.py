"""Handlers of `pantry.wire.operations.cache`."""

from __future__ import annotations

import logging
import os

import pantry
from pantry.daemon.cache.account import charged
from pantry.daemon.cache.metrics import Audience, exposition
from pantry.daemon.datasets.selecting import select
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.wire.operations import (
    CachedObject,
    CacheListing,
    CacheStatus,
    Done,
    Evicted,
    EvictObjects,
    GetCacheStatus,
    GetMetrics,
    GetStatus,
    ListCache,
    Metrics,
    SetOffline,
    Status,
)

_BATCH = 2000
log = logging.getLogger(__name__)


_SAME = (
    "hits",
    "joins",
    "misses",
    "hit_bytes",
    "waits",
    "waited_s",
    "evicted_objects",
    "evicted_bytes",
    "uncached_opens",
    "uncached_bytes",
    "verified_objects",
    "verified_bytes",
    "quarantined_objects",
    "cancelled_flights",
    "coalesced_chunks",
    "ahead_bytes",
)
"""Counters that `CacheStatus` has by the same name."""


def cache_status(node: Node) -> CacheStatus:
    """Count what the cache holds and did."""
    cache, counters, pinned = node.cache, node.counters(), node.pins.objects()
    return CacheStatus(
        quota_bytes=cache.config.quota_bytes,
        used_bytes=cache.used_bytes,
        reserved_bytes=cache.reserved_bytes,
        objects=len(cache),
        partial_objects=len(node.partials),
        fetches=counters.fetches.total(),
        fetched_bytes=counters.fetched_bytes.total(),
        failures=counters.failures.total(),
        quarantine_bytes=cache.quarantine.size_bytes,
        scrub_due_objects=node.scrub.due,
        offline=node.offline(),
        disk_state=cache.disk.state.value,
        disk_reason=cache.disk.reason,
        memory_bytes=node.partials.memory.used_bytes + node.partials.memory.reserved_bytes,
        unlinked_bytes=cache.lingering.size_bytes,
        pins=len(node.pins.held()),
        pinned_objects=len(pinned),
        pinned_bytes=sum(pinned.values()),
        **{name: getattr(counters, name) for name in _SAME},
    )


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    async def status(context: RequestContext, asked: GetStatus) -> Status:
        return Status(
            version=pantry.__version__,
            mode=node.config.mode,
            pid=os.getpid(),
            uid=node.own_uid,
            started_ns=node.started_ns,
            socket=node.config.socket,
            config=node.config.source,
            connections=node.limits.open_connections.total(),
            requests=node.limits.requests_answered,
            repositories=len(node.repositories.index.names()),
            puts_under_way=node.puts.under_way,
            cache=cache_status(node),
        )

    async def get_cache_status(context: RequestContext, asked: GetCacheStatus) -> CacheStatus:
        return cache_status(node)

    async def list_cache(context: RequestContext, asked: ListCache) -> None:
        pinned = node.pins.objects()
        realms = await node.readable_realms(context.caller)
        listed = [
            CachedObject(key.realm, key.hash, one.size_bytes, one.size_bytes, one.read_ns, 0, one.name, key in pinned)
            for key, one in node.cache.items()
            if key.realm in realms
        ]
        listed += [
            CachedObject(
                one.object_id.realm,
                one.object_id.hash,
                one.size_bytes,
                one.map.known_bytes,
                one.read_ns,
                one.users,
                one.name,
                one.object_id in pinned,
            )
            for one in node.partials.items()
            if one.object_id.realm in realms
        ]
        listed.sort(key=lambda one: one.read_ns, reverse=True)
        for begin in range(0, len(listed), _BATCH):
            await context.emit(CacheListing(listed[begin : begin + _BATCH]))

    async def evict(context: RequestContext, asked: EvictObjects) -> Evicted:
        node.require_administrator(context.peer, "evict from the cache")
        known = {key: charged(one.size_bytes) for key, one in node.cache.items()}
        known.update({one.object_id: one.map.stored_bytes for one in node.partials.items()})
        if asked.repository:
            selected = await select(node.repositories, context.caller, asked)
            chosen = [one.object_id for one in selected.files if one.object_id in known]
        else:
            chosen = [key for key in known if asked.everything or key.hash in asked.hashes]
        gone = [key for key in chosen if node.cache.evict_one(key)]
        return Evicted(len(gone), sum(known[key] for key in gone))

    async def metrics(context: RequestContext, asked: GetMetrics) -> Metrics:
        who = context.caller
        audience = Audience(everybody=True) if node.is_administrator(who) else Audience(uid=who.uid)
        return Metrics(exposition(node.read_metrics, audience))

    async def set_offline(context: RequestContext, asked: SetOffline) -> Done:
        node.require_administrator(context.peer, "say whether origins are asked")
        if asked.offline != node.is_offline:
            log.info(
                "%s: origins are %s", context.peer.user_name, "no longer asked" if asked.offline else "asked again"
            )
        node.is_offline = asked.offline
        return Done()

    dispatcher.register(SetOffline, set_offline)
    dispatcher.register(GetMetrics, metrics)
    dispatcher.register(GetStatus, status)
    dispatcher.register(GetCacheStatus, get_cache_status)
    dispatcher.register(ListCache, list_cache)
    dispatcher.register(EvictObjects, evict)
