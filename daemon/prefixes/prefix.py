"""One prefix: which version of an object is current, and opening it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import trio

from pantry.backends.contract import ObjectStat, check_key, check_prefix
from pantry.backends.delegating import listing
from pantry.daemon.cache.flights import Source
from pantry.daemon.cache.object_id import ObjectId, plain_realm, users_realm
from pantry.daemon.cache.objects import ObjectCache
from pantry.daemon.config import PrefixConfig
from pantry.daemon.credentials.held import Rights
from pantry.daemon.datasets.opening import OpenedFile, Opener, Wanted
from pantry.daemon.prefixes.current import Current, CurrentVersions
from pantry.daemon.transfers.origin import Origin
from pantry.errors import ObjectChangedError, ObjectNotFoundError, TransientBackendError


class PlainPrefix:
    """A storage root whose objects may change.

    Parameters
    ----------
    name : str
        As configured.
    config : PrefixConfig
        Root, times, readers.
    origin : Origin
        The root and its copies.
    cache : ObjectCache
        Where objects are kept.
    opener : Opener
        Opens them.
    offline : Callable[[], bool]
        Whether no origin is asked at present.
    uid : int, optional
        Of a user's own view: whose.
    """

    def __init__(
        self,
        name: str,
        config: PrefixConfig,
        origin: Origin,
        cache: ObjectCache,
        opener: Opener,
        offline: Callable[[], bool],
        uid: int | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.origin = origin
        self.uid = uid
        self.realm = plain_realm(name) if uid is None else users_realm(plain_realm(name), uid)
        self._opener = opener
        self._offline = offline
        self._versions = CurrentVersions(self.realm, origin.location, cache)
        self._asking: dict[str, trio.Lock] = {}
        self._rights: Rights = ()

    async def current(self, key: str, *, anew: bool = False) -> tuple[Current, bool]:
        """Return the version of an object that readers get, and whether it is stale.

        Parameters
        ----------
        key : str
            Of the object.
        anew : bool
            Ask the origin, whatever is known.

        Raises
        ------
        ObjectNotFoundError
            There is no such object.
        TransientBackendError
            The origin cannot be asked, and what it last said is older than the configuration allows.
        """
        check_key(key)
        known = self._versions.get(key)
        if known is not None and not anew and known.is_within(self.config.ttl_s):
            return known, False
        lock = self._asking.setdefault(key, trio.Lock())
        try:
            async with lock:
                after = self._versions.get(key)
                if after is not None and after is not known and after.is_within(self.config.ttl_s):
                    # Whoever held the lock asked just now.
                    return after, False
                return await self._ask(key, known)
        finally:
            if not lock.locked():
                self._asking.pop(key, None)

    async def _ask(self, key: str, known: Current | None) -> tuple[Current, bool]:
        try:
            return self._versions.note(await self.origin.stat(key)), False
        except ObjectNotFoundError:
            self._versions.forget(key)
            raise
        except TransientBackendError:
            if known is None or not self._may_be_stale(known):
                raise
            return known, True

    def _may_be_stale(self, known: Current) -> bool:
        """Whether what the origin once said will do while it cannot be asked."""
        if self._offline():
            # Never for who shows another credential: it may be made up.
            return self.uid is None or known.checked_ns > 0
        limit_s = self.config.ttl_s + self.config.stale_if_error_s
        return self.config.stale_if_error_s > 0 and known.is_within(limit_s)

    async def open(
        self,
        key: str,
        *,
        partial: bool,
        uncached: bool = False,
        cached_only: bool = False,
        ahead: bool = True,
        version: str = "",
        name: str = "",
        size_bytes: int | None = None,
    ) -> tuple[Current, bool, OpenedFile]:
        """Open an object in its current version; see `current`.

        Parameters
        ----------
        key : str
            Of the object.
        partial, uncached, cached_only, ahead : bool
            As of `Opener.open`.
        version : str
            Only this one.
        name : str
            For people; by default the prefix's and the key.
        size_bytes : int, optional
            That it must have.

        Raises
        ------
        ObjectChangedError
            It is not in ``version``, or it is written faster than it can be read.
        """
        current, stale = await self.current(key)
        how = {"partial": partial, "uncached": uncached, "cached_only": cached_only, "ahead": ahead}
        try:
            wanted = self._wanted(current, version, name, size_bytes)
            return current, stale, await self._opener.open_wanted(wanted, **how)
        except ObjectChangedError:
            if version:
                raise
        # The origin had it changed since it was last asked.
        current, stale = await self.current(key, anew=True)
        wanted = self._wanted(current, version, name, size_bytes)
        return current, stale, await self._opener.open_wanted(wanted, **how)

    def _wanted(self, current: Current, version: str, name: str, size_bytes: int | None) -> Wanted:
        stat = current.stat
        if version and stat.version != version:
            raise ObjectChangedError(
                f"{self.name}: {stat.key} was changed at the origin", hint="open it anew to read the present version"
            )
        if size_bytes is not None and stat.size_bytes != size_bytes:
            raise ObjectChangedError(
                f"{name or stat.key} has {stat.size_bytes} bytes at the origin, and {size_bytes} in its registry",
                hint="its repository was damaged, or changed by something else than the Butler",
            )
        return Wanted(
            object_id=self.object_id(stat),
            size_bytes=stat.size_bytes,
            source=Source(self.origin, stat.key),
            name=name or f"{self.name}/{stat.key}",
            repository=self.name,
            version=stat.version,
            checked_ns=current.checked_ns,
        )

    def fixed(self, key: str, *, version: str, size_bytes: int, name: str) -> Wanted:
        """Return what to open for one version of an object, whatever the present one is; the origin is not asked."""
        stat = ObjectStat(key=check_key(key), size_bytes=size_bytes, version=version, modified_ns=0)
        return Wanted(
            object_id=self.object_id(stat),
            size_bytes=size_bytes,
            source=Source(self.origin, key),
            name=name,
            repository=self.name,
            version=version,
        )

    def renew(self) -> None:
        """Ask the origin again for whatever is wanted next, if it is asked with another credential than before."""
        if self._rights != (rights := self.origin.rights()):
            self._rights = rights
            self._versions.believe_nothing()

    def object_id(self, stat: ObjectStat) -> ObjectId:
        """Return by which name the cache knows a version of an object."""
        return self._versions.object_id(stat)

    async def list(self, begins: str) -> AsyncGenerator[Current, None]:
        """Iterate over the objects whose keys begin with a text, as the origin has them now."""
        check_prefix(begins)
        self.origin.require_online(begins or "a listing")
        async with listing(self.origin.primary, begins) as listed:
            async for stat in listed:
                yield self._versions.note(stat)
