"""Handlers of `pantry.wire.operations.subsetting`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.datasets.copying import Copier
from pantry.daemon.datasets.referring import Referrer
from pantry.daemon.handlers.data import open_file
from pantry.daemon.node import Node
from pantry.daemon.repositories.creating import begin_subset
from pantry.daemon.repositories.holders import find_holder
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import InvalidRequestError
from pantry.model.datasets import StoredFile
from pantry.wire.operations import (
    BeginSubset,
    CopyDatasets,
    Done,
    FinishSubset,
    OpenDataset,
    Standings,
    SubsetBegun,
)


async def _find_holder(node: Node, source: Repository, context: RequestContext, uuid: str) -> Repository:
    return await find_holder(node.repositories, source, uuid, context.caller)


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories

    async def begin(context: RequestContext, asked: BeginSubset) -> SubsetBegun:
        made, resumed = await begin_subset(repositories, asked, context.caller)
        return SubsetBegun(
            repository=made.info(context.caller), dimensions=dict(made.registry.universe.config), resumed=resumed
        )

    async def copy(context: RequestContext, asked: CopyDatasets) -> Standings:
        source = await repositories.readable(asked.source, context.caller)
        target = await repositories.writable(asked.repository, context.caller, unfinished=True)
        if source is target:
            raise InvalidRequestError("a repository is no subset of itself")
        if asked.transfer == "view":
            return Standings(await Referrer(node.importer, source).refer(target, asked))
        find = partial(_find_holder, node, source, context)

        async def open_whole(repository: Repository, file: StoredFile, name: str) -> int:
            asked = OpenDataset(repository=repository.name)
            return (await open_file(node, repository, file, name, asked, context.caller)).fd

        return Standings(await Copier(node.importer, source, open_whole, find, asked.transfer).copy(target, asked))

    async def finish(context: RequestContext, asked: FinishSubset) -> Done:
        found = await repositories.writable(asked.repository, context.caller, unfinished=True)
        if found.registry.is_unfinished:
            await repositories.queries.call(found.registry.finish)
        return Done()

    dispatcher.register(BeginSubset, begin)
    dispatcher.register(CopyDatasets, copy)
    dispatcher.register(FinishSubset, finish)
