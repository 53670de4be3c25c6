"""What the description of a node says of the object that it is. Pure functions."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import unquote

from pantry.backends.contract import ObjectStat, is_key
from pantry.backends.vospace._documents import DATE, LENGTH, MD5, MTIME, Child

_LENGTH = re.compile("[0-9]{1,18}")
_MD5 = re.compile("[0-9a-f]{32}")


def is_md5(version: str | None) -> bool:
    """Whether a version is the MD5 of the content, which comes with the data too."""
    return version is not None and _MD5.fullmatch(version) is not None


def described(key: str, node: Child) -> ObjectStat:
    """Describe the object of ``key`` by its node."""
    length = node.properties.get(LENGTH, "").strip()
    date = (node.properties.get(DATE) or node.properties.get(MTIME) or "").strip()
    md5 = node.properties.get(MD5, "").strip().lower()
    size_bytes = int(length) if _LENGTH.fullmatch(length) else 0
    return ObjectStat(
        key=key,
        size_bytes=size_bytes,
        version=md5 if is_md5(md5) else f"time-{date}-{size_bytes:x}",
        modified_ns=_time_ns(date),
    )


def _time_ns(text: str) -> int:
    """Nanoseconds since 1970 of an ISO 8601 time, which is in UTC unless it says otherwise; 0 if it is none."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return 0
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    return int(parsed.timestamp()) * 1_000_000_000 + parsed.microsecond * 1000


def key_of(container: str, child: Child) -> str | None:
    """Key of a listed node; None if it can have none: hidden, or with an impossible name."""
    name = unquote(child.name.rstrip("/").rpartition("/")[2])
    key = f"{container}/{name}" if container else name
    # A slash was encoded: the key would be of another container's node.
    return key if "/" not in name and is_key(key) else None
