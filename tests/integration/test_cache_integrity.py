"""A cached object is damaged on its disk: it is found, fetched again, and never read by anybody who opens it later."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.pantryd import PantryDaemon

from pantry.client import Butler
from pantry.client.cli.main import cli
from pantry.errors import PermissionDeniedError
from pantry.wire.operations import CachedObject, CacheStatus, DamageObject, EvictObjects, GetCacheStatus, ListCache

MIB = 1024 * 1024
FOUND = (" ERROR ", " WARNING ")


class Cellar:
    """A daemon whose cache may be damaged, and three datasets in it."""

    def __init__(self, daemon: PantryDaemon, root: str) -> None:
        self.daemon = daemon
        self.butler = Butler.create("cellar", root, socket=daemon.socket)
        furnish(self.butler, 10)
        self.contents = {number: os.urandom(MIB + number) for number in range(1, 4)}
        for number, content in self.contents.items():
            self.butler.put(content, "blob", instrument=INSTRUMENT, exposure=number, detector=0, run="u/k")

    def get(self, number: int) -> bytes:
        found: bytes = self.butler.get("blob", instrument=INSTRUMENT, exposure=number, detector=0, collections="u/k")
        return found

    def listed(self) -> dict[int, CachedObject]:
        """Return what is in the cache, by number."""
        found = [one for batch in self.butler.connection.stream(ListCache()) for one in batch.objects]
        return {one.size_bytes - MIB: one for one in found}

    def damage(self, number: int, **more: Any) -> None:
        self.butler.connection.call(DamageObject(hash=self.listed()[number].hash, **more))

    def status(self) -> CacheStatus:
        found: CacheStatus = self.butler.connection.call(GetCacheStatus())
        return found

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--socket", self.daemon.socket, *arguments])


def make_cellar(make_daemon: Callable[..., PantryDaemon], config: dict[str, Any], root: str, **cache: Any) -> Cellar:
    config["cache"] = {"quota_bytes": 64 * MIB, "allow_damage": True, **cache}
    daemon = make_daemon(config)
    daemon.expected_log = FOUND
    return Cellar(daemon, root)


@pytest.fixture
def cellar(make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str) -> Iterator[Cellar]:
    made = make_cellar(make_daemon, storage_config, s3_root, scrub_bytes_per_s=0)
    yield made
    made.butler.close()


def test_verify_finds_damage_and_fetches_it_again(cellar: Cellar) -> None:
    result = cellar.run("cache", "verify", "--all")
    assert (result.exit_code, result.stdout) == (0, "verified 3 objects, 3.0 MiB; 0 damaged\n")
    cellar.damage(2, how="zero", at=4096)
    result = cellar.run("cache", "verify", "--all", "--json")
    assert result.exit_code == 1, result.output
    told = json.loads(result.stdout)
    assert told["objects"] == 3
    assert [one["fetched"] for one in told["damaged"]] == [True]
    assert told["damaged"][0]["name"].startswith("u/k/blob/TestCam/2/")
    assert cellar.run("cache", "verify", "cellar", "blob", "-c", "u/k").exit_code == 0
    fetched = cellar.status().fetched_bytes
    assert {number: cellar.get(number) for number in cellar.contents} == cellar.contents
    assert cellar.status().fetched_bytes == fetched
    assert len(os.listdir(cellar.daemon.cache / "quarantine")) == 1


def test_without_refetch_the_next_read_fetches_what_was_damaged(cellar: Cellar) -> None:
    cellar.damage(1, how="flip", at=MIB)
    result = cellar.run("cache", "verify", cellar.listed()[1].hash, "--no-refetch")
    assert result.exit_code == 1
    assert "u/k/blob/TestCam/1/" in result.stderr
    assert 1 not in cellar.listed()
    assert cellar.get(1) == cellar.contents[1]


def test_a_truncated_object_is_noticed_by_its_next_reader(cellar: Cellar) -> None:
    cellar.damage(3, how="truncate", at=1000)
    assert cellar.get(3) == cellar.contents[3]
    assert cellar.status().quarantined_objects == 1


def test_damage_needs_the_configuration_and_an_administrator(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> None:
    cellar = make_cellar(make_daemon, storage_config, s3_root, allow_damage=False)
    with cellar.butler, pytest.raises(PermissionDeniedError, match="lets nobody damage"):
        cellar.damage(1)
    result = cellar.run("cache", "verify", "0" * 32)
    assert result.exit_code == 1
    assert "no complete object" in result.stderr


def test_the_scrub_mends_what_was_read_lately(
    make_daemon: Callable[..., PantryDaemon], storage_config: dict[str, Any], s3_root: str
) -> None:
    # Every object is due all the time.
    cellar = make_cellar(make_daemon, storage_config, s3_root, scrub_bytes_per_s=1024 * MIB, scrub_interval_s=0.05)
    with cellar.butler:
        cellar.damage(2, at=5)
        deadline = time.monotonic() + 30
        while not (
            cellar.status().quarantined_objects and 2 in cellar.listed() and cellar.status().verified_objects > 3
        ):
            assert time.monotonic() < deadline, cellar.status()
            time.sleep(0.02)
        assert cellar.status().quarantined_objects == 1
        assert cellar.get(2) == cellar.contents[2]


def test_objects_remember_across_a_restart_where_they_came_from(cellar: Cellar) -> None:
    cellar.butler.connection.call(EvictObjects(everything=True))
    assert cellar.get(1) == cellar.contents[1]
    cellar.daemon.stop()
    cellar.daemon.start()
    cellar.damage(1)
    result = cellar.run("cache", "verify", "--all")
    assert result.exit_code == 1
    assert "fetched again" in result.stderr
