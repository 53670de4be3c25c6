"""Sequential readers of a cold file are run ahead of; random ones are not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.wire.operations import CacheStatus, EvictObjects, GetCacheStatus

MIB = 1024 * 1024
SIZE = 48 * MIB


class Reader:
    """A cold file of 48 MiB in S3, and a proxy that counts requests."""

    def __init__(self, butler: Butler, proxy: FaultProxy) -> None:
        self.butler = butler
        self.proxy = proxy
        self.content = os.urandom(SIZE)
        self.ref = butler.put(self.content, "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="u/k")
        butler.connection.call(EvictObjects(everything=True))
        proxy.clear()

    def status(self) -> CacheStatus:
        found: CacheStatus = self.butler.connection.call(GetCacheStatus())
        return found


@pytest.fixture
def reader(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Iterator[Reader]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = proxy.endpoint_url
        with Butler.create("reader", s3_root, socket=make_daemon(storage_config).socket) as butler:
            furnish(butler, 1)
            yield Reader(butler, proxy)


def test_a_sequential_reader_seldom_waits_for_the_origin(reader: Reader) -> None:
    with reader.butler.open(reader.ref, partial=True) as file:
        for start in range(0, SIZE, MIB // 4):
            assert file.read(MIB // 4) == reader.content[start : start + MIB // 4]
    found = reader.status()
    assert found.ahead_bytes > 0.8 * SIZE
    assert found.fetched_bytes == SIZE, "bytes were asked for twice"
    # Nearly 200 reads of a quarter MiB; the windows are a few MiB each.
    assert reader.proxy.count("GET") < 40


def test_a_random_reader_gets_what_it_reads(reader: Reader) -> None:
    with reader.butler.open(reader.ref, partial=True) as file:
        for start in range(40 * MIB, 0, -2 * MIB):
            file.seek(start)
            assert file.read(100_000) == reader.content[start : start + 100_000]
    found = reader.status()
    assert found.ahead_bytes == 0
    assert found.fetched_bytes <= 20 * 4 * 65536


def test_a_jump_stops_what_was_under_way(reader: Reader) -> None:
    with reader.butler.open(reader.ref, partial=True) as file:
        for _ in range(16):
            file.read(MIB)
        file.seek(40 * MIB)
        file.read(1000)
    found = reader.status()
    assert 0 < found.ahead_bytes <= 32 * MIB
    assert found.fetched_bytes < SIZE
