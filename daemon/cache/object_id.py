"""By which name the cache knows a content."""

from __future__ import annotations

from typing import NamedTuple


class ObjectId(NamedTuple):
    """A cached object: content is shared within a realm and never across realms.

    Attributes
    ----------
    realm : str
        Of the repositories that share it.
    hash : str
        xxh3-128 of the content, 32 lower-case hex digits.
    """

    realm: str
    hash: str
