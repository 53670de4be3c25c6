"""HTTP requests to a VOSpace service: the only module that knows requests.

A request is sent with the credential only to the service's own host and to those that are trusted; redirects are
followed here, never by the library, so that this holds for them too. Requests that may be repeated are.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin, urlsplit

from pantry.backends.credentials import BasicAuth, BearerToken, ClientCertificate, Credential, without_secrets
from pantry.backends.retry_after import retry_after_s
from pantry.backends.vospace._faults import answered
from pantry.backends.vospace.options import VOSpaceOptions
from pantry.errors import BackendError, ConfigError, TransientBackendError

MAX_DOCUMENT_BYTES = 64 << 20
"""Longest document that is read into memory."""

_MAX_REDIRECTS = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({429, 502, 503, 504})
_BACKOFF_S = 0.1
_LONGEST_WAIT_S = 20.0
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})

Checkpoint = Callable[[], None]
SECURITY_METHODS = {
    BearerToken: ("ivo://ivoa.net/sso#token",),
    BasicAuth: ("ivo://ivoa.net/sso#BasicAA", "http://www.w3.org/Protocols/HTTP/1.0/spec/html#BasicAA"),
    ClientCertificate: ("ivo://ivoa.net/sso#tls-with-certificate",),
}


class UntrustedServerError(BackendError):
    """No TLS connection to a server that can be trusted; another endpoint may do."""


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
        self._made: Any = None
        self._with_certificate: Any = None
        self._certificate_fd = -1
        self._host = _host(options.endpoint_url)

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
            for session in (self._made, self._with_certificate):
                if session is not None:
                    session.close()
            self._made = self._with_certificate = None
            if self._certificate_fd >= 0:
                os.close(self._certificate_fd)
                self._certificate_fd = -1

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
        for _ in range(_MAX_REDIRECTS):
            sent = {"data": dict(params or {})} if form else {"data": body, "params": dict(params or {}) or None}
            answer = self._ask_once(method, url, key, headers, sent, checkpoint, repeat)
            if not follow or answer.status not in _REDIRECTS or not answer.location:
                return answer
            if answer.status not in (307, 308):
                method, body, headers, form = "GET", None, {}, False
            params, url = None, answer.location
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
                    answer = Answer(url, reply.status_code, _lowered(reply.headers), self.read_said(_whole(reply, key)))
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
            _pause(attempt, wait_s, checkpoint)
        raise AssertionError(key)

    @contextmanager
    def open(self, method: str, url: str, key: str, **sent: Any) -> Iterator[Any]:
        """Send one request and give the answer with its body unread; redirections are the caller's."""
        import requests
        import urllib3.exceptions

        try:
            session = self._session(url)
            with session.request(
                method,
                url,
                stream=True,
                allow_redirects=False,
                auth=_authorisation(self._credential if self.is_trusted(url) else None),
                timeout=(self._options.connect_timeout_s, self._options.read_timeout_s),
                verify=self._options.authority_file or True,
                **sent,
            ) as reply:
                yield reply
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

    def is_trusted(self, url: str) -> bool:
        """Whether the credential may be sent to the host of ``url``."""
        host = _host(url)
        # The scheme too: http://host:443 is the same host and port as the service's, in the clear.
        own = urlsplit(url).scheme == urlsplit(self._options.endpoint_url).scheme and host == self._host
        return own or (
            url.startswith("https:")
            and (host in self._options.trusted or host.rpartition(":")[0] in self._options.trusted)
        )

    def _session(self, url: str) -> Any:
        if urlsplit(url).scheme not in ("http", "https"):
            raise BackendError("the VOSpace service gave a URL that is neither http nor https")
        certified = isinstance(self._credential, ClientCertificate) and self.is_trusted(url)
        with self._lock:
            made = self._with_certificate if certified else self._made
            if made is None:
                made = self._make_session(certified=certified)
                if certified:
                    self._with_certificate = made
                else:
                    self._made = made
            return made

    def _make_session(self, *, certified: bool) -> Any:
        import requests
        from requests.adapters import HTTPAdapter

        session = requests.Session()
        session.trust_env = False  # no .netrc of the daemon's user, no proxies of its environment
        session.headers["Accept-Encoding"] = "identity"
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        count = self._options.max_connections
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_connections=8, pool_maxsize=count, max_retries=0))
        if certified:
            assert isinstance(self._credential, ClientCertificate)  # noqa: S101 - asked by the caller
            session.cert = self._certificate_path(self._credential.pem.reveal())
        return session

    def _certificate_path(self, pem: str) -> str:
        # The library wants a path; the key must not be on a disk.
        if "PRIVATE KEY" not in pem or "BEGIN CERTIFICATE" not in pem:
            raise ConfigError("vospace storage: certificate must hold a certificate and its private key, as PEM")
        self._certificate_fd = os.memfd_create("pantry-certificate", os.MFD_CLOEXEC)
        with open(self._certificate_fd, "wb", closefd=False) as file:
            file.write(pem.encode())
        return f"/proc/self/fd/{self._certificate_fd}"


def _authorisation(credential: Credential | None) -> Any:
    """Make what sets the Authorization header; never None, for which the library would look elsewhere."""

    def authorise(request: Any) -> Any:
        if isinstance(credential, BearerToken):
            request.headers["Authorization"] = f"Bearer {credential.token.reveal()}"
        return request

    if isinstance(credential, BasicAuth):
        from requests.auth import HTTPBasicAuth

        return HTTPBasicAuth(credential.username.encode(), credential.password.reveal().encode())
    return authorise


def _host(url: str) -> str:
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port = 0
    return f"{(parts.hostname or '').lower()}:{port}"


def _whole(reply: Any, key: str) -> bytes:
    found = bytearray()
    for piece in reply.iter_content(1 << 18):
        found += piece
        if len(found) > MAX_DOCUMENT_BYTES:
            raise BackendError(f"the VOSpace service's answer about {key!r} is longer than any document", key=key)
    return bytes(found)


def _lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _pause(attempt: int, wait_s: float | None, checkpoint: Checkpoint) -> None:
    """Wait before the next attempt, as long as the service asks for; interrupted by ``checkpoint``."""
    backoff_s = _BACKOFF_S * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    until_s = time.monotonic() + min(backoff_s if wait_s is None else max(wait_s, 0.01), _LONGEST_WAIT_S)
    while (left_s := until_s - time.monotonic()) > 0:
        checkpoint()
        time.sleep(min(left_s, 0.1))
