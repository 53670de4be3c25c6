"""A server that sends the head of its answer byte by byte: given up, however often it says something."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import requests

from pantry.backends.web_sessions import make_session

TIMEOUT_S = 0.3
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Slow: "
_REST = b"\r\n\r\nok"


class SlowServer:
    """Answers each connection once: the head slowly for so many bytes, then what is missing."""

    def __init__(self, slow_bytes: int) -> None:
        self._slow_bytes = slow_bytes
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1 << 16)
                    connection.sendall(_HEAD)
                    for _ in range(self._slow_bytes):
                        if self._closing.wait(TIMEOUT_S / 3):
                            return
                        connection.sendall(b"x")
                    connection.sendall(_REST)

    def close(self) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with make_session(None, ca_file=None, max_connections=1) as made:
        yield made


@pytest.mark.parametrize(("slow_bytes", "comes"), [(0, True), (2, True), (60, False)])
def test_a_head_that_trickles(session: requests.Session, slow_bytes: int, comes: bool) -> None:
    server = SlowServer(slow_bytes)
    try:
        if comes:
            assert session.get(server.url, timeout=TIMEOUT_S).text == "ok"
        else:
            with pytest.raises(requests.exceptions.Timeout):
                session.get(server.url, timeout=TIMEOUT_S)
    finally:
        server.close()
