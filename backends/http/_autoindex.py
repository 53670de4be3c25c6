"""A directory as nginx's ``autoindex_format json`` tells it; hostile until checked."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import msgspec

from pantry.errors import BackendError

MAX_INDEX_BYTES = 64 << 20
"""Longest index of one directory that is read."""


_NAME = re.compile(r"[^/\0\ufffd]+", re.DOTALL)


class _Entry(msgspec.Struct, frozen=True):
    name: str
    type: str
    mtime: str = ""
    size: int = -1


class Index(NamedTuple):
    """What a directory has: names of directories, and name, size and time (in seconds) of files."""

    directories: list[str]
    files: list[tuple[str, int, int]]


def cannot_list(directory: str) -> BackendError:
    """Make the error for a server that does not list."""
    return BackendError(
        f"cannot list {directory!r}: the server gives no index of its directories as JSON",
        hint="Objects can be read by name. To list, its administrator can set `autoindex on; autoindex_format json;` "
        "(nginx).",
    )


def parse_index(text: bytes, directory: str) -> Index:
    """Read the index of one directory.

    Raises
    ------
    BackendError
        If it is none.
    """
    try:
        # One name that is not UTF-8 must not hide all others; it is no key itself.
        entries = msgspec.json.decode(text.decode("utf-8", "replace"), type=list[_Entry])
        index = Index([], [])
        for entry in entries:
            if (
                not entry.name
                or "/" in entry.name
                or "\0" in entry.name
                or "\ufffd" in entry.name
                or entry.name in (".", "..")
            ):
                continue
            if entry.type == "directory":
                index.directories.append(entry.name)
            elif entry.type == "file" and entry.size >= 0:
                index.files.append((entry.name, entry.size, int(parsedate_to_datetime(entry.mtime).timestamp())))
    except (msgspec.DecodeError, ValueError, OverflowError):
        raise cannot_list(directory) from None
    return index
