"""The VOSpace test server follows the standard: nodes, their properties, listing, moving, deleting.

Numbers are sections of VOSpace 2.1.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.vospace.asker import BASIC, CERTIFICATE, CORE, TOKEN, Asker, told

# 5.2.1 createNode


@pytest.mark.parametrize(
    ("name", "kind", "status", "fault"),
    [
        ("a", "ContainerNode", 409, "DuplicateNode"),
        ("missing/b", "ContainerNode", 404, "ContainerNotFound"),
        ("missing/b/c", "DataNode", 404, "ContainerNotFound"),
        ("f/b", "DataNode", 404, "ContainerNotFound"),
        ("link/b", "DataNode", 400, "LinkFound"),
        ("s", "StructuredDataNode", 400, "TypeNotSupported"),
        ("s", "TeapotNode", 400, "TypeNotSupported"),
        ("link2", "LinkNode", 400, "InvalidArgument"),
        (".null", "DataNode", 400, "InvalidURI"),
        ("..%2Fx", "DataNode", 400, "InvalidURI"),
    ],
)
def test_creations_that_are_refused(owner: Asker, name: str, kind: str, status: int, fault: str) -> None:
    owner.create("a")
    owner.seed("f")
    owner.create("link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    before = owner.paths()
    assert told(owner.create(name, kind)) == (status, fault)
    assert owner.paths() == before


def test_a_node_that_is_not_the_one_of_its_url_is_refused(owner: Asker) -> None:
    document = owner.document("b", "ContainerNode")
    assert told(owner.ask("PUT", f"nodes/{owner.path('a')}", document)) == (400, "InvalidURI")
    elsewhere = document.replace("pantry.test", "other.test")
    assert told(owner.ask("PUT", f"nodes/{owner.path('b')}", elsewhere)) == (400, "InvalidURI")
    assert owner.paths() == set()
    assert owner.ask("PUT", f"nodes/{owner.path('b')}", document.replace("!vospace", "~vospace")).status_code == 201


def test_what_is_no_node_is_refused_and_entities_are_not_read(owner: Asker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    entity = f'<!DOCTYPE node [<!ENTITY x SYSTEM "file://{secret}">]>'
    document = owner.document("a", "ContainerNode", properties={"title": "&x;"})
    inner = '<!DOCTYPE node [<!ENTITY x "hidden">]>'
    for body in ("", "<node", "<html/>", entity + document, inner + document, document.replace("/v2.0", "/v9")):
        answer = owner.ask("PUT", f"nodes/{owner.path('a')}", body)
        assert told(answer) == (400, "InvalidArgument")
        assert "hidden" not in answer.text
    assert owner.paths() == set()


def test_generic_and_auto_named_nodes(owner: Asker) -> None:
    assert 'xsi:type="vos:UnstructuredDataNode"' in owner.create("f", "Node").text
    assert owner.create("a").status_code == 201
    owner.create("a/.auto", "DataNode")
    [made] = owner.children("a")
    assert len(made) == 32


# 5.3 metadata


def test_properties_are_united_blanked_and_deleted(owner: Asker) -> None:
    owner.create("f", "DataNode", title="one", subject="two", rights="three")
    assert owner.set("f", {"title": "other", "subject": "", "rights": None, "urn:x:y": "4"}).status_code == 200
    shown = owner.properties("f")
    assert {key: shown.get(key) for key in ("title", "subject", "rights", "urn:x:y")} == {
        "title": "other",
        "subject": "",
        "rights": None,
        "urn:x:y": "4",
    }


@pytest.mark.parametrize("name", ["length", "MD5", "date", "creator", "quota", "availableSpace", "btime"])
def test_read_only_properties(owner: Asker, name: str) -> None:
    owner.seed("f")
    document = owner.document("g", "DataNode", properties={name: "1"})
    assert told(owner.ask("PUT", f"nodes/{owner.path('g')}", document)) == (403, "PermissionDenied")
    if name not in ("date",):
        assert told(owner.set("f", {name: "1", "title": "x"})) == (403, "PermissionDenied")
    shown = owner.properties("f")
    assert "title" not in shown
    # What comes back as it was is no change.
    assert owner.set("f", {name: shown[name]} if name in shown else {}).status_code == 200


def test_settings_that_are_refused(owner: Asker) -> None:
    owner.seed("f")
    assert told(owner.set("f", {"publicread": "perhaps"})) == (400, "InvalidArgument")
    assert told(owner.set("f", {"groupread": "team"})) == (400, "InvalidArgument")
    assert told(owner.set("f", {}, kind="ContainerNode")) == (400, "InvalidArgument")
    assert told(owner.set("g", {"title": "x"})) == (404, "NodeNotFound")
    assert told(owner.set("missing/g", {"title": "x"})) == (404, "ContainerNotFound")


def test_levels_of_detail(owner: Asker) -> None:
    owner.seed("a/f")
    owner.create("a/link", "LinkNode", f"<target>{owner.uri('a/f')}</target>")
    full, least, middle = (
        owner.get("a").text,
        owner.get("a", detail="min").text,
        owner.get("a", detail="properties").text,
    )
    assert "accepts" in full
    assert "property " in full
    assert "property " not in least
    assert "property " in middle
    assert "accepts" not in middle
    for text in (full, least, middle):
        assert text.count("vos:node ") == 3
    assert told(owner.get("a", detail="most")) == (400, "InvalidArgument")


def test_pages_begin_with_the_node_that_is_named(owner: Asker) -> None:
    names = [f"n{number}" for number in range(7)]
    for name in names:
        owner.seed(f"a/{name}")
    assert owner.children("a") == names
    assert owner.children("a", limit="0") == []
    assert owner.children("a", limit="3") == names[:3]
    assert owner.children("a", limit="3", uri=owner.uri("a/n2")) == names[2:5]
    assert owner.children("a", uri=owner.uri("a/n5")) == names[5:]
    assert told(owner.get("a", uri=owner.uri("n5"))) == (400, "InvalidURI")
    assert told(owner.get("a", limit="some")) == (400, "InvalidArgument")
    owner.server.set_dialect(page_limit=2)
    assert owner.children("a", limit="5") == names[:2]
    assert owner.children("a") == names[:2]
    owner.server.set_dialect(list_order="created")
    owner.seed("a/early")
    assert owner.children("a") == [*names, "early"]
    assert owner.children("a", uri=owner.uri("a/n6")) == ["n6", "early"]


def test_listings_without_properties_and_times_without_fractions(owner: Asker) -> None:
    owner.seed("a/f")
    assert owner.get("a").text.count("core#length") == 1
    owner.server.set_dialect(bare_children=True, whole_seconds=True)
    assert "core#length" not in owner.get("a").text
    assert all("." not in owner.properties("a/f")[name] for name in ("date", "mtime", "ctime", "btime"))


def test_the_service_says_what_it_can(owner: Asker) -> None:
    for resource in ("protocols", "views", "properties", "capabilities", "availability"):
        assert owner.ask("GET", resource).status_code == 200
    assert f"{CORE}httpsput" in owner.ask("GET", "protocols").text
    asked = f'<protocol xmlns="{owner.namespace}"/>'
    assert f"{CORE}httpget" in owner.ask("POST", f"nodes/{owner.root}", asked).text
    capabilities = owner.ask("GET", "capabilities").text
    for method in (BASIC, TOKEN, CERTIFICATE):
        assert method in capabilities
    owner.server.set_dialect(capabilities=False, files=False, sync_transfers=False, push=False)
    owner.seed("f")
    assert owner.ask("GET", "capabilities").status_code == 404
    assert owner.ask("GET", f"files/{owner.path('f')}").status_code == 404
    assert owner.ask("POST", "synctrans", owner.transfer("f", "pullFromVoSpace", "httpget")).status_code == 404
    assert f"{CORE}httpput" not in owner.ask("GET", "protocols").text.partition("provides")[2]


# 5.2.2 to 5.2.4


@pytest.mark.parametrize("keep", [False, True], ids=["move", "copy"])
def test_nodes_go_to_a_new_name_or_into_a_container(owner: Asker, keep: bool) -> None:
    owner.seed("a/b/f", b"one")
    owner.create("a/b/link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    owner.create("c")
    assert owner.relocate("a/b", "new", keep=keep) == ("COMPLETED", "")
    assert owner.relocate("new", "c", keep=keep) == ("COMPLETED", "")
    assert owner.stored("c/new/f") == b"one"
    link = owner.server.node(owner.path("c/new/link"))
    assert link is not None
    assert link.target == owner.uri("a")
    assert ("a/b/f" in owner.paths()) == keep
    assert ("new/f" in owner.paths()) == keep


@pytest.mark.parametrize("keep", [False, True], ids=["move", "copy"])
def test_relocations_that_fail(owner: Asker, keep: bool) -> None:
    owner.seed("a/f")
    owner.seed("g", b"kept")
    before = owner.paths()
    for source, destination, fault in (
        ("missing", "h", "NodeNotFound"),
        ("a/f", "g", "DuplicateNode"),
        ("a/f", "missing/h", "ContainerNotFound"),
        ("a", "a/b", "InvalidArgument"),
    ):
        phase, text = owner.relocate(source, destination, keep=keep)
        assert (phase, text.split()[0]) == ("ERROR", fault)
    assert owner.relocate("g", "", keep=keep, uri="vos://other.test!x/h")[1].split()[0] == "InvalidURI"
    assert owner.paths() == before
    assert owner.stored("g") == b"kept"


def test_auto_and_null_as_destinations(owner: Asker) -> None:
    owner.seed("f")
    owner.create("a")
    job = owner.job(owner.transfer("f", owner.uri("a/.auto"), inside="<vos:keepBytes>true</vos:keepBytes>"))
    assert owner.end(job) == ("COMPLETED", "")
    assert owner.result(job, "destination") == owner.server.uri(owner.path(f"a/{owner.children('a')[0]}"))
    assert owner.relocate("f", ".null") == ("COMPLETED", "")
    assert "f" not in owner.paths()


def test_other_habits_of_moving_and_deleting(owner: Asker) -> None:
    owner.seed("f")
    owner.seed("a/g")
    owner.server.set_dialect(move_destination="full-path", refuse_nonempty_delete=True, copy=False)
    assert owner.relocate("f", "a")[1].startswith("DuplicateNode")
    assert owner.relocate("f", "h", keep=True)[1].startswith("OperationNotSupported")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (400, "InvalidArgument")
    owner.server.set_dialect(move_destination="container")
    assert owner.relocate("f", "h")[1].startswith("InvalidArgument")
    assert owner.relocate("f", "a") == ("COMPLETED", "")
    assert owner.paths() == {"a", "a/f", "a/g"}
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (204, "")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (404, "NodeNotFound")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('x/a')}")) == (404, "ContainerNotFound")
    assert owner.paths() == set()


def test_links_in_a_path(owner: Asker) -> None:
    owner.seed("a/f")
    owner.create("link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    for method in ("GET", "DELETE"):
        assert told(owner.ask(method, f"nodes/{owner.path('link/f')}")) == (400, "LinkFound")
    owner.server.set_dialect(resolve_links=True)
    assert owner.get("link/f").status_code == 200
    owner.create("circle", "LinkNode", f"<target>{owner.uri('circle/x')}</target>")
    assert told(owner.get("circle/x")) == (404, "NodeNotFound")
