"""One function per operation: check who asks, call the piece that does it, shape the answer."""

from __future__ import annotations

from pantry.daemon.handlers import (
    backends,
    browse,
    cache,
    configuration,
    credentials,
    data,
    importing,
    integrity,
    keeping,
    metadata,
    objects,
    provenance,
    publishing,
    queries,
    registry,
    removing,
    repositories,
    subsetting,
)
from pantry.daemon.node import Node
from pantry.daemon.server.dispatch import Dispatcher


def make_dispatcher(node: Node) -> Dispatcher:
    """Register the handlers of all operations."""
    dispatcher = Dispatcher()
    parts = (
        repositories, registry, data, importing, metadata, browse, cache, keeping, integrity, objects, provenance,
        publishing, configuration, subsetting, queries, backends,
        credentials, removing,
    )  # fmt: skip
    for module in parts:
        module.register(dispatcher, node)
    return dispatcher
