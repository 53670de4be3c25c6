"""The VOSpace test server does what the standard says: asked in plain HTTP, looked at from outside."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import requests
from defusedxml.ElementTree import fromstring
from tests.servers.vospace import VospaceServer

VOS = "{http://www.ivoa.net/xml/VOSpace/v2.0}"
CORE = "ivo://ivoa.net/vospace/core#"
TIMEOUT_S = 60
_numbers = itertools.count()


class Asker:
    """Sends requests as one of the people, below a container of the test's own."""

    def __init__(self, server: VospaceServer, token: str, root: str) -> None:
        self.server = server
        self.root = root
        self.http = requests.Session()
        if token:
            self.http.headers["Authorization"] = f"Bearer {token}"

    def path(self, name: str) -> str:
        return f"{self.root}/{name}".rstrip("/")

    def uri(self, name: str) -> str:
        return self.server.uri(self.path(name))

    def url(self, name: str, resource: str = "nodes") -> str:
        return f"{self.server.endpoint}/{resource}/{self.path(name)}"

    def node(self, name: str, kind: str = "ContainerNode", inside: str = "", **properties: str) -> str:
        """A node's document."""
        listed = "".join(f'<property uri="{CORE}{key}">{value}</property>' for key, value in properties.items())
        return (
            f'<node xmlns="{VOS[1:-1]}" xmlns:vos="{VOS[1:-1]}" uri="{self.uri(name)}"'
            f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="vos:{kind}">'
            f"<properties>{listed}</properties>{inside}</node>"
        )

    def transfer(self, name: str, direction: str, inside: str) -> str:
        """A transfer's document."""
        return (
            f'<vos:transfer xmlns:vos="{VOS[1:-1]}" version="2.1"><vos:target>{self.uri(name)}</vos:target>'
            f"<vos:direction>{direction}</vos:direction>{inside}</vos:transfer>"
        )

    def create(self, name: str, kind: str = "ContainerNode", inside: str = "") -> requests.Response:
        return self.http.put(self.url(name), data=self.node(name, kind, inside))

    def endpoints(self, name: str, direction: str, *protocols: str) -> list[str]:
        """Negotiate at ``synctrans`` and return the endpoints."""
        inside = "".join(f'<vos:protocol uri="{CORE}{each}"/>' for each in protocols)
        answer = self.http.post(f"{self.server.endpoint}/synctrans", data=self.transfer(name, direction, inside))
        assert answer.status_code == 200
        return [each.text or "" for each in fromstring(answer.content).iter(f"{VOS}endpoint")]


@pytest.fixture
def owner(vospace: VospaceServer) -> Iterator[Asker]:
    root = f"server-{next(_numbers)}"
    vospace.make_containers(root)
    asker = Asker(vospace, vospace.owner.token, root)
    yield asker
    asker.http.close()


@pytest.mark.parametrize(
    ("name", "kind", "status", "fault"),
    [
        ("a", "ContainerNode", 409, "DuplicateNode"),
        ("missing/b", "ContainerNode", 404, "ContainerNotFound"),
        ("link/b", "DataNode", 400, "LinkFound"),
        ("s", "StructuredDataNode", 400, "TypeNotSupported"),
        ("s", "TeapotNode", 400, "TypeNotSupported"),
    ],
)
def test_creations_that_the_standard_refuses(owner: Asker, name: str, kind: str, status: int, fault: str) -> None:
    assert owner.create("a").status_code == 201
    assert owner.create("link", "LinkNode", f"<target>{owner.uri('a')}</target>").status_code == 201
    before = owner.server.paths(owner.root)
    answer = owner.create(name, kind)
    assert (answer.status_code, answer.text.split()[0]) == (status, fault)
    assert owner.server.paths(owner.root) == before


def test_data_are_pushed_and_pulled_by_negotiated_endpoints(owner: Asker) -> None:
    [push] = owner.endpoints("f", "pushToVoSpace", "httpput", "unknown")
    assert owner.server.node(owner.path("f")) is None
    assert (
        requests.put(push, timeout=TIMEOUT_S, data=b"0123456789").status_code == 201
    )  # pre-authorised: nobody says who it is
    assert owner.server.stored(owner.path("f")) == b"0123456789"
    [pull] = owner.endpoints("f", "pullFromVoSpace", "httpget")
    part = requests.get(pull, timeout=TIMEOUT_S, headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    assert requests.get(push, timeout=TIMEOUT_S).status_code == 403
    assert owner.endpoints("missing", "pullFromVoSpace", "httpget") == []
