"""Handlers of `pantry.wire.operations.credentials`."""

from __future__ import annotations

import logging

from pantry.daemon.credentials.held import HeldCredential
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.errors import PermissionDeniedError
from pantry.wire.operations import (
    AddCredential,
    CredentialInfo,
    CredentialList,
    Done,
    ListCredentials,
    RemoveCredential,
)

log = logging.getLogger(__name__)


def _shown(held: HeldCredential) -> CredentialInfo:
    return CredentialInfo(uri=held.uri, kind=held.kind, expires_ns=held.expires_ns)


def _own_uid(context: RequestContext) -> int:
    """Return who the kernel says is at the other end: what users hand over is nobody else's business."""
    if context.caller.uid != context.peer.uid:
        raise PermissionDeniedError("credentials are handed over, listed and taken back by their users only")
    return context.peer.uid


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    credentials = node.credentials

    async def add(context: RequestContext, asked: AddCredential) -> CredentialInfo:
        held = credentials.add(_own_uid(context), asked.uri, asked.options, asked.lifetime_s)
        log.info("%s handed over a credential (%s) for %s", context.peer.user_name, held.kind, held.uri)
        return _shown(held)

    async def list_own(context: RequestContext, asked: ListCredentials) -> CredentialList:
        return CredentialList(tuple(map(_shown, credentials.all(_own_uid(context)))))

    async def remove(context: RequestContext, asked: RemoveCredential) -> Done:
        credentials.remove(_own_uid(context), asked.uri)
        log.info("%s took a credential back", context.peer.user_name)
        return Done()

    dispatcher.register(AddCredential, add)
    dispatcher.register(ListCredentials, list_own)
    dispatcher.register(RemoveCredential, remove)
