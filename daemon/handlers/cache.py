"""Handlers of `pantry.wire.operations.cache`."""

from __future__ import annotations

import os

import pantry
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.wire.operations import (
    CachedObject,
    CacheListing,
    CacheStatus,
    Evicted,
    EvictObjects,
    GetCacheStatus,
    GetStatus,
    ListCache,
    Status,
)

_BATCH = 2000


def cache_status(node: Node) -> CacheStatus:
    """Count what the cache holds and did."""
    cache, partials = node.cache, node.partials
    return CacheStatus(
        quota_bytes=cache.config.quota_bytes,
        used_bytes=cache.used_bytes,
        reserved_bytes=cache.reserved_bytes,
        objects=len(cache),
        partial_objects=len(partials),
        hits=cache.hits,
        misses=cache.misses,
        fetches=partials.fetches,
        fetched_bytes=partials.fetched_bytes,
        evicted_objects=cache.evicted_objects,
        evicted_bytes=cache.evicted_bytes,
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
        realms = {one.realm for one in await node.repositories.all_readable(context.caller)}
        listed = [
            CachedObject(key.realm, key.hash, one.size_bytes, one.size_bytes, one.read_ns, 0, one.name)
            for key, one in node.cache.items()
            if key.realm in realms
        ]
        listed += [
            CachedObject(
                one.object_id.realm,
                one.object_id.hash,
                one.size_bytes,
                one.map.present_bytes,
                one.read_ns,
                one.users,
                one.name,
            )
            for one in node.partials.items()
            if one.object_id.realm in realms
        ]
        listed.sort(key=lambda one: one.read_ns, reverse=True)
        for begin in range(0, len(listed), _BATCH):
            await context.emit(CacheListing(listed[begin : begin + _BATCH]))

    async def evict(context: RequestContext, asked: EvictObjects) -> Evicted:
        node.require_administrator(context.peer, "evict from the cache")
        known = {key: one.size_bytes for key, one in node.cache.items()}
        known.update({one.object_id: one.map.present_bytes for one in node.partials.items()})
        chosen = [key for key in known if asked.everything or key.hash in asked.hashes]
        gone = [key for key in chosen if node.cache.evict_one(key)]
        return Evicted(len(gone), sum(known[key] for key in gone))

    dispatcher.register(GetStatus, status)
    dispatcher.register(GetCacheStatus, get_cache_status)
    dispatcher.register(ListCache, list_cache)
    dispatcher.register(EvictObjects, evict)
