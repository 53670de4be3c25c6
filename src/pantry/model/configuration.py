"""The active configuration, value by value, with where each comes from and no secrets (DMS-MWBT-REQ-0026)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

HIDDEN = "(hidden)"
_SECRET = re.compile(
    r"secret|password|passwd|token|credential|authorization|access_key|api_?key|private_?key", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"(_file|_variable|_env)\Z")
_IN_URL = re.compile(r"(://[^/@\s:]*):[^/@\s]*@")


class ActiveValue(msgspec.Struct, frozen=True, array_like=True):
    """One value of a configuration.

    Attributes
    ----------
    name : str
        Its place, such as ``cache.quota_bytes`` or ``storage[0].options.endpoint_url``.
    value : str, int, float, bool or None
        As it holds now; secrets are hidden.
    origin : str
        File and line, or what else set it.
    """

    name: str
    value: str | int | float | bool | None
    origin: str


def flattened(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of nested structs, mappings and lists by their places; an empty one is a leaf itself."""
    if isinstance(value, msgspec.Struct):
        value = {field: getattr(value, field) for field in value.__struct_fields__}
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            yield from flattened(below, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and value:
        for number, below in enumerate(value):
            yield from flattened(below, f"{name}[{number}]")
    else:
        yield name, value


def shown(name: str, value: Any) -> str | int | float | bool | None:
    """Return a leaf as it may be shown: without secrets, nor passwords in URLs."""
    key = name.rpartition(".")[2]
    if _SECRET.search(key) and not _NOT_SECRET.search(key) and value not in ("", None):
        return HIDDEN
    if isinstance(value, str):
        return _IN_URL.sub(r"\1:***@", value)
    if value is None or isinstance(value, bool | int | float):
        return value
    return "none" if value in ((), [], {}) else str(value)


def origin_of(name: str, lines: Mapping[str, int], source: str, otherwise: str) -> str:
    """Return file and line of a value, or of the nearest that it is in; ``otherwise`` if the file has none of it."""
    place = f"$.{name}"
    return f"{source}:{lines[place]}" if place in lines else otherwise
