"""Handlers of `pantry.wire.operations.backends`."""

from __future__ import annotations

from collections.abc import Iterator

from pantry.backends.admission import Admission
from pantry.daemon.node import Node
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.identity import Identity, user_name_of
from pantry.daemon.transfers.health import Health
from pantry.daemon.transfers.origin import Origin
from pantry.wire.operations import BackendInfo, BackendList, GetBackends


def _described(
    kind: str,
    name: str,
    location: str,
    health: Health,
    limit: Admission | None,
    *,
    uid: int | None,
    hanging: int = 0,
    administers: bool,
) -> BackendInfo:
    traffic = health.traffic
    return BackendInfo(
        location=location,
        kind=kind,
        name=name,
        user="" if uid is None else user_name_of(uid),
        circuit=health.circuit.value,
        retry_in_s=health.retry_in_s,
        under_way=traffic.under_way,
        waiting=limit.waiting_total if limit is not None else 0,
        max_concurrent=limit.node_limit if limit is not None else 0,
        hanging=hanging,
        requests=traffic.requests,
        errors=dict(traffic.errors),
        median_s=traffic.latency_s(0.5),
        p99_s=traffic.latency_s(0.99),
        # A message may name what another user asked for.
        last_error=traffic.last_error if administers else traffic.last_error_code,
        last_error_ns=traffic.last_error_ns,
    )


def backends_of(node: Node, who: Identity) -> Iterator[BackendInfo]:
    """Describe the storage and services that ``who`` may read, as far as they were used."""
    administers = node.is_administrator(who)

    def may_see(uid: int | None) -> bool:
        return uid is None or uid == who.uid or administers

    def of_origin(kind: str, name: str, origin: Origin, uid: int | None) -> Iterator[BackendInfo]:
        for location, health, hanging in origin.states():
            yield _described(
                kind, name, location, health, origin.limit, uid=uid, hanging=hanging, administers=administers
            )

    for repository in node.repositories.opened():
        if may_see(repository.uid) and (administers or repository.access.may_read(who)):
            yield from of_origin("repository", repository.name, repository.origin, repository.uid)
    for prefix in node.prefixes.opened():
        if may_see(prefix.uid) and node.prefixes.may_read(prefix.name, who, administers=administers):
            yield from of_origin("prefix", prefix.name, prefix.origin, prefix.uid)
    for service in node.services.opened():
        if may_see(service.uid) and node.services.may_read(service.name, who, administers=administers):
            location = service.backend.location
            yield _described(
                "service",
                service.name,
                location,
                service.health,
                service.limit,
                uid=service.uid,
                administers=administers,
            )


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""

    async def get(context: RequestContext, asked: GetBackends) -> BackendList:
        return BackendList(tuple(backends_of(node, context.caller)))

    dispatcher.register(GetBackends, get)
