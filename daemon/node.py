"""The daemon's parts, put together."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from pantry.backends.admission import Admission
from pantry.backends.pace import Pace
from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.index import WRITE_S, Remembered
from pantry.daemon.cache.metrics import Gauges, serving_metrics
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.cache.partials import PartialObjects, running_partials
from pantry.daemon.cache.pins import PinRecord, Pins, running_pins
from pantry.daemon.cache.scrub import Scrub
from pantry.daemon.config import DaemonConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.credentials.own import is_for_users
from pantry.daemon.datasets.grouping import PutGroups
from pantry.daemon.datasets.importing import Importer
from pantry.daemon.datasets.ingesting import Ingester
from pantry.daemon.datasets.opening import Opener, Wanted
from pantry.daemon.datasets.putting import Puts
from pantry.daemon.datasets.recovery import recover, recover_later
from pantry.daemon.datasets.removing import Remover
from pantry.daemon.datasets.resolved import ResolvedOpens
from pantry.daemon.datasets.retrying import RemovalRetries
from pantry.daemon.datasets.selecting import select
from pantry.daemon.journal import Intent, Journal, opened_journal
from pantry.daemon.prefixes.service import Prefixes
from pantry.daemon.publishing.datasets import PublishableDatasets
from pantry.daemon.publishing.outbox import Entry, Outbox, running_outbox
from pantry.daemon.publishing.publisher import RECOVER_S, Publisher
from pantry.daemon.publishing.target import publish_targets
from pantry.daemon.queries.datasets import QueryDatasets
from pantry.daemon.queries.services import Services
from pantry.daemon.repositories.service import Repositories
from pantry.daemon.server.identity import Identity, identity_of
from pantry.daemon.server.limits import UserLimits
from pantry.daemon.server.streaming import StreamPlaces
from pantry.errors import NotCachedError, PantryError, PermissionDeniedError

RECENT_S = 86400.0
"""What was read within this time, in seconds, is fetched again when the scrub finds it damaged."""

log = logging.getLogger(__name__)


class Node:
    """Everything that handlers work with; made by `running_node`."""

    def __init__(
        self,
        config: DaemonConfig,
        cache: ObjectCache,
        partials: PartialObjects,
        journal: Journal,
        outbox: Outbox,
        nursery: trio.Nursery,
    ) -> None:
        self.pins: Pins
        limits = config.limits
        self.config = config
        self.own_uid = os.geteuid()
        self.is_offline = config.cache.offline
        self.started_ns = time.time_ns()
        self.pace = Pace(limits.spacing_s)
        self.limits = UserLimits(
            connections=limits.connections_per_user, requests=limits.requests_per_user, saw=self.pace.saw
        )
        self.transfers = Admission(user_limit=limits.transfers_per_user, node_limit=limits.transfers, pace=self.pace)
        queries = Admission(user_limit=limits.queries_per_user, node_limit=limits.queries, pace=self.pace)
        self.resolved = ResolvedOpens()
        self.streams = StreamPlaces(limits.streams_per_user)
        self.credentials = HeldCredentials(
            per_user=limits.credentials_per_user, longest_s=limits.credential_s, wanted=partial(is_for_users, config)
        )
        self.repositories = Repositories(
            config,
            transfers=self.transfers,
            queries=queries,
            counters=cache.counters,
            offline=self.offline,
            held=self.credentials,
        )
        self.cache = cache
        self.partials = partials
        self.opener = Opener(cache, partials)
        self.prefixes = Prefixes(
            config.prefixes,
            self.repositories.storage,
            self.credentials,
            cache=cache,
            opener=self.opener,
            offline=self.offline,
        )
        self.services = Services(
            config,
            cache,
            nursery,
            admission=Admission(user_limit=limits.services_per_user, node_limit=limits.services, pace=self.pace),
            offline=self.offline,
            held=self.credentials,
        )
        self.query_datasets = QueryDatasets(config.queries, self.services, queries)
        self.scrub = Scrub(cache, self._refetch_wanted)
        self.puts = Puts(
            cache, journal, self.repositories, nursery, transfers=self.transfers, put_bytes=limits.put_bytes
        )
        self.retries = RemovalRetries(journal, self.repositories, nursery)
        self.remover = Remover(cache, journal, queries, self.retries.begin)
        self.groups = PutGroups(self.puts, journal, self.repositories, nursery)
        self.ingester = Ingester(journal, self.repositories, self.puts, self.transfers)
        self.importer = Importer(journal, self.repositories, self.puts, self.transfers)
        self.publishable = PublishableDatasets(self.repositories, self.opener, self.prefixes)
        self.publisher = Publisher(
            publish_targets(config), outbox, self.publishable.open, self.publishable.exists, self.offline
        )

    def offline(self) -> bool:
        """Whether no origin may be asked for anything; asked before each request upstream."""
        return self.is_offline

    async def refetch(self, object_id: ObjectId, known: Remembered) -> None:
        """Fetch an object again that was damaged in the cache."""
        if object_id.is_answer:
            raise NotCachedError(f"{known.name} comes back when it is asked again")
        if object_id.is_users:
            raise NotCachedError(f"{known.name} comes back when the user reads it with whose rights it came")
        prefix = self.prefixes.of_realm(object_id.realm)
        origin = prefix.origin if prefix is not None else (await self.repositories.get(known.repository)).origin
        source = Source(origin, known.key)
        await self.opener.refetch(
            Wanted(object_id, known.size_bytes, source, known.name, known.repository, known.version, known.checked_ns)
        )

    async def _refetch_wanted(self, object_id: ObjectId, known: Remembered) -> None:
        """Fetch again what the scrub found damaged, if anybody is likely to want it."""
        is_recent = time.time_ns() - known.read_ns < RECENT_S * 1e9
        if (
            object_id.is_answer
            or object_id.is_users
            or self.offline()
            or not (is_recent or self.cache.is_pinned(object_id))
        ):
            return
        try:
            await self.refetch(object_id, known)
        except PantryError as exc:
            log.warning("%s cannot be fetched again: %s", known.name, exc.message)

    async def readable_realms(self, who: Identity) -> set[str]:
        """Return in which realms of the cache ``who`` may read everything."""
        realms = {one.realm for one in await self.repositories.all_readable(who)}
        administers = self.is_administrator(who)
        realms |= self.prefixes.readable_realms(who, administers=administers)
        return realms | self.services.readable_realms(who, administers=administers)

    def counters(self) -> Counters:
        """Return what the cache counted since the start."""
        return self.cache.counters

    def read_metrics(self) -> tuple[Counters, Gauges]:
        """Return all numbers as they are now."""
        gauges = Gauges(
            quota_bytes=self.cache.config.quota_bytes,
            used_bytes=self.cache.used_bytes,
            reserved_bytes=self.cache.reserved_bytes,
            objects=len(self.cache),
            partial_objects=len(self.partials),
            pins=len(self.pins.held()),
            pinned_bytes=sum(self.pins.objects().values()),
            connections=self.limits.open_connections.total(),
            started_s=self.started_ns / 1e9,
            quarantine_bytes=self.cache.quarantine.size_bytes,
            scrub_due=self.scrub.due,
        )
        return self.counters(), gauges

    def may_ask_for_others(self, peer: Identity) -> bool:
        """Whether a peer may name the user on whose behalf it asks."""
        return peer.uid in (0, self.own_uid) or peer.matches(self.config.trusted)

    def is_administrator(self, who: Identity) -> bool:
        """Whether ``who`` administers this daemon."""
        return who.uid in (0, self.own_uid) or who.matches(self.config.administrators)

    def require_administrator(self, who: Identity, to: str) -> None:
        """Raise unless ``who`` administers this daemon."""
        if not self.is_administrator(who):
            raise PermissionDeniedError(
                f"user {who.user_name} may not {to}",
                hint="its administrator can list you under 'administrators' in its configuration",
            )


@asynccontextmanager
async def running_node(config: DaemonConfig) -> AsyncIterator[Node]:
    """Open everything, undo what a crash cut off, and close everything in the end."""
    os.makedirs(config.state_directory, mode=0o700, exist_ok=True)
    cache = ObjectCache(config.cache)
    try:
        with opened_journal(os.path.join(config.state_directory, "journal.sqlite3")) as journal:
            async with running_outbox(_outbox_path(config)) as outbox, running_partials(cache) as partials:
                async with _running_parts(config, cache, partials, journal, outbox) as node:
                    yield node
                # Only now: what was being tidied up needed them.
                with trio.CancelScope(shield=True):
                    await node.repositories.aclose()
                    await node.prefixes.aclose()
                    await node.services.aclose()
    finally:
        cache.close()


@asynccontextmanager
async def _running_parts(
    config: DaemonConfig, cache: ObjectCache, partials: PartialObjects, journal: Journal, outbox: Outbox
) -> AsyncIterator[Node]:
    async with trio.open_nursery() as nursery:
        begun = await outbox.begun()
        node = Node(config, cache, partials, journal, outbox, nursery)
        nursery.start_soon(node.pace.run)
        nursery.start_soon(node.credentials.expire)
        nursery.start_soon(_write_index, cache)
        nursery.start_soon(node.scrub.run)
        pending = journal.pending()
        # A storage that hangs must not keep the daemon from its work.
        for intent in pending:
            if intent.removal:
                node.retries.begin(intent, at_once=True)
        left = await recover(journal, node.repositories, [one for one in pending if not one.removal])
        nursery.start_soon(_recover_rest, node, journal, left, begun)
        nursery.start_soon(node.publisher.run)
        async with _running_people(node) as node:
            yield node
        nursery.cancel_scope.cancel()


async def _recover_rest(node: Node, journal: Journal, left: list[Intent], begun: list[Entry]) -> None:
    """Undo what could not be undone at the start, and publish what was committed before it."""
    undecided = {target.dataset for intent in left for target in intent.targets}
    begun = await node.publisher.recover(begun, undecided=undecided)
    await recover_later(journal, node.repositories, left)
    begun = await node.publisher.recover(begun)
    while begun:
        await trio.sleep(RECOVER_S)
        begun = await node.publisher.recover(begun)


def _outbox_path(config: DaemonConfig) -> str:
    """Where the outbox is: in memory, if nothing is configured that could be published to, nor ever was."""
    path = os.path.join(config.state_directory, "outbox.sqlite3")
    return path if config.publish or os.path.exists(path) else ":memory:"


async def _write_index(cache: ObjectCache) -> None:
    while True:
        await trio.sleep(WRITE_S)
        if cache.disk.usable:
            await cache.write_index()


@asynccontextmanager
async def _running_people(node: Node) -> AsyncIterator[Node]:
    """Keep up pins and, if configured, answer Prometheus."""
    config = node.config

    async def resolve(record: PinRecord) -> dict[ObjectId, int]:
        who = await trio.to_thread.run_sync(identity_of, record.owner_uid)
        selected = await select(node.repositories, who, record)
        return {one.object_id: one.file.size_bytes for one in selected.files}

    async with running_pins(
        config.state_directory,
        node.cache,
        resolve,
        limit_bytes=int(config.cache.quota_bytes * config.cache.pin_fraction),
        refresh_s=config.cache.pin_refresh_s,
    ) as node.pins:
        if not config.metrics_port:
            yield node
            return
        async with serving_metrics(config.metrics_port, node.read_metrics):
            yield node
