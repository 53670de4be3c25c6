"""HTTP: one handler for all listeners of a space."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, ClassVar

from tests.servers.vospace import identity, internal, jobs, metadata, nodes
from tests.servers.vospace.body import Body
from tests.servers.vospace.data import Data
from tests.servers.vospace.faults import Fault
from tests.servers.vospace.jobs import Jobs
from tests.servers.vospace.journal import Entry, Journal
from tests.servers.vospace.request import (
    DATA_ROOT,
    ROOT,
    Origin,
    Request,
    Response,
    parse_parameters,
    parse_path,
    text,
)
from tests.servers.vospace.service import Service
from tests.servers.vospace.tickets import Tickets
from tests.servers.vospace.transfers import Transfers

_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,100}")
_BLOCK = 1 << 16


class Space:
    """A service with everything that belongs to it, and the table of its resources."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.journal = Journal()
        self.jobs = Jobs(service)
        tickets = Tickets()
        self._transfers = Transfers(service, self.jobs, tickets)
        self._data = Data(service, self.jobs, tickets)

    def answer(self, request: Request) -> Response:
        """Answer one request to the service."""
        endpoint = request.path[0] if request.path else ""
        routes: dict[str, Callable[[Request], Response]] = {
            "nodes": self._nodes,
            "files": self._data.files,
            "data": self._data.endpoint,
            "synctrans": self._transfers.synchronous,
            "sync": self._transfers.synchronous,
            "xfer": self._transfers.details,
            "transfers": lambda request: self._job_list(request, self._transfers.create),
            "async-delete": lambda request: self._job_list(request, self._recursive),
            "async-setprops": lambda request: self._job_list(request, self._recursive),
        }
        for name in ("protocols", "views", "properties", "capabilities", "availability"):
            routes[name] = lambda request: metadata.answer(self.service, request)
        route = routes.get(endpoint)
        return route(request) if route is not None else Response(status=404)

    def answer_data(self, request: Request) -> Response:
        """Answer one request to the host that has the data only."""
        return self._data.endpoint(request) if request.path[:1] == ("data",) else Response(status=404)

    def _nodes(self, request: Request) -> Response:
        if request.method == "GET" and request.parameters.get("view") == "data":
            return self._data.view_data(request)
        return nodes.answer(self.service, request)

    def _recursive(self, request: Request) -> Response:
        return internal.create_recursive(self.service, self.jobs, request)

    def _job_list(self, request: Request, create: Callable[[Request], Response]) -> Response:
        if request.method == "POST" and len(request.path) == 1:
            return create(request)
        return jobs.answer(self.service, self.jobs, request)


class Listener(ThreadingHTTPServer):
    """One address.

    Parameters
    ----------
    urls : dict
        Scheme to URL of the service, by its own addresses.
    kind : str
        "service" or "data".
    tls : SSLContext, optional
        Speak HTTPS.
    """

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], space: Space, urls: dict[str, str], kind: str, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(address, Handler)
        self.space = space
        self.urls = urls
        self.kind = kind
        self.scheme = "https" if tls is not None else "http"
        if tls is not None:
            # The handshake is done by the thread of the connection: nobody waits for a slow one.
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A peer that went away is no news."""


class Handler(BaseHTTPRequestHandler):
    """One connection, kept open over requests."""

    protocol_version = "HTTP/1.1"
    server_version = "pantry-test-vospace"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 300
    server: Listener
    _SERVED: ClassVar = ("GET", "HEAD", "PUT", "POST", "DELETE")

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815

    def _serve(self) -> None:
        listener, space = self.server, self.server.space
        split = urllib.parse.urlsplit(self.path)
        entry = space.journal.begin(
            Entry(
                listener=listener.kind + ("+tls" if listener.scheme == "https" else ""),
                method=self.command,
                path=self.path,
                range=self.headers.get("Range") or "",
                has_credentials="Authorization" in self.headers,
                user_agent=self.headers.get("User-Agent") or "",
            )
        )
        body = Body(self.rfile, self.headers)
        try:
            response = self._answer(split, body, entry)
        except Fault as fault:
            response = text(fault.text(details=space.service.dialect.fault_details), status=fault.status)
            if fault.status == 401:
                response.headers["WWW-Authenticate"] = ", ".join(identity.CHALLENGES)
        except Exception as exc:
            self.log_error("%r", exc)
            response = text(f"InternalFault {exc!r}", status=500)
        if not body.drain():
            self.close_connection = True
        entry.received_bytes = body.received_bytes
        entry.status = response.status
        if space.journal.keeps_documents and "xml" in response.headers.get("Content-Type", ""):
            entry.document = response.body.decode()
        entry.sent_bytes = self._send(response)
        response.done()

    def _answer(self, split: urllib.parse.SplitResult, body: Body, entry: Entry) -> Response:
        listener, service = self.server, self.server.space.service
        path = parse_path(split.path)
        root = DATA_ROOT if listener.kind == "data" else ROOT
        if path[:1] != (root,):
            return Response(status=404)
        path = path[1:]
        entry.endpoint = path[0] if path else ""
        if service.is_unavailable(entry.endpoint):
            seconds = service.dialect.unavailable.retry_after_s
            headers = {} if seconds is None else {"Retry-After": str(seconds)}
            return Response(status=503, headers=headers, body=b"busy, come again")
        account = identity.identify(service, self.headers, self.connection)
        entry.user = account.name if account is not None else ""
        entry.method_of_user = identity.method_of(self.headers, self.connection, account)
        request = Request(
            method=self.command,
            path=path,
            parameters=parse_parameters(split.query),
            headers=self.headers,
            origin=Origin(account, self._urls(), listener.scheme),
            at_data_host=listener.kind == "data",
            read=body.read,
            length=body.length,
        )
        space = listener.space
        return space.answer_data(request) if listener.kind == "data" else space.answer(request)

    def _urls(self) -> dict[str, str]:
        """URLs of the service; by the name that the caller used, since there may be a proxy before us."""
        urls = dict(self.server.urls)
        host = self.headers.get("Host") or ""
        if self.server.kind == "service" and _HOST.fullmatch(host):
            urls[self.server.scheme] = f"{self.server.scheme}://{host}/{ROOT}"
        return urls

    def _send(self, response: Response) -> int:
        """Send an answer; returns how many bytes of a body were sent."""
        with contextlib.ExitStack() as stack:
            length = len(response.body)
            if response.file is not None:
                file, start, stop = response.file
                stack.enter_context(file)
                length = stop - start
            has_body = self.command != "HEAD" and response.status not in (204, 304)
            self._send_head(response, length)
            if not has_body:
                return 0
            if response.file is None:
                self.wfile.write(response.body)
                return length
            self.wfile.flush()
            if response.chunked:
                return self._send_chunks(file, start, length)
            return self.connection.sendfile(file, start, length) if length else 0

    def _send_head(self, response: Response, length: int) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif response.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def _send_chunks(self, file: BinaryIO, start: int, length: int) -> int:
        file.seek(start)
        sent = 0
        while sent < length and (block := file.read(min(_BLOCK, length - sent))):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
            sent += len(block)
        self.wfile.write(b"0\r\n\r\n")
        return sent

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """The journal has it."""

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
