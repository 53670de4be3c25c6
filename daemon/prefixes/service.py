"""All prefixes of the configuration, each opened when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pantry.daemon.cache.object_id import plain_realm, users_realm
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import PrefixConfig
from pantry.daemon.credentials.held import HeldCredentials
from pantry.daemon.datasets.opening import Opener
from pantry.daemon.prefixes.prefix import PlainPrefix
from pantry.daemon.repositories.repository import Repository
from pantry.daemon.server.identity import Identity
from pantry.daemon.transfers.storage import Storage
from pantry.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from pantry.model.remote_files import key_below

# The Gen3 Butler never changes a dataset's file, but a deleted one's path may be used again.
_ATTACHED = PrefixConfig(root="", ttl_s=300.0, stale_if_error_s=10 * 365 * 86_400.0)


class ListedPrefix(NamedTuple):
    """What is told of a prefix.

    Attributes
    ----------
    name : str
        As configured.
    location : str
        Its URI, without any secret.
    config : PrefixConfig
        Its times.
    """

    name: str
    location: str
    config: PrefixConfig


class Prefixes:
    """The prefixes.

    Parameters
    ----------
    configured : dict
        By name.
    storage : Storage
        Makes the origin of a root.
    held : HeldCredentials
        Users' own credentials.
    cache, opener, offline
        As of `PlainPrefix`.
    """

    def __init__(
        self,
        configured: dict[str, PrefixConfig],
        storage: Storage,
        held: HeldCredentials,
        *,
        cache: ObjectCache,
        opener: Opener,
        offline: Callable[[], bool],
    ) -> None:
        self._configured = configured
        self._storage = storage
        self._held = held
        self._cache = cache
        self._opener = opener
        self._offline = offline
        self._open: dict[tuple[str, int | None], PlainPrefix] = {}
        self._attached: dict[str, PlainPrefix] = {}
        self._locations: dict[str, str] = {}

    async def aclose(self) -> None:
        """Close all origins."""
        for prefix in self._open.values():
            await prefix.origin.aclose()
        self._open.clear()

    def may_read(self, name: str, who: Identity, *, administers: bool) -> bool:
        """Whether ``who`` may read a configured prefix."""
        return administers or who.matches(self._configured[name].readers)

    def readable(self, name: str, who: Identity, *, administers: bool) -> PlainPrefix:
        """Return a prefix that ``who`` may read, or raise."""
        if name not in self._configured:
            raise NotFoundError(
                f"no prefix is configured by the name {name!r}",
                hint="`pantry object prefixes` shows those you may read",
            )
        if not self.may_read(name, who, administers=administers):
            raise PermissionDeniedError(
                f"user {who.user_name} may not read the prefix {name!r}",
                hint=f"the node's administrator can add you to prefixes.{name}.readers in the daemon's configuration",
            )
        if not self._storage.is_for_each(root := self._configured[name].root):
            return self.get(name)
        # Also for what is cached: without a credential there is nothing.
        self._held.for_origin(who.uid, root)
        found = self.get(name, who.uid)
        found.renew()
        return found

    def at_url(self, url: str, who: Identity, *, administers: bool) -> tuple[PlainPrefix, str]:
        """Return the prefix below whose root a file lies, and its key there, if ``who`` may read it.

        Parameters
        ----------
        url : str
            As of `pantry.model.remote_files.plain_url`. Nothing is ever asked of a server that no prefix names.

        Raises
        ------
        InvalidRequestError
            It lies below the root of no prefix.
        PermissionDeniedError
            ``who`` may read none of those prefixes.
        """
        found = {name: key for name, one in self._configured.items() if (key := key_below(one.root, url)) is not None}
        if not found:
            raise InvalidRequestError(
                f"{url} is below no root that this node's configuration names",
                hint="the node's administrator can add the archive's root to 'prefixes' in the daemon's configuration",
            )
        # The shortest key is that of the most particular root.
        name = min(found, key=lambda one: (not self.may_read(one, who, administers=administers), len(found[one]), one))
        return self.readable(name, who, administers=administers), found[name]

    def all_readable(self, who: Identity, *, administers: bool) -> list[ListedPrefix]:
        """Return every prefix that ``who`` may read, by name; no credential is asked for."""
        names = [one for one in sorted(self._configured) if self.may_read(one, who, administers=administers)]
        return [ListedPrefix(one, self._location(one, who), self._configured[one]) for one in names]

    def _location(self, name: str, who: Identity) -> str:
        """Return the URI of a prefix, the same for all: for who only looks nothing more is opened."""
        if name not in self._locations:
            self._locations[name] = self.get(name, self._whose(name, who)).origin.location
        return self._locations[name]

    def readable_realms(self, who: Identity, *, administers: bool) -> set[str]:
        """Return in which realms of the cache the objects of such prefixes are."""
        names = [one for one in self._configured if self.may_read(one, who, administers=administers)]
        whose = {one: self._whose(one, who) for one in names}
        return {plain_realm(one) if uid is None else users_realm(plain_realm(one), uid) for one, uid in whose.items()}

    def _whose(self, name: str, who: Identity) -> int | None:
        return who.uid if self._storage.is_for_each(self._configured[name].root) else None

    def get(self, name: str, uid: int | None = None) -> PlainPrefix:
        """Return a configured prefix, or a user's own view of it; nothing is checked for the asking user."""
        if (found := self._open.get((name, uid))) is None:
            config = self._configured[name]
            origin = self._storage.origin_for(config.root, {}, uid)
            found = self._open[name, uid] = PlainPrefix(
                name, config, origin, self._cache, self._opener, self._offline, uid
            )
        return found

    def opened(self) -> list[PlainPrefix]:
        """Return the configured prefixes that are open."""
        return list(self._open.values())

    def of_repository(self, repository: Repository) -> PlainPrefix:
        """Return the files of an attached repository, of whose content only the version at the origin is known."""
        if (found := self._attached.get(repository.uuid)) is None:
            found = self._attached[repository.uuid] = PlainPrefix(
                repository.uuid, _ATTACHED, repository.origin, self._cache, self._opener, self._offline
            )
        return found

    def of_realm(self, realm: str) -> PlainPrefix | None:
        """Return the prefix whose objects are in a realm; of users' own ones none."""
        attached = (one for one in self._attached.values() if one.realm == realm)
        return next((self.get(one) for one in self._configured if plain_realm(one) == realm), next(attached, None))
