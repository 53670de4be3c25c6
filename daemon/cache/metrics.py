"""The node's numbers in the text format of Prometheus.

Nothing is counted here: `Counters` and the cache have the numbers, and `Collector` reads them when somebody
asks, in the trio thread, which alone changes them. Names follow Prometheus' conventions: base units, totals
end in ``_total``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import trio
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pantry.daemon.cache.counters import Counters

LOOPBACK = "127.0.0.1"

_TOTALS = (
    ("hits", "pantry_cache_hits", "Opens that found the complete object."),
    ("misses", "pantry_cache_misses", "Opens that did not find the complete object."),
    ("joins", "pantry_cache_joins", "Misses that found the object in the making."),
    ("hit_bytes", "pantry_cache_hit_bytes", "Sizes of the files that hits opened."),
    ("waits", "pantry_cache_waits", "Reads that had to wait for bytes."),
    ("waited_s", "pantry_cache_wait_seconds", "How long reads waited for bytes altogether."),
    ("evicted_objects", "pantry_cache_evicted_objects", "Objects that made room."),
    ("evicted_bytes", "pantry_cache_evicted_bytes", "Bytes that made room."),
    ("uncached_opens", "pantry_cache_uncached_opens", "Files served from memory since the disk could not take them."),
    ("uncached_bytes", "pantry_cache_uncached_bytes", "Bytes of such files."),
    ("verified_objects", "pantry_cache_verified_objects", "Objects read again and found whole."),
    ("verified_bytes", "pantry_cache_verified_bytes", "Bytes of such objects."),
    ("quarantined_objects", "pantry_cache_quarantined_objects", "Objects read again and found damaged."),
    ("cancelled_flights", "pantry_cache_cancelled_flights", "Transfers given up since nobody waited any more."),
    ("coalesced_chunks", "pantry_cache_coalesced_chunks", "Chunks that came with a neighbour's request."),
    ("ahead_bytes", "pantry_cache_ahead_bytes", "Bytes asked for ahead of sequential readers."),
)

_BY_USER = (
    ("fetches", "pantry_cache_fetches", "Requests made upstream."),
    ("fetched_bytes", "pantry_cache_fetched_bytes", "Bytes that came from upstream."),
)

_GAUGES = (
    ("quota_bytes", "pantry_cache_quota_bytes", "Most that the cache may hold."),
    ("used_bytes", "pantry_cache_used_bytes", "Complete objects, and the present chunks of others."),
    ("reserved_bytes", "pantry_cache_reserved_bytes", "Promised to transfers and puts under way."),
    ("objects", "pantry_cache_objects", "Complete objects."),
    ("partial_objects", "pantry_cache_partial_objects", "Objects in the making."),
    ("pins", "pantry_cache_pins", "Pins."),
    ("pinned_bytes", "pantry_cache_pinned_bytes", "What pins keep, whether it is cached or not."),
    ("connections", "pantry_connections", "Open connections."),
    ("quarantine_bytes", "pantry_cache_quarantine_bytes", "Damaged objects that are kept aside."),
    ("scrub_due", "pantry_cache_scrub_due_objects", "Objects that the scrub has not read within its interval."),
    ("started_s", "pantry_start_time_seconds", "When the daemon started, seconds since 1970-01-01 UTC."),
)


class Gauges(NamedTuple):
    """What is now; names as in `_GAUGES`."""

    quota_bytes: int
    used_bytes: int
    reserved_bytes: int
    objects: int
    partial_objects: int
    pins: int
    pinned_bytes: int
    connections: int
    started_s: float
    quarantine_bytes: int = 0
    scrub_due: int = 0


class Audience(NamedTuple):
    """Who reads: all users' rows, one user's, or with neither sums over users.

    Attributes
    ----------
    everybody : bool
        Rows of all users.
    uid : int or None
        Rows of one user.
    """

    everybody: bool = False
    uid: int | None = None


Read = Callable[[], tuple[Counters, Gauges]]
"""Reads the numbers; in the trio thread only."""


def families(counters: Counters, gauges: Gauges, audience: Audience) -> list[Metric]:
    """Put the numbers into metrics."""
    made: list[Metric] = []
    for attribute, name, text in _TOTALS:
        made.append(CounterMetricFamily(name, text, value=getattr(counters, attribute)))
    for attribute, name, text in _BY_USER:
        family = CounterMetricFamily(name, text, labels=("origin", "uid"))
        for (origin, uid), value in _rows(getattr(counters, attribute), audience):
            family.add_metric((origin, uid), value)
        made.append(family)
    # Which origins there are is for those who may see everybody's rows, or ask for sums.
    if audience.uid is None:
        failures = CounterMetricFamily("pantry_cache_failures", "Transfers that failed.", labels=("origin",))
        for origin, count in sorted(counters.failures.items()):
            failures.add_metric((origin,), count)
        made.append(failures)
    for attribute, name, text in _GAUGES:
        made.append(GaugeMetricFamily(name, text, value=getattr(gauges, attribute)))
    return made


def _rows(counter: Counter[tuple[str, int]], audience: Audience) -> Iterable[tuple[tuple[str, str], int]]:
    if audience.everybody:
        return [((origin, str(uid)), value) for (origin, uid), value in sorted(counter.items())]
    if audience.uid is not None:
        return [((origin, str(uid)), value) for (origin, uid), value in sorted(counter.items()) if uid == audience.uid]
    sums: Counter[str] = Counter()
    for (origin, _), value in counter.items():
        sums[origin] += value
    return [((origin, "all"), value) for origin, value in sorted(sums.items())]


class _Collector(Collector):
    def __init__(self, collect: Callable[[], list[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterator[Metric]:
        """Read the numbers now."""
        yield from self._collect()

    def describe(self) -> list[Metric]:
        """Return nothing: the registry need not read anything to know our names."""
        return []


def exposition(read: Read, audience: Audience) -> str:
    """Write the metrics as text; in the trio thread."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(lambda: families(*read(), audience)))
    return generate_latest(registry).decode()


@asynccontextmanager
async def serving_metrics(port: int, read: Read) -> AsyncIterator[int]:
    """Answer Prometheus over HTTP on the loopback interface only, with sums over users; give the port.

    Whoever has a shell on the node can read them there, hence no rows by user. The server's threads
    touch nothing of ours: they wait for the trio thread to read the numbers.
    """
    token = trio.lowlevel.current_trio_token()
    registry = CollectorRegistry(auto_describe=False)

    def collect() -> list[Metric]:
        return trio.from_thread.run_sync(lambda: families(*read(), Audience()), trio_token=token)

    registry.register(_Collector(collect))
    server: Any
    server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    try:
        yield server.server_address[1]
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(server.shutdown)
            server.server_close()
            await trio.to_thread.run_sync(thread.join)
