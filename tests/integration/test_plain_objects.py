"""Plain objects of a prefix: read by key, in one version, asked for again in time, and without the origin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner, Result
from tests.fault.proxy import FaultProxy
from tests.servers.other_user import RUN_COMMAND, run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import ObjectPrefix
from pantry.client.cli.main import cli
from pantry.client.connection import connect
from pantry.errors import (
    BackendError,
    InvalidRequestError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from pantry.wire.operations import CacheStatus, DamageObject, GetCacheStatus, ListCache, SetOffline

MIB = 1024 * 1024
READER, STRANGER = 4101, 4102


class Bucket:
    """Objects below an S3 root, a proxy before it, and a daemon with prefixes for it of several kinds."""

    def __init__(
        self,
        make_daemon: Callable[..., PantryDaemon],
        config: dict[str, Any],
        server: SeaweedServer,
        root: str,
        proxy: FaultProxy,
    ) -> None:
        options = config["storage"][0]["options"]
        self.s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{server.port}",
            aws_access_key_id=options["access_key_id"],
            aws_secret_access_key=options["secret_access_key"],
            region_name="us-east-1",
        )
        self.bucket, self.prefix = root.removeprefix("s3://").split("/", 1)
        self.proxy = proxy
        options |= {"endpoint_url": proxy.endpoint_url, "max_attempts": 1, "read_timeout_s": 5}
        config["cache"] = {
            "quota_bytes": 128 * MIB,
            "chunk_bytes": 64 * 1024,
            "allow_damage": True,
            "negative_ttl_s": 0,
        }
        config["prefixes"] = {
            "long": {"root": root, "ttl_s": 3600},
            "short": {"root": root, "ttl_s": 0},
            "lenient": {"root": root, "ttl_s": 0, "stale_if_error_s": 3600},
        }
        self.daemon = make_daemon(config)
        self.connection = connect(self.daemon.socket)

    def write(self, key: str, content: bytes) -> bytes:
        self.s3.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=content)
        return content

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}")

    def open(self, name: str) -> ObjectPrefix:
        return ObjectPrefix(name, socket=self.daemon.socket)

    def requests(self) -> int:
        """How many requests came since the last time."""
        found = self.proxy.count("GET") + self.proxy.count("HEAD")
        self.proxy.clear()
        return found

    def status(self) -> CacheStatus:
        found: CacheStatus = self.connection.call(GetCacheStatus())
        return found

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["--socket", self.daemon.socket, *arguments])


@pytest.fixture
def bucket_(
    make_daemon: Callable[..., PantryDaemon], seaweed: SeaweedServer, storage_config: dict[str, Any], s3_root: str
) -> Iterator[Bucket]:
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        made = Bucket(make_daemon, storage_config, seaweed, s3_root, proxy)
        yield made
        made.connection.close()


def test_an_object_is_fetched_once_and_asked_about_once_in_its_time(bucket_: Bucket) -> None:
    content = bucket_.write("a/b.bin", os.urandom(3 * MIB))
    with bucket_.open("long") as source:
        assert source.read("a/b.bin") == content
        bucket_.requests()
        assert source.read("a/b.bin") == content
        assert source.stat("a/b.bin").size_bytes == len(content)
        assert bucket_.requests() == 0
    with bucket_.open("short") as source:
        source.read("a/b.bin")
        bucket_.requests()
        assert source.read("a/b.bin") == content
        # Whether it is still the same, and no byte of it.
        assert bucket_.requests() == 1


def test_a_listing_tells_the_versions_of_all_its_objects(bucket_: Bucket) -> None:
    contents = {f"many/{number:03}": bucket_.write(f"many/{number:03}", os.urandom(1000)) for number in range(30)}
    bucket_.write("other", b"x")
    with bucket_.open("long") as source:
        listed = {one.key: one for one in source.list("many/")}
        assert {key: one.size_bytes for key, one in listed.items()} == dict.fromkeys(contents, 1000)
        assert all(one.modified_ns for one in listed.values())
        bucket_.requests()
        assert {key: source.read(key) for key in contents} == contents
        assert bucket_.requests() == len(contents)
        assert list(source.list("nothing")) == []


def test_a_changed_object_is_read_anew_and_who_has_it_open_keeps_it(bucket_: Bucket) -> None:
    old = bucket_.write("a", os.urandom(300_000))
    with bucket_.open("short") as source, source.open("a") as file:
        new = bucket_.write("a", os.urandom(200_000))
        assert source.read("a") == new
        assert source.stat("a").size_bytes == len(new)
        assert file.read() == old
    cached = [one for batch in bucket_.connection.stream(ListCache()) for one in batch.objects]
    assert [one.size_bytes for one in cached] == [len(new)]


def test_within_its_time_the_cached_version_is_read(bucket_: Bucket) -> None:
    old = bucket_.write("a", b"old")
    with bucket_.open("long") as source:
        assert source.read("a") == old
        bucket_.write("a", b"newer")
        assert source.read("a") == old


def test_never_a_mix_of_two_versions(bucket_: Bucket) -> None:
    old, new = bytes(2 * MIB), b"\1" * (2 * MIB)
    bucket_.write("a", old)
    with bucket_.open("long") as source, source.open("a", partial=True) as file:
        assert file.read(1000) == old[:1000]
        bucket_.write("a", new)
        file.seek(MIB)
        with pytest.raises(ObjectChangedError):
            file.read(1000)
        # Whoever opens it now gets the new one, though the old answer is within its time.
        assert source.read("a") == new


def test_an_object_that_is_gone_is_not_found(bucket_: Bucket) -> None:
    bucket_.write("a", b"content")
    with bucket_.open("short") as source:
        source.read("a")
        bucket_.delete("a")
        with pytest.raises(ObjectNotFoundError):
            source.open("a")
        assert bucket_.status().objects == 0
        with pytest.raises(ObjectNotFoundError):
            source.stat("never/was")


def test_stale_only_by_configuration_or_offline(bucket_: Bucket) -> None:
    bucket_.daemon.expected_log = (" WARNING ",)
    content = bucket_.write("a", os.urandom(100_000))
    sources = {name: bucket_.open(name) for name in ("long", "short", "lenient")}
    for source in sources.values():
        source.read("a")
    bucket_.proxy.refusing = True
    assert sources["long"].read("a") == content
    with pytest.raises(BackendError):
        sources["short"].read("a")
    with sources["lenient"].open_object("a") as found:
        assert found.opened.info.stale
        assert os.pread(found.fd, len(content), 0) == content
    with pytest.raises(BackendError):
        sources["lenient"].read("b")
    bucket_.connection.call(SetOffline(offline=True))
    assert sources["short"].read("a") == content
    assert sources["short"].stat("a").stale
    with pytest.raises(BackendError, match="offline"):
        list(sources["short"].list())
    for source in sources.values():
        source.close()


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_known_survives_a_restart(bucket_: Bucket, killed: bool) -> None:
    bucket_.daemon.expected_log = (" WARNING ",)
    content = bucket_.write("a", os.urandom(100_000))
    large = bucket_.write("large", os.urandom(4 * MIB))
    with bucket_.open("long") as source:
        source.read("a")
        with source.open("large", partial=True) as file:
            file.seek(MIB)
            file.read(300_000)
    fetched = bucket_.status().fetched_bytes
    if killed:
        bucket_.daemon.kill()
    else:
        bucket_.daemon.stop()
    bucket_.daemon.start()
    bucket_.requests()
    with bucket_.open("long") as source:
        assert source.read("large") == large
        assert bucket_.status().fetched_bytes <= len(large) - 300_000 + (0 if not killed else len(content))
        bucket_.proxy.refusing = True
        if not killed:
            assert source.read("a") == content
    assert fetched


def test_partial_reads_fetch_what_is_read(bucket_: Bucket) -> None:
    content = bucket_.write("a", os.urandom(8 * MIB))
    with bucket_.open("long") as source, source.open("a", partial=True) as file:
        for start in (0, 5 * MIB, 8 * MIB - 10):
            file.seek(start)
            assert file.read(10) == content[start : start + 10]
    assert bucket_.status().fetched_bytes <= 6 * 64 * 1024


def test_damage_to_a_cached_object_is_found(bucket_: Bucket) -> None:
    bucket_.daemon.expected_log = (" ERROR ", " WARNING ")
    content = bucket_.write("a", os.urandom(100_000))
    with bucket_.open("long") as source:
        source.read("a")
        assert bucket_.run("cache", "verify", "--all").exit_code == 0
        hash_ = next(one.hash for batch in bucket_.connection.stream(ListCache()) for one in batch.objects)
        bucket_.connection.call(DamageObject(hash=hash_, at=77))
        result = bucket_.run("cache", "verify", "--all")
        assert result.exit_code == 1
        assert "long/a: fetched again" in result.stderr
        assert source.read("a") == content


def test_the_command_line(bucket_: Bucket, tmp_path: Path) -> None:
    content = bucket_.write("dir/file.bin", os.urandom(10_000))
    assert [one["name"] for one in json.loads(bucket_.run("object", "prefixes", "--json").stdout)] == [
        "lenient",
        "long",
        "short",
    ]
    assert "dir/file.bin" in bucket_.run("object", "ls", "long", "dir/").stdout
    assert "9.8 KiB" in bucket_.run("object", "stat", "long", "dir/file.bin").stdout
    assert bucket_.run("object", "cat", "long", "dir/file.bin").stdout_bytes == content
    target = tmp_path / "file.bin"
    assert bucket_.run("object", "get", "long", "dir/file.bin", str(target)).exit_code == 0
    assert target.read_bytes() == content
    again = bucket_.run("object", "get", "long", "dir/file.bin", str(target))
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_keys_outside_the_root_and_unknown_prefixes_are_refused(bucket_: Bucket) -> None:
    with bucket_.open("long") as source, pytest.raises(InvalidRequestError):
        source.open("../other/secret")
    with bucket_.open("nobody") as source, pytest.raises(NotFoundError, match="pantry object prefixes"):
        source.open("a")


def test_only_readers_read_also_what_is_cached(
    needs_root: None,
    make_daemon: Callable[..., PantryDaemon],
    storage_config: dict[str, Any],
    seaweed: SeaweedServer,
    s3_root: str,
) -> None:
    client = seaweed.client()
    bucket, prefix = s3_root.removeprefix("s3://").split("/", 1)
    client.put_object(Bucket=bucket, Key=f"{prefix}/a", Body=b"content")
    client.close()
    storage_config["prefixes"] = {"ours": {"root": s3_root, "ttl_s": 3600, "readers": [str(READER)]}}
    daemon = make_daemon(storage_config, system=True)
    for uid, code in ((READER, 0), (STRANGER, 1)):
        for words in (("cat", "ours", "a"), ("stat", "ours", "a"), ("ls", "ours")):
            found = run_as(uid, RUN_COMMAND, "--socket", daemon.socket, "object", *words)
            assert found.returncode == code, (uid, words, found.stderr)
            assert ("may not read" in found.stderr) == (code == 1)
    listed = run_as(STRANGER, RUN_COMMAND, "--socket", daemon.socket, "object", "prefixes", "--json")
    assert json.loads(listed.stdout) == []
    assert "ours/a" not in run_as(STRANGER, RUN_COMMAND, "--socket", daemon.socket, "cache", "ls").stdout
    assert "ours/a" in run_as(READER, RUN_COMMAND, "--socket", daemon.socket, "cache", "ls").stdout
