"""The proxy does to requests what the other tests believe it does."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.fault.proxy import Fault, FaultProxy, Request

BODY = bytes(range(256)) * 40


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: that connections are cut is the point."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"right"')
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with FaultProxy(("127.0.0.1", server.server_address[1])) as made:
            yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(proxy: FaultProxy, *, timeout_s: float = 10.0) -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=timeout_s)
    try:
        connection.request("GET", "/thing")
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read()
    finally:
        connection.close()


def test_without_a_fault_it_only_counts(proxy: FaultProxy) -> None:
    assert ask(proxy) == (200, '"right"', BODY)
    assert (proxy.count("GET"), proxy.bytes_answered()) == (1, len(BODY))


def test_latency_comes_before_the_answer(proxy: FaultProxy) -> None:
    proxy.inject(Fault(delay_s=0.3))
    begun = time.monotonic()
    assert ask(proxy)[2] == BODY
    assert time.monotonic() - begun >= 0.3


def test_a_silent_connection_stays_open_and_says_nothing(proxy: FaultProxy) -> None:
    proxy.inject(Fault(silent=True))
    with pytest.raises(TimeoutError):
        ask(proxy, timeout_s=0.3)
    assert ask(proxy)[2] == BODY


def test_a_stall_gives_the_first_bytes_and_no_more(proxy: FaultProxy) -> None:
    proxy.inject(Fault(stall_after=1000))
    with pytest.raises(TimeoutError):
        ask(proxy, timeout_s=0.3)
    assert proxy.requests[0].answer_bytes == 1000


def test_a_trickle_is_slow_and_right(proxy: FaultProxy) -> None:
    proxy.inject(Fault(trickle_bytes_per_s=len(BODY) * 3))
    begun = time.monotonic()
    assert ask(proxy)[2] == BODY
    assert time.monotonic() - begun >= 0.3


def test_the_etag_is_replaced(proxy: FaultProxy) -> None:
    proxy.inject(Fault(etag='"wrong"'))
    assert ask(proxy) == (200, '"wrong"', BODY)
    assert ask(proxy) == (200, '"right"', BODY)


def test_one_byte_is_damaged_and_the_length_right(proxy: FaultProxy) -> None:
    proxy.inject(Fault(corrupt_at=77))
    got = ask(proxy)[2]
    assert [at for at, (one, other) in enumerate(zip(got, BODY, strict=True)) if one != other] == [77]


def test_a_refusal_has_its_headers(proxy: FaultProxy) -> None:
    proxy.inject(Fault(status=503, headers=(("Retry-After", "7"), ("ETag", "e"))))
    assert ask(proxy) == (503, "e", b"")
    assert proxy.requests[0].status == 503


def test_choose_is_asked_for_every_request_that_no_armed_fault_strikes(proxy: FaultProxy) -> None:
    asked: list[Request] = []

    def choose(request: Request) -> Fault | None:
        asked.append(request)
        return Fault(status=500) if len(asked) == 2 else None

    proxy.choose = choose
    proxy.inject(Fault(status=404))
    assert [ask(proxy)[0] for _ in range(4)] == [404, 200, 500, 200]
    assert asked == proxy.requests[1:]
    assert proxy.requests[2].fault == Fault(status=500)
