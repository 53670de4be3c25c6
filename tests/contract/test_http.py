"""The HTTP backend held to the reading part of the contract by real nginx, and by a network that fails."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from tests.fault.proxy import Fault, FaultProxy
from tests.servers.nginx import NginxServer

from pantry.backends.admission import Admission
from pantry.backends.http import HttpBackend, HttpBackendFactory
from pantry.backends.http._digests import digest_check
from pantry.backends.suite_calls import listed, pattern, read, run
from pantry.backends.suite_reading import ReadingContract
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ConfigError,
    ObjectChangedError,
    ObjectNotFoundError,
    TransientBackendError,
)

CONTENT = pattern(3 << 20)
_numbers = itertools.count()
_seconds = itertools.count(1_700_000_000)


class FilesOutside:
    """The files that nginx serves; each put is a second later, for nginx's ETags have whole seconds."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(".fresh")
        fresh.write_bytes(content)
        moment = next(_seconds)
        os.utime(fresh, (moment, moment))
        fresh.replace(path)

    def get(self, key: str) -> bytes | None:
        path = self.root / key
        return path.read_bytes() if path.exists() else None

    def keys(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def residue(self) -> set[str]:
        return set()


def make(url: str, **options: object) -> HttpBackend:
    made = HttpBackendFactory(url, options, Admission(user_limit=16, node_limit=16))
    assert isinstance(made, HttpBackend)
    return made


@pytest.fixture
def outside(nginx: NginxServer) -> FilesOutside:
    root = nginx.files / f"{next(_numbers):04d}"
    root.mkdir(mode=0o755)
    return FilesOutside(root)


@pytest.fixture
def proxy(nginx: NginxServer) -> Iterator[FaultProxy]:
    with FaultProxy(("127.0.0.1", nginx.port)) as proxy:
        yield proxy


@pytest.fixture
def backend(proxy: FaultProxy, outside: FilesOutside) -> Iterator[HttpBackend]:
    made = make(f"{proxy.endpoint_url}/{outside.root.name}", max_attempts=3)
    yield made
    trio.run(made.aclose)


class TestNginx(ReadingContract):
    @pytest.fixture
    def outside(self, nginx: NginxServer) -> FilesOutside:
        root = nginx.files / f"{next(_numbers):04d}"
        root.mkdir(mode=0o755)
        return FilesOutside(root)

    @pytest.fixture
    def backend(self, nginx: NginxServer, outside: FilesOutside) -> Iterator[HttpBackend]:
        made = make(f"{nginx.endpoint_url}/{outside.root.name}")
        yield made
        trio.run(made.aclose)


def test_a_server_without_ranges_is_read_as_far_as_needed(
    nginx: NginxServer, outside: FilesOutside, proxy: FaultProxy
) -> None:
    content = pattern(40 << 20)
    outside.put("k", content)
    backend = make(f"{proxy.endpoint_url}/plain/{outside.root.name}")
    assert run(lambda: read(backend, "k", 100_000, 300_000)) == content[100_000:300_000]
    trio.run(backend.aclose)
    assert proxy.requests[-1].status == 200
    assert proxy.bytes_answered() < len(content) // 2
    with pytest.raises(BackendError, match="cannot list"):
        run(lambda: listed(backend, ""))


def test_a_cut_read_goes_on_where_it_ended(backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", cut_after=2_000_000))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    first, second = proxy.requests
    assert second.headers["range"] != first.headers["range"]
    assert "if-match" in second.headers
    assert all(request.headers["accept-encoding"] == "identity" for request in proxy.requests)


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(cut_after=-1), Fault(cut_after=1_000_000, reset=True)])
def test_what_may_be_repeated_is(backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy, fault: Fault) -> None:
    outside.put("k", CONTENT)
    proxy.inject(fault)
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert proxy.count("GET") == 2


def test_a_server_that_is_down_is_transient(backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(status=503, times=3), Fault(status=429, headers=(("Retry-After", "7"),)))
    with pytest.raises(TransientBackendError):
        run(lambda: backend.stat("k"))
    assert proxy.count() == 3
    with pytest.raises(TransientBackendError) as caught:
        run(lambda: backend.stat("k"))
    assert (caught.value.fields["retry_after_s"], proxy.count()) == (7.0, 4)


def test_a_read_that_trickles_is_asked_for_anew(outside: FilesOutside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    backend = make(f"{proxy.endpoint_url}/{outside.root.name}", max_attempts=2, read_timeout_s=0.5)
    proxy.inject(Fault(method="GET", trickle_bytes_per_s=1000))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert proxy.count("GET") == 2
    trio.run(backend.aclose)


def test_a_truncated_answer_is_not_taken(backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", truncate_to=1000))
    assert run(lambda: read(backend, "k", 0, len(CONTENT))) == CONTENT
    assert proxy.count("GET") == 2


def test_the_rest_of_a_cut_read_is_of_the_same_object(
    backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy
) -> None:
    outside.put("k", CONTENT)
    proxy.inject(Fault(method="GET", cut_after=1_500_000), Fault(method="GET", etag='"other"'))
    with pytest.raises(ObjectChangedError):
        run(lambda: read(backend, "k", 0, len(CONTENT)))


def test_a_digest_that_does_not_fit_is_damage(nginx: NginxServer, outside: FilesOutside) -> None:
    outside.put("good", b"hello")
    outside.put("bad", b"hellO")
    backend = make(f"{nginx.endpoint_url}/digest/{outside.root.name}", max_attempts=1)
    assert run(lambda: read(backend, "good", 0, 5)) == b"hello"
    with pytest.raises(TransientBackendError, match="damaged"):
        run(lambda: read(backend, "bad", 0, 5))
    assert run(lambda: read(backend, "bad", 0, 4)) == b"hell"
    trio.run(backend.aclose)


@pytest.mark.parametrize(
    "headers",
    [
        {"Repr-Digest": "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:"},
        {"Digest": "SHA-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=,unixsum=1"},
        {"content-md5": "XUFAKrxLKna5cZ2REBfFkg=="},
        {"Digest": "adler32=062c0215"},
    ],
)
def test_forms_of_digests(headers: dict[str, str]) -> None:
    for content, holds in ((b"hello", True), (b"hellO", False)):
        check = digest_check(headers, whole=True)
        assert check is not None
        check.update(content)
        assert check.holds() is holds
    assert digest_check(headers, whole=False) is None
    assert digest_check({"Digest": "md5=nonsense"}, whole=True) is None


def test_redirects(nginx: NginxServer, outside: FilesOutside) -> None:
    outside.put("k", b"hello")
    moved = make(f"{nginx.endpoint_url}/moved/{outside.root.name}")
    assert run(lambda: read(moved, "k", 0, 5)) == b"hello"
    trio.run(moved.aclose)
    for place, says in (("loop", "more than"), ("file", "no HTTP")):
        backend = make(f"{nginx.endpoint_url}/{place}", max_attempts=1)
        with pytest.raises(BackendError, match=says):
            run(lambda backend=backend: backend.stat("k"))  # type: ignore[misc]
        trio.run(backend.aclose)


def test_the_credential_never_goes_to_another_host(nginx: NginxServer, proxy: FaultProxy) -> None:
    """Not even to another port of the same one, nor back again."""
    with FaultProxy(("127.0.0.1", nginx.port)) as second:
        proxy.inject(Fault(status=302, headers=(("Location", f"{second.endpoint_url}/private/k"),)))
        second.inject(Fault(status=302, headers=(("Location", f"{proxy.endpoint_url}/private/k"),)))
        backend = make(f"{proxy.endpoint_url}/private", token=nginx.token, max_attempts=1)
        with pytest.raises(BackendAccessError):
            run(lambda: backend.stat("k"))
        assert proxy.requests[0].headers["authorization"] == f"Bearer {nginx.token}"
        assert "authorization" not in second.requests[0].headers
        assert "authorization" not in proxy.requests[1].headers
        trio.run(backend.aclose)


def test_credentials(nginx: NginxServer, outside: FilesOutside) -> None:
    outside.put("k", b"hello")
    root = f"{nginx.endpoint_url}/private/{outside.root.name}"
    good: list[dict[str, object]] = [{"token": nginx.token}, {"username": "reader", "password": "secret"}]
    for options in good:
        backend = make(root, **options)
        assert run(lambda backend=backend: read(backend, "k", 0, 5)) == b"hello"  # type: ignore[misc]
        assert run(lambda backend=backend: listed(backend, "")).keys() == {"k"}  # type: ignore[misc]
        assert "secret" not in repr(backend) + repr(vars(backend))
        trio.run(backend.aclose)
    for options in ({}, {"token": "an-old-token"}):
        backend = make(root, **options)
        with pytest.raises(BackendAccessError) as caught:
            run(lambda backend=backend: backend.stat("k"))  # type: ignore[misc]
        assert "credential" in caught.value.hint
        assert "an-old-token" not in f"{caught.value!r}{caught.value.hint}"
        trio.run(backend.aclose)


@pytest.mark.parametrize(
    ("root", "options"),
    [
        ("http://user:hunter2@127.0.0.1/x", {}),
        ("http://127.0.0.1/x?signature=hunter2", {}),
        ("http://127.0.0.1/a/../b", {}),
        ("http://", {}),
        ("http://elsewhere.example/x", {"token": "hunter2"}),
        ("http://127.0.0.1/x", {"certificate": "hunter2"}),
        ("https://127.0.0.1/x", {"token": "hunter2", "username": "me", "password": "hunter2"}),
        ("http://127.0.0.1/x", {"tokn": "hunter2"}),
        ("http://127.0.0.1/x", {"token": 12}),
    ],
)
def test_what_cannot_be_is_refused_without_its_secret(root: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(root, **options)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


def test_a_directory_is_no_object(backend: HttpBackend, outside: FilesOutside) -> None:
    outside.put("dir/k", b"1")
    with pytest.raises(ObjectNotFoundError):
        run(lambda: backend.stat("dir"))


def test_a_listing_of_many_costs_one_request_a_directory(
    backend: HttpBackend, outside: FilesOutside, proxy: FaultProxy
) -> None:
    for index in range(50):
        outside.put(f"a/{index}", b"1")
    assert len(run(lambda: listed(backend, "a/"))) == 50
    assert (proxy.count("GET"), proxy.count("HEAD")) == (1, 1)
