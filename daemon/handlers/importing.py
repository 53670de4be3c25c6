"""Handlers of `pantry.wire.operations.importing`."""

from __future__ import annotations

from functools import partial

from pantry.daemon.datasets.remote import RemoteImporter
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import InvalidRequestError
from pantry.wire.operations import CountDone, ImportDatasets, ImportDefinitions, ImportMembers, Standings
from pantry.wire.operations.importing import MAX_MEMBERS


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    repositories = node.repositories

    async def definitions(context: RequestContext, asked: ImportDefinitions) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller, unfinished=True)
        return CountDone(await repositories.queries.call(partial(found.registry.imports.define, asked)))

    async def datasets(context: RequestContext, asked: ImportDatasets) -> Standings:
        found = await repositories.writable(asked.repository, context.caller)
        who = context.caller
        importer = node.importer
        if asked.transfer == "direct":
            importer = RemoteImporter(
                importer, partial(node.prefixes.at_url, who=who, administers=node.is_administrator(who))
            )
        return Standings(await importer.load(found, asked, context.fds, same_user=who.uid == node.own_uid))

    async def members(context: RequestContext, asked: ImportMembers) -> CountDone:
        found = await repositories.writable(asked.repository, context.caller, unfinished=True)
        if any(len(one.ids) % 16 for one in asked.members):
            raise InvalidRequestError("ids of datasets have 16 bytes each")
        if sum(len(one.ids) for one in asked.members) > 16 * MAX_MEMBERS:
            raise InvalidRequestError(f"one request puts at most {MAX_MEMBERS} datasets into collections")
        fill = partial(found.registry.imports.fill, asked.members, asked.chains)
        return CountDone(await repositories.queries.call(fill))

    dispatcher.register(ImportDefinitions, definitions)
    dispatcher.register(ImportDatasets, datasets)
    dispatcher.register(ImportMembers, members)
