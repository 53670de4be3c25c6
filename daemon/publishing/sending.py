"""One request to a web service, and what its answer means.

`Call.send` blocks; `send` runs it in a thread. The standard library's client is enough for it: no redirection is
followed, no proxy and no `.netrc` is used, and nothing is repeated that we did not decide to repeat.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import ipaddress
import json
import math
import os
import socket
import ssl
import time
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol

import trio

from pantry.daemon.publishing.target import Target
from pantry.daemon.publishing.templates import look_up
from pantry.errors import PantryError

MAX_ANSWER_BYTES = 256 * 1024
"""Longest answer that is looked at, in bytes; the rest is never read."""

MAX_RETRY_AFTER_S = 86_400.0
_EXCERPT = 200
_BLOCK_BYTES = 64 * 1024
_LATER = {408, 425, 429}
_CREDENTIAL = {401, 403, 407}

Verdict = Literal["accepted", "refused", "retry", "unknown"]


class Request(NamedTuple):
    """What is sent.

    Attributes
    ----------
    path : str
        Path and query.
    key : str
        By which the service can tell a repetition.
    body : bytes or BinaryIO
        The body, or the file that is it, which `Call.send` closes.
    size_bytes : int
        Its length.
    method : str
        If not that of the target.
    """

    path: str
    key: str
    body: bytes | BinaryIO
    size_bytes: int
    method: str = ""


class Outcome(NamedTuple):
    """What became of a request.

    Attributes
    ----------
    verdict : str
        ``accepted``; ``refused`` for good; ``retry``, since it was not done; ``unknown``, since it may have been done.
    problem : str
        Why, for people; empty if accepted.
    status : int
        Of the answer; 0 if none came.
    retry_after_s : float
        How long the service wants to be left alone, in seconds.
    concerns_all : bool
        Whether others would meet with the same: the service is away, busy, or does not accept the credential.
    """

    verdict: Verdict
    problem: str = ""
    status: int = 0
    retry_after_s: float = 0.0
    concerns_all: bool = False


class Call:
    """One request under way, which another thread can break off.

    Parameters
    ----------
    target : Target
        Where to.
    request : Request
        What.

    Attributes
    ----------
    has_sent : bool
        Whether the service may have got it.
    """

    def __init__(self, target: Target, request: Request) -> None:
        self._target = target
        self._request = request
        self._connection: http.client.HTTPConnection | None = None
        self.has_sent = False
        self._is_broken_off = False

    def break_off(self) -> None:
        """End the request at once, from any thread; `send` then fails."""
        self._is_broken_off = True
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def send(self) -> Outcome:
        """Send the request and read its answer; never raises for what the service or the network does."""
        try:
            return self._exchange()
        except PantryError as exc:
            return Outcome("retry", exc.message, concerns_all=True)
        except (OSError, http.client.HTTPException) as exc:
            what = _reason(exc, self._target)
            if self.has_sent:
                return Outcome("unknown", f"{what}, after the request was sent", concerns_all=True)
            return Outcome("retry", what, concerns_all=True)
        finally:
            if self._connection is not None:
                self._connection.close()
            if not isinstance(self._request.body, bytes):
                self._request.body.close()

    def _exchange(self) -> Outcome:
        target, request = self._target, self._request
        headers = {
            "Host": target.authority,
            "User-Agent": "pantry",
            "Accept": "application/json",
            **target.config.headers,
            "Content-Type": target.content_type,
            "Content-Length": str(request.size_bytes),
            "Idempotency-Key": request.key,
            "Connection": "close",
        }
        if (credential := target.credential()) is not None:
            headers[target.config.credential_header] = target.config.credential_form.replace("{credential}", credential)
        connection = self._connection = _connection(target)
        connection.connect()
        if self._is_broken_off:
            raise ConnectionAbortedError("given up")
        _check_address(connection.sock, target)
        connection.putrequest(
            request.method or target.config.method, request.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        try:
            # What the service may act upon is on its way from here.
            self.has_sent = True
            connection.endheaders()
            _send_body(connection, request)
        except (BrokenPipeError, ConnectionResetError):
            # It may have answered before it had read everything: a refusal is better than a guess.
            pass
        answer = connection.getresponse()
        said = answer.read(MAX_ANSWER_BYTES)
        if credential is not None:
            # Some services quote what they do not accept, and what they say is shown.
            said = said.replace(credential.encode(), b"(the credential)")
        return judge(target, answer.status, answer.getheader("Retry-After"), said)


class Way(Protocol):
    """The way to a target: a lane."""

    @property
    def target(self) -> Target: ...  # noqa: D102
    @property
    def threads(self) -> trio.CapacityLimiter: ...  # noqa: D102


async def send(lane: Way, request: Request) -> Outcome:
    """Send one request; it takes no longer than the target's time-out."""
    call = Call(lane.target, request)
    timeout_s = lane.target.config.timeout_s
    try:
        with trio.move_on_after(timeout_s):
            return await trio.to_thread.run_sync(call.send, abandon_on_cancel=True, limiter=lane.threads)
    finally:
        call.break_off()  # a thread that was left behind ends; after an answer there is nothing to end
    verdict: Verdict = "unknown" if call.has_sent else "retry"
    return Outcome(verdict, f"{lane.target.authority} did not answer within {timeout_s:g} s", concerns_all=True)


def _connection(target: Target) -> http.client.HTTPConnection:
    timeout_s = target.config.timeout_s
    if target.scheme == "http":
        return http.client.HTTPConnection(target.host, target.port, timeout=timeout_s, blocksize=_BLOCK_BYTES)
    context = ssl.create_default_context(cafile=target.config.ca_file or None)
    return http.client.HTTPSConnection(
        target.host, target.port, timeout=timeout_s, context=context, blocksize=_BLOCK_BYTES
    )


def _check_address(sock: Any, target: Target) -> None:
    """Refuse addresses that no service has: of the link, where clouds keep credentials, and of many or none.

    Private ones and this host are the operator's to name. The address is that of the connection, so that no second
    look-up can give another one.
    """
    address = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    inner = getattr(address, "ipv4_mapped", None) or address
    if inner.is_link_local or inner.is_multicast or inner.is_unspecified or (inner.is_reserved and inner.version == 4):
        raise OSError(f"{target.host} is at {inner}, where no service can be")


def _send_body(connection: http.client.HTTPConnection, request: Request) -> None:
    if isinstance(request.body, bytes):
        connection.send(request.body)
        return
    offset = 0
    while offset < request.size_bytes:
        # By its place: the descriptor's own position is shared with whoever reads the file besides.
        block = os.pread(request.body.fileno(), min(request.size_bytes - offset, _BLOCK_BYTES), offset)
        if not block:
            raise OSError("the dataset's file is shorter than it was")
        connection.send(block)
        offset += len(block)


def judge(target: Target, status: int, retry_after: str | None, body: bytes) -> Outcome:
    """Tell what an answer means."""
    if 200 <= status <= 299 or status in target.config.accepted:
        return _judge_content(target, status, body)
    said = _excerpt(body)
    problem = f"{target.authority} answered {status} {http.client.responses.get(status, '')}".rstrip() + said
    if 300 <= status <= 399:
        return Outcome("refused", f"{problem}; redirections are not followed", status)
    if status in _CREDENTIAL:
        return Outcome("retry", f"{problem}; is the credential right?", status, concerns_all=True)
    if status in _LATER or status >= 500:
        return Outcome("retry", problem, status, _retry_after(retry_after), concerns_all=True)
    return Outcome("refused", problem, status)


def _judge_content(target: Target, status: int, body: bytes) -> Outcome:
    expected = target.config.answer
    if not expected:
        return Outcome("accepted", status=status)
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        problem = f"{target.authority} answered {status} with what is no JSON{_excerpt(body)}"
        return Outcome("unknown", problem, status)
    for path, value in expected.items():
        for found in _all_at(said, path.split(".")):
            if found != value or isinstance(found, bool) != isinstance(value, bool):
                problem = (
                    f"{target.authority} answered {status}, in which {path} is {str(found)[:80]!r}{_excerpt(body)}"
                )
                return Outcome("refused", problem, status)
    return Outcome("accepted", status=status)


def _all_at(said: Any, path: list[str]) -> list[Any]:
    """Return everything at a path, in which ``*`` stands for each element of a list."""
    found = [said]
    for part in path:
        if part == "*":
            found = [one for each in found if isinstance(each, list) for one in each]
        else:
            found = [look_up(part, each) if isinstance(each, dict) else _element(each, part) for each in found]
    return found


def _element(value: Any, part: str) -> Any:
    return value[int(part)] if isinstance(value, list) and part.isdecimal() and int(part) < len(value) else None


def _retry_after(value: str | None) -> float:
    """Read a Retry-After header (RFC 9110, 10.2.3): seconds, or a date; nonsense is as if it were not there."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        seconds = float(value.strip()[:12])
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S) if math.isfinite(seconds) else 0.0


def _excerpt(body: bytes) -> str:
    """Quote the beginning of an answer, in one printable line."""
    text = " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())
    shown = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)[:_EXCERPT]
    return f": {shown}" if shown else ""


def _reason(exc: BaseException, target: Target) -> str:
    where = target.authority
    if isinstance(exc, TimeoutError):
        return f"{where} did not answer within {target.config.timeout_s:g} s"
    if isinstance(exc, socket.gaierror):
        return f"the host {target.host} is not known: {exc.strerror}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate of {where} is not trusted: {exc.verify_message}"
    if isinstance(exc, http.client.HTTPException):
        return f"{where} does not speak HTTP ({type(exc).__name__})"
    return f"the connection to {where} failed: {getattr(exc, 'strerror', None) or exc}"
