"""Handlers of `pantry.wire.operations.publishing`."""

from __future__ import annotations

from uuid import UUID

from pantry.daemon.node import Node
from pantry.daemon.publishing.outbox import Entry
from pantry.daemon.server.context import RequestContext
from pantry.daemon.server.dispatch import Dispatcher
from pantry.daemon.server.identity import Identity
from pantry.errors import InvalidRequestError, NotFoundError
from pantry.wire.operations import (
    CountDone,
    ForgetPublications,
    GetPublishStatus,
    ListPublishTargets,
    Publication,
    PublicationCount,
    PublicationList,
    PublishDatasets,
    PublishStatus,
    PublishTarget,
    PublishTargetList,
    RetryPublications,
)
from pantry.wire.operations.publishing import MAX_LISTED, MAX_PUBLISHED, MAX_WAIT_S


def _shown(entry: Entry) -> Publication:
    return Publication(
        number=entry.id,
        target=entry.target,
        repository=entry.repository,
        dataset_type=entry.dataset_type,
        id=UUID(bytes=entry.dataset),
        owner=Identity(entry.uid, -1, frozenset()).user_name,
        state=entry.state,
        attempts=entry.attempts,
        created_ns=entry.created_ns,
        changed_ns=entry.changed_ns,
        next_ns=entry.next_ns,
        status=entry.status,
        problem=entry.problem,
    )


def register(dispatcher: Dispatcher, node: Node) -> None:
    """Register the handlers."""
    publisher = node.publisher

    def whose(who: Identity) -> int | None:
        return None if node.is_administrator(who) else who.uid

    async def own(who: Identity, numbers: tuple[int, ...]) -> list[Entry]:
        if len(numbers) > MAX_PUBLISHED:
            raise InvalidRequestError(f"at most {MAX_PUBLISHED} publications in one request")
        found = await publisher.outbox.by_id(numbers)
        for number in numbers:
            # Another user's is as unknown as one that does not exist.
            if number not in found or whose(who) not in (None, found[number].uid):
                raise NotFoundError(f"no publication has the number {number}", hint="see `pantry publish status`")
        return list(found.values())

    async def publish(context: RequestContext, asked: PublishDatasets) -> PublicationList:
        if not asked.ids or len(asked.ids) % 16 or len(asked.ids) > 16 * MAX_PUBLISHED:
            raise InvalidRequestError(f"1 to {MAX_PUBLISHED} datasets are published at once, 16 bytes for each")
        if not 0 <= asked.wait_s <= MAX_WAIT_S:
            raise InvalidRequestError(f"one waits between 0 and {MAX_WAIT_S:g} s, not {asked.wait_s:g}")
        ids = [UUID(bytes=asked.ids[start : start + 16]) for start in range(0, len(asked.ids), 16)]
        await node.repositories.readable_all(asked.repository, context.caller)
        target = publisher.target(asked.target)
        entries = await node.publishable.entries(target, asked.repository, ids, context.caller)
        return PublicationList(tuple(_shown(one) for one in await publisher.publish(entries, wait_s=asked.wait_s)))

    async def targets(context: RequestContext, asked: ListPublishTargets) -> PublishTargetList:
        return PublishTargetList(
            tuple(
                PublishTarget(
                    name=name,
                    url=lane.target.shown_url,
                    method=lane.target.config.method,
                    dataset_types=lane.target.config.dataset_types,
                    repositories=lane.target.config.repositories,
                    automatic=lane.target.config.automatic,
                    problem=lane.problem,
                )
                for name, lane in publisher.lanes.items()
            )
        )

    async def status(context: RequestContext, asked: GetPublishStatus) -> PublishStatus:
        if not 0 <= asked.limit <= MAX_LISTED:
            raise InvalidRequestError(f"at most {MAX_LISTED} publications are listed at once")
        uid = whose(context.caller)
        counts = await publisher.outbox.counts(uid, asked.target)
        listed = await publisher.outbox.listed(uid, asked.target, asked.states, asked.limit)
        return PublishStatus(
            counts=tuple(PublicationCount(*one) for one in counts), publications=tuple(_shown(one) for one in listed)
        )

    async def retry(context: RequestContext, asked: RetryPublications) -> CountDone:
        if asked.numbers:
            return CountDone(await publisher.retry(await own(context.caller, asked.numbers)))
        return CountDone(await publisher.retry_all(whose(context.caller), asked.target))

    async def forget(context: RequestContext, asked: ForgetPublications) -> CountDone:
        entries = await own(context.caller, asked.numbers)
        await publisher.outbox.remove([one.id for one in entries])
        return CountDone(len(entries))

    dispatcher.register(PublishDatasets, publish)
    dispatcher.register(ListPublishTargets, targets)
    dispatcher.register(GetPublishStatus, status)
    dispatcher.register(RetryPublications, retry)
    dispatcher.register(ForgetPublications, forget)
