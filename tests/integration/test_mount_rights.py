"""Who may see what: the same by the mount of all users, by the daemon's socket, and by staging; with real users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.servers.mounting import PantryMount
from tests.servers.other_user import run_as
from tests.servers.pantryd import PantryDaemon
from tests.servers.seaweedfs import SeaweedServer
from tests.unit.fusefs.mounted import can_mount, public_place

pytestmark = [pytest.mark.root, can_mount]

OWNER, MEMBER, OTHER, ROOT = 40031, 40032, 40033, 0
GROUP = 40039
GROUPS = {MEMBER: [GROUP]}
READERS = {"private": [], "of-group": [f"@{GROUP}"], "of-other": [str(OTHER)], "of-all": ["*"]}

MAKE = """
import json, sys
from pantry.client import Butler
socket, name, root, readers = sys.argv[1:]
butler = Butler.create(name, root, readers=json.loads(readers), socket=socket)
butler.insert_dimension_records("instrument", {"name": "TestCam"})
butler.register_dataset_type("note", ["instrument"], "Bytes")
print(json.dumps({"id": str(butler.put(b"of " + name.encode(), "note", instrument="TestCam", run="run").id)}))
"""

ASK = """
import errno, json, os, sys
from uuid import UUID
from pantry.client import Butler
from pantry.client.connection import connect
from pantry.errors import PantryError
from pantry.wire import operations as ops

socket, mount, name, dataset = sys.argv[1:]
directory = f"{mount}/{name}/run/note"
path = f"{directory}/note_TestCam.bin"
by_id = f"{mount}/{name}/.by-id/{dataset}/note_TestCam.bin"
connection = connect(socket)

def read(path):
    with open(path, "rb") as file:
        return file.read().decode()

def open_by_socket():
    opened, fds = connection.call_with_fds(ops.OpenDataset(repository=name, id=UUID(dataset)))
    with open(fds[0], "rb") as file:
        return file.read().decode()

def get():
    return Butler(name, collections="run", socket=socket).get("note", instrument="TestCam").decode()

def stage():
    butler = Butler(name, collections="run", socket=socket)
    staged = butler.stage(butler.query_datasets("note", "run"), f"{mount}/../staged/{os.getuid()}/{name}")
    return read(staged.paths[0])

doors = {
    "mount: root lists it": lambda: name in os.listdir(mount),
    "mount: list the repository": lambda: os.listdir(f"{mount}/{name}"),
    "mount: list a type": lambda: os.listdir(directory),
    "mount: stat": lambda: os.stat(path).st_size,
    "mount: open": lambda: read(path),
    "mount: open by id": lambda: read(by_id),
    "mount: extended attributes": lambda: sorted(os.listxattr(path))[-1],
    "mount: an extended attribute": lambda: os.getxattr(path, "user.pantry.uuid").decode(),
    "mount: access": lambda: os.access(path, os.R_OK),
    "mount: write": lambda: os.open(path, os.O_WRONLY),
    "socket: the node lists it": lambda: name in [
        one.name for one in connection.call(ops.ListRepositories()).repositories
    ],
    "socket: describe the repository": lambda: connection.call(ops.GetRepository(repository=name)).name,
    "socket: list": lambda: [
        entry.name
        for batch in connection.stream(ops.ListTree(repository=name, collection="run", dataset_type="note"))
        for entry in batch.entries
    ],
    "socket: describe the dataset": lambda: connection.call(ops.GetDataset(repository=name, id=UUID(dataset))).name,
    "socket: open": open_by_socket,
    "client: get": get,
    "stage": stage,
}
found = {}
for door, action in doors.items():
    try:
        found[door] = action()
    except OSError as exc:
        found[door] = errno.errorcode[exc.errno]
    except PantryError as exc:
        found[door] = exc.code
print(json.dumps(found))
"""


class Node(NamedTuple):
    daemon: PantryDaemon
    mount: Path
    datasets: dict[str, str]


@pytest.fixture(scope="module")
def node(seaweed: SeaweedServer, bucket: str) -> Iterator[Node]:
    """A node's daemon and its mount; the owner, who may make repositories, has made one for each rule."""
    options = {
        "endpoint_url": seaweed.endpoint_url,
        "access_key_id": seaweed.access_key,
        "secret_access_key": seaweed.secret_key,
        "region": seaweed.region,
    }
    config = {"storage": [{"match": "s3://", "options": options}], "administrators": [str(OWNER)]}
    with ExitStack() as stack:
        place = stack.enter_context(public_place())
        directory = place / "d"
        directory.mkdir(mode=0o755)
        (place / "staged").mkdir()
        (place / "staged").chmod(0o1777)
        daemon = stack.enter_context(PantryDaemon(directory, config, system=True))
        datasets = {}
        for name, readers in READERS.items():
            root = f"s3://{bucket}/rights/{name}"
            datasets[name] = _run(OWNER, MAKE, daemon.socket, name, root, json.dumps(readers))["id"]
        mount = stack.enter_context(PantryMount(daemon.socket, place / "mnt", allow_other=True))
        yield Node(daemon, mount.directory, datasets)
        assert not daemon.unexpected_log_lines()
        assert "Traceback" not in mount.log.read_text()


def _run(uid: int, code: str, *words: str) -> dict[str, Any]:
    done = run_as(uid, code, *words, groups=GROUPS.get(uid, ()))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def allowed(name: str, dataset: str) -> dict[str, Any]:
    """What each door gives to who may read."""
    content = f"of {name}"
    return {
        "mount: root lists it": True,
        "mount: list the repository": [".by-id", "run"],
        "mount: list a type": ["note_TestCam.bin"],
        "mount: stat": len(content),
        "mount: open": content,
        "mount: open by id": content,
        "mount: extended attributes": "user.pantry.uuid",
        "mount: an extended attribute": dataset,
        "mount: access": True,
        "mount: write": "EROFS",
        "socket: the node lists it": True,
        "socket: describe the repository": name,
        "socket: list": ["note_TestCam.bin"],
        "socket: describe the dataset": "note_TestCam.bin",
        "socket: open": content,
        "client: get": content,
        "stage": content,
    }


def denied(name: str, dataset: str) -> dict[str, Any]:
    """What each door gives to who may not."""
    special = {"mount: root lists it": False, "mount: access": False, "socket: the node lists it": False}
    return {
        door: special.get(door, "EACCES" if door.startswith("mount") else "permission_denied")
        for door in allowed(name, dataset)
    }


@pytest.mark.parametrize(
    ("who", "may_read"),
    [
        # Root first, after whom the kernel knows all names.
        pytest.param(ROOT, {"private", "of-group", "of-other", "of-all"}, id="root"),
        pytest.param(OWNER, {"private", "of-group", "of-other", "of-all"}, id="owner"),
        pytest.param(MEMBER, {"of-group", "of-all"}, id="member of the group"),
        pytest.param(OTHER, {"of-other", "of-all"}, id="other"),
    ],
)
@pytest.mark.parametrize("name", READERS)
def test_who_may_see_what(node: Node, name: str, who: int, may_read: set[str]) -> None:
    dataset = node.datasets[name]
    expected = allowed(name, dataset) if name in may_read else denied(name, dataset)
    assert _run(who, ASK, node.daemon.socket, str(node.mount), name, dataset) == expected
