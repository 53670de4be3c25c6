"""A web service to publish to: remembers what it got, and fails on demand; knows nothing of our code."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self


class Received(NamedTuple):
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def key(self) -> str:
        return self.headers.get("Idempotency-Key", "")


class Answer(NamedTuple):
    """What the service does with a request."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = {}
    accepts: bool = True
    """Whether it counts as done."""
    reset: bool = False
    """Cut the connection in place of answering."""
    raw: bytes = b""
    """Send this in place of an HTTP answer."""
    hang: bool = False
    """Say nothing until `QaService.release`."""


class QaService:
    """An HTTP server on loopback; a context manager.

    Parameters
    ----------
    certificate : Path, optional
        With its key: speak HTTPS.

    Attributes
    ----------
    requests : list of Received
        All that came, in order.
    done : dict
        What it took, by idempotency key: a second request with one changes nothing.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[Received] = []
        self.done: dict[str, Received] = {}
        self._answers: list[Answer] = []
        self._always: Answer = Answer()
        self._changed = threading.Condition()
        self._released = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                got = Received(self.command, self.path, dict(self.headers), body, time.monotonic())
                service._serve(self, got)

            do_POST = do_PUT = do_GET = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def then(self, *answers: Answer) -> None:
        """Answer the next requests so, one each; afterwards as always."""
        with self._changed:
            self._answers += answers

    def always(self, answer: Answer) -> None:
        """Answer so from now on."""
        with self._changed:
            self._always = answer
            self._answers.clear()

    def release(self) -> None:
        """Let what hangs go on."""
        self._released.set()

    def wait(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Return when a condition on what came holds."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), f"after {timeout_s} s: {self.requests}"

    def _serve(self, handler: BaseHTTPRequestHandler, got: Received) -> None:
        with self._changed:
            answer = self._answers.pop(0) if self._answers else self._always
            self.requests.append(got)
            if answer.accepts and 200 <= answer.status <= 299:
                self.done.setdefault(got.key, got)
            self._changed.notify_all()
        if answer.hang:
            self._released.wait(60)
            answer = answer._replace(reset=True)
        if answer.reset:
            # Not an orderly end: the peer gets ECONNRESET.
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            handler.connection.close()
            return
        if answer.raw:
            handler.wfile.write(answer.raw)
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(answer.body)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
