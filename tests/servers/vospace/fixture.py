"""The server as tests use it: started and stopped by PID, looked at from outside its API."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tests.servers.process import Server, ServerError, ServerProcess, http_answer, on_free_ports
from tests.servers.vospace import names
from tests.servers.vospace.certificates import Authority, proxy
from tests.servers.vospace.config import Account, Dialect, ServerConfig
from tests.servers.vospace.journal import Entry
from tests.servers.vospace.request import ROOT, parse_path
from tests.servers.vospace.tree import Node, Tree

_PROJECT = Path(__file__).parents[3]
_PORTS = 6
GROUP = "ivo://pantry.test/gms?team"
"""The group that ``owner`` and ``member`` are in, and ``stranger`` is not."""


class Person(msgspec.Struct, kw_only=True, frozen=True):
    """An account, with files of its certificate and of a proxy of it (each with key and chain)."""

    name: str
    password: str
    token: str
    certificate: Path
    proxy: Path
    distinguished_name: str


class VospaceServer(Server):
    """One VOSpace service; a context manager that stops it.

    Parameters
    ----------
    authority : str
        Of its URIs.
    public : bool
        Whether everybody may read what is not said otherwise of.
    anonymous : bool
        Whether everybody owns the root, so that nobody need say who they are.

    Attributes
    ----------
    owner, member, stranger : Person
        Who owns the root; who is in the group `GROUP` with them; who is not.
    authority_file : Path
        The certificate to verify the server's by.
    """

    owner: Person
    member: Person
    stranger: Person
    authority_file: Path

    def __init__(self, *, authority: str = "pantry.test!vospace", public: bool = True, anonymous: bool = False) -> None:
        self.authority = authority
        self._public = public
        self._anonymous = anonymous
        self._base = 0
        self._secret = secrets.token_hex(16)
        self._directory: Path | None = None
        self._tree: Tree | None = None

    @property
    def port(self) -> int:
        return self._base

    @property
    def endpoint(self) -> str:
        """URL of the service, plain."""
        return f"http://127.0.0.1:{self._base}/{ROOT}"

    @property
    def secure_endpoint(self) -> str:
        """URL of the service, by TLS."""
        return f"https://127.0.0.1:{self._base + 1}/{ROOT}"

    def start(self, directory: Path, *, dialect: Dialect | None = None, timeout_s: float = 30.0) -> str:
        """Start it on ``directory``, wait until it answers, and return `endpoint`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory

        def launch(base: int) -> None:
            self._base = base
            self._configure(directory, dialect or Dialect())
            self._launch(directory, timeout_s)

        on_free_ports(_PORTS, launch)
        return self.endpoint

    def restart(self, *, timeout_s: float = 30.0) -> None:
        """Start again on the same ports and data; jobs and negotiated URLs are forgotten, as after a crash."""
        if self._directory is None:
            raise ServerError("the VOSpace server was never started")
        self.stop()
        self._launch(self._directory, timeout_s)

    def stop(self) -> None:
        """Stop the server and wait until it is gone; no error if it is not running."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None
        super().stop()

    # From outside the API

    def uri(self, path: str) -> str:
        """The URI of a node of this space."""
        return f"vos://{self.authority}/{path.strip('/')}".rstrip("/")

    def node(self, path: str) -> Node | None:
        """The node at a path, as it is stored; None if there is none."""
        return self._store().find(parse_path(path))

    def stored(self, path: str) -> bytes | None:
        """The bytes of a node, as they are stored; None if there is no node."""
        while (node := self.node(path)) is not None:
            content = self._store().content_path(node)
            with contextlib.suppress(FileNotFoundError):  # replaced between the two looks
                return content.read_bytes() if content is not None else b""
        return None

    def paths(self, path: str = "") -> dict[str, str]:
        """Path to type of everything below a node."""
        store = self._store()
        top = self.node(path)
        below = store.below(top)[1:] if top is not None else []
        return {"/".join(store.path(each)): each.type for each in below}

    def residue(self) -> set[str]:
        """Names of stored files that are no node's bytes; none if nothing is under way."""
        return self._store().residue()

    def put(self, path: str, data: bytes, *, owner: str = "owner", properties: dict[str, str] | None = None) -> Node:
        """Store a data node, and containers on the way, behind the server's back."""
        store = self._store()
        *above, name = parse_path(path)
        with store.change():
            parent = self.make_containers("/".join(above), owner=owner)
            node = store.child(parent, name) or store.create(parent, name, "DataNode", owner, _inherited(parent))
            part = store.contents / f"{secrets.token_hex(16)}.part"
            part.write_bytes(data)
            md5 = _md5(data)
            kept = {**node.properties, **(properties or {})}
            return store.publish(node, part, len(data), md5, names.BINARY_VIEW, kept)

    def make_containers(self, path: str, *, owner: str = "owner", properties: dict[str, str] | None = None) -> Node:
        """Make a container, and those on the way, behind the server's back."""
        store = self._store()
        with store.change():
            node = store.find(())
            assert node is not None
            for name in parse_path(path):
                below = store.child(node, name)
                node = below or store.create(node, name, "ContainerNode", owner, _inherited(node))
            return store.update(node, properties={**node.properties, **properties}) if properties else node

    def set_quota(self, path: str, size_bytes: int | None) -> None:
        """Limit a container to so many bytes."""
        node = self.node(path)
        assert node is not None
        self._store().update(node, quota=size_bytes)

    # Its habits, and what came

    def set_dialect(self, **changes: Any) -> None:
        """The plain dialect with these changes, from now on."""
        self._control("dialect", changes)

    @contextlib.contextmanager
    def dialect(self, **changes: Any) -> Iterator[None]:
        """The plain dialect with these changes, within."""
        self.set_dialect(**changes)
        try:
            yield
        finally:
            self.set_dialect()

    def requests(self) -> list[Entry]:
        """All requests since the last `forget_requests`."""
        return msgspec.convert(self._control("journal", None), list[Entry])

    def forget_requests(self, *, keep_documents: bool = False) -> None:
        """Begin the journal anew, from now on with the XML that is sent if ``keep_documents``."""
        self._control("journal", {"keep_documents": keep_documents})

    def _control(self, what: str, change: object) -> Any:
        url = f"http://127.0.0.1:{self._base + 2}/{self._secret}/{what}"
        data = json.dumps(change).encode() if change is not None else None
        request = urllib.request.Request(url, data=data)
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.load(answer)

    # Starting

    def _store(self) -> Tree:
        if self._directory is None:
            raise ServerError("the VOSpace server was never started")
        if self._tree is None:
            self._tree = Tree(self._directory / "space")
        return self._tree

    def _configure(self, directory: Path, dialect: Dialect) -> None:
        authority = Authority()
        self.authority_file = authority.write_certificate(directory / "authority.pem")
        people = {name: self._person(authority, directory, name) for name in ("owner", "member", "stranger")}
        self.owner, self.member, self.stranger = people["owner"], people["member"], people["stranger"]
        accounts = tuple(
            Account(
                name=each.name,
                password=each.password,
                token=each.token,
                distinguished_name=each.distinguished_name,
                groups=() if each.name == "stranger" else (GROUP,),
            )
            for each in people.values()
        )
        base = self._base
        config = ServerConfig(
            directory=str(directory / "space"),
            http_port=base,
            https_port=base + 1,
            control_port=base + 2,
            control_secret=self._secret,
            data_port=base + 3,
            data_https_port=base + 4,
            dead_port=base + 5,
            authority=self.authority,
            certificate=str(authority.server(["127.0.0.1", "127.0.0.2"]).write(directory / "server.pem")),
            certificate_authority=str(self.authority_file),
            root_owner="anybody" if self._anonymous else "owner",
            root_public=self._public,
            accounts=accounts,
            dialect=dialect,
        )
        file = directory / "vospace.json"
        file.touch(mode=0o600)
        file.write_bytes(msgspec.json.encode(config))

    @staticmethod
    def _person(authority: Authority, directory: Path, name: str) -> Person:
        identity = authority.person(name)
        return Person(
            name=name,
            password=secrets.token_hex(12),
            token=secrets.token_hex(16),
            certificate=identity.write(directory / f"{name}.pem"),
            proxy=proxy(identity).write(directory / f"{name}-proxy.pem"),
            distinguished_name=identity.distinguished_name,
        )

    def _launch(self, directory: Path, timeout_s: float) -> None:
        argv = [sys.executable, "-m", "tests.servers.vospace", "--config", str(directory / "vospace.json")]
        environment = {**os.environ, "PYTHONPATH": str(_PROJECT)}
        process = ServerProcess("the VOSpace server", argv, directory / "vospace.log", cwd=_PROJECT, env=environment)
        process.wait_ready(self._ready, timeout_s=timeout_s)
        self._process = process

    def _ready(self) -> bool:
        return http_answer(f"http://127.0.0.1:{self._base + 2}/{self._secret}/dialect")[0] == 200


def _inherited(parent: Node) -> dict[str, str]:
    return {uri: value for uri, value in parent.properties.items() if uri in names.ACCESS}


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
