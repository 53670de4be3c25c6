"""HTTP requests to a VOSpace service: the only module that knows requests.

A request is sent with the credential only to the service's own host and to those that are trusted; redirects are
followed here, never by the library, so that this holds for them too. Requests that may be repeated are.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

from pantry.backends.contract import SinkError
from pantry.backends.credentials import BasicAuth, BearerToken, ClientCertificate, Credential, without_secrets
from pantry.backends.pumping import read_whole
from pantry.backends.redirects import REDIRECTS, redirected, server_of
from pantry.backends.retry_after import retry_after_s
from pantry.backends.vospace._faults import answered
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.backends.web_sessions import make_session
from pantry.errors import BackendError, TransientBackendError

MAX_DOCUMENT_BYTES = 64 << 20
"""Longest document that is read into memory."""

MAX_REDIRECTS = 8
_ERROR_BYTES = 1 << 16
_PASSING = frozenset({429, 502, 503, 504})
_BACKOFF_S = 0.1
_LONGEST_WAIT_S = 20.0
"""A service that wants to be left alone for longer is left to the caller, who may have other work."""

_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})

Checkpoint = Callable[[], None]
SECURITY_METHODS = {
    BearerToken: ("ivo://ivoa.net/sso#token",),
    BasicAuth: ("ivo://ivoa.net/sso#BasicAA", "http://www.w3.org/Protocols/HTTP/1.0/spec/html#BasicAA"),
    ClientCertificate: ("ivo://ivoa.net/sso#tls-with-certificate",),
}


class UntrustedServerError(BackendError):
    """No connection to a server that can be trusted; another endpoint may do."""


class Answer:
    """Status, headers and whole body of an answer.

    Attributes
    ----------
    url : str
        Of the last request; where it was redirected to, if that was not followed, is ``location``.
    """

    def __init__(self, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def location(self) -> str:
        """Absolute URL of a redirection; empty if there is none."""
        found = self.headers.get("location", "")
        return urljoin(self.url, found) if found else ""

    def expect(self, key: str, *statuses: int) -> Answer:
        """Return the answer if it has one of ``statuses`` (any of success by default), else raise its fault."""
        if self.status in statuses or (not statuses and 200 <= self.status < 300):
            return self
        raise answered(self.status, self.headers, self.body, key)


class Web:
    """Sends requests; safe for use by many threads.

    Parameters
    ----------
    options : VOSpaceOptions
        Time-outs, hosts, attempts.
    credential : Credential or None
        Sent to the service's own host and the trusted ones.
    """

    def __init__(self, options: VOSpaceOptions, credential: Credential | None) -> None:
        self._options = options
        self._credential = credential
        self._lock = threading.Lock()
        # Two sessions, so that no credential, and no connection opened with one, ever serves another host.
        self._ours: Any = None
        self._strange: Any = None
        self._server = server_of(options.endpoint_url)

    @property
    def security_methods(self) -> tuple[str, ...]:
        """How the credential is sent, as identifiers of SSO 2.0; empty without one."""
        return SECURITY_METHODS[type(self._credential)] if self._credential is not None else ()

    def read_said(self, body: bytes) -> bytes:
        """Return a document of the service without our own secret, should it repeat that."""
        return without_secrets(body, self._credential)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for session in (self._ours, self._strange):
                if session is not None:
                    session.close()
            self._ours = self._strange = None

    def ask(
        self,
        method: str,
        url: str,
        key: str,
        *,
        body: bytes | None = None,
        params: Mapping[str, str] | None = None,
        follow: bool = True,
        checkpoint: Checkpoint,
        repeat: bool | None = None,
        form: bool = False,
    ) -> Answer:
        """Send a request with a small body and return the whole answer, whatever its status.

        Parameters
        ----------
        method, url, body, params
            Of the request.
        key : str
            What it is about, for messages.
        follow : bool
            Follow redirections, by GET as 303 asks for.
        checkpoint : Callable[[], None]
            Called before each attempt; raises to stop.
        repeat : bool, optional
            Send it again when the connection fails or the service is busy; by default if the method may be repeated.
        form : bool
            Send ``params`` as the form in the body.
        """
        headers = {} if body is None else {"Content-Type": "text/xml"}
        for _ in range(MAX_REDIRECTS):
            sent = {"data": dict(params or {})} if form else {"data": body, "params": dict(params or {}) or None}
            answer = self._ask_once(method, url, key, headers, sent, checkpoint, repeat)
            if not follow or answer.status not in REDIRECTS or not answer.location:
                return answer
            if answer.status not in (307, 308):
                method, body, headers, form = "GET", None, {}, False
            params, url = None, self.redirected(url, answer.headers, key)
        raise BackendError(f"the VOSpace service redirects without end at {key!r}", key=key)

    def _ask_once(
        self,
        method: str,
        url: str,
        key: str,
        headers: Mapping[str, str],
        sent: Mapping[str, Any],
        checkpoint: Checkpoint,
        repeat: bool | None,
    ) -> Answer:
        may_repeat = method in _IDEMPOTENT if repeat is None else repeat
        for attempt in range(1, self._options.max_attempts + 1):
            checkpoint()
            last = attempt == self._options.max_attempts or not may_repeat
            try:
                with self.open(method, url, key, headers=headers, **sent) as reply:
                    body = read_whole(
                        reply.raw,
                        key,
                        most_bytes=MAX_DOCUMENT_BYTES,
                        within_s=self._options.job_timeout_s,
                        checkpoint=checkpoint,
                    )
                    answer = Answer(url, reply.status_code, _lowered(reply.headers), self.read_said(body))
            except TransientBackendError:
                if last:
                    raise
                wait_s = None
            else:
                # Nothing was done by a request that got 503: it may be sent again whatever it is.
                if answer.status not in _PASSING or attempt == self._options.max_attempts:
                    return answer
                if answer.status != 503 and not may_repeat:
                    return answer
                wait_s = retry_after_s(answer.headers)
                if wait_s is not None and wait_s > _LONGEST_WAIT_S:
                    return answer
            _pause(attempt, wait_s, checkpoint)
        raise AssertionError(key)

    @contextmanager
    def open(self, method: str, url: str, key: str, **sent: Any) -> Iterator[Any]:
        """Send one request and give the answer with its body unread; redirections are the caller's."""
        import requests
        import urllib3.exceptions

        try:
            with self._session(url, key).request(
                method,
                url,
                stream=True,
                allow_redirects=False,
                timeout=(self._options.connect_timeout_s, self._options.read_timeout_s),
                **sent,
            ) as reply:
                yield reply
        except SinkError:
            raise
        except requests.exceptions.SSLError as exc:
            raise UntrustedServerError(
                f"no trusted TLS connection for {key!r}",
                hint="Check endpoint_url, authority_file and certificate.",
                key=key,
            ) from exc
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ) as exc:
            raise BackendError(f"the VOSpace service gave an unusable URL for {key!r}", key=key) from exc
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            # Only the class: the text may hold a pre-authorised URL.
            raise TransientBackendError(
                f"the VOSpace service failed at {key!r}: {type(exc).__name__}", key=key
            ) from exc
        except OSError as exc:
            raise BackendError(
                f"the request for {key!r} could not be sent: {type(exc).__name__}",
                hint="Check authority_file.",
                key=key,
            ) from exc

    def refused(self, reply: Any, key: str, checkpoint: Checkpoint) -> BackendError:
        """Make the error for an answer of `open` that is none of success."""
        body = read_whole(
            reply.raw,
            key,
            most_bytes=_ERROR_BYTES,
            within_s=self._options.read_timeout_s,
            checkpoint=checkpoint,
            cut=True,
        )
        return answered(reply.status_code, _lowered(reply.headers), self.read_said(body), key)

    @staticmethod
    def redirected(url: str, headers: Mapping[str, str], key: str) -> str:
        """Return where an answer of ``url`` redirects to; `UntrustedServerError` if nobody should go there."""
        try:
            return redirected(url, headers.get("location", ""), key)
        except BackendError as exc:
            raise UntrustedServerError(exc.message, key=key) from None

    def is_trusted(self, url: str) -> bool:
        """Whether the credential may be sent to the server of ``url``."""
        scheme, host, port = server_of(url)
        # The scheme too: http://host:443 is the same host and port as the service's, in the clear.
        return (scheme, host, port) == self._server or (
            scheme == "https" and not self._options.trusted.isdisjoint((host, f"{host}:{port}"))
        )

    def _session(self, url: str, key: str) -> Any:
        scheme = server_of(url)[0]
        if scheme not in ("http", "https"):
            raise UntrustedServerError(f"the VOSpace service gave a URL for {key!r} that is no HTTP", key=key)
        if scheme == "http" and self._server[0] == "https":
            raise UntrustedServerError(
                f"the VOSpace service, which is asked by https, gave an http URL for {key!r}: refused",
                hint="Data and credentials would go unencrypted. Who runs the service can mend it.",
                key=key,
            )
        with self._lock:
            if self._ours is None:
                options = self._options
                self._ours, self._strange = (
                    make_session(who, ca_file=options.authority_file, max_connections=options.max_connections)
                    for who in (self._credential, None)
                )
            return self._ours if self.is_trusted(url) else self._strange


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _pause(attempt: int, wait_s: float | None, checkpoint: Checkpoint) -> None:
    """Wait before the next attempt, as long as the service asks for; interrupted by ``checkpoint``."""
    backoff_s = _BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    until_s = time.monotonic() + min(backoff_s if wait_s is None else max(wait_s, 0.01), _LONGEST_WAIT_S)
    while (left_s := until_s - time.monotonic()) > 0:
        checkpoint()
        time.sleep(min(left_s, 0.1))
