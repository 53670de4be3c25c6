"""One request, as the operations see it, and one answer."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import BinaryIO, NamedTuple

from tests.servers.vospace.config import Account
from tests.servers.vospace.faults import Fault

ROOT = "space"
"""First segment of the service's URLs; "vospace" would be rewritten by clients that know one service only."""

DATA_ROOT = "storage"
"""The same where only data are served."""

MAX_DOCUMENT_BYTES = 1 << 20
_BLOCK = 1 << 16
_MAX_NAME_BYTES = 255


class Origin(NamedTuple):
    """Who asked, and where the service was found: what outlives the request in a job."""

    account: Account | None
    urls: dict[str, str]
    """Scheme to URL of the service, as this caller can reach it."""
    scheme: str

    @property
    def name(self) -> str | None:
        return self.account.name if self.account is not None else None

    @property
    def url(self) -> str:
        return self.urls[self.scheme]


@dataclass(kw_only=True)
class Request:
    """One request.

    Attributes
    ----------
    path : tuple of str
        Decoded segments below the service's root.
    parameters : dict
        Of the query, by lower-case name; the last of each.
    at_data_host : bool
        Whether it came where only data are served.
    read : Callable
        The next bytes of the body, at most so many; empty at its end.
    length : int or None
        Of the body, in bytes; None if it comes in chunks.
    """

    method: str
    path: tuple[str, ...]
    parameters: dict[str, str]
    headers: Message
    origin: Origin
    at_data_host: bool
    read: Callable[[int], bytes]
    length: int | None

    @property
    def account(self) -> Account | None:
        return self.origin.account

    @property
    def is_form(self) -> bool:
        return self.headers.get_content_type() == "application/x-www-form-urlencoded"

    def blocks(self) -> Iterator[bytes]:
        while block := self.read(_BLOCK):
            yield block

    def document(self) -> bytes:
        """The whole body, which must be small."""
        body = bytearray()
        for block in self.blocks():
            body += block
            if len(body) > MAX_DOCUMENT_BYTES:
                raise Fault("InvalidArgument", f"a document of more than {MAX_DOCUMENT_BYTES} bytes", status=413)
        return bytes(body)

    def form(self) -> dict[str, str]:
        """Parameters of the query and of a form in the body, by lower-case name."""
        body = self.document().decode("utf-8", "replace") if self.method == "POST" else ""
        return {**self.parameters, **parse_parameters(body)}


@dataclass(kw_only=True)
class Response:
    """One answer; in place of a body an open file, with where to begin and end, that is closed when it is sent."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    file: tuple[BinaryIO, int, int] | None = None
    chunked: bool = False
    done: Callable[[], None] = lambda: None
    """Called when the whole answer has been sent."""


def xml(body: bytes, *, status: int = 200) -> Response:
    return Response(status=status, headers={"Content-Type": "text/xml;charset=UTF-8"}, body=body)


def text(body: str, *, status: int = 200) -> Response:
    return Response(status=status, headers={"Content-Type": "text/plain;charset=UTF-8"}, body=body.encode())


def see_other(url: str) -> Response:
    return Response(status=303, headers={"Location": url, "Content-Type": "text/plain"})


def parse_parameters(query: str) -> dict[str, str]:
    """Names are matched without regard to case (DALI 1.1, section 2.1)."""
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, max_num_fields=100)
    return {name.lower(): value for name, value in pairs}


def parse_path(path: str) -> tuple[str, ...]:
    """Decode an URL path or the path of a URI into names; InvalidURI if one cannot be a node's."""
    names = []
    for part in path.strip("/").split("/") if path.strip("/") else []:
        try:
            name = urllib.parse.unquote(part, errors="strict")
        except UnicodeDecodeError:
            raise Fault("InvalidURI", path) from None
        too_long = len(name.encode()) > _MAX_NAME_BYTES
        if name in ("", ".", "..") or "/" in name or too_long or any(ord(letter) < 32 for letter in name):
            raise Fault("InvalidURI", path)
        names.append(name)
    return tuple(names)


def join_path(path: tuple[str, ...]) -> str:
    """Encode names for a URL or URI: ``/a/b``, empty for the root."""
    return "".join("/" + urllib.parse.quote(name, safe="") for name in path)
