"""Handlers of `pantry.wire.operations.provenance`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.streaming import stream
from pantry.model.provenance import DatasetProvenance
from pantry.wire.operations import CountDone, GetProvenance, QueryRelatives, RecordQuanta


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories
    call = repositories.queries.call

    async def record(context: RequestContext, asked: RecordQuanta) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        return CountDone(await call(partial(found.registry.provenance.record, asked.quanta)))

    async def get(context: RequestContext, asked: GetProvenance) -> DatasetProvenance:
        found = await repositories.readable(asked.repository, context.caller)
        return await call(partial(found.registry.provenance.of, asked.id))

    async def query(context: RequestContext, asked: QueryRelatives) -> None:
        found = await repositories.readable(asked.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.provenance.relatives, asked))

    dispatcher.register(RecordQuanta, record)
    dispatcher.register(GetProvenance, get)
    dispatcher.register(QueryRelatives, query)
