"""The name of an object in the cache."""

from __future__ import annotations

from typing import NamedTuple

_PLAIN = "prefix:"


class ObjectId(NamedTuple):
    """Realm and hash of an object.

    Attributes
    ----------
    realm : str
        Whose content may be shared: repositories that trust one another.
    hash : str
        xxh3-128 of the content, 32 hex digits; of a plain object, of what makes up its version.
    """

    realm: str
    hash: str

    @property
    def is_plain(self) -> bool:
        """Whether no registry knows it, so that it may change at the origin."""
        return self.realm.startswith(_PLAIN)


def plain_realm(prefix: str) -> str:
    """Return the realm of the plain objects of a prefix; no repository's realm has a colon."""
    return _PLAIN + prefix
