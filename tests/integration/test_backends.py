"""``pantry backends``: what a node tells of its origins while one fails, is left alone, is probed and is well again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner
from tests.fault.proxy import Fault, FaultProxy
from tests.servers.nginx import NginxServer
from tests.servers.other_user import RUN_COMMAND, run_as
from tests.servers.pantryd import PantryDaemon

from pantry.client import Node, ObjectPrefix
from pantry.client.cli.main import cli
from pantry.errors import BackendAccessError, OriginUnavailableError, TransientBackendError
from pantry.wire.operations import BackendInfo

LATEST_S = 30.0
READER, STRANGER = 4111, 4112


@pytest.fixture
def proxy(nginx: NginxServer) -> Iterator[FaultProxy]:
    for number in range(10):
        (nginx.files / f"file{number}").write_bytes(b"%d" % number)
    with FaultProxy(("127.0.0.1", nginx.port)) as made:
        yield made


def configured(proxy: FaultProxy, nginx: NginxServer, **more: Any) -> dict[str, Any]:
    storage = {"match": proxy.endpoint_url, "options": {"max_attempts": 1, "token": nginx.token}, **more}
    return {
        "storage": [storage, {"match": f"{proxy.endpoint_url}/private/", "options": {"token": "not-the-right-one"}}],
        "cache": {"negative_ttl_s": 0},
        "prefixes": {
            "files": {"root": f"{proxy.endpoint_url}/", "ttl_s": 0, "readers": [str(READER)]},
            "direct": {"root": f"{nginx.endpoint_url}/", "ttl_s": 0},
            "private": {"root": f"{proxy.endpoint_url}/private/", "ttl_s": 0},
        },
    }


class Watch:
    """The backends of a daemon, by the name of the prefix."""

    def __init__(self, daemon: PantryDaemon) -> None:
        self.node = Node(daemon.socket)

    def __getitem__(self, name: str) -> BackendInfo:
        (found,) = [one for one in self.node.backends() if one.name == name]
        return found

    def until(self, name: str, what: Callable[[BackendInfo], bool]) -> BackendInfo:
        deadline = time.monotonic() + LATEST_S
        while not what(found := self[name]):
            assert time.monotonic() < deadline, found
        return found


def test_an_origin_fails_is_left_alone_is_probed_and_answers_again(
    make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, nginx: NginxServer
) -> None:
    daemon = make_daemon(configured(proxy, nginx))
    daemon.expected_log = ("is left alone",)
    watch = Watch(daemon)
    with ObjectPrefix("files", socket=daemon.socket) as files:
        assert files.read("file1") == b"1"
        well = watch["files"]
        assert (well.circuit, well.kind, well.errors, well.last_error) == ("closed", "prefix", {}, "")
        assert well.location == proxy.endpoint_url
        assert well.requests == 2, "stat and read"
        assert well.median_s is not None
        assert well.p99_s is not None
        assert 0 < well.median_s <= well.p99_s < LATEST_S

        proxy.inject(Fault(times=-1, status=503, headers=(("Retry-After", "2"),)))
        for _ in range(3):
            with pytest.raises(TransientBackendError):
                files.read("file2")
        broken = watch["files"]
        assert broken.circuit == "open"
        assert 0 < broken.retry_in_s <= 2
        assert broken.errors == {"backend_transient": 3}
        assert "503" in broken.last_error
        assert abs(broken.last_error_ns / 1e9 - time.time()) < LATEST_S
        asked = proxy.count()
        with pytest.raises(OriginUnavailableError):
            files.read("file2")
        assert proxy.count() == asked, "nobody asks meanwhile"
        assert watch["files"].requests == broken.requests
        text = CliRunner().invoke(cli, ["--socket", daemon.socket, "backends"])
        assert text.exit_code == 0
        assert "prefix files" in text.output
        assert "open for" in text.output
        assert "3 backend_transient" in text.output

        watch.until("files", lambda one: one.circuit == "half-open")
        proxy.clear()
        go_on = threading.Event()
        proxy.inject(Fault(wait_for=go_on))
        with ThreadPoolExecutor(1) as pool:
            probe = pool.submit(files.read, "file2")
            proxy.wait_for_request(lambda one: one.method == "HEAD")
            held = watch["files"]
            assert (held.circuit, held.under_way) == ("half-open", 1)
            with (
                ObjectPrefix("files", socket=daemon.socket) as others,
                pytest.raises(OriginUnavailableError, match="again now"),
            ):
                others.read("file3")
            go_on.set()
            assert probe.result() == b"2"
        assert watch["files"].circuit == "closed"
        assert files.read("file3") == b"3"
    (shown,) = json.loads(CliRunner().invoke(cli, ["--socket", daemon.socket, "backends", "--json"]).output)
    assert (shown["circuit"], shown["errors"]) == ("closed", {"backend_transient": 3})


def test_a_probe_that_fails_opens_it_again(
    make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, nginx: NginxServer
) -> None:
    daemon = make_daemon(configured(proxy, nginx))
    daemon.expected_log = ("is left alone",)
    watch = Watch(daemon)
    with ObjectPrefix("files", socket=daemon.socket) as files:
        proxy.inject(Fault(times=3, status=503), Fault(times=-1, status=503, headers=(("Retry-After", "3600"),)))
        for _ in range(3):
            with pytest.raises(TransientBackendError):
                files.read("file1")
        watch.until("files", lambda one: one.circuit == "half-open")
        with pytest.raises(TransientBackendError):
            files.read("file1")
        again = watch["files"]
        assert again.circuit == "open"
        assert again.retry_in_s > 200
        assert again.errors == {"backend_transient": 4}


def test_never_more_requests_than_the_origin_may_have(
    make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, nginx: NginxServer
) -> None:
    """Two of eight pass; of the node's three threads one is left for another origin."""
    config = configured(proxy, nginx, max_concurrent=2)
    daemon = make_daemon({**config, "limits": {"transfers": 3, "transfers_per_user": 3, "spacing_s": 0}})
    watch = Watch(daemon)
    go_on = threading.Event()
    proxy.choose = lambda _: Fault(wait_for=go_on)

    def read(number: int) -> bytes:
        with ObjectPrefix("files", socket=daemon.socket) as files:
            return files.read(f"file{number}")

    with ThreadPoolExecutor(8) as pool:
        reads = [pool.submit(read, number) for number in range(8)]
        deadline = time.monotonic() + LATEST_S
        while not any(one.name == "files" for one in watch.node.backends()):
            assert time.monotonic() < deadline
        full = watch.until("files", lambda one: one.waiting == 6)
        assert (full.under_way, full.max_concurrent) == (2, 2)
        with ObjectPrefix("direct", socket=daemon.socket) as direct:
            assert direct.read("file9") == b"9"
        assert proxy.count() == 2
        go_on.set()
        assert [one.result() for one in reads] == [b"%d" % number for number in range(8)]
    after = watch["files"]
    assert (after.under_way, after.waiting, after.requests) == (0, 0, 16)


@pytest.mark.root
def test_who_sees_what(
    needs_root: None, make_daemon: Callable[..., PantryDaemon], proxy: FaultProxy, nginx: NginxServer
) -> None:
    daemon = make_daemon(configured(proxy, nginx), system=True)
    with ObjectPrefix("files", socket=daemon.socket) as files, ObjectPrefix("private", socket=daemon.socket) as private:
        files.read("file1")
        with pytest.raises(BackendAccessError):
            private.read("file1")

    def seen_by(uid: int) -> str:
        words = ("backends", "--json")
        done = run_as(uid, RUN_COMMAND, *words, environment={"PANTRY_SOCKET": daemon.socket})
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert [one["name"] for one in json.loads(seen_by(READER))] == ["files"]
    assert json.loads(seen_by(STRANGER)) == []
    mine = {one.name: one for one in Node(daemon.socket).backends()}
    assert mine["private"].errors == {"backend_access": 1}
    assert "file1" in mine["private"].last_error, "an administrator sees the message"
    assert "not-the-right-one" not in repr(mine)
