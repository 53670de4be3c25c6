from __future__ import annotations

import socket
import urllib.request
from collections import Counter

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from pantry.daemon.cache.counters import Counters
from pantry.daemon.cache.metrics import Audience, Gauges, exposition, serving_metrics

ORIGIN = "s3://bucket/prefix"
GAUGES = Gauges(100, 60, 5, 3, 1, 2, 40, 4, 1.5)


def counters() -> Counters:
    return Counters(
        hits=9,
        misses=2,
        waits=4,
        waited_s=2.5,
        fetches=Counter({(ORIGIN, 7): 3, (ORIGIN, 8): 1}),
        fetched_bytes=Counter({(ORIGIN, 7): 300, (ORIGIN, 8): 50}),
        failures=Counter({ORIGIN: 6}),
    )


def samples(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (one.name, tuple(one.labels[label] for label in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def listening(port: int) -> list[str]:
    """Addresses, in the kernel's notation, at which anybody listens on a TCP port."""
    found = []
    for name in ("tcp", "tcp6"):
        with open(f"/proc/self/net/{name}", encoding="ascii") as file:
            rows = [line.split() for line in file]
        found += [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    return found


def test_an_administrator_sees_all_rows_and_numbers() -> None:
    found = samples(exposition(lambda: (counters(), GAUGES), Audience(everybody=True)))
    assert found["pantry_cache_hits_total", ()] == 9
    assert found["pantry_cache_wait_seconds_total", ()] == 2.5
    assert found["pantry_cache_used_bytes", ()] == 60
    assert found["pantry_start_time_seconds", ()] == 1.5
    assert found["pantry_cache_fetched_bytes_total", (ORIGIN, "7")] == 300
    assert found["pantry_cache_fetched_bytes_total", (ORIGIN, "8")] == 50
    assert found["pantry_cache_failures_total", (ORIGIN,)] == 6


def test_a_user_sees_only_own_rows() -> None:
    found = samples(exposition(lambda: (counters(), GAUGES), Audience(uid=8)))
    assert found["pantry_cache_fetched_bytes_total", (ORIGIN, "8")] == 50
    assert found["pantry_cache_hits_total", ()] == 9
    assert [labels for _, labels in found if labels] == [(ORIGIN, "8")] * 2
    nobody = exposition(lambda: (counters(), GAUGES), Audience(uid=9))
    assert ORIGIN not in nobody


def test_every_counter_is_told() -> None:
    told = exposition(lambda: (counters(), GAUGES), Audience(everybody=True))
    for name in Counters.__dataclass_fields__:
        stem = {"waited_s": "wait_seconds"}.get(name, name)
        assert f"\npantry_cache_{stem}_total" in told, name
    for name in ("quota", "used", "reserved", "pinned"):
        assert f"\npantry_cache_{name}_bytes " in told


def test_the_loopback_port_gives_sums_that_move_and_nothing_listens_elsewhere() -> None:
    counted = counters()

    def fetch(port: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    async def main() -> int:
        async with serving_metrics(0, lambda: (counted, GAUGES)) as port:
            found = samples(await trio.to_thread.run_sync(fetch, port))
            assert found["pantry_cache_fetched_bytes_total", (ORIGIN, "all")] == 350
            assert not [labels for _, labels in found if "7" in labels]
            counted.hits += 1
            assert samples(await trio.to_thread.run_sync(fetch, port))["pantry_cache_hits_total", ()] == 10
            found_listening = await trio.to_thread.run_sync(listening, port)
            assert found_listening == ["0100007F"]
        return port

    port = trio.run(main)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
