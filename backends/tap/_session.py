"""HTTP as pyvo uses it, with what comes kept within bounds: services are not trusted.

A document is read to its end, counted, and refused if it declares a document type, before pyvo sees any of it: entities
could grow without bound, or name files. Credentials go to the service's own host and port only, wherever it redirects.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import requests

from pantry.backends.credentials import BasicAuth, BearerToken, ClientCertificate
from pantry.backends.tap.options import Access
from pantry.errors import BackendError, LimitExceededError, TransientBackendError

_CHUNK_BYTES = 1 << 18
_IN_MEMORY_BYTES = 8 << 20
_ERROR_BYTES = 64 << 10
MAX_REDIRECTS = 5

_PROLOG = re.compile(rb"(?:\xef\xbb\xbf)?(?:\s+|<\?.*?\?>|<!--.*?-->)*", re.DOTALL)
_HEAD_BYTES = 1 << 16

Check = Callable[[], None]
"""Raises if nobody waits any more."""


class GuardedSession(requests.Session):
    """A session for one query.

    Parameters
    ----------
    access : Access
        Of the service.
    check : callable
        Called as bytes come.
    """

    def __init__(self, access: Access, check: Check) -> None:
        super().__init__()
        self.trust_env = False
        self.max_redirects = MAX_REDIRECTS
        self._access = access
        self._check = check
        self._certificate = -1
        self._bodies: list[_Body] = []
        options = access.options
        if options.ca_file:
            self.verify = options.ca_file
        self.auth = _HostAuth(access)
        if isinstance(access.credential, ClientCertificate):
            self._certificate = os.memfd_create("certificate", os.MFD_CLOEXEC)
            os.write(self._certificate, access.credential.pem.reveal().encode())

    def close(self) -> None:
        """Close connections and what was read, and forget the certificate."""
        super().close()
        for body in self._bodies:
            body.close()
        if self._certificate >= 0:
            os.close(self._certificate)
            self._certificate = -1

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send one request and read the whole answer, within bounds."""
        options = self._access.options
        target, origin = urlsplit(request.url or ""), urlsplit(self._access.url)
        if target.scheme != "https" and origin.scheme == "https":
            raise BackendError(f"{self._access.location} sends to {target.scheme}, without encryption: refused")
        # Otherwise requests would ask for the answer's headers only when the body is read.
        kwargs.update(stream=True, timeout=(options.connect_timeout_s, options.read_timeout_s))
        if self._certificate >= 0 and _is_same(target, origin):
            kwargs["cert"] = f"/proc/self/fd/{self._certificate}"
        self._check()
        response = super().send(request, **kwargs)
        if response.is_redirect or isinstance(response.raw, _Body):
            return response
        return self._read(response)

    def _read(self, response: requests.Response) -> requests.Response:
        body = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the response
        most = self._access.options.max_answer_bytes if response.ok else _ERROR_BYTES
        size = 0
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                self._check()
                size += len(chunk)
                if size > most and not response.ok:
                    break
                if size > most:
                    raise LimitExceededError(
                        f"the answer of {self._access.location} has more than {most} bytes",
                        hint="ask for fewer rows or columns, or let the administrator raise max_answer_bytes",
                    )
                body.write(chunk)
            body.seek(0)
            refuse_declarations(body.read(_HEAD_BYTES), self._access.location)
            body.seek(0)
        except BaseException:
            body.close()
            raise
        finally:
            response.close()
        self._bodies.append(_Body(body))
        response.raw = self._bodies[-1]
        cast(Any, response)._content_consumed = False
        return response


class _Body(io.RawIOBase):
    """What was read, as urllib3's answers are read."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        return cast(bytes, self._file.read(-1 if amt is None else amt))

    def release_conn(self) -> None:
        """Do nothing: the connection was given back before."""

    def close(self) -> None:
        self._file.close()
        super().close()


class _HostAuth(requests.auth.AuthBase):
    """Puts the credential on requests to the service's own host and port."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        credential = self._access.credential
        if credential is not None and _is_same(urlsplit(request.url or ""), urlsplit(self._access.url)):
            if isinstance(credential, BearerToken):
                request.headers["Authorization"] = f"Bearer {credential.token.reveal()}"
            elif isinstance(credential, BasicAuth):
                name, password = credential.username.encode(), credential.password.reveal().encode()
                requests.auth.HTTPBasicAuth(name, password)(request)
        return request


def _is_same(one: Any, other: Any) -> bool:
    return (one.scheme, one.hostname, one.port) == (other.scheme, other.hostname, other.port)


def refuse_declarations(head: bytes, location: str) -> None:
    """Refuse a document that declares a document type; VOTable and UWS have none."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in head[:64]:
        raise BackendError(f"{location} sent a document in an encoding other than UTF-8: it is refused")
    match = _PROLOG.match(head)
    begin = head[match.end() if match is not None else 0 :][:2]
    # What is longer than any honest prolog may hide one behind it.
    if begin == b"<!" or (not begin and len(head) == _HEAD_BYTES):
        raise BackendError(
            f"{location} sent a document with a document type, which neither VOTable nor UWS has: it is refused"
        )


def translated(location: str, error: requests.RequestException) -> BackendError:
    """Turn a failure of the network into ours; addresses in it may have secrets, so that none is told."""
    if isinstance(error, requests.exceptions.SSLError):
        return BackendError(f"{location}: its certificate is not trusted, or ours not by it")
    if isinstance(error, requests.Timeout | requests.ConnectionError | requests.exceptions.ChunkedEncodingError):
        return TransientBackendError(f"{location} does not answer ({type(error).__name__})")
    return BackendError(f"{location} cannot be asked ({type(error).__name__})")
