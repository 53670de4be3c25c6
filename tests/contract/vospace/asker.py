"""Asks a VOSpace service in plain HTTP, with documents written here; every XML answer is checked by its schema."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from typing import Any, Self

import requests
from defusedxml.ElementTree import fromstring
from tests.contract.vospace.grammar import check
from tests.servers.vospace import Person, VospaceServer

CORE = "ivo://ivoa.net/vospace/core#"
NAMESPACE = "http://www.ivoa.net/xml/VOSpace/v2.0"
BASIC, TOKEN, CERTIFICATE = (f"ivo://ivoa.net/sso#{name}" for name in ("BasicAA", "token", "tls-with-certificate"))
TIMEOUT_S = 60


class Asker:
    """Somebody, below one container; a context manager.

    Parameters
    ----------
    person : Person or None
        Sends their token; None is anonymous.
    root : str
        Path of the container that all paths are below.
    """

    def __init__(self, server: VospaceServer, person: Person | None, root: str) -> None:
        self.server = server
        self.root = root
        self.namespace = NAMESPACE
        self._http = requests.Session()
        self._http.hooks["response"].append(_check_answer)
        if person is not None:
            self._http.headers["Authorization"] = f"Bearer {person.token}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, method: str, url: str, data: str | bytes | None = None, **options: Any) -> requests.Response:
        """Ask for a URL, or for a path below the service."""
        url = url if url.startswith("http") else f"{self.server.endpoint}/{url}"
        body = data.encode() if isinstance(data, str) else data
        options.setdefault("headers", {}).setdefault("Content-Type", "text/xml")
        return self._http.request(method, url, data=body, timeout=TIMEOUT_S, **options)

    # From outside the service

    def seed(self, name: str, data: bytes = b"0123456789") -> None:
        self.server.put(self.path(name), data)

    def stored(self, name: str) -> bytes | None:
        return self.server.stored(self.path(name))

    def paths(self) -> set[str]:
        return {path.removeprefix(f"{self.root}/") for path in self.server.paths(self.root)}

    # Nodes

    def path(self, name: str) -> str:
        return f"{self.root}/{name}".strip("/")

    def uri(self, name: str) -> str:
        return self.server.uri(self.path(name))

    def document(self, name: str, kind: str, inside: str = "", properties: dict[str, str | None] | None = None) -> str:
        """A node's document; a property of None is to be deleted."""
        listed = "".join(
            f'<property uri="{key if ":" in key else CORE + key}" xsi:nil="true"/>'
            if value is None
            else f'<property uri="{key if ":" in key else CORE + key}">{value}</property>'
            for key, value in (properties or {}).items()
        )
        return (
            f'<node xmlns="{self.namespace}" xmlns:vos="{self.namespace}" uri="{self.uri(name)}" xsi:type="vos:{kind}"'
            f' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><properties>{listed}</properties>{inside}</node>'
        )

    def create(self, name: str, kind: str = "ContainerNode", inside: str = "", **properties: str) -> requests.Response:
        return self.ask("PUT", f"nodes/{self.path(name)}", self.document(name, kind, inside, dict(properties)))

    def set(self, name: str, properties: dict[str, str | None], kind: str = "DataNode") -> requests.Response:
        return self.ask("POST", f"nodes/{self.path(name)}", self.document(name, kind, "", properties))

    def get(self, name: str, **parameters: str) -> requests.Response:
        return self.ask("GET", f"nodes/{self.path(name)}", params=parameters)

    def children(self, name: str, **parameters: str) -> list[str]:
        listed = fromstring(self.get(name, **parameters).content).findall(f"{{{self.namespace}}}nodes/*")
        return [(each.get("uri") or "").rpartition("/")[2] for each in listed]

    def properties(self, name: str) -> dict[str, str]:
        found = fromstring(self.get(name).content).findall(f"{{{self.namespace}}}properties/*")
        return {(each.get("uri") or "").removeprefix(CORE): each.text or "" for each in found}

    # Transfers

    def transfer(self, name: str, direction: str, *protocols: str, inside: str = "") -> str:
        """A transfer's document; a protocol may have "+" and a security method."""
        listed = ""
        for each in protocols:
            uri, _, method = each.partition("+")
            security = f'<vos:securityMethod uri="{method}"/>' if method else ""
            listed += f'<vos:protocol uri="{CORE}{uri}">{security}</vos:protocol>'
        return (
            f'<vos:transfer xmlns:vos="{self.namespace}" version="2.1"><vos:target>{self.uri(name)}</vos:target>'
            f"<vos:direction>{direction}</vos:direction>{listed}{inside}</vos:transfer>"
        )

    def negotiate(self, name: str, direction: str, *protocols: str, inside: str = "") -> list[tuple[str, str]]:
        """Endpoints and their security methods, by ``synctrans``."""
        answer = self.ask("POST", "synctrans", self.transfer(name, direction, *protocols, inside=inside))
        assert answer.status_code == 200, answer.text
        ns = f"{{{self.namespace}}}"
        found = []
        for each in fromstring(answer.content).iter(f"{ns}protocol"):
            method = each.find(f"{ns}securityMethod")
            found.append((each.findtext(f"{ns}endpoint") or "", "" if method is None else method.get("uri") or ""))
        return found

    def push(self, name: str, data: bytes, **options: Any) -> requests.Response:
        [(endpoint, _)] = self.negotiate(name, "pushToVoSpace", "httpput")
        return self.ask("PUT", endpoint, data, **options)

    def pull(self, name: str, **options: Any) -> requests.Response:
        [(endpoint, _)] = self.negotiate(name, "pullFromVoSpace", "httpget")
        return self.ask("GET", endpoint, **options)

    # Jobs

    def job(self, document: str, collection: str = "transfers", *, run: bool = True) -> str:
        """Make a job, run it if wanted; returns its URL."""
        answer = self.ask("POST", collection, document, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        if run:
            self.phase(answer.headers["Location"], "RUN")
        return answer.headers["Location"]

    def phase(self, job: str, wanted: str) -> None:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = self.ask("POST", f"{job}/phase", f"PHASE={wanted}", headers=form, allow_redirects=False)
        assert answer.status_code == 303, answer.text

    def end(self, job: str) -> tuple[str, str]:
        """Wait until a job has ended; its phase, and the fault's text or nothing."""
        until(lambda: self.ask("GET", f"{job}/phase", params={"WAIT": "10"}).text not in ("QUEUED", "EXECUTING"))
        phase = self.ask("GET", f"{job}/phase").text
        return phase, self.ask("GET", f"{job}/error").text if phase == "ERROR" else ""

    def relocate(self, name: str, destination: str, *, keep: bool = False, uri: str = "") -> tuple[str, str]:
        """Move, or copy if ``keep``."""
        inside = f"<vos:keepBytes>{'true' if keep else 'false'}</vos:keepBytes>"
        return self.end(self.job(self.transfer(name, uri or self.uri(destination), inside=inside)))

    def result(self, job: str, name: str) -> str:
        text = self.ask("GET", f"{job}/results").text
        match = re.search(rf'id="{name}" xlink:href="([^"]*)"', text)
        return match[1] if match else ""


def told(answer: requests.Response) -> tuple[int, str]:
    """Status, and the name of the fault."""
    return answer.status_code, answer.text.split()[0] if answer.text else ""


def begin_put(url: str, promised: int, data: bytes) -> socket.socket:
    """Send the beginning of a PUT, and keep the connection."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    connection = socket.create_connection((name, int(port)), TIMEOUT_S)
    connection.sendall(f"PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {promised}\r\n\r\n".encode() + data)
    return connection


def until(condition: Callable[[], bool]) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"not so after {TIMEOUT_S} s"


def _check_answer(answer: requests.Response, *_: object, **__: object) -> None:
    if "xml" in answer.headers.get("Content-Type", ""):
        check(answer.content)
