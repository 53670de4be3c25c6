"""Stored paths that lead into another repository, as those of views do (docs/decisions/0062-views.md)."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from pantry.errors import ConfigError

_SCHEME = "pantry://"
HOLDERS = "holders"
"""Attribute of a registry: the repositories that its references lead to, names by uuid, as JSON."""


class Reference(NamedTuple):
    """Where a file is that another repository holds.

    Attributes
    ----------
    holder : str
        UUID of that repository.
    path : str
        Key in its storage when the reference was made.
    """

    holder: str
    path: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.holder}/{self.path}"


def holders_in(text: str) -> dict[str, str]:
    """Return what `HOLDERS` says, or raise `ConfigError`."""
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except msgspec.DecodeError as exc:
        raise ConfigError(
            f"the registry's attribute {HOLDERS!r} is damaged: {exc}",
            hint="restore it from a backup, or make the view again",
        ) from None


def reference_in(path: str) -> Reference | None:
    """Return what a stored path refers to; None for a key of the repository's own, of which no part is empty."""
    if not path.startswith(_SCHEME):
        return None
    holder, _, key = path.removeprefix(_SCHEME).partition("/")
    return Reference(holder, key)
