"""Handlers of `pantry.wire.operations.provenance`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.streaming import stream
from pantry.errors import InvalidRequestError
from pantry.model.provenance import DatasetProvenance
from pantry.wire.operations import CountDone, GetProvenance, QueryQuanta, QueryRelatives, RecordQuanta
from pantry.wire.operations.provenance import MAX_PRODUCED


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories
    call = repositories.queries.call

    async def record(context: RequestContext, asked: RecordQuanta) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller, unfinished=True)
        return CountDone(await call(partial(found.registry.provenance.record, asked.quanta)))

    async def get(context: RequestContext, asked: GetProvenance) -> DatasetProvenance:
        found = await repositories.readable(asked.repository, context.caller)
        return await call(partial(found.registry.provenance.of, asked.id))

    async def query(context: RequestContext, asked: QueryRelatives) -> None:
        found = await repositories.readable(asked.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.provenance.relatives, asked))

    async def quanta(context: RequestContext, asked: QueryQuanta) -> None:
        found = await repositories.readable(asked.repository, context.caller)
        if len(asked.ids) % 16 or len(asked.ids) > 16 * MAX_PRODUCED:
            raise InvalidRequestError(f"one request is about at most {MAX_PRODUCED} datasets, of 16 bytes each")
        if found.is_attached:
            # Of Gen3's provenance only what its files say is known.
            return
        ids = [asked.ids[begin : begin + 16] for begin in range(0, len(asked.ids), 16)]
        await stream(context, node.streams, repositories.queries, partial(found.registry.provenance.producers, ids))

    dispatcher.register(QueryQuanta, quanta)
    dispatcher.register(RecordQuanta, record)
    dispatcher.register(GetProvenance, get)
    dispatcher.register(QueryRelatives, query)
