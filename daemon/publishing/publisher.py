"""Sends what the outbox has, at least once, until each service has accepted or refused it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple
from uuid import UUID

import trio

from pantry.backends.admission import acting_uid
from pantry.daemon.publishing.commitment import Commitment
from pantry.daemon.publishing.documents import Opened, requests_of
from pantry.daemon.publishing.lane import Lane
from pantry.daemon.publishing.outbox import Entry, NewEntry, Outbox
from pantry.daemon.publishing.sending import Outcome, Request, send
from pantry.daemon.publishing.target import Target
from pantry.errors import (
    DatasetNotFoundError,
    NotFoundError,
    PantryError,
    PermissionDeniedError,
    PublishError,
    RepositoryNotFoundError,
)

RECOVER_S = 30.0
PRUNE_S = 86_400.0
log = logging.getLogger(__name__)

Open = Callable[[str, UUID, int], Awaitable[Opened]]
"""Opens a dataset of a repository for a user; `DatasetNotFoundError` if it is not registered."""
Exists = Callable[[str, UUID], Awaitable[bool]]


class _Waiter(NamedTuple):
    """Somebody who waits for the fate of publications."""

    left: set[int]
    done: trio.Event


class Publisher:
    """Publishes datasets.

    Parameters
    ----------
    targets : Mapping of str to Target
        Where to.
    outbox : Outbox
        Remembers what is to be published.
    open_dataset, exists : callable
        From the registries and the cache.
    offline : callable
        Whether nothing may be sent at the moment.
    """

    def __init__(
        self,
        targets: Mapping[str, Target],
        outbox: Outbox,
        open_dataset: Open,
        exists: Exists,
        offline: Callable[[], bool] = lambda: False,
    ) -> None:
        self.lanes = {name: Lane(target, outbox) for name, target in sorted(targets.items())}
        self.outbox = outbox
        self._open = open_dataset
        self._exists = exists
        self._offline = offline
        self._waiters: list[_Waiter] = []

    @property
    def is_sending(self) -> bool:
        """Whether anything is on its way at this moment."""
        return any(lane.in_hand for lane in self.lanes.values())

    def target(self, name: str) -> Target:
        """Return a target by name, or raise `NotFoundError`."""
        try:
            return self.lanes[name].target
        except KeyError:
            known = ", ".join(self.lanes) or "none is configured"
            raise NotFoundError(
                f"no target for publishing is called {name!r}",
                hint=f"known: {known}; the daemon's operator configures them under 'publish'",
            ) from None

    def automatic(self, dataset_type: str, repository: str) -> list[str]:
        """Return the targets to which every dataset of a type goes when it is put."""
        targets = [lane.target for lane in self.lanes.values()]
        return [one.name for one in targets if one.config.automatic and one.takes(dataset_type, repository)]

    # -- with a put --------------------------------------------------------------------------------

    @asynccontextmanager
    async def with_commit(self, entries: Sequence[NewEntry]) -> AsyncIterator[Commitment]:
        """Publish datasets if what is done inside commits them: not if it raises, and after a crash if it did.

        The intent is durable before the inside begins. It may raise only if nothing was committed.
        """
        ids = await self.outbox.add(entries, "begun") if entries else []
        commitment = Commitment(self.outbox, self.lanes, entries, ids)
        try:
            yield commitment
        except BaseException:
            commitment.is_void = True
            raise
        finally:
            if ids and commitment.is_void:
                with trio.CancelScope(shield=True):
                    await commitment.take_back()
            elif ids:
                commitment.committed()

    async def recover(self, begun: Sequence[Entry], *, undecided: Collection[bytes] = ()) -> list[Entry]:
        """Decide what a crash left begun, by the registries; returns what cannot be decided yet.

        Parameters
        ----------
        begun : sequence of Entry
            From before this start.
        undecided : collection of bytes
            Datasets that are still to be undone.
        """
        left = []
        for entry in begun:
            if entry.dataset in undecided:
                left.append(entry)
                continue
            try:
                is_there = await self._exists(entry.repository, UUID(bytes=entry.dataset))
            except RepositoryNotFoundError:
                is_there = False
            except PantryError as exc:
                log.warning("whether to publish to %s cannot be decided yet: %s", entry.target, exc.message)
                left.append(entry)
                continue
            if is_there:
                self.outbox.committed([entry.id])
            else:
                problem = "the daemon ended while it was sent, and it was not committed"
                await self.outbox.withdraw([entry.id], {entry.id: problem} if entry.state == "sending" else {})
        self._poke({one.target for one in begun})
        return left

    # -- by itself ---------------------------------------------------------------------------------

    async def publish(self, entries: Sequence[NewEntry], *, wait_s: float = 0.0) -> list[Entry]:
        """Publish datasets that are stored; returns their publications as they are then.

        Parameters
        ----------
        entries : sequence of NewEntry
            What to publish. What is on its way or was accepted is not sent again.
        wait_s : float
            Longest wait for the services' answers, in seconds.
        """
        ids = await self.outbox.add(entries, "waiting")
        waiter = _Waiter(set(ids), trio.Event())
        self._waiters.append(waiter)
        try:
            found = await self.outbox.by_id(ids)
            waiter.left.intersection_update(one.id for one in found.values() if one.state == "waiting")
            self._poke(one.target for one in entries)
            if waiter.left and wait_s > 0:
                with trio.move_on_after(wait_s):
                    await waiter.done.wait()
                found = await self.outbox.by_id(ids)
        finally:
            self._waiters.remove(waiter)
        return [found[one] for one in ids if one in found]

    async def retry(self, entries: Sequence[Entry]) -> int:
        """Try publications at once, also those that were refused."""
        again = [one.id for one in entries if one.state in ("waiting", "refused", "unknown")]
        # As if just asked for, so that it is not given up at once.
        now = time.time_ns()
        count = await self.outbox.change(again, "waiting", next_ns=now, created_ns=now, attempts=0)
        for name in {one.target for one in entries} & self.lanes.keys():
            self.lanes[name].forgive()
        return count

    async def retry_all(self, uid: int | None, target: str) -> int:
        """Do what `retry` does for all publications of a user, or of all; of one target, or of all."""
        names = await self.outbox.again(uid, target)
        for name in set(names) & self.lanes.keys():
            self.lanes[name].forgive()
        return len(names)

    def _poke(self, targets: Iterable[str]) -> None:
        for name in set(targets) & self.lanes.keys():
            self.lanes[name].poke()

    # -- sending -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what waits, for ever."""
        async with trio.open_nursery() as nursery:
            for lane in self.lanes.values():
                nursery.start_soon(self._serve, lane)
            while True:
                await self.outbox.prune()
                await trio.sleep(PRUNE_S)

    async def _serve(self, lane: Lane) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await lane.slots.acquire()
                nursery.start_soon(self._deliver, lane, await lane.next())

    async def _deliver(self, lane: Lane, taken: Entry) -> None:
        try:
            entry = (await self.outbox.by_id([taken.id])).get(taken.id)
            if entry is not None and entry.state == "waiting":
                acting_uid.set(entry.uid)
                await self._settle(lane, entry, await self._attempt(lane, entry))
            elif entry is not None and entry.state == "orphan":
                await self._undo(lane, entry)
        finally:
            lane.in_hand.discard(taken.id)
            lane.slots.release()
            lane.poke()

    async def _attempt(self, lane: Lane, entry: Entry) -> Outcome:
        """Publish one dataset; what goes wrong is the outcome, whatever it is."""
        if self._offline():
            return Outcome("retry", "this node works offline", concerns_all=True)
        try:
            dataset = await self._open(entry.repository, UUID(bytes=entry.dataset), entry.uid)
            try:
                return await self._send_all(lane, entry, await requests_of(lane.target, dataset))
            finally:
                os.close(dataset.fd)
        except (DatasetNotFoundError, RepositoryNotFoundError) as exc:
            return Outcome("refused", f"it is not there any more: {exc.message}")
        except (PublishError, PermissionDeniedError) as exc:
            return Outcome("refused", exc.message)
        except PantryError as exc:
            return Outcome("retry", exc.message)
        except Exception as exc:
            # One dataset must not end the publishing of all others.
            log.error("a defect while publishing to %s", lane.target.name, exc_info=exc)
            return Outcome("refused", f"a defect in Pantry ({type(exc).__name__}); the daemon's log has the details")

    async def _send_all(self, lane: Lane, entry: Entry, requests: Sequence[Request]) -> Outcome:
        outcome = Outcome("accepted")
        for number, request in enumerate(requests, 1):
            if number <= entry.parts_done:
                continue
            outcome = await send(lane, request)
            if outcome.verdict != "accepted":
                return outcome
            if number < len(requests):
                await self.outbox.part_done(entry.id, number)
        return outcome

    async def _settle(self, lane: Lane, entry: Entry, outcome: Outcome) -> None:
        """Write down what became of an attempt."""
        target = lane.target
        attempts = entry.attempts + 1
        told = partial(
            self.outbox.change, [entry.id], attempts=attempts, status=outcome.status, problem=outcome.problem
        )
        # What the service has said is written down even if the daemon is ending.
        with trio.CancelScope(shield=True):
            if outcome.verdict == "accepted":
                lane.succeeded()
                await told("accepted")
            elif outcome.verdict == "refused":
                log.warning("%s %s is not published to %s: %s", *_named(entry), target.name, outcome.problem)
                await told("refused")
            elif outcome.verdict == "unknown" and target.config.if_unknown == "ask":
                log.warning(
                    "whether %s %s is published to %s is unknown: %s", *_named(entry), target.name, outcome.problem
                )
                await told("unknown")
            else:
                await self._postpone(lane, entry, outcome, told)
                return
        self._tell(entry.id)

    async def _undo(self, lane: Lane, entry: Entry) -> None:
        """Ask a service to remove what it accepted of a put that failed."""
        if self._offline():
            outcome = Outcome("retry", "this node works offline", concerns_all=True)
        else:
            key = f"{UUID(bytes=entry.dataset)}-undo"
            outcome = await send(lane, Request(entry.undo_path, key, b"", 0, method="DELETE"))
        with trio.CancelScope(shield=True):
            if outcome.verdict == "accepted" or outcome.status in (404, 410):
                lane.succeeded()
                log.info("%s %s is taken back from %s", *_named(entry), lane.target.name)
                await self.outbox.remove([entry.id])
            elif outcome.verdict == "refused":
                log.warning("%s %s cannot be taken back from %s: %s", *_named(entry), lane.target.name, outcome.problem)
                await self.outbox.change([entry.id], "orphan", problem=outcome.problem, undo_path="")
            else:
                if outcome.concerns_all:
                    lane.failed(outcome)
                next_ns = time.time_ns() + int(lane.delay_s(entry.attempts + 1) * 1e9)
                await self.outbox.change([entry.id], "orphan", attempts=entry.attempts + 1, next_ns=next_ns)

    async def _postpone(self, lane: Lane, entry: Entry, outcome: Outcome, told: Callable[..., Awaitable[int]]) -> None:
        now = time.time_ns()
        if outcome.concerns_all:
            lane.failed(outcome)
        if now - entry.created_ns > lane.target.config.give_up_s * 1e9:
            problem = f"given up after {entry.attempts + 1} attempts: {outcome.problem}"
            log.warning("%s %s is not published to %s: %s", *_named(entry), lane.target.name, problem)
            await told("refused", problem=problem)
            self._tell(entry.id)
            return
        wait_s = max(lane.delay_s(entry.attempts + 1), outcome.retry_after_s)
        await told("waiting", next_ns=now + int(wait_s * 1e9))

    def _tell(self, id_: int) -> None:
        for waiter in self._waiters:
            waiter.left.discard(id_)
            if not waiter.left:
                waiter.done.set()


def _named(entry: Entry) -> tuple[str, str]:
    return entry.dataset_type, str(UUID(bytes=entry.dataset))
