"""The publications of one put, from before its commit until it is committed or has failed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import trio

from pantry.daemon.publishing.documents import Opened, requests_of
from pantry.daemon.publishing.lane import Lane
from pantry.daemon.publishing.outbox import NewEntry, Outbox
from pantry.daemon.publishing.sending import Outcome, Request, send
from pantry.errors import PublishError

log = logging.getLogger(__name__)


class Commitment:
    """Made by `Publisher.with_commit`.

    Parameters
    ----------
    outbox : Outbox
        Which knows the publications as begun.
    lanes : dict of str to Lane
        By target.
    entries, ids : sequence
        What is published, and its numbers in the outbox.

    Attributes
    ----------
    is_void : bool
        Set if, without an error, nothing was committed.
    """

    def __init__(self, outbox: Outbox, lanes: dict[str, Lane], entries: Sequence[NewEntry], ids: Sequence[int]) -> None:
        self.is_void = False
        self._outbox = outbox
        self._lanes = lanes
        self._entries = dict(zip(ids, entries, strict=True))
        self._accepted: set[int] = set()
        self._in_doubt: dict[int, str] = {}

    async def deliver(self, dataset: Opened, wait_s: float) -> None:
        """Publish a dataset that is not committed yet; returns when the services have accepted it.

        Raises
        ------
        PublishError
            One of them refused it, or did not accept it in time; then nothing may be committed.
        """
        known = await self._outbox.by_id(self._entries)
        for id_, entry in self._entries.items():
            is_new = id_ in known and known[id_].state == "begun"
            if not is_new or entry.dataset != dataset.ref.id.bytes:
                continue
            lane = self._lanes[entry.target]
            requests = await requests_of(lane.target, dataset)
            undo_path = requests[0].path if lane.target.config.undo and len(requests) == 1 else ""
            # Durable before the first byte: after a crash it is known that the service may have it.
            await self._outbox.change([id_], "sending", undo_path=undo_path)
            await self._insist(lane, id_, dataset, requests, wait_s)

    async def _insist(self, lane: Lane, id_: int, dataset: Opened, requests: Sequence[Request], wait_s: float) -> None:
        name, last, done, attempts = lane.target.name, Outcome("retry", "nothing was sent"), 0, 0
        until = trio.current_time() + wait_s
        while True:
            attempts += 1
            while done < len(requests):
                is_first_doubt = id_ not in self._in_doubt
                # Also if this is cut off in the middle.
                self._in_doubt.setdefault(id_, f"{name} may have accepted it, and it was not committed")
                last = await send(lane, requests[done])
                if last.verdict != "accepted":
                    if is_first_doubt and last.verdict != "unknown":
                        del self._in_doubt[id_]
                    break
                done += 1
                self._in_doubt[id_] = f"{name} accepted it, and it was not committed"
            if done == len(requests):
                self._accepted.add(id_)
                await self._outbox.change([id_], "sending", attempts=attempts, status=last.status, parts_done=done)
                return
            pause_s = max(lane.delay_s(attempts), last.retry_after_s)
            # A request under way is never cut off by the end of the wait: nobody would know what became of it.
            if last.verdict == "refused" or trio.current_time() + pause_s > until:
                break
            await trio.sleep(pause_s)
            requests = await requests_of(lane.target, dataset)
        how = "was refused" if last.verdict == "refused" else f"was not accepted within {wait_s:g} s"
        raise PublishError(
            f"{dataset.ref.dataset_type.name} {dataset.ref.id} {how}: {last.problem}",
            hint="nothing was stored",
            status=last.status,
        )

    def committed(self) -> None:
        """Tell that the datasets are in their registries: what was not sent yet is sent now."""
        self._outbox.committed(self._entries, self._accepted)
        self._poke(self._entries)

    async def take_back(self) -> None:
        """Tell that nothing was committed: forget what was not sent; what may have been accepted is an orphan."""
        for id_, problem in self._in_doubt.items():
            log.warning("%s of a put that failed: %s", self._entries[id_].dataset_type, problem)
        await self._outbox.withdraw(self._entries, self._in_doubt)
        self._poke(self._in_doubt)

    def _poke(self, ids: Iterable[int]) -> None:
        for name in {self._entries[id_].target for id_ in ids} & self._lanes.keys():
            self._lanes[name].poke()
