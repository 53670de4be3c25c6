"""What a put publishes: what its type always does, and what was asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from pantry.daemon.datasets.begun import BegunPut
from pantry.daemon.node import Node
from pantry.daemon.publishing.commitment import Commitment
from pantry.daemon.publishing.datasets import require_publish, require_taken
from pantry.daemon.publishing.documents import Opened
from pantry.daemon.publishing.outbox import NewEntry
from pantry.daemon.server.identity import Identity
from pantry.errors import InvalidRequestError
from pantry.model.datasets import StoredFile
from pantry.wire.operations import CommitPut, CommitPuts
from pantry.wire.operations.publishing import MAX_WAIT_S


@asynccontextmanager
async def published(
    node: Node, puts: Sequence[BegunPut], asked: CommitPut | CommitPuts, who: Identity
) -> AsyncIterator[None]:
    """Publish puts if what is done inside commits them; with ``publish_wait_s``, let the commit wait for that.

    Raises
    ------
    PublishError
        A service refused it, so that nothing was committed.
    """
    if not 0 <= asked.publish_wait_s <= MAX_WAIT_S:
        raise InvalidRequestError(f"one waits between 0 and {MAX_WAIT_S:g} s, not {asked.publish_wait_s:g}")
    found: dict[tuple[str, bytes], tuple[BegunPut, NewEntry]] = {}
    for put in puts:
        ref, repository = put.ref, put.repository
        names = dict.fromkeys(node.publisher.automatic(ref.dataset_type.name, repository.name))
        for name in asked.publish:
            target = node.publisher.target(name)
            # A composite's components and copies in other repositories may go elsewhere.
            if put is puts[0]:
                require_taken(target, ref.dataset_type.name, repository.name)
            if target.takes(ref.dataset_type.name, repository.name):
                require_publish(target, repository, who)
                names[name] = None
        for name in names:
            entry = NewEntry(name, ref.id.bytes, repository.name, ref.dataset_type.name, who.uid)
            found.setdefault((name, ref.id.bytes), (put, entry))
    if asked.publish_wait_s > 0 and not found:
        raise InvalidRequestError("nothing of this put is published, so that there is nothing to wait for")
    async with node.publisher.with_commit([entry for _, entry in found.values()]) as commitment:
        if asked.publish_wait_s > 0:
            for put in {id(one): one for one, _ in found.values()}.values():
                put.before_commit = partial(_deliver, commitment, put, asked.publish_wait_s)
        yield


async def _deliver(commitment: Commitment, put: BegunPut, wait_s: float, file: StoredFile, fd: int) -> None:
    await commitment.deliver(Opened(put.ref, put.repository.name, file, fd), wait_s)
