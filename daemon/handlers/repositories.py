"""Handlers of `pantry.wire.operations.repositories`."""

from __future__ import annotations

from functools import partial

from msgspec.structs import replace

from pantry.daemon.node import Node
from pantry.daemon.repositories.creating import create_repository
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.model.collections import CollectionType, check_collection_name
from pantry.model.repository import RepositoryInfo
from pantry.wire.operations import (
    AttachRepository,
    ChainRepositories,
    CollectionList,
    CreateRepository,
    Done,
    GetRepository,
    ListRepositories,
    QueryCollections,
    RedefineChain,
    RegisterCollection,
    RepositoryList,
)


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories

    async def create(context: RequestContext, asked: CreateRepository) -> RepositoryInfo:
        made = await create_repository(repositories, asked, context.caller)
        return made.info(context.caller)

    async def attach(context: RequestContext, asked: AttachRepository) -> RepositoryInfo:
        made = await repositories.attach(asked, context.caller)
        return made.info(context.caller)

    async def chain(context: RequestContext, asked: ChainRepositories) -> RepositoryInfo:
        made = await repositories.chain(asked.name, asked.members, context.caller)
        return made.info(context.caller)

    async def list_all(context: RequestContext, asked: ListRepositories) -> RepositoryList:
        shown = [one.info(context.caller) for one in await repositories.all_readable(context.caller)]
        shown += [one.info(context.caller) for one in await repositories.all_chains(context.caller)]
        return RepositoryList(tuple(sorted(shown, key=lambda one: one.name)))

    async def get(context: RequestContext, asked: GetRepository) -> RepositoryInfo:
        found = await repositories.readable_all(asked.repository, context.caller)
        info = found.info(context.caller)
        if not asked.state:
            return info
        return replace(info, state=await repositories.queries.call(found.registry.state))

    async def register_collection(context: RequestContext, asked: RegisterCollection) -> Done:
        found = await repositories.writable(asked.repository, context.caller)
        name = check_collection_name(asked.name)
        await repositories.queries.call(
            partial(found.registry.register_collection, name, CollectionType(asked.type), asked.doc)
        )
        return Done()

    async def redefine_chain(context: RequestContext, asked: RedefineChain) -> Done:
        found = await repositories.writable(asked.repository, context.caller)
        await repositories.queries.call(partial(found.registry.redefine_chain, asked.name, asked.children))
        return Done()

    async def query_collections(context: RequestContext, asked: QueryCollections) -> CollectionList:
        found = await repositories.readable_all(asked.repository, context.caller)
        collections = await repositories.queries.call(partial(found.registry.query_collections, asked))
        return CollectionList(tuple(collections))

    dispatcher.register(CreateRepository, create)
    dispatcher.register(AttachRepository, attach)
    dispatcher.register(ChainRepositories, chain)
    dispatcher.register(ListRepositories, list_all)
    dispatcher.register(GetRepository, get)
    dispatcher.register(RegisterCollection, register_collection)
    dispatcher.register(RedefineChain, redefine_chain)
    dispatcher.register(QueryCollections, query_collections)
