"""What the cache promises: whole objects or errors, the quota, and cached data without the origin."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fault.proxy import Fault, FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.errors import BackendError, CacheFullError, IntegrityError
from pantry.wire.operations import CacheStatus, EvictObjects, GetCacheStatus

MIB = 1024 * 1024
QUOTA = 8 * MIB
MEMORY = QUOTA + 2 * 1024 * 1024


class Kitchen:
    """A daemon with a small quota, its origin behind a proxy, and a Butler."""

    def __init__(self, daemon: PantryDaemon, proxy: FaultProxy, root: str, outside: Any) -> None:
        self.daemon = daemon
        self.proxy = proxy
        self.bucket, self.prefix = root.removeprefix("s3://").split("/", 1)
        self.outside = outside
        self.butler = Butler.create("kitchen", root, socket=daemon.socket)
        furnish(self.butler)

    def put(self, exposure: int, content: bytes) -> Any:
        return self.butler.put(content, "blob", instrument=INSTRUMENT, exposure=exposure, detector=0, run="u/k")

    def status(self) -> CacheStatus:
        return self.butler.connection.call(GetCacheStatus())

    def evict(self) -> None:
        self.butler.connection.call(EvictObjects(everything=True))
        assert self.status().used_bytes == 0

    def key(self, exposure: int) -> str:
        return f"{self.prefix}/u/k/blob/{INSTRUMENT}/{exposure}/blob_{INSTRUMENT}_{exposure}_0.bin"

    def on_disk(self) -> int:
        return sum(path.stat().st_blocks * 512 for path in self.daemon.cache.rglob("*") if path.is_file())


@pytest.fixture
def kitchen(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Iterator[Kitchen]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"] |= {
            "endpoint_url": f"http://127.0.0.1:{proxy.port}",
            "max_attempts": 1,
            "read_timeout_s": 5,
        }
        storage_config["cache"] = {"quota_bytes": QUOTA, "chunk_bytes": 64 * 1024, "uncached_bytes": MEMORY}
        outside = seaweed.client()
        made = Kitchen(make_daemon(storage_config), proxy, s3_root, outside)
        yield made
        made.butler.close()
        outside.close()


def test_the_quota_holds_while_much_more_is_written_and_read(kitchen: Kitchen) -> None:
    contents = {exposure: os.urandom(MIB) for exposure in range(1, 21)}
    refs = {exposure: kitchen.put(exposure, content) for exposure, content in contents.items()}
    for exposure, ref in refs.items():
        assert kitchen.butler.get(ref) == contents[exposure]
        status = kitchen.status()
        assert status.used_bytes + status.reserved_bytes <= QUOTA
        assert kitchen.on_disk() <= QUOTA + MIB
    assert kitchen.status().evicted_objects >= 12
    # The most recently read ones are still there.
    before = kitchen.status().misses
    assert kitchen.butler.get(refs[20]) == contents[20]
    assert kitchen.status().misses == before


def test_an_open_file_is_not_evicted_and_stays_readable(kitchen: Kitchen) -> None:
    content = os.urandom(MIB)
    first = kitchen.put(1, content)
    with kitchen.butler.open(first) as file:
        for exposure in range(2, 14):
            kitchen.put(exposure, os.urandom(MIB))
        misses = kitchen.status().misses
        assert kitchen.butler.get(first) == content
        assert kitchen.status().misses == misses, "the open object was evicted"
        assert file.read() == content


def test_an_object_larger_than_the_quota_is_read_through_memory(kitchen: Kitchen) -> None:
    content = os.urandom(QUOTA + MIB)
    ref = kitchen.put(1, content)
    with kitchen.butler.open(ref) as whole, kitchen.butler.open(ref) as again:
        assert whole.read() == content
        assert again.read() == content
        status = kitchen.status()
        assert status.memory_bytes == len(content)
    assert status.uncached_opens == 1, "the second reader did not find what the first one fetched"
    assert status.used_bytes + status.reserved_bytes <= QUOTA
    with kitchen.butler.open(ref, partial=True) as part:
        assert part.read(100) == content[:100]
        part.seek(0)
        # More than the disk takes: the reader goes on through memory, and sees nothing of it.
        assert part.read() == content
    assert kitchen.status().used_bytes + kitchen.status().reserved_bytes <= QUOTA


def test_an_object_larger_than_quota_and_memory_is_a_clear_error(kitchen: Kitchen) -> None:
    content = os.urandom(QUOTA + MEMORY + MIB)
    ref = kitchen.put(1, content)
    with pytest.raises(CacheFullError, match=r"quota.*memory"):
        kitchen.butler.get(ref)
    status = kitchen.status()
    assert status.used_bytes + status.reserved_bytes <= QUOTA
    assert status.memory_bytes == 0
    with kitchen.butler.open(ref, partial=True) as part:
        assert part.read(100) == content[:100]


def test_a_changed_origin_is_an_error_never_other_bytes(kitchen: Kitchen) -> None:
    kitchen.daemon.expected_log = ("fetched bytes hash to",)
    content = os.urandom(MIB)
    ref = kitchen.put(1, content)
    kitchen.evict()
    kitchen.outside.put_object(Bucket=kitchen.bucket, Key=kitchen.key(1), Body=os.urandom(MIB))
    with pytest.raises(IntegrityError, match="not what was registered"):
        kitchen.butler.get(ref)
    kitchen.outside.put_object(Bucket=kitchen.bucket, Key=kitchen.key(1), Body=content)
    assert kitchen.butler.get(ref) == content


def test_an_origin_that_grew_is_refused_for_partial_reads(kitchen: Kitchen) -> None:
    ref = kitchen.put(1, os.urandom(MIB))
    kitchen.evict()
    kitchen.outside.put_object(Bucket=kitchen.bucket, Key=kitchen.key(1), Body=os.urandom(MIB + 1))
    with pytest.raises(IntegrityError, match="were registered"), kitchen.butler.open(ref, partial=True) as file:
        file.read(10)


def test_damaged_bytes_on_the_way_are_never_handed_out(kitchen: Kitchen) -> None:
    kitchen.daemon.expected_log = ("fetched bytes hash to",)
    content = os.urandom(MIB)
    ref = kitchen.put(1, content)
    kitchen.evict()
    kitchen.proxy.inject(Fault(method="GET", corrupt_at=5000))
    with pytest.raises(IntegrityError):
        kitchen.butler.get(ref)
    assert kitchen.butler.get(ref) == content


@pytest.mark.req("DMS-MWBT-REQ-0058")
def test_cached_data_reads_without_the_origin(kitchen: Kitchen) -> None:
    content = os.urandom(MIB)
    ref = kitchen.put(1, content)
    other = kitchen.put(2, os.urandom(1000))
    kitchen.proxy.refusing = True
    assert kitchen.butler.get(ref) == content
    assert kitchen.butler.get("blob", instrument=INSTRUMENT, exposure=1, detector=0, collections="u/k") == content
    kitchen.butler.connection.call(EvictObjects(everything=True))
    with pytest.raises(BackendError):
        kitchen.butler.get(other)
    kitchen.proxy.refusing = False
    assert kitchen.butler.get(ref) == content


def test_a_part_costs_about_that_part(kitchen: Kitchen) -> None:
    content = os.urandom(4 * MIB)
    ref = kitchen.put(1, content)
    kitchen.evict()
    before = kitchen.status().fetched_bytes
    with kitchen.butler.open(ref, partial=True) as file:
        file.seek(2 * MIB + 17)
        assert file.read(1000) == content[2 * MIB + 17 : 2 * MIB + 1017]
        assert kitchen.status().fetched_bytes - before <= 128 * 1024
        assert file.read() == content[2 * MIB + 1017 :]
        file.seek(0)
        assert file.read() == content
    # All of it came, once. Whoever asks for the whole waits until it is verified; then it is an object.
    assert kitchen.status().fetched_bytes - before == len(content)
    assert kitchen.butler.get(ref) == content
    assert kitchen.status().fetched_bytes - before == len(content)
    assert kitchen.status().objects == 1


def test_a_failed_put_leaves_nothing(kitchen: Kitchen) -> None:
    kitchen.daemon.expected_log = ("a failed write cannot be undone now",)
    kitchen.proxy.inject(Fault(method="PUT", status=500))
    with pytest.raises(BackendError):
        kitchen.put(1, b"x" * 1000)
    found = kitchen.outside.list_objects_v2(Bucket=kitchen.bucket, Prefix=kitchen.prefix + "/u/")
    assert not found.get("KeyCount")
    ref = kitchen.put(1, b"y" * 1000)
    assert kitchen.butler.get(ref) == b"y" * 1000


def test_no_secret_is_ever_shown(kitchen: Kitchen, seaweed: SeaweedServer) -> None:
    shown = repr(kitchen.butler.info) + str(kitchen.butler.repositories(socket=kitchen.daemon.socket))
    kitchen.daemon.stop()
    written = shown + kitchen.daemon.log.read_text()
    description = kitchen.outside.get_object(Bucket=kitchen.bucket, Key=kitchen.prefix + "/pantry.yaml")["Body"]
    with description:
        written += description.read().decode()
    for path in kitchen.daemon.state.rglob("*"):
        if path.is_file():
            written += path.read_bytes().decode(errors="replace")
    assert seaweed.secret_key not in written
    assert seaweed.access_key not in written


def test_realms_do_not_share_content(kitchen: Kitchen, s3_root: str, short_dir: Path) -> None:
    content = os.urandom(1000)
    kitchen.put(1, content)
    with Butler.create("other", str(short_dir / "other"), socket=kitchen.daemon.socket) as other:
        furnish(other)
        other.put(content, "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="u/k")
    assert kitchen.status().objects == 2
    kitchen.put(2, content)
    assert kitchen.status().objects == 2, "the same content in one realm is kept once"
