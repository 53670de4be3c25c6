"""The tests' own way in, on a port of its own: the journal and the dialect."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from tests.servers.vospace.handler import Space


class ControlListener(ThreadingHTTPServer):
    """Answers whoever knows the secret."""

    daemon_threads = True

    def __init__(self, port: int, space: Space, secret: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.space = space
        self.secret = secret


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: ControlListener

    def do_GET(self) -> None:
        self._answer(self._act(None))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            answer = self._act(json.loads(body))
        except (ValueError, msgspec.ValidationError) as exc:
            self._answer({"error": str(exc)}, status=400)
        else:
            self._answer(answer)

    def _act(self, change: Any) -> Any:
        space = self.server.space
        secret, _, what = self.path.strip("/").partition("/")
        if secret != self.server.secret:
            return None
        if what == "journal":
            if change is not None:
                space.journal.clear(keep_documents=change["keep_documents"])
            return msgspec.to_builtins(space.journal.entries())
        if what == "dialect":
            if change is not None:
                space.service.set_dialect(space.service.config.dialect)
                space.service.change_dialect(change)
            return msgspec.to_builtins(space.service.dialect)
        return None

    def _answer(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status if value is not None else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
