"""Handlers of `pantry.wire.operations.configuration`."""

from __future__ import annotations

from functools import partial

import trio

from pantry.daemon.config.active import active_values
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.wire.operations import ActiveConfiguration, GetConfiguration


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    async def get(context: RequestContext, asked: GetConfiguration) -> ActiveConfiguration:
        node.require_administrator(context.caller, "see the daemon's configuration")
        values = await trio.to_thread.run_sync(partial(active_values, node.config))
        return ActiveConfiguration(node.config.source, tuple(values))

    dispatcher.register(GetConfiguration, get)
