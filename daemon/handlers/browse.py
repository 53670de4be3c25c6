"""Handlers of `pantry.wire.operations.browse`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.streaming import stream
from pantry.wire.operations import ListTree


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories

    async def list_tree(context: RequestContext, asked: ListTree) -> None:
        found = await repositories.readable_all(asked.repository, context.caller)
        await stream(context, node.streams, repositories.queries, partial(found.registry.list_tree, asked))

    dispatcher.register(ListTree, list_tree)
