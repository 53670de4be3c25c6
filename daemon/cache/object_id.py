"""The name of an object in the cache."""

from __future__ import annotations

from typing import NamedTuple

_PLAIN = "prefix:"
_ANSWERS = "query:"
_USER = "@"


class ObjectId(NamedTuple):
    """Realm and hash of an object.

    Attributes
    ----------
    realm : str
        Whose content may be shared: repositories that trust one another.
    hash : str
        xxh3-128 of the content, 32 hex digits; of a plain object, of what makes up its version; of the answer to
        a query, a hash of the question.
    """

    realm: str
    hash: str

    @property
    def is_plain(self) -> bool:
        """Whether no registry knows it, so that it may change at the origin and its name is not its content's hash."""
        return self.realm.startswith((_PLAIN, _ANSWERS))

    @property
    def is_answer(self) -> bool:
        """Whether it is what a service answered to a query, and comes back only if that is asked again."""
        return self.realm.startswith(_ANSWERS)

    @property
    def is_users(self) -> bool:
        """Whether it came by a user's own rights, and is only for him."""
        return _USER in self.realm

    @property
    def realm_of_all(self) -> str:
        """The realm, but for whose rights the object came by."""
        return self.realm.partition(_USER)[0]


def users_realm(realm: str, uid: int) -> str:
    """Return the realm of what came by a user's own rights; no other realm has an ``@``."""
    return f"{realm}{_USER}{uid}"


def plain_realm(prefix: str) -> str:
    """Return the realm of the plain objects of a prefix; no repository's realm has a colon."""
    return _PLAIN + prefix


def answers_realm(service: str) -> str:
    """Return the realm of a service's answers, as the node's own credentials get them."""
    return _ANSWERS + service
