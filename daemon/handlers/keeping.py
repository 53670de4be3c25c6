"""Handlers of `pantry.wire.operations.keeping`."""

from __future__ import annotations

from pantry.daemon.cache.account import charged
from pantry.daemon.cache.pins import HeldPin, PinRecord
from pantry.daemon.datasets.prefetching import PrefetchRun, choose
from pantry.daemon.datasets.selecting import SelectedFile, select
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.identity import Identity
from pantry.errors import InvalidRequestError
from pantry.wire.operations import (
    CountDone,
    ListPins,
    Pin,
    PinDatasets,
    PinList,
    Pinned,
    Prefetch,
    UnpinDatasets,
)

MAX_NOTE = 1000


def room_for(node: Node, files: list[SelectedFile]) -> int:
    """Return how many bytes these files may take in the cache: all but what is promised or pinned to others.

    Up to the high-water mark only, above which one file would make the others go.
    """
    wanted = {one.object_id for one in files}
    pinned = sum(charged(size) for one, size in node.pins.objects().items() if one not in wanted and one in node.cache)
    config = node.config.cache
    return int(config.quota_bytes * config.high_water) - node.cache.reserved_bytes - pinned


def _cached(node: Node, pin: HeldPin) -> tuple[int, int]:
    there = [size for one, size in pin.objects.items() if one in node.cache]
    return len(there), sum(there)


def _shown(node: Node, pin: HeldPin) -> Pin:
    record = pin.record
    cached_objects, cached_bytes = _cached(node, pin)
    return Pin(
        id=record.id,
        owner=Identity(record.owner_uid, -1, frozenset()).user_name,
        repository=record.repository,
        dataset_types=record.dataset_types,
        collections=record.collections,
        where=record.where,
        data_id=record.data_id,
        note=record.note,
        created_ns=record.created_ns,
        expires_ns=record.expires_ns,
        objects=len(pin.objects),
        bytes=sum(pin.objects.values()),
        cached_objects=cached_objects,
        cached_bytes=cached_bytes,
        problem=pin.problem,
    )


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    def whose(who: Identity) -> int | None:
        return None if node.is_administrator(who) else who.uid

    async def pin(context: RequestContext, asked: PinDatasets) -> Pinned:
        who = context.caller
        await node.repositories.readable_all(asked.repository, who)
        if len(asked.note) > MAX_NOTE:
            raise InvalidRequestError(f"a note has at most {MAX_NOTE} characters")
        record = PinRecord(
            id="",
            owner_uid=who.uid,
            repository=asked.repository,
            dataset_types=asked.dataset_types,
            collections=asked.collections,
            where=asked.where,
            data_id=asked.data_id,
            note=asked.note,
            expires_ns=asked.expires_ns,
            unlimited=node.is_administrator(who),
        )
        held = await node.pins.add(record)
        cached_objects, cached_bytes = _cached(node, held)
        return Pinned(
            id=held.record.id,
            objects=len(held.objects),
            bytes=sum(held.objects.values()),
            cached_objects=cached_objects,
            cached_bytes=cached_bytes,
        )

    async def unpin(context: RequestContext, asked: UnpinDatasets) -> CountDone:
        if bool(asked.ids) == asked.everything:
            raise InvalidRequestError("name pins, or ask for all of one's own")
        if asked.everything:
            own = [one.record.id for one in node.pins.held(context.caller.uid)]
            return CountDone(await node.pins.remove(own, context.caller.uid))
        return CountDone(await node.pins.remove(asked.ids, whose(context.caller)))

    async def list_pins(context: RequestContext, asked: ListPins) -> PinList:
        return PinList(tuple(_shown(node, one) for one in node.pins.held(whose(context.caller))))

    async def prefetch(context: RequestContext, asked: Prefetch) -> None:
        files, holders, gone = await select(node.repositories, context.caller, asked)
        chosen, left_out = choose(node.cache, files, room_bytes=room_for(node, files), partial=asked.partial)

        async def fetch(one: SelectedFile) -> bool:
            return await node.opener.prefetch(holders[one.object_id], one.file, name=one.name)

        await PrefetchRun(node.cache, chosen, left_out, gone).run(fetch, context.emit)

    dispatcher.register(PinDatasets, pin)
    dispatcher.register(UnpinDatasets, unpin)
    dispatcher.register(ListPins, list_pins)
    dispatcher.register(Prefetch, prefetch)
