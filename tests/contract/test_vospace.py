"""The VOSpace backend held to the contract by a service written from the standard, in several dialects."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
import trio
from tests.servers.vospace import VospaceServer
from tests.servers.vospace.names import PUBLIC_READ

from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange
from pantry.backends.credentials import ClientCertificate, Secret
from pantry.backends.suite import ObjectBackendContract
from pantry.backends.suite_calls import descriptor, pattern, read, run, write
from pantry.backends.vospace import VOSpaceBackend, VOSpaceBackendFactory, _data
from pantry.backends.vospace._blocking import Checkpoint, Web
from pantry.backends.vospace._described import described
from pantry.backends.vospace._documents import DATE, LENGTH, Child, Node, read_node
from pantry.backends.vospace._service import Service
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.backends.web_sessions import make_session
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    ObjectNotFoundError,
    TransientBackendError,
)

_numbers = itertools.count()


@pytest.fixture
def dialect(vospace: VospaceServer) -> Iterator[dict[str, Any]]:
    """Give the plain reading of the standard; a class of tests has its own."""
    vospace.set_dialect()
    yield {}
    vospace.set_dialect()


@contextmanager
def opened(server: VospaceServer, path: str, **changed: object) -> Iterator[VOSpaceBackend]:
    """Make a backend of the space below ``path``, as the owner by token."""
    options: dict[str, object] = {"endpoint_url": server.endpoint, "token": server.owner.token} | changed
    options = {name: value for name, value in options.items() if value is not None}
    backend = VOSpaceBackendFactory(server.uri(path), options, Admission(user_limit=16, node_limit=16))
    assert isinstance(backend, VOSpaceBackend)
    try:
        yield backend
    finally:
        trio.run(backend.aclose)


class VospaceOutside:
    """The nodes below a path as the server keeps them."""

    def __init__(self, server: VospaceServer, path: str) -> None:
        self.server = server
        self.path = path
        server.make_containers(path, properties={PUBLIC_READ: "false"})

    def put(self, key: str, content: bytes) -> None:
        self.server.put(f"{self.path}/{quote(key)}", content)

    def get(self, key: str) -> bytes | None:
        return self.server.stored(f"{self.path}/{quote(key)}")

    def keys(self) -> set[str]:
        found = self.server.paths(self.path)
        below = len(self.path) + 1
        return {path[below:] for path, kind in found.items() if kind != "ContainerNode" and ".pantry-" not in path}

    def residue(self) -> set[str]:
        hidden = {path for path in self.server.paths(self.path) if ".pantry-" in path}
        return hidden | self.server.residue()


class _Contract(ObjectBackendContract):
    @pytest.fixture
    def outside(self, vospace: VospaceServer, dialect: dict[str, Any]) -> VospaceOutside:
        vospace.set_dialect(**dialect)
        return VospaceOutside(vospace, f"test/{next(_numbers):04d}")

    @pytest.fixture
    def settings(self) -> dict[str, object]:
        return {}

    @pytest.fixture
    def backend(
        self, vospace: VospaceServer, outside: VospaceOutside, settings: dict[str, object]
    ) -> Iterator[VOSpaceBackend]:
        with opened(vospace, outside.path, **settings) as made:
            yield made


class TestStandard(_Contract):
    """The plain reading of the standard."""


class TestWithoutExtensions(_Contract):
    """A namespace of its own, jobs only, nothing beyond the standard; not even what most have."""

    @pytest.fixture
    def dialect(self) -> dict[str, Any]:
        return {
            "namespace": "v2.1",
            "capabilities": False,
            "files": False,
            "sync_transfers": False,
            "ranges": False,
            "digests": False,
            "move_destination": "container",
            "refuse_nonempty_delete": True,
        }

    test_listing_has_more_than_one_page = None  # type: ignore[assignment]  # slow, and no matter of these


class TestManyHosts(_Contract):
    """The bytes lie elsewhere, by URLs that work once, some of them dead; the service is busy now and then."""

    @pytest.fixture
    def dialect(self) -> dict[str, Any]:
        return {
            "files": False,
            "data_on_other_host": True,
            "redirect_endpoints": True,
            "dead_endpoints": 1,
            "one_shot": True,
            "unknown_length": True,
            "details_under_xfer": True,
            "move_destination": "full-path",
            "unavailable": {"rate": 0.05, "seed": 7, "retry_after_s": 0},
        }

    test_listing_has_more_than_one_page = None  # type: ignore[assignment]  # slow, and no matter of these


class TestHabits(_Contract):
    """Small pages in another order, children without properties, other statuses, properties that stay."""

    @pytest.fixture
    def dialect(self) -> dict[str, Any]:
        return {
            "separator": "~",
            "page_limit": 100,
            "list_order": "created",
            "bare_children": True,
            "whole_seconds": True,
            "create_status": 200,
            "delete_status": 200,
            "keep_properties": True,
            "create_on_negotiation": True,
            "files_redirect": True,
            "challenge_anonymous": True,
            "fault_details": False,
        }


# -- who asks ---------------------------------------------------------------------------------------


@pytest.fixture
def place(vospace: VospaceServer) -> Iterator[VospaceOutside]:
    vospace.set_dialect()
    yield VospaceOutside(vospace, f"test/{next(_numbers):04d}")
    vospace.set_dialect()


def credentials(server: VospaceServer) -> dict[str, dict[str, object]]:
    owner = server.owner
    tls: dict[str, object] = {"endpoint_url": server.secure_endpoint, "authority_file": str(server.authority_file)}
    return {
        "token": {"token": owner.token},
        "password": {"token": None, "username": owner.name, "password": owner.password},
        "token by TLS": {"token": owner.token, **tls},
        "certificate": {"token": None, "certificate": owner.certificate.read_text(), **tls},
        "proxy certificate": {"token": None, "certificate": owner.proxy.read_text(), **tls},
    }


@pytest.mark.parametrize("kind", ["token", "password", "token by TLS", "certificate", "proxy certificate"])
def test_each_kind_of_credential_reads_and_writes(vospace: VospaceServer, place: VospaceOutside, kind: str) -> None:
    with opened(vospace, place.path, **credentials(vospace)[kind]) as backend:
        run(lambda: write(backend, "a/b", b"content"))
        assert run(lambda: read(backend, "a/b", 2, 5)) == b"nte"
    assert place.get("a/b") == b"content"


@pytest.mark.parametrize("who", ["nobody", "stranger", "wrong"])
def test_who_may_not_is_told_so_without_the_secret(vospace: VospaceServer, place: VospaceOutside, who: str) -> None:
    place.put("a", b"1")
    secret = {"nobody": None, "stranger": vospace.stranger.token, "wrong": "WRONGtokenWRONG"}[who]
    with opened(vospace, place.path, token=secret) as backend:
        for call in (lambda: backend.stat("a"), lambda: read(backend, "a", 0, 1), lambda: write(backend, "b", b"2")):
            with pytest.raises(BackendAccessError) as caught:
                run(call)
            said = f"{caught.value} {caught.value.fields} {backend!r} {caught.value.__cause__!r}"
            assert secret is None or secret not in said
            assert "credential" in caught.value.hint
    assert place.keys() == {"a"}
    assert place.residue() == set()


def test_only_trusted_hosts_get_the_credential(vospace: VospaceServer, place: VospaceOutside) -> None:
    vospace.set_dialect(data_on_other_host=True, redirect_endpoints=True, files=False)
    vospace.forget_requests()
    with opened(vospace, place.path) as backend:
        run(lambda: write(backend, "a", b"content"))
        assert run(lambda: read(backend, "a", 0, 7)) == b"content"
    asked = vospace.requests()
    assert any(one.listener == "data" for one in asked)
    assert all(one.has_credentials == (one.listener == "service") for one in asked)


def negotiations(vospace: VospaceServer, backend: VOSpaceBackend, key: str, content: bytes) -> int:
    """Read an object, and tell how often an endpoint was asked for."""
    vospace.forget_requests()
    assert run(lambda: read(backend, key, 0, len(content))) == content
    return sum(one.method == "POST" for one in vospace.requests())


def test_endpoints_are_kept_for_a_while_and_then_again(
    vospace: VospaceServer, place: VospaceOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    vospace.set_dialect(files=False)
    place.put("a", b"content")
    with opened(vospace, place.path) as backend:
        with monkeypatch.context() as patched:
            patched.setattr(_data, "_KEPT_S", -1.0)
            assert negotiations(vospace, backend, "a", b"content") == 1
        assert negotiations(vospace, backend, "a", b"content") == 1, "the time of the first was over"
        assert negotiations(vospace, backend, "a", b"content") == 0


def test_an_object_that_is_gone_says_nothing_of_other_endpoints(vospace: VospaceServer, place: VospaceOutside) -> None:
    vospace.set_dialect(files=False)
    place.put("a", b"content")
    place.put("b", b"others")
    with opened(vospace, place.path) as backend:
        assert negotiations(vospace, backend, "a", b"content") == 1
        run(lambda: backend.delete("a"))
        with pytest.raises(ObjectNotFoundError):
            run(lambda: read(backend, "a", 0, 7))
        assert negotiations(vospace, backend, "b", b"others") == 1
        assert negotiations(vospace, backend, "b", b"others") == 0


def test_endpoints_that_work_once_are_not_kept(vospace: VospaceServer, place: VospaceOutside) -> None:
    vospace.set_dialect(files=False, one_shot=True, data_on_other_host=True)
    place.put("a", b"content")
    with opened(vospace, place.path) as backend:
        for _ in range(3):
            assert negotiations(vospace, backend, "a", b"content") == 1


def test_with_certificates_of_ones_own_no_others_are_trusted(vospace: VospaceServer) -> None:
    """Also beside a client certificate, which brings TLS settings of its own."""
    pem = ClientCertificate(Secret(vospace.owner.certificate.read_text()))
    with make_session(pem, ca_file=str(vospace.authority_file), max_connections=1) as session:
        context = session.get_adapter("https://a.org/").poolmanager.connection_pool_kw["ssl_context"]
        assert len(context.get_ca_certs()) == 1


def test_data_that_want_a_credential_elsewhere_say_what_to_do(vospace: VospaceServer, place: VospaceOutside) -> None:
    place.put("a", b"1")
    vospace.set_dialect(data_on_other_host=True, preauthorised=False, files=False)
    vospace.forget_requests()
    with opened(vospace, place.path) as backend, pytest.raises(BackendAccessError):
        run(lambda: read(backend, "a", 0, 1))
    assert {one.has_credentials for one in vospace.requests() if one.listener == "data"} == {False}


def test_credentials_are_not_sent_in_the_clear() -> None:
    with pytest.raises(ConfigError, match="https"):
        VOSpaceBackendFactory(
            "vos://a.org!space/x",
            {"endpoint_url": "http://a.org/space", "token": "t"},
            Admission(user_limit=1, node_limit=1),
        )


# -- faults --------------------------------------------------------------------------------------------


def test_a_quota_that_is_used_up_leaves_nothing(vospace: VospaceServer, place: VospaceOutside) -> None:
    for status in (413, 507):
        vospace.set_dialect(quota_status=status)
        vospace.set_quota(place.path, 1000)
        with opened(vospace, place.path) as backend:
            with pytest.raises(BackendError, match="Quota") as caught:
                run(lambda: write(backend, "a/b", pattern(5000)))
            assert not isinstance(caught.value, TransientBackendError)
            assert "quota" in caught.value.hint
        assert place.keys() == set()
        assert place.residue() == set()


def test_a_busy_service_is_asked_again_when_it_says_so(vospace: VospaceServer, place: VospaceOutside) -> None:
    place.put("a", b"1")
    with opened(vospace, place.path) as backend:
        vospace.set_dialect(unavailable={"count": 2, "retry_after_s": 0})
        assert run(lambda: backend.stat("a")).size_bytes == 1
        vospace.set_dialect(unavailable={"rate": 1.0, "retry_after_s": 0})
        with pytest.raises(TransientBackendError) as caught:
            run(lambda: backend.stat("a"))
        assert caught.value.fields["retry_after_s"] == 0


def test_what_a_killed_service_was_sent_is_taken_back(vospace: VospaceServer, place: VospaceOutside) -> None:
    with opened(vospace, place.path, max_attempts=1) as backend:
        run(lambda: write(backend, "a/done", b"done", "t-0"))

        async def cut() -> None:
            with descriptor(pattern(60 << 20)) as fd:
                async with trio.open_nursery() as nursery:

                    async def kill() -> None:
                        while not any(one.method == "PUT" and one.endpoint == "data" for one in vospace.requests()):  # noqa: ASYNC110
                            await trio.sleep(0.005)
                        vospace.kill()

                    vospace.forget_requests()
                    nursery.start_soon(kill)
                    with pytest.raises(BackendError):
                        await backend.write_from("a/cut", fd, 60 << 20, token="t-1")

        run(cut)
        vospace.restart()
        run(lambda: backend.undo_write("a/cut", token="t-1"))
        assert not run(lambda: backend.undo_write("a/done", token="t-1"))
    assert place.keys() == {"a/done"}


def test_links_are_followed_below_the_root_only(vospace: VospaceServer, place: VospaceOutside) -> None:
    place.put("there/data", b"content")
    vospace.put("test/outside", b"theirs")
    store = vospace._store()
    above = vospace.node(place.path)
    assert above is not None
    for name, target in {
        "inside": vospace.uri(f"{place.path}/there/data"),
        "again": vospace.uri(f"{place.path}/inside"),
        "outside": vospace.uri("test/outside"),
        "elsewhere": "https://example.org/x",
        "circle": vospace.uri(f"{place.path}/circle"),
    }.items():
        with store.change():
            node = store.create(above, name, "LinkNode", "owner", dict(above.properties))
            store.update(node, target=target)
    with opened(vospace, place.path) as backend:
        for key in ("inside", "again"):
            assert run(lambda key=key: read(backend, key, 1, 4)) == b"ont"  # type: ignore[misc]
        for key in ("outside", "elsewhere", "circle"):
            with pytest.raises(BackendError, match="link"):
                run(lambda key=key: read(backend, key, 0, 1))  # type: ignore[misc]

        async def keys() -> set[str]:
            return {one.key async for one in backend.list_keys("")}

        assert run(keys) == {"there/data", "inside", "again"}


def test_only_the_range_is_sent(vospace: VospaceServer, place: VospaceOutside) -> None:
    place.put("big", pattern(8 << 20))
    with opened(vospace, place.path) as backend, descriptor() as fd:
        version = run(lambda: backend.stat("big")).version
        vospace.forget_requests()
        run(lambda: backend.read_into("big", ByteRange(1 << 20, (1 << 20) + 1000), fd, if_version=version))
        assert sum(one.sent_bytes for one in vospace.requests()) < 10_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><body>login</body></html>",
        b'<!DOCTYPE x [<!ENTITY a "b">]><node uri="vos://x/y">&a;</node>',
        b'<?xml version="1.0"?><!DOCTYPE x SYSTEM "file:///etc/passwd"><node/>',
        b"<node>" * 10,
        b"\xff\xfe<node/>",
    ],
)
def test_hostile_documents_are_refused(body: bytes) -> None:
    with pytest.raises(BackendError):
        read_node(body, "a node")


@pytest.mark.parametrize(
    ("root", "options", "said"),
    [
        ("vos://a.org/x", {}, "endpoint_url"),
        ("vos:///x", {"endpoint_url": "https://a.org/s"}, "vos://authority"),
        ("vos://a.org/../x", {"endpoint_url": "https://a.org/s"}, "path"),
        ("vos://a.org/x", {"endpoint_url": "ftp://a.org/s"}, "http"),
        ("vos://a.org/x", {"endpoint_url": "https://u:p@a.org/s"}, "credentials"),
        ("vos://a.org/x", {"endpoint_url": "https://a.org/s", "tokn": "x"}, "tokn"),
        ("vos://a.org/x", {"endpoint_url": "https://a.org/s", "token": "t", "username": "u"}, "together"),
        ("vos://a.org/x", {"endpoint_url": "https://a.org/s", "page_size": 1}, "page_size"),
    ],
)
def test_wrong_configuration_is_told(root: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        VOSpaceBackendFactory(root, options, Admission(user_limit=1, node_limit=1))


def test_a_missing_object_is_not_found_in_one_request(vospace: VospaceServer, place: VospaceOutside) -> None:
    with opened(vospace, place.path) as backend:
        with pytest.raises(ObjectNotFoundError):
            run(lambda: backend.stat("warm"))
        vospace.forget_requests()
        with pytest.raises(ObjectNotFoundError):
            run(lambda: backend.stat("missing"))
        assert len(vospace.requests()) == 1


# -- hostile and broken services ---------------------------------------------------------------------


def _listed(backend: VOSpaceBackend) -> set[str]:
    async def keys() -> set[str]:
        return {one.key async for one in backend.list_keys("")}

    return run(keys)


def test_a_listing_that_begins_anew_for_ever_is_an_error(
    vospace: VospaceServer, place: VospaceOutside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a service that knows nothing of pages: what it lists is complete, or nobody knows."""
    place.put("a", b"1")
    place.put("b", b"2")
    with opened(vospace, place.path) as backend:
        whole = Service.children
        asked: list[str] = []

        def begun_anew(service: Service, key: str, _after: str, checkpoint: Checkpoint) -> Node:
            asked.append(key)
            assert len(asked) < 10, "nobody noticed"
            return whole(service, key, "", checkpoint)

        monkeypatch.setattr(Service, "children", begun_anew)
        with pytest.raises(BackendError, match="again and again"):
            _listed(backend)


@pytest.mark.parametrize("error", [TransientBackendError("down"), BackendAccessError("no")])
def test_a_link_that_cannot_be_asked_for_is_not_left_out_of_a_listing(
    vospace: VospaceServer, place: VospaceOutside, monkeypatch: pytest.MonkeyPatch, error: BackendError
) -> None:
    place.put("data", b"content")
    store, above = vospace._store(), vospace.node(place.path)
    assert above is not None
    with store.change():
        node = store.create(above, "link", "LinkNode", "owner", dict(above.properties))
        store.update(node, target=vospace.uri(f"{place.path}/data"))

    def fail(*_: object) -> None:
        raise error

    with opened(vospace, place.path) as backend:
        monkeypatch.setattr(Service, "node", fail)
        with pytest.raises(type(error)):
            _listed(backend)


@pytest.mark.parametrize("length", ["9" * 5000, "²", "-1", "1e3", ""])
def test_an_impossible_length_is_none(length: str) -> None:
    node = Child("vos://a.org!s/x", "DataNode", {LENGTH: length, DATE: "2026-01-01T00:00:00"}, "", busy=False)
    assert described("x", node).size_bytes == 0


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://a.org/s/x", True),
        ("https://a.org:443/s/x", True),
        ("http://a.org:443/s/x", False),
        ("http://a.org/s/x", False),
        ("https://a.org:8443/s/x", False),
        ("https://a.org@evil.org/s/x", False),
        ("https://b.org/s/x", True),
        ("http://b.org/s/x", False),
    ],
)
def test_the_credential_stays_with_its_scheme_and_host(url: str, trusted: bool) -> None:
    options = VOSpaceOptions(endpoint_url="https://a.org/s", trusted_hosts="b.org")
    assert Web(options, None).is_trusted(url) is trusted
