"""What people do with the cache: pins, prefetch, eviction by query, metrics; with a real daemon and S3."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.process import free_ports
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.client.staging import export
from pantry.daemon.cache.account import charged
from pantry.errors import CacheFullError, LimitExceededError, NotCachedError, NotFoundError, PantryError
from pantry.wire.operations import (
    CacheStatus,
    EvictObjects,
    GetCacheStatus,
    GetMetrics,
    ListCache,
    ListPins,
    OpenDataset,
    PinDatasets,
    SetOffline,
    UnpinDatasets,
)

MIB = 1024 * 1024
QUOTA = 8 * MIB


class Larder:
    """A daemon with a small quota, its origin behind a proxy that counts, and a Butler."""

    def __init__(self, daemon: PantryDaemon, proxy: FaultProxy, root: str) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self.butler = Butler.create("larder", root, socket=daemon.socket)
        furnish(self.butler, 20)

    def put(self, exposure: int, content: bytes, run: str = "u/k") -> Any:
        return self.butler.put(content, "blob", instrument=INSTRUMENT, exposure=exposure, detector=0, run=run)

    def call(self, operation: Any) -> Any:
        return self.butler.connection.call(operation)

    def status(self) -> CacheStatus:
        return self.butler.connection.call(GetCacheStatus())

    def evict(self) -> None:
        self.call(EvictObjects(everything=True))

    def cached(self) -> set[str]:
        return {
            one.hash
            for batch in self.butler.connection.stream(ListCache())
            for one in batch.objects
            if one.cached_bytes == one.size_bytes
        }

    def metrics(self) -> dict[str, float]:
        text = self.call(GetMetrics()).text
        return {
            one.name: one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
            if not one.labels
        }


def pin(where: str = "", run: str = "u/k", **more: Any) -> PinDatasets:
    return PinDatasets(repository="larder", dataset_types=("blob",), collections=(run,), where=where, **more)


@pytest.fixture
def larder(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Iterator[Larder]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {
            "endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "max_attempts": 1,
            "read_timeout_s": 5,
        }
        storage_config["cache"] = {"quota_bytes": QUOTA, "chunk_bytes": 64 * 1024}
        storage_config["metrics_port"] = free_ports(1)
        made = Larder(make_daemon(storage_config), proxy, s3_root)
        yield made
        made.butler.close()


def test_what_is_pinned_is_not_evicted_and_unpinned_it_is(larder: Larder) -> None:
    kept = os.urandom(MIB)
    larder.put(1, kept)
    made = larder.call(pin("exposure = 1", note="for the night"))
    assert (made.objects, made.bytes, made.cached_objects, made.cached_bytes) == (1, MIB, 1, MIB)
    for exposure in range(2, 18):
        larder.put(exposure, os.urandom(MIB))
    larder.evict()
    assert len(larder.cached()) == 1
    misses = larder.status().misses
    assert larder.butler.get("blob", instrument=INSTRUMENT, exposure=1, detector=0, collections="u/k") == kept
    assert larder.status().misses == misses
    assert [one.note for one in larder.call(ListPins()).pins] == ["for the night"]
    assert larder.call(UnpinDatasets(ids=(made.id,))).count == 1
    larder.evict()
    assert larder.cached() == set()
    with pytest.raises(NotFoundError):
        larder.call(UnpinDatasets(ids=(made.id,)))


def test_pins_survive_a_restart_and_the_loss_of_the_cache(larder: Larder) -> None:
    larder.put(1, os.urandom(1000))
    made = larder.call(pin())
    larder.daemon.stop()
    for path in sorted(larder.daemon.cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    larder.daemon.start()
    assert [one.id for one in larder.call(ListPins()).pins] == [made.id]
    assert larder.butler.prefetch("blob", "u/k").fetched_files == 1
    larder.evict()
    assert len(larder.cached()) == 1


def test_pins_take_at_most_their_part_of_the_quota(larder: Larder) -> None:
    for exposure in range(1, 6):
        larder.put(exposure, os.urandom(MIB))
    with pytest.raises(LimitExceededError, match=f"may hold {QUOTA // 2} bytes"):
        larder.call(pin())
    assert larder.call(ListPins()).pins == ()
    assert larder.call(pin("exposure < 5")).objects == 4


def test_prefetch_fetches_each_content_once_and_then_nothing(larder: Larder) -> None:
    contents = {exposure: os.urandom(50_000) for exposure in range(1, 11)}
    for exposure, content in contents.items():
        larder.put(exposure, content)
    larder.put(11, contents[1])
    larder.evict()
    told: list[int] = []
    done = larder.butler.prefetch("blob", "u/k", progress=lambda one: told.append(one.files_done))
    assert (done.files_done, done.files_total, done.fetched_files) == (10, 10, 10)
    assert done.fetched_bytes == done.bytes_total == 500_000
    assert told == sorted(told)
    assert told[0] == 0
    larder.proxy.refusing = True
    again = larder.butler.prefetch("blob", "u/k")
    assert (again.files_done, again.fetched_files, again.failed_files) == (10, 0, 0)
    for exposure, content in contents.items():
        assert larder.butler.get("blob", instrument=INSTRUMENT, exposure=exposure, detector=0, collections="u/k") == (
            content
        )


def test_prefetch_tells_what_failed_and_goes_on(larder: Larder) -> None:
    for exposure in (1, 2):
        larder.put(exposure, os.urandom(1000))
    larder.evict()
    assert larder.butler.prefetch("blob", "u/k", exposure=1).fetched_files == 1
    larder.proxy.refusing = True
    done = larder.butler.prefetch("blob", "u/k")
    assert (done.files_done, done.failed_files, done.fetched_files) == (2, 1, 0)
    assert done.failures[0].name == f"u/k/blob/{INSTRUMENT}/2/blob_{INSTRUMENT}_2_0.bin"
    assert done.failures[0].code.startswith("backend")


def test_prefetch_of_too_much_is_refused_before_it_begins(larder: Larder) -> None:
    for exposure in range(1, 13):
        larder.put(exposure, os.urandom(MIB))
    larder.evict()
    before = larder.status().fetched_bytes
    with pytest.raises(CacheFullError, match=f"12 files need {12 * MIB} bytes"):
        larder.butler.prefetch("blob", "u/k")
    assert larder.status().fetched_bytes == before
    done = larder.butler.prefetch("blob", "u/k", partial=True)
    assert (done.fetched_files, done.left_out_files, done.failed_files) == (7, 5, 0)
    assert len(larder.cached()) == 7


def test_offline_is_told_in_the_status(larder: Larder) -> None:
    assert not larder.status().offline
    larder.call(SetOffline(offline=True))
    assert larder.status().offline
    larder.call(SetOffline(offline=False))
    assert not larder.status().offline


def test_offline_the_origin_is_asked_for_nothing(larder: Larder) -> None:
    content = os.urandom(1000)
    cached = larder.put(1, content)
    other = larder.put(2, os.urandom(1000))
    larder.call(EvictObjects(repository="larder", dataset_types=("blob",), collections=("u/k",), where="exposure = 2"))
    larder.call(SetOffline(offline=True))
    fetches = larder.status().fetches
    assert larder.butler.get(cached) == content
    with pytest.raises(PantryError):
        larder.butler.get(other)
    assert larder.status().fetches == fetches
    larder.call(SetOffline(offline=False))
    assert len(larder.butler.get(other)) == 1000


def test_eviction_by_query(larder: Larder) -> None:
    larder.put(1, os.urandom(1000))
    larder.put(2, os.urandom(2000))
    gone = larder.call(
        EvictObjects(repository="larder", dataset_types=("blob",), collections=("u/k",), where="exposure = 2")
    )
    assert (gone.objects, gone.bytes) == (1, charged(2000))
    assert len(larder.cached()) == 1


def test_metrics_move_on_the_socket_and_on_the_loopback_port(larder: Larder) -> None:
    ref = larder.put(1, os.urandom(1000))
    before = larder.metrics()
    larder.butler.get(ref)
    after = larder.metrics()
    assert after["pantry_cache_hits_total"] == before["pantry_cache_hits_total"] + 1
    assert after["pantry_cache_used_bytes"] == larder.status().used_bytes
    port = larder.daemon.config["metrics_port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert f"\npantry_cache_hits_total {after['pantry_cache_hits_total']}" in text


def test_export_writes_what_is_complete_and_asks_the_origin_for_nothing(larder: Larder, short_dir: Path) -> None:
    content = os.urandom(50_000)
    larder.put(1, content)
    other = larder.put(2, os.urandom(200_000))
    larder.evict()
    assert larder.butler.prefetch("blob", "u/k", exposure=1).fetched_files == 1
    with larder.butler.open(other, partial=True) as file:
        file.read(10)
    _check_export(larder, short_dir, content, other)


def test_export_of_what_was_put(larder: Larder, short_dir: Path) -> None:
    other = larder.put(2, os.urandom(2000))
    larder.evict()
    content = os.urandom(50_000)
    larder.put(1, content)
    _check_export(larder, short_dir, content, other)


def _check_export(larder: Larder, directory: Path, content: bytes, other: Any) -> None:
    larder.proxy.refusing = True
    fetches = larder.status().fetches
    refs = larder.butler.query_datasets("blob", "u/k", order_by="exposure")
    paths, left_out = export(larder.butler, refs, directory / "out")
    name = f"u/k/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"
    assert [str(path) for path in paths] == [str(directory / "out" / name)]
    assert paths[0].read_bytes() == content
    assert left_out == [other]
    assert [path for path in (directory / "out").rglob("*") if path.is_file()] == paths
    assert larder.status().fetches == fetches
    with pytest.raises(NotCachedError, match="not complete in the cache"):
        larder.butler.connection.call(OpenDataset(repository="larder", id=other.id, cached_only=True))
