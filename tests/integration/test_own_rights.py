"""Storage that is read with each user's own rights, by two real users: nobody finds what another's rights brought."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from tests.fault.proxy import Fault, FaultProxy, Request
from tests.integration.observatory import INSTRUMENT, furnish
from tests.integration.saying import everything_said
from tests.servers.mounting import PantryMount
from tests.servers.other_user import RUN_COMMAND, run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler, Node, ObjectPrefix
from pantry.errors import BackendAccessError, PermissionDeniedError
from pantry.wire.operations import SetOffline

pytestmark = pytest.mark.root

ANNA, BEN = 40021, 40022
SIZE = 3_000_000
LITTLE = 100_000
"""Bytes that proving and describing take at most; much less than SIZE."""

READ = """
import hashlib, json, sys
from pantry.client import Butler, Node, ObjectPrefix
from pantry.errors import PantryError
socket, what = sys.argv[1:3]
try:
    if what.startswith("part of "):
        files = ObjectPrefix("files", socket=socket)
        with files.open(what.removeprefix("part of "), partial=True) as file:
            content = file.read(1000)
    elif what == "dataset":
        butler = Butler("archive", collections="u/one", socket=socket)
        content = butler.get("blob", instrument="TestCam", exposure=1, detector=0)
    else:
        content = ObjectPrefix("files", socket=socket).read(what)
    print(json.dumps({"sha": hashlib.sha256(content).hexdigest()}))
except PantryError as exc:
    print(json.dumps({"code": exc.code, "text": str(exc)}))
"""

ADD = """
import json, os, sys
from pantry.client import Node
from pantry.errors import PantryError
socket, uri, lifetime_s = sys.argv[1:4]
try:
    Node(socket).add_credential(uri, lifetime_s=float(lifetime_s), **json.loads(os.environ["CREDENTIAL"]))
    print("{}")
except PantryError as exc:
    print(json.dumps({"code": exc.code, "text": str(exc)}))
"""

SEEN = """
import json, sys
from pantry.client.connection import connect
from pantry.wire import operations as ops
connection = connect(sys.argv[1])
print(json.dumps({
    "repositories": [one.name for one in connection.call(ops.ListRepositories()).repositories],
    "cached": [one.name for batch in connection.stream(ops.ListCache()) for one in batch.objects],
    "backends": [one.user for one in connection.call(ops.GetBackends()).backends],
    "credentials": [one.uri for one in connection.call(ops.ListCredentials()).credentials],
}))
"""

REMOVE = "import sys; from pantry.client import Node; Node(sys.argv[1]).remove_credential(sys.argv[2]); print('{}')"


class Archive(NamedTuple):
    """A repository, and a prefix over its files, behind a proxy, that people read with their own keys."""

    daemon: PantryDaemon
    proxy: FaultProxy
    server: SeaweedServer
    root: str
    sha: str
    path: str

    def run(self, uid: int, code: str, *words: str, **environment: str) -> dict[str, Any]:
        done = run_as(uid, code, self.daemon.socket, *words, environment=environment)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def read(self, uid: int, what: str = "dataset") -> dict[str, Any]:
        return self.run(uid, READ, what)

    def add(self, uid: int, person: str, *, lifetime_s: float = 3600, uri: str = "") -> dict[str, Any]:
        access, secret = self.server.people[person]
        options = json.dumps({"access_key_id": access, "secret_access_key": secret})
        return self.run(uid, ADD, uri or self.root, str(lifetime_s), CREDENTIAL=options)

    def bytes_for(self, uid: int, what: str = "dataset") -> int:
        """How many bytes come from the origin when somebody reads it, who must be able to."""
        before = self.proxy.bytes_answered()
        assert self.read(uid, what) == {"sha": self.sha}
        return self.proxy.bytes_answered() - before

    def is_refused(self, uid: int, why: str, what: str = "dataset") -> None:
        found = self.read(uid, what)
        assert found.get("code") == "backend_access", found
        assert why in found["text"]

    def files(self) -> dict[str, int]:
        """Complete objects of the cache: inodes by realm, of those with the dataset's size."""
        objects = self.daemon.cache / "objects"
        return {
            path.relative_to(objects).parts[0]: path.stat().st_ino
            for path in objects.rglob("*")
            if path.is_file() and path.stat().st_size == SIZE
        }


NO_CREDENTIAL = "this daemon has none of you"


@pytest.fixture
def archive(
    needs_root: None,
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
) -> Iterator[Archive]:
    """Made with the node's rights, then read with users' own, and nothing in the cache."""
    import hashlib

    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        daemon = make_daemon(storage_config, system=True)
        owner = Butler.create("archive", s3_root, readers=["*"], socket=daemon.socket)
        furnish(owner)
        content = os.urandom(SIZE)
        owner.put(content, "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="u/one")
        bucket, _, prefix = s3_root.removeprefix("s3://").partition("/")
        listed = seaweed.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
        (path,) = [one["Key"].removeprefix(prefix + "/") for one in listed if one["Size"] == SIZE]
        daemon.stop()
        shutil.rmtree(daemon.cache)
        daemon.config["storage"] = [
            {
                "match": "s3://",
                "options": {"endpoint_url": proxy.endpoint_url, "region": seaweed.region},
                "rights": "user",
            }
        ]
        daemon.config["prefixes"] = {"files": {"root": s3_root, "readers": ["*"], "ttl_s": 3600}}
        daemon.config["log_level"] = "debug"
        daemon.config.setdefault("cache", {})["chunk_bytes"] = 64 * 1024
        # Were a backend to look for keys by itself, it would find some that are good for everything.
        node = {"AWS_ACCESS_KEY_ID": seaweed.access_key, "AWS_SECRET_ACCESS_KEY": seaweed.secret_key}
        daemon.start(env=node)
        yield Archive(daemon, proxy, seaweed, s3_root, hashlib.sha256(content).hexdigest(), path)


@pytest.mark.parametrize("by", ["dataset", "path"])
def test_what_ones_rights_brought_is_found_by_who_proves_the_same(archive: Archive, by: str) -> None:
    what = "dataset" if by == "dataset" else archive.path
    archive.is_refused(ANNA, NO_CREDENTIAL, what)
    assert archive.add(ANNA, "anna") == {}
    assert archive.bytes_for(ANNA, what) >= SIZE
    assert archive.bytes_for(ANNA, what) < LITTLE, "it is cached"
    (realm,) = archive.files()
    assert realm.endswith(f"@{ANNA}")

    # Without a credential, and with one that is no good there: refused, though it is cached.
    archive.is_refused(BEN, NO_CREDENTIAL, what)
    assert archive.add(BEN, "carl") == {}
    archive.is_refused(BEN, "your credential", what)
    assert list(archive.files()) == [realm]
    # Nor do root and the daemon itself have what Anna's rights have brought.
    with pytest.raises(BackendAccessError, match=NO_CREDENTIAL):
        Butler("archive", socket=archive.daemon.socket).query_collections()
    with pytest.raises(BackendAccessError, match=NO_CREDENTIAL):
        ObjectPrefix("files", socket=archive.daemon.socket).read(archive.path)

    # With his own he gets it, and all that comes is a piece that proves it.
    assert archive.add(BEN, "ben") == {}
    assert archive.bytes_for(BEN, what) < LITTLE
    found = archive.files()
    assert sorted(found) == sorted([realm, realm.replace(str(ANNA), str(BEN))])
    assert len(set(found.values())) == 1, "one file by two names"

    # Taken back, it is over; the other goes on.
    assert archive.run(ANNA, REMOVE, archive.root) == {}
    archive.is_refused(ANNA, NO_CREDENTIAL, what)
    assert archive.bytes_for(BEN, what) < LITTLE

    hidden = [secret for keys in archive.server.people.values() for secret in keys[1:]]
    for where, text in everything_said(archive.daemon, []):
        assert not [one for one in hidden if one in text], where


def test_each_sees_only_what_is_his(archive: Archive) -> None:
    archive.add(ANNA, "anna")
    archive.read(ANNA)
    assert archive.run(ANNA, SEEN) == {
        "repositories": ["archive"],
        "cached": [f"u/one/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"],
        "backends": [str(ANNA)],
        "credentials": [archive.root],
    }
    assert archive.run(BEN, SEEN) == {"repositories": [], "cached": [], "backends": [], "credentials": []}
    mine = Node(archive.daemon.socket)
    assert mine.credentials() == []
    assert [one.user for one in mine.backends()] == [str(ANNA)], "an administrator sees how the origin is for her"


def test_it_ends_with_its_time_and_with_the_daemon(archive: Archive) -> None:
    archive.add(BEN, "ben")
    archive.add(ANNA, "anna", lifetime_s=20)
    assert archive.read(ANNA) == {"sha": archive.sha}
    assert archive.read(BEN) == {"sha": archive.sha}
    deadline = time.monotonic() + 60
    while "sha" in (found := archive.read(ANNA)):
        assert time.monotonic() < deadline, "it does not expire"
    assert NO_CREDENTIAL in found["text"]
    assert archive.read(BEN) == {"sha": archive.sha}
    archive.daemon.stop()
    archive.daemon.start()
    archive.is_refused(BEN, NO_CREDENTIAL)
    archive.is_refused(BEN, NO_CREDENTIAL, archive.path)
    archive.add(BEN, "ben")
    assert archive.bytes_for(BEN) < LITTLE, "what he had is still his"


def test_another_content_is_not_shared(archive: Archive) -> None:
    """What lies by the same name at the origin is another object by now: Ben does not get Anna's."""
    archive.add(ANNA, "anna")
    assert archive.read(ANNA) == {"sha": archive.sha}
    bucket, _, prefix = archive.root.removeprefix("s3://").partition("/")
    changed = os.urandom(SIZE)
    archive.server.client().put_object(Bucket=bucket, Key=f"{prefix}/{archive.path}", Body=changed)
    archive.add(BEN, "ben")
    found = archive.read(BEN)
    assert found["code"] == "integrity"
    archive.daemon.expected_log = ("registered is",)
    (realm,) = archive.files()
    assert realm.endswith(f"@{ANNA}")
    # Nor with another credential to herself: that it is hers cannot be proved any more.
    assert archive.read(ANNA) == {"sha": archive.sha}
    archive.add(ANNA, "ben")
    assert archive.read(ANNA)["code"] == "integrity"
    assert archive.files() == {}


@pytest.mark.parametrize("by", ["dataset", "path"])
def test_who_may_see_that_an_object_is_there_may_not_read_it(archive: Archive, by: str) -> None:
    """The origin tells Ben size and version, and refuses the content: so does the cache, which has it."""
    what = "dataset" if by == "dataset" else archive.path
    archive.add(ANNA, "anna")
    assert archive.read(ANNA, what) == {"sha": archive.sha}
    refuse_content(archive, "ben")
    archive.add(BEN, "ben")
    archive.is_refused(BEN, "your credential", what)
    assert len(archive.files()) == 1
    archive.proxy.choose = None
    assert archive.bytes_for(BEN, what) < LITTLE


def refuse_content(archive: Archive, person: str) -> None:
    """Let the origin describe everything to somebody, and refuse the content of the file."""
    key = archive.server.people[person][0]

    def refuse(request: Request) -> Fault | None:
        is_his = key in request.headers.get("authorization", "")
        return Fault(status=403) if is_his and request.method == "GET" and archive.path in request.target else None

    archive.proxy.choose = refuse


@pytest.mark.parametrize("by", ["dataset", "path"])
@pytest.mark.parametrize("worse", ["good for nothing", "good for descriptions"])
def test_what_a_good_credential_brought_is_not_shown_for_a_worse_one(archive: Archive, by: str, worse: str) -> None:
    what = "dataset" if by == "dataset" else archive.path
    archive.add(ANNA, "anna")
    assert archive.bytes_for(ANNA, what) >= SIZE
    refuse_content(archive, "ben")
    archive.add(ANNA, "carl" if worse == "good for nothing" else "ben")
    archive.is_refused(ANNA, "your credential", what)
    archive.is_refused(ANNA, "your credential", f"part of {archive.path}")
    assert len(archive.files()) == 1, "it is there"
    # The good one again: what is there is proved, not fetched, and once.
    archive.add(ANNA, "anna")
    assert 0 < archive.bytes_for(ANNA, what) < LITTLE
    before = archive.proxy.count()
    archive.add(ANNA, "anna")
    assert archive.read(ANNA, what) == {"sha": archive.sha}
    assert archive.proxy.count() == before, "the same credential handed over again needs no proof"


def test_what_a_good_credential_brought_in_part_is_not_shown_for_a_worse_one(archive: Archive) -> None:
    part = f"part of {archive.path}"
    archive.add(ANNA, "anna")
    assert "sha" in archive.read(ANNA, part)
    before = archive.proxy.count()
    assert "sha" in archive.read(ANNA, part)
    assert archive.proxy.count() == before
    assert archive.files() == {}, "it is here in part"
    refuse_content(archive, "ben")
    archive.add(ANNA, "ben")
    archive.is_refused(ANNA, "your credential", part)
    archive.add(ANNA, "anna")
    assert archive.bytes_for(ANNA, archive.path) < SIZE + LITTLE


def test_offline_only_the_credential_that_was_proved_opens_what_is_cached(archive: Archive) -> None:
    archive.add(ANNA, "anna")
    for what in ("dataset", archive.path):
        assert archive.read(ANNA, what) == {"sha": archive.sha}
    with Node(archive.daemon.socket) as node:
        node.connection.call(SetOffline(offline=True))
    archive.add(ANNA, "anna")
    for what in ("dataset", archive.path):
        assert archive.read(ANNA, what) == {"sha": archive.sha}
    archive.add(ANNA, "carl")
    for what in ("dataset", archive.path, f"part of {archive.path}"):
        assert archive.read(ANNA, what)["code"] == "origin_unavailable"
    # The good one comes too late to be proved.
    archive.add(ANNA, "anna")
    assert archive.read(ANNA, archive.path)["code"] == "origin_unavailable"


def test_the_origin_may_be_down_for_who_could_read_before(archive: Archive) -> None:
    archive.add(ANNA, "anna")
    assert archive.read(ANNA) == {"sha": archive.sha}
    archive.proxy.refusing = True
    archive.daemon.expected_log = ("is left alone",)
    assert archive.read(ANNA) == {"sha": archive.sha}
    archive.add(BEN, "ben")
    assert archive.read(BEN)["code"] in ("backend_transient", "origin_unavailable")


def test_the_mount_of_the_node_asks_for_whoever_opens(archive: Archive) -> None:
    archive.add(ANNA, "anna")
    path = f"archive/u/one/blob/{INSTRUMENT}/1/blob_{INSTRUMENT}_1_0.bin"

    def read_as(uid: int, file: Any) -> bytes | None:
        done = subprocess.run(
            ["/bin/cat", str(file)], user=uid, group=uid, extra_groups=[], capture_output=True, check=False, timeout=60
        )
        return done.stdout if done.returncode == 0 else None

    with PantryMount(archive.daemon.socket, archive.daemon.directory / "mnt", allow_other=True) as mount:
        assert len(read_as(ANNA, mount.directory / path) or b"") == SIZE
        assert read_as(BEN, mount.directory / path) is None
        archive.add(BEN, "ben")
        assert len(read_as(BEN, mount.directory / path) or b"") == SIZE


def test_nothing_is_written_and_nothing_done_for_nobody(archive: Archive) -> None:
    secret = archive.server.people["anna"]
    with Node(archive.daemon.socket) as node:
        node.add_credential(archive.root, access_key_id=secret[0], secret_access_key=secret[1])
        butler = Butler("archive", run="u/two", socket=archive.daemon.socket)
        assert not butler.info.writable
        with pytest.raises(PermissionDeniedError, match="rights of each user"):
            butler.put(b"x", "blob", instrument=INSTRUMENT, exposure=2, detector=0)
        with pytest.raises(PermissionDeniedError, match="rights of each user"):
            Butler.create("more", archive.root + "/more", socket=archive.daemon.socket)


def test_on_the_command_line(archive: Archive) -> None:
    access, secret = archive.server.people["anna"]
    keys = f"[me]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n"
    file = archive.daemon.directory / "keys"
    file.touch(0o600)
    file.write_text(keys)
    os.chown(file, ANNA, ANNA)
    environment = {"PANTRY_SOCKET": archive.daemon.socket}

    def pantry(*words: str) -> subprocess.CompletedProcess[str]:
        done = run_as(ANNA, RUN_COMMAND, *words, environment=environment)
        assert secret not in done.stdout + done.stderr
        return done

    done = pantry("credentials", "add", archive.root, "--file", str(file), "--profile", "me", "--lifetime", "30m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"keys for {archive.root}, until ")
    (shown,) = json.loads(pantry("credentials", "list", "--json").stdout)
    assert (shown["uri"], shown["kind"]) == (archive.root, "keys")
    assert 1500 < shown["expires_ns"] / 1e9 - time.time() <= 1800
    archive.add(BEN, "ben")
    assert archive.read(BEN) == {"sha": archive.sha}
    before = archive.proxy.bytes_answered()
    done = pantry("cache", "prefetch", "archive", "blob", "--collections", "u/one")
    assert done.returncode == 0, done.stderr
    assert archive.proxy.bytes_answered() - before < LITTLE, "what Ben has, and she could fetch too"
    before = archive.proxy.count()
    assert archive.read(ANNA) == {"sha": archive.sha}
    assert archive.proxy.count() == before
    assert pantry("credentials", "remove", archive.root).returncode == 0
    archive.is_refused(ANNA, NO_CREDENTIAL)
    again = pantry("credentials", "remove", archive.root)
    assert again.returncode == 1
    assert "no credential" in again.stderr
    wrong = pantry("credentials", "add", "https://elsewhere.example.org/", "--file", str(file))
    assert wrong.returncode == 1
