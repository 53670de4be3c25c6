"""Handlers of `pantry.wire.operations.objects`."""

from __future__ import annotations

from contextlib import aclosing

import trio

from pantry.daemon.datasets.side_by_side import each
from pantry.daemon.node import Node
from pantry.daemon.prefixes.current import Current
from pantry.daemon.prefixes.prefix import PlainPrefix
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import BackendError, InvalidRequestError, PermissionDeniedError, TransientBackendError
from pantry.model.remote_files import plain_url
from pantry.wire.operations import (
    MAX_LOCATED,
    ListObjects,
    ListPrefixes,
    LocatedObject,
    LocatedObjects,
    LocateObjects,
    ObjectBatch,
    ObjectInfo,
    OpenedObject,
    OpenObject,
    PrefixInfo,
    PrefixList,
    StatObject,
)

_BATCH = 1000
_ASKED_AT_ONCE = 8
"""Requests to servers for one `LocateObjects`."""


def _shown(current: Current, *, stale: bool = False) -> ObjectInfo:
    stat = current.stat
    return ObjectInfo(
        key=stat.key,
        size_bytes=stat.size_bytes,
        version=stat.version,
        modified_ns=stat.modified_ns,
        checked_ns=current.checked_ns,
        stale=stale,
    )


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    def readable(context: RequestContext, name: str) -> PlainPrefix:
        who = context.caller
        return node.prefixes.readable(name, who, administers=node.is_administrator(who))

    async def list_prefixes(context: RequestContext, asked: ListPrefixes) -> PrefixList:
        who = context.caller
        found = node.prefixes.all_readable(who, administers=node.is_administrator(who))
        return PrefixList(
            tuple(
                PrefixInfo(
                    name=one.name,
                    location=one.location,
                    ttl_s=one.config.ttl_s,
                    stale_if_error_s=one.config.stale_if_error_s,
                )
                for one in found
            )
        )

    async def list_objects(context: RequestContext, asked: ListObjects) -> None:
        batch: list[ObjectInfo] = []
        async with aclosing(readable(context, asked.prefix).list(asked.begins)) as found:
            async for one in found:
                batch.append(_shown(one))
                if len(batch) == _BATCH:
                    await context.emit(ObjectBatch(batch))
                    batch = []
        await context.emit(ObjectBatch(batch))

    async def stat(context: RequestContext, asked: StatObject) -> ObjectInfo:
        current, stale = await readable(context, asked.prefix).current(asked.key)
        return _shown(current, stale=stale)

    async def locate(context: RequestContext, asked: LocateObjects) -> LocatedObjects:
        if not 0 < len(asked.urls) <= MAX_LOCATED:
            raise InvalidRequestError(f"one request describes 1 to {MAX_LOCATED} files, not {len(asked.urls)}")
        who = context.caller
        administers = node.is_administrator(who)
        found: dict[int, LocatedObject] = {}
        limit = trio.CapacityLimiter(_ASKED_AT_ONCE)

        async def describe(number: int) -> None:
            async with limit:
                try:
                    url = plain_url(asked.urls[number])
                    prefix, key = node.prefixes.at_url(url, who, administers=administers)
                    current, _ = await prefix.current(key, anew=True)
                except TransientBackendError:
                    raise
                except (BackendError, InvalidRequestError, PermissionDeniedError) as exc:
                    found[number] = LocatedObject(problem=exc.message)
                else:
                    found[number] = LocatedObject(url=url, size_bytes=current.stat.size_bytes)

        await each(describe, range(len(asked.urls)))
        return LocatedObjects(tuple(found[number] for number in range(len(asked.urls))))

    async def open_object(context: RequestContext, asked: OpenObject) -> OpenedObject:
        prefix = readable(context, asked.prefix)
        current, stale, opened = await prefix.open(
            asked.key, partial=asked.partial, uncached=asked.uncached, version=asked.version
        )
        context.attach(opened.fd)
        handle = context.session.hold(opened.partial) if opened.partial is not None else 0
        return OpenedObject(
            info=_shown(current, stale=stale),
            complete=opened.partial is None,
            handle=handle,
            was_cached=opened.was_cached,
            origin=f"{prefix.origin.location.rstrip('/')}/{asked.key}",
        )

    dispatcher.register(ListPrefixes, list_prefixes)
    dispatcher.register(ListObjects, list_objects)
    dispatcher.register(StatObject, stat)
    dispatcher.register(LocateObjects, locate)
    dispatcher.register(OpenObject, open_object)
