"""The client ``vos`` 3.7, written by others for other servers, works with our VOSpace test server (decision 0051).

What it did is read from the server's database and files, not from its answers; everything that the server sent it is
checked by the schemas.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.vospace.grammar import check
from tests.servers.vos_client import VosClient, VosError
from tests.servers.vospace import GROUP, VospaceServer

CORE = "ivo://ivoa.net/vospace/core#"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def client(vospace: VospaceServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VosClient]:
    with VosClient(vospace, tmp_path_factory.mktemp("vos")) as client:
        yield client


class Space:
    """The client, below a container of the test's own."""

    def __init__(self, server: VospaceServer, client: VosClient, root: str) -> None:
        self.server = server
        self.client = client
        self.root = root

    def uri(self, name: str = "") -> str:
        return self.server.uri(f"{self.root}/{name}")

    def __call__(self, call: str, name: str, *arguments: Any, who: str = "owner") -> Any:
        return self.client(call, self.uri(name), *arguments, who=who)

    def upload(self, file: Path, name: str, *, who: str = "owner") -> Any:
        return self.client("copy", str(file), self.uri(name), True, who=who)

    def download(self, name: str, file: Path, *, who: str = "owner") -> Any:
        return self.client("copy", self.uri(name), str(file), True, who=who)

    def put(self, name: str, data: bytes = b"data") -> None:
        self.server.put(f"{self.root}/{name}", data)

    def stored(self, name: str) -> bytes | None:
        return self.server.stored(f"{self.root}/{name}")

    def properties(self, name: str) -> dict[str, str]:
        node = self.server.node(f"{self.root}/{name}")
        assert node is not None
        return {uri.removeprefix(CORE): value for uri, value in node.properties.items()}

    @property
    def paths(self) -> set[str]:
        below = self.server.paths(self.root)
        return {path.removeprefix(f"{self.root}/") + ("/" if "Cont" in kind else "") for path, kind in below.items()}


@pytest.fixture
def space(vospace: VospaceServer, client: VosClient) -> Iterator[Space]:
    root = f"vos-{next(_numbers)}"
    vospace.make_containers(root)
    vospace.forget_requests(keep_documents=True)
    # The client sleeps two seconds if a job has not ended at its first look.
    with vospace.dialect(prompt_jobs=True):
        yield Space(vospace, client, root)
    sent = vospace.requests()
    assert sent
    for entry in sent:
        assert entry.status
        if entry.document:
            check(entry.document)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.fits"
    path.write_bytes(bytes(range(256)) * 400)
    return path


def refuses(kind: str, text: str = "") -> Any:
    return pytest.raises(VosError, match=f"(?s)^{kind}.*{text}")


def test_containers_are_made(space: Space) -> None:
    space("mkdir", "a")
    space("mkdir", "a/b")
    assert space.paths == {"a/", "a/b/"}
    with refuses("AlreadyExists", "DuplicateNode"):
        space("mkdir", "a")
    with refuses("NotFound", "ContainerNotFound"):
        space("mkdir", "missing/b")
    assert space("isdir", "a")
    assert not space("isdir", "nothing")


def test_a_file_goes_up_and_comes_down(space: Space, file: Path, tmp_path: Path) -> None:
    md5 = space.upload(file, "image.fits")
    assert space.stored("image.fits") == file.read_bytes()
    node = space.server.node(f"{space.root}/image.fits")
    assert node is not None
    assert (node.md5, node.length, node.owner, node.busy) == (md5, 102_400, "owner", False)
    assert space.download("image.fits", tmp_path / "back") == md5
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert space("size", "image.fits") == 102_400
    assert space("isfile", "image.fits")


def test_a_file_is_replaced_and_an_equal_one_not_sent(space: Space, file: Path) -> None:
    space.upload(file, "image.fits")
    space.server.forget_requests(keep_documents=True)
    space.upload(file, "image.fits")
    assert not [entry for entry in space.server.requests() if entry.method == "PUT"]
    file.write_bytes(b"other" * 1000)
    space.upload(file, "image.fits")
    assert space.stored("image.fits") == file.read_bytes()


def test_a_range_is_read(space: Space) -> None:
    space.put("f", b"0123456789")
    assert space.client.read(space.uri("f"), "bytes=3-5") == b"345"
    [entry] = [entry for entry in space.server.requests() if entry.range]
    assert (entry.status, entry.sent_bytes) == (206, 3)


def test_empty_files(space: Space, file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"")
    space.upload(file, "empty")
    assert space.stored("empty") == b""
    space.download("empty", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b""


def test_an_upload_that_no_endpoint_is_offered_for_changes_nothing(space: Space, file: Path) -> None:
    space.put("image.fits", b"before")
    with space.server.dialect(protocols=["ivo://example.org/pigeon"]), refuses("OSError", "ProtocolNotSupported"):
        space.upload(file, "image.fits")
    assert space.stored("image.fits") == b"before"


def test_containers_are_listed_whole_and_by_pages(space: Space) -> None:
    names = [f"n{number:02d}" for number in range(10)]
    for name in names:
        space.put(f"many/{name}")
    assert space("listdir", "many") == names
    space.server.forget_requests(keep_documents=True)
    assert space("children", "many", 4) == names
    assert len([entry for entry in space.server.requests() if "uri=" in entry.path]) == 3
    assert space("glob", "many/n0[3-5]") == [space.uri(f"many/{name}") for name in names[3:6]]


def test_nodes_are_moved_renamed_and_moved_into_containers(space: Space) -> None:
    space.put("a/f", b"one")
    space("mkdir", "b")
    space("move", "a/f", space.uri("a/g"))
    assert space.paths == {"a/", "a/g", "b/"}
    space("move", "a/g", space.uri("b"))
    assert space.stored("b/g") == b"one"
    space("move", "b", space.uri("a"))
    assert space.paths == {"a/", "a/b/", "a/b/g"}
    assert space.stored("a/b/g") == b"one"


def test_moves_that_cannot_be(space: Space) -> None:
    space.put("f")
    space.put("g", b"kept")
    with refuses("OSError", "NodeNotFound"):
        space("move", "missing", space.uri("h"))
    with refuses("OSError", "DuplicateNode"):
        space("move", "f", space.uri("g"))
    assert space.stored("g") == b"kept"
    assert space.paths == {"f", "g"}


def test_nodes_are_deleted(space: Space) -> None:
    space.put("f")
    space.put("a/b/g")
    space("delete", "f")
    assert space.paths == {"a/", "a/b/", "a/b/g"}
    with refuses("NotFound", "NodeNotFound"):
        space("delete", "f")
    space("delete", "a")
    assert space.paths == set()


def test_a_tree_is_deleted_by_a_job(space: Space) -> None:
    for name in ("a/b/f", "a/b/g", "a/h"):
        space.put(name)
    assert space("recursive_delete", "a") == ["5", "0"]
    assert space.paths == set()


def test_links_are_made_and_followed(space: Space, tmp_path: Path) -> None:
    space.put("a/f", b"linked")
    space("link", "a/f", space.uri("to-f"))
    space("link", "a", space.uri("to-a"))
    assert space("get_node", "to-f")["target"] == space.uri("a/f")
    space.download("to-f", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"linked"
    assert space("listdir", "to-a") == ["f"]
    assert space("isdir", "to-a")
    space("delete", "to-a")
    assert space.stored("a/f") == b"linked"


def test_properties_are_set_changed_and_deleted(space: Space) -> None:
    space.put("f")
    space("set_properties", "f", {"title": "one", "ivo://example.org/mine#x": "2"}, False)
    assert space.properties("f") == {"publicread": "true", "title": "one", "ivo://example.org/mine#x": "2"}
    space("add_properties", "f", {"description": "three"})
    space("set_properties", "f", {"title": None}, False)
    assert "title" not in space.properties("f")
    assert space("get_node", "f")["properties"]["description"] == "three"
    with refuses("Forbidden", "PermissionDenied"):
        space("set_properties", "f", {"quota": "7"}, False)


def test_properties_are_set_in_a_whole_tree(space: Space) -> None:
    space.put("a/b/f")
    assert space("set_properties", "a", {"groupread": GROUP}, True) == ["3", "0"]
    assert {space.properties(name).get("groupread") for name in ("a", "a/b", "a/b/f")} == {GROUP}


def test_what_is_not_public_is_for_its_owner_and_readers(space: Space, tmp_path: Path) -> None:
    space.put("a/f", b"secret")
    for who in ("anonymous", "stranger", "member"):
        space.download("a/f", tmp_path / who, who=who)
    space("set_properties", "a", {"ispublic": "false", "groupread": GROUP}, False)
    for who in ("anonymous", "stranger"):
        with refuses("OSError", "PermissionDenied"):
            space("get_node", "a/f", who=who)
    space.download("a/f", tmp_path / "for-members", who="member")
    assert (tmp_path / "for-members").read_bytes() == b"secret"
    with refuses("Forbidden", "PermissionDenied"):
        space("mkdir", "a/b", who="member")


def test_writers_of_a_group_write_and_nobody_else(space: Space, file: Path) -> None:
    space("mkdir", "a")
    space("set_properties", "a", {"groupwrite": GROUP}, False)
    space.upload(file, "a/f", who="member")
    node = space.server.node(f"{space.root}/a/f")
    assert node is not None
    assert node.owner == "member"
    for who in ("stranger", "anonymous"):
        with refuses("OSError"):
            space.upload(file, "a/g", who=who)
        with refuses("Forbidden", "PermissionDenied"):
            space("delete", "a/f", who=who)
    assert space.paths == {"a/", "a/f"}


def test_people_are_known_by_token_certificate_and_password(space: Space) -> None:
    for who in ("owner", "member", "stranger", "anonymous"):
        space("get_node", "", who=who)
    seen = {entry.user: entry.method_of_user for entry in space.server.requests()}
    assert seen == {"owner": "bearer", "member": "certificate", "stranger": "basic", "": "anonymous"}


def test_a_quota_holds(space: Space, file: Path) -> None:
    space("mkdir", "a")
    space.server.set_quota(f"{space.root}/a", 150_000)
    space.upload(file, "a/f")
    file.write_bytes(b"x" * 60_000)
    with refuses("OSError", "QuotaExceeded"):
        space.upload(file, "a/g")
    assert space.paths == {"a/", "a/f"}
    space.upload(file, "a/f")  # a smaller one in its place
    assert space.stored("a/f") == file.read_bytes()


@pytest.mark.parametrize(
    "dialect",
    [
        {"details_under_xfer": True},
        {"data_on_other_host": True},
        {"files_redirect": True},
        {"redirect_endpoints": True},
        {"busy": False},
        {"dead_endpoints": 1},
        {"preauthorised": False},
        {"one_shot": True},
        {"separator": "~"},
        {"conditional": True},
        {"digests": False},
        {"unknown_length": True},
        {"create_on_negotiation": True},
        {"create_status": 200, "delete_status": 200},
        {"unavailable": {"count": 2, "endpoints": ["nodes", "files", "data"]}},
    ],
    ids=str,
)
def test_dialects_that_the_client_knows(space: Space, file: Path, tmp_path: Path, dialect: dict[str, Any]) -> None:
    with space.server.dialect(**dialect):
        space("mkdir", "a")
        space.upload(file, "a/f")
        assert space.stored("a/f") == file.read_bytes()
        space.download("a/f", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == file.read_bytes()
        assert space("listdir", "a") == ["f"]
        space("delete", "a/f")
    assert space.paths == {"a/"}
