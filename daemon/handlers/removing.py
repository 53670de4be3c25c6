"""Handlers of `pantry.wire.operations.removing`."""

from __future__ import annotations

from pantry.daemon.datasets.removing import Left
from pantry.daemon.node import Node
from pantry.daemon.repositories.removing import remove_repository
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import InvalidRequestError
from pantry.wire.operations import (
    MAX_REMOVED,
    RemoveDatasets,
    RemovedDatasets,
    RemovedRepository,
    RemoveRepository,
)


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    async def remove(context: RequestContext, asked: RemoveDatasets) -> RemovedDatasets:
        repository = await node.repositories.writable(asked.repository, context.caller)
        if not asked.ids or len(asked.ids) % 16 or len(asked.ids) > 16 * MAX_REMOVED:
            raise InvalidRequestError(f"one request deletes 1 to {MAX_REMOVED} datasets, by ids of 16 bytes")
        ids = [asked.ids[begin : begin + 16] for begin in range(0, len(asked.ids), 16)]
        left = Left()
        if asked.dry_run:
            removal = await node.remover.plan(repository, ids, missing_ok=asked.missing_ok)
        else:
            repository.origin.require_online(asked.repository)
            removal, left = await node.remover.remove(repository, ids, missing_ok=asked.missing_ok)
        return RemovedDatasets(
            datasets=removal.datasets,
            missing=len(removal.missing),
            files=len(removal.removed),
            size_bytes=sum(file.size_bytes for file in removal.removed),
            kept=removal.kept,
            left=left.files,
            reason=left.reason,
        )

    async def remove_all(context: RequestContext, asked: RemoveRepository) -> RemovedRepository:
        return await remove_repository(node.repositories, node.remover, asked, context.caller)

    dispatcher.register(RemoveDatasets, remove)
    dispatcher.register(RemoveRepository, remove_all)
