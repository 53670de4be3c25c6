"""The VOSpace test server follows the clauses of the standard, in its plain reading and in its dialects.

Asked in plain HTTP by documents written here; looked at from outside. Numbers are sections of VOSpace 2.1.
"""

from __future__ import annotations

import itertools
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.contract.vospace_asker import CORE, TIMEOUT_S, Asker
from tests.servers.vospace import GROUP, VospaceServer
from tests.servers.vospace.certificates import Authority, proxy

BASIC, TOKEN, CERTIFICATE = (f"ivo://ivoa.net/sso#{name}" for name in ("BasicAA", "token", "tls-with-certificate"))
_numbers = itertools.count()


@pytest.fixture
def root(vospace: VospaceServer) -> Iterator[str]:
    """A container that is readable by all and its owner's; the server's habits are plain again afterwards."""
    path = f"clauses-{next(_numbers)}"
    vospace.make_containers(path)
    yield path
    vospace.set_dialect()


@pytest.fixture
def owner(vospace: VospaceServer, root: str) -> Iterator[Asker]:
    with Asker(vospace, vospace.owner, root) as asker:
        yield asker


@pytest.fixture
def others(vospace: VospaceServer, root: str) -> Iterator[dict[str, Asker]]:
    people = {"member": vospace.member, "stranger": vospace.stranger, "anonymous": None}
    askers = {name: Asker(vospace, person, root) for name, person in people.items()}
    yield askers
    for asker in askers.values():
        asker.__exit__()


def put(asker: Asker, name: str, data: bytes = b"0123456789") -> None:
    asker.server.put(asker.path(name), data)


def stored(asker: Asker, name: str) -> bytes | None:
    return asker.server.stored(asker.path(name))


def paths(asker: Asker) -> set[str]:
    return {path.removeprefix(f"{asker.root}/") for path in asker.server.paths(asker.root)}


def told(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.text.split()[0] if answer.text else ""


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
    put(owner, "f")
    owner.create("link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    before = paths(owner)
    assert told(owner.create(name, kind)) == (status, fault)
    assert paths(owner) == before


def test_a_node_that_is_not_the_one_of_its_url_is_refused(owner: Asker) -> None:
    document = owner.document("b", "ContainerNode")
    assert told(owner.ask("PUT", f"nodes/{owner.path('a')}", document)) == (400, "InvalidURI")
    elsewhere = document.replace("pantry.test", "other.test")
    assert told(owner.ask("PUT", f"nodes/{owner.path('b')}", elsewhere)) == (400, "InvalidURI")
    assert paths(owner) == set()
    assert owner.ask("PUT", f"nodes/{owner.path('b')}", document.replace("!vospace", "~vospace")).status_code == 201


def test_what_is_no_node_is_refused_and_entities_are_not_read(owner: Asker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    entity = f'<!DOCTYPE node [<!ENTITY x SYSTEM "file://{secret}">]>'
    document = owner.document("a", "ContainerNode", properties={"title": "&x;"})
    for body in ("", "<node", "<html/>", entity + document, document.replace("/v2.0", "/v9")):
        answer = owner.ask("PUT", f"nodes/{owner.path('a')}", body)
        assert told(answer) == (400, "InvalidArgument")
        assert "hidden" not in answer.text
    assert paths(owner) == set()


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
    put(owner, "f")
    document = owner.document("g", "DataNode", properties={name: "1"})
    assert told(owner.ask("PUT", f"nodes/{owner.path('g')}", document)) == (403, "PermissionDenied")
    if name not in ("date",):
        assert told(owner.set("f", {name: "1", "title": "x"})) == (403, "PermissionDenied")
    shown = owner.properties("f")
    assert "title" not in shown
    # What comes back as it was is no change.
    assert owner.set("f", {name: shown[name]} if name in shown else {}).status_code == 200


def test_settings_that_are_refused(owner: Asker) -> None:
    put(owner, "f")
    assert told(owner.set("f", {"publicread": "perhaps"})) == (400, "InvalidArgument")
    assert told(owner.set("f", {"groupread": "team"})) == (400, "InvalidArgument")
    assert told(owner.set("f", {}, kind="ContainerNode")) == (400, "InvalidArgument")
    assert told(owner.set("g", {"title": "x"})) == (404, "NodeNotFound")
    assert told(owner.set("missing/g", {"title": "x"})) == (404, "ContainerNotFound")


def test_levels_of_detail(owner: Asker) -> None:
    put(owner, "a/f")
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
        put(owner, f"a/{name}")
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
    put(owner, "a/early")
    assert owner.children("a") == [*names, "early"]
    assert owner.children("a", uri=owner.uri("a/n6")) == ["n6", "early"]


def test_the_service_says_what_it_can(owner: Asker) -> None:
    for resource in ("protocols", "views", "properties", "capabilities", "availability"):
        assert owner.ask("GET", resource).status_code == 200
    assert f"{CORE}httpsput" in owner.ask("GET", "protocols").text
    assert f"{CORE}httpget" in owner.ask("POST", f"nodes/{owner.root}", "<vos:protocol/>").text
    capabilities = owner.ask("GET", "capabilities").text
    for method in (BASIC, TOKEN, CERTIFICATE):
        assert method in capabilities
    owner.server.set_dialect(capabilities=False, files=False, sync_transfers=False, push=False)
    put(owner, "f")
    assert owner.ask("GET", "capabilities").status_code == 404
    assert owner.ask("GET", f"files/{owner.path('f')}").status_code == 404
    assert owner.ask("POST", "synctrans", owner.transfer("f", "pullFromVoSpace", "httpget")).status_code == 404
    assert f"{CORE}httpput" not in owner.ask("GET", "protocols").text.partition("provides")[2]


# 5.2.2 to 5.2.4


@pytest.mark.parametrize("keep", [False, True], ids=["move", "copy"])
def test_nodes_go_to_a_new_name_or_into_a_container(owner: Asker, keep: bool) -> None:
    put(owner, "a/b/f", b"one")
    owner.create("a/b/link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    owner.create("c")
    assert owner.relocate("a/b", "new", keep=keep) == ("COMPLETED", "")
    assert owner.relocate("new", "c", keep=keep) == ("COMPLETED", "")
    assert stored(owner, "c/new/f") == b"one"
    link = owner.server.node(owner.path("c/new/link"))
    assert link is not None
    assert link.target == owner.uri("a")
    assert ("a/b/f" in paths(owner)) == keep
    assert ("new/f" in paths(owner)) == keep


@pytest.mark.parametrize("keep", [False, True], ids=["move", "copy"])
def test_relocations_that_fail(owner: Asker, keep: bool) -> None:
    put(owner, "a/f")
    put(owner, "g", b"kept")
    before = paths(owner)
    for source, destination, fault in (
        ("missing", "h", "NodeNotFound"),
        ("a/f", "g", "DuplicateNode"),
        ("a/f", "missing/h", "ContainerNotFound"),
        ("a", "a/b", "InvalidArgument"),
    ):
        phase, text = owner.relocate(source, destination, keep=keep)
        assert (phase, text.split()[0]) == ("ERROR", fault)
    assert owner.relocate("g", "", keep=keep, uri="vos://other.test!x/h")[1].split()[0] == "InvalidURI"
    assert paths(owner) == before
    assert stored(owner, "g") == b"kept"


def test_auto_and_null_as_destinations(owner: Asker) -> None:
    put(owner, "f")
    owner.create("a")
    job = owner.job(owner.transfer("f", owner.uri("a/.auto"), inside="<vos:keepBytes>true</vos:keepBytes>"))
    assert owner.end(job) == ("COMPLETED", "")
    assert owner.result(job, "destination") == owner.server.uri(owner.path(f"a/{owner.children('a')[0]}"))
    assert owner.relocate("f", ".null") == ("COMPLETED", "")
    assert "f" not in paths(owner)


def test_other_habits_of_moving_and_deleting(owner: Asker) -> None:
    put(owner, "f")
    put(owner, "a/g")
    owner.server.set_dialect(move_destination="full-path", refuse_nonempty_delete=True, copy=False)
    assert owner.relocate("f", "a")[1].startswith("DuplicateNode")
    assert owner.relocate("f", "h", keep=True)[1].startswith("OperationNotSupported")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (400, "InvalidArgument")
    owner.server.set_dialect(move_destination="container")
    assert owner.relocate("f", "h")[1].startswith("InvalidArgument")
    assert owner.relocate("f", "a") == ("COMPLETED", "")
    assert paths(owner) == {"a", "a/f", "a/g"}
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (204, "")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('a')}")) == (404, "NodeNotFound")
    assert told(owner.ask("DELETE", f"nodes/{owner.path('x/a')}")) == (404, "ContainerNotFound")
    assert paths(owner) == set()


def test_links_in_a_path(owner: Asker) -> None:
    put(owner, "a/f")
    owner.create("link", "LinkNode", f"<target>{owner.uri('a')}</target>")
    for method in ("GET", "DELETE"):
        assert told(owner.ask(method, f"nodes/{owner.path('link/f')}")) == (400, "LinkFound")
    owner.server.set_dialect(resolve_links=True)
    assert owner.get("link/f").status_code == 200
    owner.create("circle", "LinkNode", f"<target>{owner.uri('circle/x')}</target>")
    assert told(owner.get("circle/x")) == (404, "NodeNotFound")


# 5.4 and 3.6: transfers


def test_data_are_pushed_and_pulled_and_the_jobs_end_with_them(owner: Asker) -> None:
    job = owner.job(owner.transfer("f", "pushToVoSpace", "httpput", inside='<vos:param uri="urn:a:b">1</vos:param>'))
    assert owner.ask("GET", f"{job}/phase", params={"WAIT": "5", "PHASE": "QUEUED"}).text == "EXECUTING"
    assert paths(owner) == set()
    endpoint = owner.ask("GET", owner.result(job, "transferDetails")).text.partition("endpoint>")[2].partition("<")[0]
    assert requests.put(endpoint, b"data", timeout=TIMEOUT_S).status_code == 201  # nobody says who it is
    assert owner.end(job) == ("COMPLETED", "")
    assert stored(owner, "f") == b"data"
    assert owner.pull("f").content == b"data"


def test_new_data_clear_the_properties_but_not_the_rights(owner: Asker) -> None:
    owner.create("f", "DataNode", title="old", groupread=GROUP)
    assert owner.push("f", b"one").status_code == 200
    shown = owner.properties("f")
    assert ("title" in shown, shown["groupread"], shown["length"]) == (False, GROUP, "3")
    owner.server.set_dialect(keep_properties=True)
    owner.set("f", {"title": "kept"})
    owner.push("f", b"other")
    assert owner.properties("f")["title"] == "kept"


def test_protocols_and_security_methods_are_negotiated(owner: Asker) -> None:
    put(owner, "f")
    asked = ["ftpget", "httpget", f"httpget+{CERTIFICATE}", f"httpget+{BASIC}", f"httpsget+{CERTIFICATE}", "httpput"]
    found = owner.negotiate("f", "pullFromVoSpace", *asked)
    assert [(url.partition(":")[0], method) for url, method in found] == [
        ("http", ""),
        ("http", BASIC),
        ("https", CERTIFICATE),
    ]
    open_url, closed_url = found[0][0], found[1][0]
    owner.set("f", {"publicread": "false"})
    assert requests.get(open_url, timeout=TIMEOUT_S).status_code == 200
    assert requests.get(closed_url, timeout=TIMEOUT_S).status_code == 403
    people = owner.server
    login = (people.owner.name, people.owner.password)
    assert requests.get(closed_url, auth=login, timeout=TIMEOUT_S).content == b"0123456789"
    certificate, authority = str(people.owner.certificate), str(people.authority_file)
    with_certificate = requests.get(found[2][0], cert=certificate, verify=authority, timeout=TIMEOUT_S)
    assert with_certificate.content == b"0123456789"


@pytest.mark.parametrize(
    ("name", "direction", "protocol", "view", "fault"),
    [
        ("f", "pullFromVoSpace", "ftpget", "", "ProtocolNotSupported"),
        ("f", "pullFromVoSpace", "httpput", "", "ProtocolNotSupported"),
        ("missing", "pullFromVoSpace", "httpget", "", "NodeNotFound"),
        ("missing/g", "pushToVoSpace", "httpput", "", "ContainerNotFound"),
        ("f", "pullFromVoSpace", "httpget", "anyview", "ViewNotSupported"),
        ("f", "pullFromVoSpace", "httpget", "votable", "ViewNotSupported"),
        ("f", "pushToVoSpace", "httpput", "defaultview", "ViewNotSupported"),
        ("a", "pullFromVoSpace", "httpget", "", "ViewNotSupported"),
        ("f", "urn:x:sideways", "httpget", "", "InvalidArgument"),
    ],
)
def test_negotiations_that_fail_have_no_protocols_and_a_job_that_says_why(
    owner: Asker, name: str, direction: str, protocol: str, view: str, fault: str
) -> None:
    put(owner, "f")
    owner.create("a")
    inside = f'<vos:view uri="{CORE}{view}"/>' if view else ""
    document = owner.transfer(name, direction, inside=f'{inside}<vos:protocol uri="{CORE}{protocol}"/>')
    redirect = owner.ask("POST", "synctrans", document, allow_redirects=False)
    job, _, rest = redirect.headers["Location"].partition("/results/")
    assert (redirect.status_code, rest) == (303, "transferDetails")
    assert "protocol" not in owner.ask("GET", redirect.headers["Location"]).text
    phase, text = owner.end(job)
    assert (phase, text.split()[0]) == ("ERROR", fault)
    summary = owner.ask("GET", job).text.partition("<uws:message>")[2].partition("<")[0]
    assert summary.replace(" ", "") == fault
    owner.server.set_dialect(fault_details=False)
    assert owner.end(job) == ("ERROR", fault)


def test_transfers_by_parameters(owner: Asker) -> None:
    put(owner, "f")
    wanted = {"TARGET": owner.uri("f"), "DIRECTION": "pullFromVoSpace", "PROTOCOL": f"{CORE}httpget"}
    for method in ("GET", "POST"):
        answer = owner.ask(method, "synctrans", params=wanted, allow_redirects=False)
        assert answer.status_code == 200
        assert "endpoint" in answer.text
    redirect = owner.ask("GET", "synctrans", params={**wanted, "REQUEST": "redirect"}, allow_redirects=False)
    assert redirect.status_code == 303
    assert owner.ask("GET", redirect.headers["Location"]).content == b"0123456789"
    missing = {**wanted, "TARGET": owner.uri("missing"), "REQUEST": "redirect"}
    assert told(owner.ask("GET", "synctrans", params=missing)) == (404, "NodeNotFound")
    assert told(owner.ask("GET", "synctrans", params={**wanted, "DIRECTION": "pullToVoSpace"}))[1] == "InvalidArgument"
    owner.server.set_dialect(parameter_transfers=False)
    assert told(owner.ask("GET", "synctrans", params=wanted))[0] == 501


def test_the_service_fetches_and_sends_by_itself(owner: Asker) -> None:
    put(owner, "f", b"carried")
    [(source, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    dead = f"http://127.0.0.1:{owner.server.port + 5}/x"

    def inside(protocol: str, *endpoints: str) -> str:
        return "".join(
            f'<vos:protocol uri="{CORE}{protocol}"><vos:endpoint>{each}</vos:endpoint></vos:protocol>'
            for each in endpoints
        )

    fetch = owner.transfer("g", "pullToVoSpace", inside=inside("httpget", dead, source))
    assert owner.end(owner.job(fetch)) == ("COMPLETED", "")
    assert stored(owner, "g") == b"carried"
    [(sink, _)] = owner.negotiate("h", "pushToVoSpace", "httpput")
    send = owner.transfer("g", "pushFromVoSpace", inside=inside("httpput", dead, sink))
    assert owner.end(owner.job(send)) == ("COMPLETED", "")
    assert stored(owner, "h") == b"carried"
    lost = owner.transfer("i", "pullToVoSpace", inside=inside("httpget", dead))
    assert owner.end(owner.job(lost))[1].startswith("TransferFailed")
    assert "i" not in paths(owner)


def _begin_put(url: str, promised: int, data: bytes) -> socket.socket:
    """Send the beginning of a PUT, and keep the connection."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    connection = socket.create_connection((name, int(port)), TIMEOUT_S)
    connection.sendall(f"PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {promised}\r\n\r\n".encode() + data)
    return connection


def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        pass


def test_a_node_is_busy_while_its_data_come_and_as_before_if_they_do_not(owner: Asker) -> None:
    put(owner, "f", b"before")
    for name, before in (("f", b"before"), ("new", None)):
        [(endpoint, _)] = owner.negotiate(name, "pushToVoSpace", "httpput")
        connection = _begin_put(endpoint, 100, b"half")
        _until(lambda name=name: 'busy="true"' in owner.get(name).text)  # type: ignore[misc]
        assert owner.end(owner.job(owner.transfer(name, "pushToVoSpace", "httpput")))[1].startswith("NodeBusy")
        assert told(owner.ask("GET", f"files/{owner.path(name)}"))[1] == "NodeBusy"
        connection.close()
        _until(lambda name=name: 'busy="true"' not in owner.get(name).text)  # type: ignore[misc]
        assert stored(owner, name) == before
    assert owner.server.residue() == set()


def test_data_with_a_wrong_digest_are_refused(owner: Asker) -> None:
    put(owner, "f", b"before")
    assert owner.push("f", b"damaged", headers={"Digest": "md5=XrY7u+Ae7tCTyyK7j1rNww=="}).status_code == 412
    assert stored(owner, "f") == b"before"
    assert owner.push("f", b"hello world", headers={"Digest": "md5=XrY7u+Ae7tCTyyK7j1rNww=="}).status_code == 200


def test_the_bit_bucket(owner: Asker) -> None:
    assert owner.push(".null", b"away").status_code == 201
    assert paths(owner) == set()
    assert owner.pull(".null").content == b""


def test_habits_of_endpoints(owner: Asker) -> None:
    put(owner, "f")
    owner.server.set_dialect(one_shot=True)
    [(endpoint, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert owner.ask("HEAD", endpoint).status_code == 200
    assert [owner.ask("GET", endpoint).status_code for _ in range(2)] == [200, 403]
    owner.server.set_dialect(dead_endpoints=2)
    *dead, good = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert len(dead) == 2
    with pytest.raises(requests.ConnectionError):
        owner.ask("GET", dead[0][0])
    assert owner.ask("GET", good[0]).status_code == 200
    owner.server.set_dialect(data_on_other_host=True)
    owner.server.forget_requests()
    assert owner.pull("f").url.startswith(f"http://127.0.0.2:{owner.server.port + 3}/")
    assert owner.server.requests()[-1].has_credentials  # a client that sends them there is seen
    owner.server.set_dialect(files_redirect=True)
    assert owner.ask("GET", f"files/{owner.path('f')}").history[0].status_code == 303
    owner.server.set_dialect(preauthorised=False)
    owner.set("f", {"publicread": "false"})
    [(endpoint, _)] = owner.negotiate("f", "pullFromVoSpace", "httpget")
    assert requests.get(endpoint, timeout=TIMEOUT_S).status_code == 403
    owner.server.set_dialect(create_on_negotiation=True)
    owner.negotiate("g", "pushToVoSpace", "httpput")
    assert stored(owner, "g") == b""


# The bytes


def test_ranges(owner: Asker) -> None:
    put(owner, "f")
    for asked, status, data in (
        ("bytes=0-0", 206, b"0"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=8-99", 206, b"89"),
        ("bytes=10-", 416, b""),
        ("bytes=3-2", 200, b"0123456789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ):
        answer = owner.ask("GET", f"files/{owner.path('f')}", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, data), asked
    head = owner.ask("HEAD", f"files/{owner.path('f')}")
    assert (head.headers["Content-Length"], head.headers["Digest"]) == ("10", "md5=eB5eJF1ptWaXm4bijSPyxw==")
    owner.server.set_dialect(ranges=False, digests=False, unknown_length=True)
    answer = owner.ask("GET", f"files/{owner.path('f')}", headers={"Range": "bytes=0-0"})
    assert (answer.status_code, answer.content) == (200, b"0123456789")
    assert not {"Digest", "Content-Length", "Accept-Ranges"} & answer.headers.keys()
    assert "MD5" not in owner.properties("f")


def test_conditional_requests(owner: Asker) -> None:
    owner.server.set_dialect(conditional=True)
    url = f"files/{owner.path('f')}"
    first = owner.ask("PUT", url, b"one", headers={"If-None-Match": "*"})
    assert first.status_code == 201
    assert owner.ask("PUT", url, b"two", headers={"If-None-Match": "*"}).status_code == 412
    assert owner.ask("PUT", url, b"two", headers={"If-Match": '"other"'}).status_code == 412
    assert stored(owner, "f") == b"one"
    second = owner.ask("PUT", url, b"two", headers={"If-Match": first.headers["ETag"]})
    assert second.status_code == 200
    tag = second.headers["ETag"]
    assert owner.ask("GET", url, headers={"If-None-Match": tag}).status_code == 304
    assert owner.ask("GET", url, headers={"If-Match": first.headers["ETag"]}).status_code == 412
    assert owner.ask("GET", url, headers={"Range": "bytes=0-0", "If-Range": first.headers["ETag"]}).content == b"two"
    owner.server.set_dialect()
    assert owner.ask("PUT", url, b"three", headers={"If-None-Match": "*"}).status_code == 200  # and says nothing of it


def test_a_quota_holds_at_negotiation_and_while_data_come(owner: Asker) -> None:
    put(owner, "a/f")
    owner.server.set_quota(owner.path("a"), 100)
    assert owner.properties("a")["availableSpace"] == "90"
    length = f'<vos:param uri="{CORE}length">91</vos:param>'
    job = owner.job(owner.transfer("a/g", "pushToVoSpace", "httpput", inside=length))
    assert owner.end(job)[1].startswith("QuotaExceeded")
    assert told(owner.push("a/g", b"x" * 91)) == (413, "QuotaExceeded")
    owner.server.set_dialect(quota_status=507)
    chunks = iter([b"x" * 50, b"x" * 41])
    assert told(owner.push("a/g", chunks)) == (507, "QuotaExceeded")  # type: ignore[arg-type]
    assert owner.relocate("a/f", "a/h", keep=True) == ("COMPLETED", "")
    assert owner.push("a/g", b"x" * 80).status_code == 201
    assert owner.relocate("a/f", "a/i", keep=True)[1].startswith("QuotaExceeded")
    assert paths(owner) == {"a", "a/f", "a/g", "a/h"}


# UWS


def test_jobs_wait_are_aborted_and_destroyed(owner: Asker, others: dict[str, Asker]) -> None:
    put(owner, "f")
    owner.server.set_dialect(hold_jobs=True)
    document = owner.transfer("f", owner.uri("g"), inside="<vos:keepBytes>false</vos:keepBytes>")
    job = owner.job(document, run=False)
    assert owner.ask("GET", f"{job}/phase").text == "PENDING"
    owner.phase(job, "RUN")
    assert owner.ask("GET", f"{job}/phase", params={"WAIT": "0.05"}).text == "QUEUED"
    assert told(others["stranger"].ask("GET", job)) == (403, "PermissionDenied")
    assert told(others["anonymous"].ask("POST", f"{job}/phase?PHASE=ABORT")) == (403, "PermissionDenied")
    owner.phase(job, "ABORT")
    assert owner.ask("GET", job, params={"WAIT": "60"}).text.count("ABORTED") == 1
    owner.server.set_dialect()
    second = owner.job(document)
    assert owner.end(second) == ("COMPLETED", "")
    assert paths(owner) == {"g"}
    listed = owner.ask("GET", "transfers", params={"PHASE": "ABORTED"}).text
    assert job.rpartition("/")[2] in listed
    assert second.rpartition("/")[2] not in listed
    assert told(others["stranger"].ask("DELETE", job)) == (403, "PermissionDenied")
    assert owner.ask("DELETE", job).status_code == 200
    assert owner.ask("GET", job).status_code == 404
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    owner.ask("POST", f"{second}/destruction", "DESTRUCTION=2001-01-01T00:00:00Z", headers=form, allow_redirects=False)
    assert owner.ask("GET", second).status_code == 404


def test_a_transfer_over_its_time_is_aborted_and_its_url_dead(owner: Asker) -> None:
    job = owner.job(owner.transfer("f", "pushToVoSpace", "httpput"))
    _until(lambda: owner.ask("GET", f"{job}/phase").text == "EXECUTING")
    endpoint = owner.ask("GET", owner.result(job, "transferDetails")).text.partition("endpoint>")[2].partition("<")[0]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    owner.ask("POST", f"{job}/executionduration", "EXECUTIONDURATION=0", headers=form)
    assert owner.ask("GET", f"{job}/executionduration").text == "0"
    assert owner.ask("GET", f"{job}/phase").text == "EXECUTING"  # 0 is no end
    owner.phase(job, "ABORT")
    assert owner.ask("PUT", endpoint, b"late").status_code == 403
    assert paths(owner) == set()


# Who may what


def test_rights(owner: Asker, others: dict[str, Asker]) -> None:
    put(owner, "a/f")

    def may(method: str, url: str, data: bytes | str | None = None) -> set[str]:
        return {name for name, asker in others.items() if asker.ask(method, url, data).status_code < 400}

    file = f"files/{owner.path('a/f')}"
    assert may("GET", file) == {"member", "stranger", "anonymous"}
    owner.set("a", {"publicread": "false"}, kind="ContainerNode")
    assert may("GET", file) == set()  # the file is public, and cannot be reached
    owner.set("a", {"groupread": f"ivo://other.test/gms?x {GROUP}"}, kind="ContainerNode")
    assert may("GET", file) == {"member"}
    assert may("PUT", file, b"new") == set()
    assert may("DELETE", f"nodes/{owner.path('a/f')}") == set()
    assert (
        may("POST", f"nodes/{owner.path('a/f')}", owner.document("a/f", "DataNode", properties={"title": "x"})) == set()
    )
    owner.set("a/f", {"groupwrite": GROUP})
    assert may("PUT", file, b"new") == {"member"}
    assert may("DELETE", f"nodes/{owner.path('a/f')}") == set()
    owner.set("a", {"groupwrite": GROUP, "groupread": ""}, kind="ContainerNode")
    assert may("DELETE", f"nodes/{owner.path('a/f')}") == {"member"}
    owner.create("a/mine", groupread="", groupwrite="")
    assert may("PUT", f"files/{owner.path('a/mine/f')}", b"x") == set()
    assert told(others["member"].ask("DELETE", f"nodes/{owner.path('a')}")) == (403, "PermissionDenied")
    assert paths(owner) == {"a", "a/mine"}


def test_credentials_that_prove_nothing_are_refused(owner: Asker, root: str) -> None:
    url = f"{owner.server.endpoint}/nodes/{root}"
    for header in ("Bearer wrong", "Basic b3duZXI6d3Jvbmc=", "Basic !", "Negotiate x", "Bearer "):
        answer = requests.get(url, headers={"Authorization": header}, timeout=TIMEOUT_S)
        assert told(answer) == (401, "NotAuthenticated")
        assert "Basic" in answer.headers["WWW-Authenticate"]
    owner.set("", {"publicread": "false"}, kind="ContainerNode")
    assert told(requests.get(url, timeout=TIMEOUT_S)) == (403, "PermissionDenied")
    owner.server.set_dialect(challenge_anonymous=True)
    assert told(requests.get(url, timeout=TIMEOUT_S)) == (401, "NotAuthenticated")


def test_certificates_and_proxies(owner: Asker, root: str, tmp_path: Path) -> None:
    server, url = owner.server, f"{owner.server.secure_endpoint}/nodes/{root}"
    stranger = Authority().person("owner").write(tmp_path / "other-authority.pem")
    files = [server.owner.certificate, server.owner.proxy, stranger]
    server.forget_requests()
    for file in files[:2]:
        with requests.Session() as session:
            answer = session.get(url, cert=str(file), verify=str(server.authority_file), timeout=TIMEOUT_S)
            assert answer.status_code == 200
    assert {(entry.user, entry.method_of_user) for entry in server.requests()} == {("owner", "certificate")}
    with pytest.raises((requests.ConnectionError, ssl.SSLError)):
        requests.get(url, cert=str(stranger), verify=str(server.authority_file), timeout=TIMEOUT_S)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, timeout=TIMEOUT_S)


def test_a_proxy_of_a_proxy_names_the_person_at_its_root() -> None:
    person = Authority().person("somebody")
    twice = proxy(proxy(person))
    assert twice.certificate.subject.rdns[:3] == person.certificate.subject.rdns
    assert len(twice.chain) == 2


# Dialects of the whole service


def test_another_namespace_is_spoken_and_understood_alone(owner: Asker) -> None:
    owner.server.set_dialect(namespace="v2.1")
    assert told(owner.create("a")) == (400, "InvalidArgument")
    owner.namespace = "http://www.ivoa.net/xml/VOSpace/v2.1"
    assert owner.create("a").status_code == 201
    assert owner.push("a/f", b"data").status_code == 201
    assert owner.children("a") == ["f"]


@pytest.mark.parametrize("rule", [{"count": 2}, {"count": 2, "endpoints": ["nodes"]}])
def test_a_service_that_is_away_says_when_to_come_again(owner: Asker, rule: dict[str, Any]) -> None:
    owner.server.set_dialect(unavailable={**rule, "retry_after_s": 7})
    answers = [owner.get("") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 200]
    assert answers[0].headers["Retry-After"] == "7"
    owner.server.set_dialect(unavailable={"rate": 0.5, "seed": 3, "retry_after_s": None})
    drawn = [owner.get("").status_code for _ in range(20)]
    owner.server.set_dialect(unavailable={"rate": 0.5, "seed": 3, "retry_after_s": None})
    assert drawn == [owner.get("").status_code for _ in range(20)]
    assert set(drawn) == {200, 503}


def test_unknown_habits_are_refused(vospace: VospaceServer) -> None:
    with pytest.raises(OSError, match="400"):
        vospace.set_dialect(namspace="v2.1")


def test_a_killed_server_has_what_was_whole(tmp_path: Path) -> None:
    with VospaceServer() as server:
        server.start(tmp_path)
        with Asker(server, server.owner, "") as owner:
            owner.create("a")
            owner.push("a/f", b"whole")
            [(endpoint, _)] = owner.negotiate("a/g", "pushToVoSpace", "httpput")
            connection = _begin_put(endpoint, 100, b"half")
            _until(lambda: 'busy="true"' in owner.get("a").text)
            server.kill()
            connection.close()
            assert server.residue()
            server.restart()
            assert server.residue() == set()
            assert owner.children("a") == ["f"]
            assert server.stored("a/f") == b"whole"
            assert owner.push("a/g", b"now").status_code == 201
