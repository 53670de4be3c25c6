"""What the server's answers mean: status codes, versions, ranges. Pure functions, no SDK."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import NamedTuple

from pantry.backends.contract import ObjectStat, check_version
from pantry.backends.retry_after import telling_when
from pantry.errors import (
    BackendAccessError,
    BackendError,
    ObjectNotFoundError,
    TransientBackendError,
)

OK = 200
PARTIAL = 206
PRECONDITION_FAILED = 412
RANGE_NOT_SATISFIABLE = 416
NO_HEAD = frozenset({405, 501})
_ABSENT = frozenset({404, 410})
_NO_ACCESS = frozenset({401, 403, 407, 451})
_TRANSIENT = frozenset({408, 416, 421, 423, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_COMPRESSED_NAMES = (".gz", ".tgz", ".z", ".bz2", ".xz", ".zst", ".br", ".fz")


class PreconditionError(BackendError):
    """A condition of the request did not hold."""


class Body(NamedTuple):
    """What an answer's body is.

    Attributes
    ----------
    version : str
        Of the object; empty if the server tells none.
    start, stop : int
        The offsets in the object of the body's bytes.
    size_bytes : int
        Of the whole object.
    """

    version: str
    start: int
    stop: int
    size_bytes: int

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole object."""
        return self.start == 0 and self.stop == self.size_bytes


def refused(status: int, headers: Mapping[str, str], key: str, server: str) -> BackendError:
    """Make the error for an answer that is not what was asked for."""
    said = f"{server} answered {status} for {key!r}"
    if status in _ABSENT:
        return ObjectNotFoundError(f"no object {key!r}", key=key)
    if status in _NO_ACCESS:
        return BackendAccessError(
            said,
            hint="Check the credential of this storage root (token, or username and password, or certificate): "
            "it may be missing, expired, or not permit this.",
            key=key,
        )
    if status == PRECONDITION_FAILED:
        return PreconditionError(said, key=key)
    if status in _TRANSIENT or status >= 500:
        return telling_when(TransientBackendError(said, key=key), headers)
    return BackendError(said, key=key)


def described(key: str, headers: Mapping[str, str], size_bytes: int) -> ObjectStat:
    """Describe an object from the header fields of an answer.

    Raises
    ------
    BackendError
        If nothing tells one version from another.
    """
    version, seconds = _version(headers, size_bytes)
    if not version:
        raise BackendError(
            f"the server gives neither ETag nor Last-Modified for {key!r}: its versions cannot be told apart",
            hint="Only a server that gives one of them can be a storage root.",
            key=key,
        )
    return ObjectStat(key=key, size_bytes=size_bytes, version=version, modified_ns=seconds * 1_000_000_000)


def _version(headers: Mapping[str, str], size_bytes: int) -> tuple[str, int]:
    seconds = _seconds(headers.get("Last-Modified", ""))
    etag = headers.get("ETag", "").strip()
    bare = etag if etag.startswith("W/") else etag.strip('"')
    if bare:
        return bare, seconds or 0
    return ("", 0) if seconds is None else (f"time-{seconds:x}-{size_bytes:x}", seconds)


def _seconds(date: str) -> int | None:
    try:
        return int(parsedate_to_datetime(date).timestamp())
    except (ValueError, OverflowError):
        return None


def nginx_etag(seconds: int, size_bytes: int) -> str:
    """Return the ETag that nginx makes of a file's time and size, without quotes."""
    return f"{seconds:x}-{size_bytes:x}"


def conditions(version: str | None) -> dict[str, str]:
    """Return the fields that ask for one version only, so far as HTTP can ask."""
    if not version or version.startswith("W/"):
        return {}
    if not version.startswith("time-"):
        return {"If-Match": f'"{version}"'}
    try:
        moment = datetime.fromtimestamp(int(version.split("-")[1], 16), UTC)
    except (ValueError, OverflowError, OSError):
        return {}
    return {"If-Unmodified-Since": format_datetime(moment, usegmt=True)}


def length_of(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length; None if there is none that can be believed."""
    text = headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def check_body(
    key: str, status: int, headers: Mapping[str, str], start: int, stop: int, if_version: str | None
) -> Body:
    """Check that an answer is what was asked for, before its body is read.

    Raises
    ------
    ObjectChangedError
        If it is not of ``if_version``.
    TransientBackendError
        If the object ends before ``stop``.
    BackendError
        If the body is another range, or compressed on its way.
    """
    _check_encoding(key, headers)
    if status == PARTIAL:
        match = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if match is None:
            raise BackendError(f"the server does not say which range of {key!r} it sent", key=key)
        begin, last, size_bytes = (int(number) for number in match.groups())
        end = last + 1
    else:
        length = length_of(headers)
        if length is None:
            raise BackendError(f"the server does not tell the size of {key!r}", key=key)
        begin, end, size_bytes = 0, length, length
    version, _ = _version(headers, size_bytes)
    check_version(key, version, if_version)
    if begin > start or (status == PARTIAL and begin != start) or end > size_bytes:
        raise BackendError(f"the server answered another range of {key!r} than {start}:{stop}", key=key)
    if end < stop:
        raise TransientBackendError(f"{key!r} ends at offset {end}, before {stop}", key=key)
    if status == PARTIAL and end != stop:
        raise BackendError(f"the server answered a longer range of {key!r} than {start}:{stop}", key=key)
    return Body(version, begin, end, size_bytes)


def _check_encoding(key: str, headers: Mapping[str, str]) -> None:
    """Refuse a body that was compressed on its way: bytes and offsets of it are not those of the object.

    Of a file that lies there compressed, servers say the same; its name shows it, and its bytes are right.
    """
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity") and not key.lower().endswith(_COMPRESSED_NAMES):
        raise BackendError(
            f"the server compressed {key!r} though it was asked not to", hint="Switch that off at the server.", key=key
        )
