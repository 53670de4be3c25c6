"""Handlers of `pantry.wire.operations.integrity`."""

from __future__ import annotations

import logging
from functools import partial

import trio

from pantry.daemon.cache.damage import damage
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.datasets.selecting import select
from pantry.daemon.datasets.verification import VerificationRun
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from pantry.wire.operations import DamageObject, Done, VerifyObjects

log = logging.getLogger(__name__)


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    cache = node.cache

    async def choose(context: RequestContext, asked: VerifyObjects) -> list[ObjectId]:
        if bool(asked.hashes) + asked.everything + bool(asked.repository) != 1:
            raise InvalidRequestError("name objects by hash or by a query, or ask for everything")
        if asked.repository:
            files, holders, _ = await select(node.repositories, context.caller, asked)
            for one in files:
                cache.came_from(one.object_id, holders[one.object_id].name, one.file.path)
            return [one.object_id for one in files if one.object_id in cache]
        realms = await node.readable_realms(context.caller)
        known = [key for key, _ in cache.items() if key.realm in realms]
        if asked.everything:
            return known
        chosen = [key for key in known if key.hash in asked.hashes]
        if missing := set(asked.hashes) - {one.hash for one in chosen}:
            raise NotFoundError(
                f"no complete object {min(missing)} is in the cache", hint="`pantry cache ls` shows what is"
            )
        return chosen

    async def verify(context: RequestContext, asked: VerifyObjects) -> None:
        chosen = await choose(context, asked)
        await VerificationRun(cache, chosen, node.refetch if asked.refetch else None).run(context.emit)

    async def damage_object(context: RequestContext, asked: DamageObject) -> Done:
        node.require_administrator(context.peer, "damage the cache")
        if not cache.config.allow_damage:
            raise PermissionDeniedError(
                "this daemon lets nobody damage its cache",
                hint="set cache.allow_damage in its configuration, for tests",
            )
        found = [key for key, _ in cache.items() if key.hash == asked.hash]
        if not found:
            raise NotFoundError(
                f"no complete object {asked.hash} is in the cache", hint="`pantry cache ls` shows what is"
            )
        for one in found:
            log.warning("%s damages cached object %s/%s (%s)", context.peer.user_name, *one, asked.how)
            with cache.disk.watched():
                await trio.to_thread.run_sync(partial(damage, cache.path_of(one), asked.how, max(asked.at, 0)))
        return Done()

    dispatcher.register(VerifyObjects, verify)
    dispatcher.register(DamageObject, damage_object)
