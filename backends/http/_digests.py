"""What a server says of the content's digest: the fields of RFC 9530, of RFC 3230 and Content-MD5."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import zlib
from collections.abc import Mapping
from typing import Protocol

_HASHES = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5"}
"""Those that can be checked, best first."""


class _Running(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class DigestCheck:
    """Compares a body, as it comes, with what a field of its answer says.

    Parameters
    ----------
    field : str
        Name of the field, for messages.
    running : hash object
        Of the algorithm that the field names.
    expected : bytes
        What its digest has to be.
    """

    def __init__(self, field: str, running: _Running, expected: bytes) -> None:
        self.field = field
        self._running = running
        self._expected = expected

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        self._running.update(piece)

    def holds(self) -> bool:
        """Whether all bytes so far are those that were announced."""
        return hmac.compare_digest(self._running.digest(), self._expected)


class _Adler32:
    def __init__(self) -> None:
        self._value = 1

    def update(self, data: bytes, /) -> None:
        self._value = zlib.adler32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


def digest_check(headers: Mapping[str, str], *, whole: bool) -> DigestCheck | None:
    """Find what the body of an answer can be checked by; None if nothing.

    Parameters
    ----------
    headers : Mapping[str, str]
        Of the answer; names in any case.
    whole : bool
        Whether the body is the whole object, not a range of it: most fields tell of the object.
    """
    fields = {name.lower(): value for name, value in headers.items()}
    names = ("repr-digest", "content-digest", "digest", "content-md5") if whole else ("content-digest",)
    for name in names:
        value = fields.get(name)
        if value is None:
            continue
        stated = {"md5": value} if name == "content-md5" else _split(value)
        found = _best(name, stated)
        if found is not None:
            return found
    return None


def _split(value: str) -> dict[str, str]:
    # Both forms: sha-256=:BASE64:, md5=BASE64
    parts = (part.strip().partition("=") for part in value.split(","))
    return {algorithm.strip().lower(): text.strip().strip(":") for algorithm, _, text in parts}


def _best(field: str, stated: Mapping[str, str]) -> DigestCheck | None:
    for algorithm, name in _HASHES.items():
        running = hashlib.new(name, usedforsecurity=False)
        expected = _decoded(stated.get(algorithm, ""))
        if len(expected) == running.digest_size:
            return DigestCheck(field, running, expected)
    adler = stated.get("adler32", "")
    try:
        return DigestCheck(field, _Adler32(), int(adler, 16).to_bytes(4, "big"))
    except (ValueError, OverflowError):
        return None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
