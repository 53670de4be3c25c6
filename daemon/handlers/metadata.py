"""Handlers of `pantry.wire.operations.metadata`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.streaming import stream
from pantry.errors import InvalidRequestError
from pantry.wire.operations import CountDone, DatasetMetadata, GetMetadata, QueryMetadata, RecordMetadata
from pantry.wire.operations.metadata import MAX_RECORDED


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories
    call = repositories.queries.call

    async def record(context: RequestContext, asked: RecordMetadata) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller)
        if len(asked.ids) % 16 or len(asked.ids) > 16 * MAX_RECORDED:
            raise InvalidRequestError(f"one request records metadata of up to {MAX_RECORDED} ids of 16 bytes")
        ids = [asked.ids[begin : begin + 16] for begin in range(0, len(asked.ids), 16)]
        return CountDone(await call(partial(found.registry.record_metadata, asked.dataset_type, ids, asked.columns)))

    async def get(context: RequestContext, asked: GetMetadata) -> DatasetMetadata:
        found = await repositories.readable(asked.repository, context.caller)
        return DatasetMetadata(await call(partial(found.registry.get_metadata, asked.id)))

    async def query(context: RequestContext, asked: QueryMetadata) -> None:
        found = await repositories.readable_all(asked.query.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.query_metadata, asked))

    dispatcher.register(RecordMetadata, record)
    dispatcher.register(GetMetadata, get)
    dispatcher.register(QueryMetadata, query)
