"""The VOSpace test server: who may what, and habits of the whole service."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.contract.vospace.asker import TIMEOUT_S, Asker, begin_put, told, until
from tests.servers.vospace import GROUP, VospaceServer
from tests.servers.vospace.certificates import Authority, proxy

# Who may what


def test_rights(owner: Asker, others: dict[str, Asker]) -> None:
    owner.seed("a/f")

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
    owner.create("a/theirs")
    owner.create("a/theirs/not", groupwrite="")
    assert told(others["member"].ask("DELETE", f"nodes/{owner.path('a/theirs')}")) == (403, "PermissionDenied")
    owner.ask("DELETE", f"nodes/{owner.path('a/theirs/not')}")
    assert told(others["member"].ask("DELETE", f"nodes/{owner.path('a/theirs')}")) == (204, "")
    assert owner.paths() == {"a", "a/mine"}


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
            with begin_put(endpoint, 100, b"half"):
                until(lambda: bool(server.residue()))
                server.kill()
            server.restart()
            assert server.residue() == set()
            assert owner.children("a") == ["f"]
            assert server.stored("a/f") == b"whole"
            assert owner.push("a/g", b"now").status_code == 201
