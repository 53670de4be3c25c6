"""An HTTP proxy that misbehaves on request, between a client and a server.

One thread a connection, one request at a time on it, so that what happens to the n-th request is
decided by the test and by nothing else. Requests and bytes are counted as the server sees them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

_PIECE = 1 << 16
_HEAD_LIMIT = 1 << 20
_TRICKLES_PER_S = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to one request, or to several.

    Attributes
    ----------
    method : str or None
        Strikes requests of this method only.
    times : int
        How many requests it strikes; -1 for all from now on.
    skip : int
        How many matching requests pass before it strikes.
    status : int or None
        Answer this status at once; the server never sees the request.
    headers : tuple[tuple[str, str], ...]
        More headers for that answer.
    cut_request_after : int or None
        Close both sides after so many bytes of the request's body.
    cut_after : int or None
        Close the connection after so many bytes of the answer's body; -1: before its first header.
        The server has obeyed.
    reset : bool
        Cut by a TCP reset, which takes back what the client has not read yet, not by an orderly end.
    truncate_to : int or None
        Give the answer a shorter body, with a Content-Length that fits: a lying server.
    corrupt_at : int or None
        Flip all bits of this byte of the answer's body.
    wait_for : threading.Event or None
        Hold the request back until the event is set.
    drop_headers : tuple[str, ...]
        Take these headers out of the request before the server sees it.
    delay_s : float
        Wait so long before the request goes on to the server: latency, in seconds.
    silent : bool
        Never answer, and keep the connection until the client gives up: a half-open one.
    stall_after : int or None
        Say nothing more after so many bytes of the answer's body, and keep the connection likewise.
    trickle_bytes_per_s : int or None
        Give the answer's body no faster than this.
    etag : str or None
        Replace the answer's ETag by this one.
    """

    method: str | None = None
    times: int = 1
    skip: int = 0
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    cut_request_after: int | None = None
    cut_after: int | None = None
    reset: bool = False
    truncate_to: int | None = None
    corrupt_at: int | None = None
    wait_for: threading.Event | None = None
    drop_headers: tuple[str, ...] = ()
    delay_s: float = 0.0
    silent: bool = False
    stall_after: int | None = None
    trickle_bytes_per_s: int | None = None
    etag: str | None = None


@dataclasses.dataclass
class Request:
    """One request that came to the proxy."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body_bytes: int = 0
    answer_bytes: int = 0
    status: int = 0
    fault: Fault | None = None


class _CutError(Exception):
    """This connection ends here."""


class FaultProxy:
    """Listens on loopback and forwards to ``upstream``; a context manager.

    Attributes
    ----------
    requests : list[Request]
        All requests so far, in order of arrival.
    refusing : bool
        While true, new connections are closed at once, and old ones at their next request.
    choose : Callable[[Request], Fault | None] or None
        Asked for the fault of every request that no armed fault strikes, one request at a time.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._faults: list[_Armed] = []
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._connections = 0
        self._closing = threading.Event()
        self.choose: Callable[[Request], Fault | None] | None = None
        self.requests: list[Request] = []
        self.refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self._connections

    def inject(self, *faults: Fault) -> None:
        """Arm faults; a request gets the first one that matches it."""
        with self._lock:
            self._faults += [_Armed(fault) for fault in faults]

    def clear(self) -> None:
        """Disarm all faults and forget the requests so far."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()

    def count(self, method: str | None = None) -> int:
        """Requests so far, of one method or of all."""
        with self._lock:
            return sum(method in (None, request.method) for request in self.requests)

    def bytes_answered(self) -> int:
        """Bytes of bodies that went to the client so far."""
        with self._lock:
            return sum(request.answer_bytes for request in self.requests)

    def wait_for_request(self, matches: Callable[[Request], bool], *, timeout_s: float = 10.0) -> Request:
        """Block until a request that matches has come in."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: any(map(matches, self.requests)), timeout_s):
                raise TimeoutError("no such request came to the proxy")
            return next(filter(matches, self.requests))

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for armed in self._faults:
                if armed.fault.wait_for is not None:
                    armed.fault.wait_for.set()
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(10)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._closing.is_set() or self.refusing:
                _reset(client)
                continue
            self._connections += 1
            self._start(self._serve, client, self._connections)

    def _serve(self, client: socket.socket, number: int) -> None:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError, _CutError))
            stack.callback(self._forget, client)
            self._remember(client)
            server = socket.create_connection(self._upstream, timeout=60)
            stack.callback(self._forget, server)
            self._remember(server)
            exchange = _Exchange(self, client, server, number)
            while not self._closing.is_set():
                exchange.one()

    def _remember(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.add(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)
        connection.close()

    def _note(self, request: Request) -> Fault | None:
        with self._arrived:
            request.fault = next((armed.fault for armed in self._faults if armed.strikes(request)), None)
            if request.fault is None and self.choose is not None:
                request.fault = self.choose(request)
            self.requests.append(request)
            self._arrived.notify_all()
        return request.fault

    def _wait(self, delay_s: float) -> None:
        self._closing.wait(delay_s)


class _Armed:
    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._skip = fault.skip
        self._left = fault.times

    def strikes(self, request: Request) -> bool:
        if self._left == 0 or self.fault.method not in (None, request.method):
            return False
        if self._skip:
            self._skip -= 1
            return False
        self._left -= 1
        return True


class _Exchange:
    """Requests and answers on one connection, strictly one after the other."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, server: socket.socket, number: int) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._number = number
        self._from_client = _buffered(client)
        self._from_server = _buffered(server)

    def one(self) -> None:
        first, headers = _read_head(self._from_client)
        method, target, _ = first.split(" ", 2)
        request = Request(self._number, method, target, dict(_lowered(headers)))
        fault = self._proxy._note(request) or Fault()
        if self._proxy.refusing:
            raise _CutError("refusing")
        if fault.wait_for is not None:
            fault.wait_for.wait()
        if fault.delay_s:
            self._proxy._wait(fault.delay_s)
        if fault.silent:
            self._hold()
        if fault.status is not None:
            self._refuse(request, fault.status, fault.headers)
        headers = [(name, value) for name, value in headers if name.lower() not in fault.drop_headers]
        self._server.sendall(_head(first, headers))
        self._forward_request(request, fault)
        self._forward_answer(request, fault)

    def _forward_request(self, request: Request, fault: Fault) -> None:
        left = int(request.headers.get("content-length", "0"))
        if request.headers.get("transfer-encoding"):
            raise _CutError("chunked requests are not forwarded")
        if left and request.headers.get("expect"):
            interim, headers = _read_head(self._from_server)
            self._client.sendall(_head(interim, headers))
            if " 100" not in interim:
                raise _CutError("the server refused before the body")
        while left:
            limit = min(left, _PIECE)
            if fault.cut_request_after is not None:
                limit = min(limit, fault.cut_request_after - request.body_bytes)
                if limit <= 0:
                    self._cut(fault)
            piece = self._from_client.read1(limit)
            if not piece:
                raise _CutError("the client went away")
            self._server.sendall(piece)
            request.body_bytes += len(piece)
            left -= len(piece)

    def _forward_answer(self, request: Request, fault: Fault) -> None:
        first, headers = _read_head(self._from_server)
        request.status = int(first.split(" ", 2)[1])
        if fault.cut_after == -1:
            self._cut(fault)
        fields = dict(_lowered(headers))
        bodiless = request.method == "HEAD" or request.status in (204, 304)
        length = 0 if bodiless else int(fields.get("content-length", "0"))
        chunked = not bodiless and "chunked" in fields.get("transfer-encoding", "")
        keep = length if fault.truncate_to is None else min(length, fault.truncate_to)
        if keep != length:
            headers = [(n, str(keep) if n.lower() == "content-length" else v) for n, v in headers]
        if fault.etag is not None:
            headers = [(n, fault.etag if n.lower() == "etag" else v) for n, v in headers]
        self._client.sendall(_head(first, headers))
        if chunked:
            self._forward_chunks(request, fault)
        else:
            self._forward_body(request, fault, length, keep)
        if fields.get("connection", "").lower() == "close":
            raise _CutError("the server closes")

    def _forward_body(self, request: Request, fault: Fault, length: int, keep: int) -> None:
        position = 0
        while position < length:
            limit = min(_PIECE, length - position)
            if fault.cut_after is not None:
                limit = min(limit, fault.cut_after - position)
                if limit <= 0:
                    self._cut(fault)
            if fault.stall_after is not None:
                limit = min(limit, fault.stall_after - position)
                if limit <= 0:
                    self._hold()
            if fault.trickle_bytes_per_s is not None:
                limit = min(limit, max(1, fault.trickle_bytes_per_s // _TRICKLES_PER_S))
                self._proxy._wait(limit / fault.trickle_bytes_per_s)
            piece = bytearray(self._from_server.read1(limit))
            if not piece:
                raise _CutError("the server went away")
            if fault.corrupt_at is not None and position <= fault.corrupt_at < position + len(piece):
                piece[fault.corrupt_at - position] ^= 0xFF
            sent = piece[: max(0, keep - position)]
            # Counted first: a client that has read everything may ask for the sum at once.
            request.answer_bytes += len(sent)
            self._client.sendall(sent)
            position += len(piece)

    def _forward_chunks(self, request: Request, fault: Fault) -> None:
        stop = min(
            (one for one in (fault.cut_after, fault.stall_after, fault.truncate_to) if one is not None), default=None
        )
        while True:
            line = self._from_server.readline(_HEAD_LIMIT)
            size = int(line.split(b";")[0], 16)
            data = self._from_server.read(size)
            end = self._from_server.readline(_HEAD_LIMIT)
            if stop is not None and request.answer_bytes + size >= stop:
                data = data[: stop - request.answer_bytes]
                request.answer_bytes += len(data)
                if fault.truncate_to is not None:
                    last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
                    self._client.sendall(last + b"0\r\n\r\n")
                    raise _CutError("the rest of the answer is nobody's")
                # Of a chunk that is longer.
                self._client.sendall(b"%x\r\n%b" % (len(data) + 1, data))
                if fault.stall_after is not None:
                    self._hold()
                self._cut(fault)
            request.answer_bytes += size
            self._client.sendall(line + data + end)
            if size == 0:
                return

    def _refuse(self, request: Request, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        request.status = status
        answer = [*headers, ("Content-Length", "0"), ("Connection", "close")]
        self._client.sendall(_head(f"HTTP/1.1 {status} Fault", answer))
        # Read what the client still sends, or closing would reset the connection under its answer.
        self._client.shutdown(socket.SHUT_WR)
        while self._from_client.read1(_PIECE):
            pass
        raise _CutError("refused")

    def _hold(self) -> NoReturn:
        """Keep the connection, swallowing what comes, until the client or the proxy closes it."""
        while self._from_client.read1(_PIECE):
            pass
        raise _CutError("held until the end")

    def _cut(self, fault: Fault) -> NoReturn:
        self._from_client.close()
        self._from_server.close()
        if fault.reset:
            _reset(self._client)
        _reset(self._server)
        raise _CutError("as told")


def _buffered(connection: socket.socket) -> io.BufferedReader:
    return io.BufferedReader(connection.makefile("rb", buffering=0), _PIECE)


def _reset(connection: socket.socket) -> None:
    """Close with a TCP reset, as a machine that is gone does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _read_head(stream: io.BufferedReader) -> tuple[str, list[tuple[str, str]]]:
    lines: list[str] = []
    while True:
        line: bytes = stream.readline(_HEAD_LIMIT)
        if not line.endswith(b"\n"):
            raise _CutError("the peer went away")
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            break
        lines.append(text)
    if not lines:
        raise _CutError("an empty head")
    pairs = [line.partition(":") for line in lines[1:]]
    return lines[0], [(name, value.strip()) for name, _, value in pairs]


def _lowered(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in headers]


def _head(first: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")
