"""One cache for all users of a node: one fetch, and nobody gets what the rules deny."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.fault.proxy import FaultProxy
from tests.integration.observatory import INSTRUMENT, furnish
from tests.servers.mounting import PantryMount
from tests.servers.other_user import RUN_COMMAND, run_as, start_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer

from pantry.client import Butler
from pantry.wire.operations import GetCacheStatus

USERS = [40001, 40002, 40003, 40004, 40005]
STRANGER = 40009
SIZE = 3_000_000

READER = """
import hashlib, os, sys
socket, barrier = sys.argv[1:3]
from pantry.client import Butler
butler = Butler("shared", collections="u/one", socket=socket)
print("ready", flush=True)
sys.stdin.readline()
with butler.open("blob", instrument="TestCam", exposure=1, detector=0) as file:
    print(hashlib.sha256(file.read()).hexdigest(), flush=True)
    try:
        os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDWR)
    except OSError as exc:
        print(type(exc).__name__)
    else:
        print("writable!")
"""

REFUSED = """
import sys
from pantry.client import Butler
from pantry.errors import PantryError
from pantry.client.connection import connect
from pantry.wire import operations as ops
from pantry.model.timespan import Timespan
from uuid import UUID
socket, dataset, hash = sys.argv[1:4]
connection = connect(socket)
data_id = {"instrument": "TestCam", "exposure": 1, "detector": 0}
doors = [
    ops.GetRepository(repository="shared"),
    ops.OpenDataset(repository="shared", id=UUID(dataset)),
    ops.OpenDataset(repository="shared", id=UUID(dataset), partial=True),
    ops.OpenDataset(repository="shared", dataset_type="blob", data_id=data_id, collections=("u/one",)),
    ops.FindDataset(repository="shared", dataset_type="blob", data_id=data_id, collections=("u/one",)),
    ops.GetDataset(repository="shared", id=UUID(dataset)),
    ops.ExpandDataId(repository="shared", dataset_type="blob", data_id=data_id),
    ops.QueryCollections(repository="shared"),
    ops.ListDatasetTypes(repository="shared"),
    ops.BeginPut(repository="shared", dataset_type="blob", data_id=data_id, run="u/mine"),
    ops.PutContent(repository="shared", dataset_type="blob", data_id=data_id, run="u/mine", formatter="bytes",
                   content=b""),
    ops.BeginPuts(puts=(ops.BeginPut(repository="shared", dataset_type="blob", data_id=data_id, run="u/mine"),)),
    ops.IngestFiles(repository="shared", dataset_type="blob", run="u/mine", transfer="copy",
                    dimensions=("instrument", "exposure", "detector"), items=()),
    ops.RegisterCollection(repository="shared", name="x", type="RUN"),
    ops.ImportDefinitions(repository="shared"),
    ops.ImportDatasets(repository="shared", dataset_type="blob", run="u/mine", transfer="copy", dimensions=(),
                       items=(), ids=b""),
    ops.ImportDatasets(repository="shared", dataset_type="blob", run="u/mine", transfer="copy", dimensions=(),
                       items=(ops.ImportItem("", ()),), ids=bytes(16), check=True),
    ops.ImportDatasets(repository="shared", dataset_type="blob", run="u/mine", transfer="direct", dimensions=(),
                       items=(ops.ImportItem("http://127.0.0.1/x", ()),), ids=bytes(16)),
    ops.ImportMembers(repository="shared"),
    ops.BeginSubset(name="mine", root="/tmp/mine", source="shared"),
    ops.CopyDatasets(repository="mine", source="shared", dataset_type="blob", run="u/one", dimensions=(), values=((),),
                     ids=UUID(dataset).bytes),
    ops.FinishSubset(repository="shared"),
    ops.RemoveDatasets(repository="shared", ids=UUID(dataset).bytes),
    ops.RemoveRepository(repository="shared"),
    ops.EvictObjects(hashes=(hash,)),
    ops.Certify(repository="shared", collection="c", ids=(UUID(dataset),), timespan=Timespan(0, 1)),
    ops.Decertify(repository="shared", collection="c", dataset_type="blob", timespan=Timespan(0, 1)),
    ops.CountDatasets(query=ops.QueryDatasets(repository="shared", dataset_types=("*",), collections=("*",))),
    ops.GetDimensions(repository="shared"),
    ops.GetConfiguration(),
    ops.RecordQuanta(repository="shared", quanta=()),
    ops.RecordMetadata(repository="shared", dataset_type="blob", ids=b"", columns={}),
    ops.GetMetadata(repository="shared", id=UUID(dataset)),
    ops.DescribeFiles(repository="shared", dataset_type="blob", ids=UUID(dataset).bytes),
    ops.DescribeMembers(repository="shared", dataset_type="blob", ids=UUID(dataset).bytes, collections=()),
    ops.GetProvenance(repository="shared", id=UUID(dataset)),
    ops.PublishDatasets(repository="shared", target="qa", ids=UUID(dataset).bytes),
    ops.AttachRepository(name="mine", configuration="/tmp"),
    ops.ChainRepositories(name="both", members=("mine", "theirs")),
    ops.FindDataset(repository="shared,shared", dataset_type="blob", data_id=data_id, collections=("u/one",)),
]
streams = [
    ops.QueryDatasets(repository="shared", dataset_types=("*",), collections=("*",)),
    ops.QueryDataIds(repository="shared", dimensions=("exposure",)),
    ops.QueryDimensionRecords(repository="shared", element="exposure"),
    ops.ListTree(repository="shared", collection="u/one", dataset_type="blob"),
    ops.QueryMetadata(query=ops.QueryDatasets(repository="shared", dataset_types=("*",), collections=("*",))),
    ops.QueryRelatives(repository="shared", id=UUID(dataset), direction="descendants"),
    ops.QueryQuanta(repository="shared", ids=UUID(dataset).bytes),
]
for operation in doors:
    try:
        connection.call(operation)
    except PantryError as exc:
        print(type(operation).__name__, exc.code)
    else:
        print(type(operation).__name__, "ALLOWED")
for operation in streams:
    try:
        list(connection.stream(operation))
    except PantryError as exc:
        print(type(operation).__name__, exc.code)
    else:
        print(type(operation).__name__, "ALLOWED")
print("repositories", len(connection.call(ops.ListRepositories()).repositories))
print("backends", len(connection.call(ops.GetBackends()).backends))
print("credentials", len(connection.call(ops.ListCredentials()).credentials))
print("cached", sum(len(batch.objects) for batch in connection.stream(ops.ListCache())))
"""


@pytest.fixture
def shared_node(
    needs_root: None,
    make_daemon: Callable[..., PantryDaemon],
    seaweed: SeaweedServer,
    storage_config: dict[str, Any],
    s3_root: str,
) -> Any:
    """A system daemon behind a counting proxy, with one uncached object that the USERS may read."""
    with FaultProxy(("127.0.0.1", seaweed.port)) as proxy:
        storage_config["storage"][0]["options"]["endpoint_url"] = f"http://127.0.0.1:{proxy.port}"
        daemon = make_daemon(storage_config, system=True)
        owner = Butler.create("shared", s3_root, readers=[str(uid) for uid in USERS], socket=daemon.socket)
        furnish(owner)
        content = os.urandom(SIZE)
        ref = owner.put(content, "blob", instrument=INSTRUMENT, exposure=1, detector=0, run="u/one")
        evicted = subprocess.run(
            [sys.executable, "-m", "pantry.client.cli.main", "cache", "evict", "--all"],
            env={**os.environ, "PANTRY_SOCKET": daemon.socket},
            capture_output=True,
            text=True,
            check=False,
        )
        assert evicted.returncode == 0, evicted.stderr
        yield daemon, proxy, ref, content, owner


@pytest.mark.root
@pytest.mark.req("DMS-MWBT-REQ-0055")
@pytest.mark.req("DMS-MWBT-REQ-0058")
def test_fifty_processes_of_five_users_cause_one_upstream_fetch(shared_node: Any) -> None:
    import hashlib

    daemon, proxy, _, content, owner = shared_node
    readers = [start_as(USERS[number % 5], READER, daemon.socket, "-") for number in range(50)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n", reader.stderr.read() if reader.stderr else ""
    before = owner.connection.call(GetCacheStatus())
    gets_before = proxy.count("GET")
    for reader in readers:
        assert reader.stdin is not None
        reader.stdin.write("go\n")
        reader.stdin.flush()
    expected = hashlib.sha256(content).hexdigest()
    for reader in readers:
        out, err = reader.communicate(timeout=120)
        assert out.splitlines() == [expected, "PermissionError"], err
    after = owner.connection.call(GetCacheStatus())
    assert proxy.count("GET") - gets_before == 1, "more than one request for the object's bytes went upstream"
    assert after.fetches - before.fetches == 1
    assert after.fetched_bytes - before.fetched_bytes == SIZE


@pytest.mark.root
def test_a_user_without_permission_is_refused_by_every_door_also_when_it_is_cached(
    shared_node: Any, short_dir: Path
) -> None:
    daemon, _, ref, content, owner = shared_node
    assert owner.get(ref) == content  # cached now
    (cached,) = [one for batch in owner.connection.stream(_list_cache()) for one in batch.objects]
    stranger = start_as(STRANGER, REFUSED, daemon.socket, str(ref.id), cached.hash)
    out, err = stranger.communicate(timeout=60)
    assert not err
    lines = out.splitlines()
    assert lines[-4:] == ["repositories 0", "backends 0", "credentials 0", "cached 0"]
    assert len(lines) == 51
    assert all(line.endswith(" permission_denied") for line in lines[:-4]), out
    name = "blob_TestCam_1_0.bin"
    path = f"shared/u/one/blob/TestCam/1/{name}"
    # The node's own mount, serving everybody with their own rights, and the stranger's own one.
    with PantryMount(daemon.socket, short_dir / "node", allow_other=True) as mount:
        assert read_as(USERS[0], mount.directory / path) == content
        assert read_as(STRANGER, mount.directory / path) is None
        assert read_as(STRANGER, mount.directory / "shared/.by-id" / str(ref.id) / name) is None
        assert read_as(USERS[0], mount.directory / "shared/.by-id" / str(ref.id) / name) == content
    for private in ("objects", "incoming", "index.sqlite3"):
        assert read_as(STRANGER, daemon.cache / private) is None
    for command in (
        ["get", "shared", "blob", "instrument=TestCam", "exposure=1", "detector=0"],
        ["stage", "shared", "/tmp/nobody", "blob"],
    ):
        done = run_as(
            STRANGER, RUN_COMMAND, *command, "--collections", "u/one", environment={"PANTRY_SOCKET": daemon.socket}
        )
        assert done.returncode != 0
        assert "permission" in done.stderr.lower() or "may not" in done.stderr


def _list_cache() -> Any:
    from pantry.wire.operations import ListCache

    return ListCache()


def read_as(uid: int, path: Path) -> bytes | None:
    done = subprocess.run(
        ["/bin/cat", str(path)], user=uid, group=uid, extra_groups=[], capture_output=True, check=False, timeout=60
    )
    return done.stdout if done.returncode == 0 else None
