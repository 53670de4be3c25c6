"""Credentials that users have handed over: in memory, for a time, for nobody else."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import trio

from pantry.backends.credentials import KINDS, Secret
from pantry.errors import BackendAccessError, InvalidRequestError, LimitExceededError, NotFoundError

log = logging.getLogger(__name__)

MAX_CREDENTIAL_BYTES = 64 * 1024
MAX_URI = 1024
MOST_BYTES = 32 * 1024 * 1024
"""Longest that the credentials of all users together may be, in characters."""


Rights = tuple[int, ...]
"""Which credentials a root and its copies are asked with."""


class HeldCredential(NamedTuple):
    """One credential of a user.

    Attributes
    ----------
    uri : str
        Beginning of the URIs that it is for.
    kind : str
        One of `KINDS`.
    options : Mapping
        Options of a backend.
    expires_s, expires_ns : float, int
        Its end, by trio's clock, and in nanoseconds since 1970-01-01 UTC.
    serial : int
        Of no other credential of this daemon.
    """

    uri: str
    kind: str
    options: Mapping[str, Secret]
    expires_s: float
    expires_ns: int
    serial: int


class HeldCredentials:
    """All of them; only the trio thread's.

    Parameters
    ----------
    per_user : int
        Most of one user.
    longest_s : float
        Longest that one is kept, in seconds.
    wanted : Callable
        Whether a credential for a beginning of URIs is of any use on this node.
    """

    def __init__(self, *, per_user: int, longest_s: float, wanted: Callable[[str], bool]) -> None:
        self._per_user = per_user
        self._longest_s = longest_s
        self._wanted = wanted
        self._held: dict[int, dict[str, HeldCredential]] = {}
        self._serial = 0
        self._watched: dict[int, list[tuple[str, Callable[[], Awaitable[None]]]]] = {}
        self._touched: set[int] = set()
        self.changed = trio.Event()
        """Set, and replaced, at each change."""

    def add(self, uid: int, uri: str, options: Mapping[str, str], lifetime_s: float) -> HeldCredential:
        """Keep a credential of a user; one for the same URIs gives way.

        Slashes at the end of ``uri`` mean nothing: it is for what is there, and for what is below. The same one handed
        over once more is kept for longer, and what was proved by it stays so.

        Raises
        ------
        InvalidRequestError
            It is none, or nothing here would ask for it. Never with a part of it.
        LimitExceededError
            The user has too many.
        """
        kind = _kind(options)
        _check_uri(uri, kind)
        uri = uri.rstrip("/")
        if not self._wanted(uri):
            raise InvalidRequestError(
                f"nothing on this node is read with users' own credentials at {uri}",
                hint="its administrator says what is: 'rights: user' in the daemon's configuration",
            )
        if not 0 < lifetime_s <= self._longest_s:
            raise InvalidRequestError(f"a credential is kept for at most {self._longest_s:g} s here")
        own = {one.uri: one for one in self.all(uid)}
        if uri not in own and len(own) >= self._per_user:
            raise LimitExceededError(f"you have {len(own)} credentials here, and may have {self._per_user}")
        others = (one for held in self._held.values() for one in held.values())
        if sum(map(_length, others)) + sum(map(len, options.values())) > MOST_BYTES:
            raise LimitExceededError("this daemon holds no more credentials", hint="those that expire make room")
        before = own.get(uri)
        kept = {name: Secret(value) for name, value in options.items()}
        is_same = before is not None and before.options == kept
        self._serial += not is_same
        held = HeldCredential(
            uri=uri,
            kind=kind,
            options=kept,
            expires_s=trio.current_time() + lifetime_s,
            expires_ns=time.time_ns() + int(lifetime_s * 1e9),
            serial=before.serial if before is not None and is_same else self._serial,
        )
        self._held.setdefault(uid, {})[uri] = held
        self._change(uid)
        return held

    def all(self, uid: int) -> list[HeldCredential]:
        """Return a user's credentials that have not expired, by URI."""
        now = trio.current_time()
        return sorted(one for one in self._held.get(uid, {}).values() if now < one.expires_s)

    def remove(self, uid: int, uri: str) -> None:
        """Forget a credential; `NotFoundError` if there is none."""
        uri = uri.rstrip("/")
        if uri not in {one.uri for one in self.all(uid)}:
            raise NotFoundError(
                f"you have no credential for {uri} here", hint="`pantry credentials list` shows those that you have"
            )
        del self._held[uid][uri]
        self._change(uid)

    def find(self, uid: int, uri: str) -> HeldCredential | None:
        """Return a user's credential for a URI: of those that fit, the one for the fewest others."""
        fitting = [one for one in self.all(uid) if covers(one.uri, uri)]
        return max(fitting, key=lambda one: len(one.uri), default=None)

    def for_origin(self, uid: int, uri: str) -> HeldCredential:
        """Return as `find`; `BackendAccessError` if there is none, or none any more."""
        found = self.find(uid, uri)
        if found is None:
            raise BackendAccessError(
                f"{uri} is read with your own credential, and this daemon has none of you",
                hint=f"hand one over, which is kept for a while: pantry credentials add {uri}",
            )
        return found

    def rights(self, uid: int, uris: Sequence[str]) -> Rights:
        """Tell the credentials that a user has for some URIs from all others: their serials, 0 where there is none."""
        found = [self.find(uid, uri) for uri in uris]
        return tuple(0 if one is None else one.serial for one in found)

    def watch(self, uid: int, uri: str, forget: Callable[[], Awaitable[None]]) -> None:
        """Have ``forget`` called whenever a user has no credential for a URI any more."""
        self._watched.setdefault(uid, []).append((uri, forget))

    async def expire(self) -> None:
        """Forget what expires, and have connections forgotten that are nobody's any more, for ever."""
        while True:
            now = trio.current_time()
            for uid, own in list(self._held.items()):
                left = {uri: one for uri, one in own.items() if now < one.expires_s}
                if len(left) < len(own):
                    self._held[uid] = left
                    self._change(uid)
                if not left:
                    del self._held[uid]
            changed = self.changed
            touched, self._touched = self._touched, set()
            for uid in touched:
                for uri, forget in tuple(self._watched.get(uid, ())):
                    if self.find(uid, uri) is None:
                        await self._forgotten(forget)
            ends = (one.expires_s for own in self._held.values() for one in own.values())
            with trio.move_on_at(min(ends, default=float("inf"))):
                await changed.wait()

    @staticmethod
    async def _forgotten(forget: Callable[[], Awaitable[None]]) -> None:
        try:
            await forget()
        except Exception:
            # A defect, in a library perhaps: others' credentials still have to expire.
            log.exception("connections that nobody's credential is for any more cannot be closed")

    def _change(self, uid: int) -> None:
        self._touched.add(uid)
        event, self.changed = self.changed, trio.Event()
        event.set()


def covers(beginning: str, uri: str) -> bool:
    """Whether a URI is at or below ``beginning``: whole components only, so that no other host is meant."""
    return uri == beginning or uri.startswith(beginning if beginning.endswith("/") else beginning + "/")


def _kind(options: Mapping[str, str]) -> str:
    kind = next((kind for kind, forms in KINDS.items() if options.keys() in forms), "")
    if not kind:
        raise InvalidRequestError(
            "a credential is a token; username and password; a certificate; or access_key_id and secret_access_key"
        )
    for name, value in options.items():
        if not value or len(value) > MAX_CREDENTIAL_BYTES or "\0" in value:
            raise InvalidRequestError(f"{name} is empty, longer than {MAX_CREDENTIAL_BYTES} characters, or no text")
        if kind != "certificate" and not value.isprintable():
            raise InvalidRequestError(f"{name} has characters that cannot be printed")
        if kind in ("token", "keys") and (not value.isascii() or " " in value):
            raise InvalidRequestError(f"{name} must be ASCII without blanks")
    return kind


def _length(held: HeldCredential) -> int:
    return sum(len(one.reveal()) for one in held.options.values())


def _check_uri(uri: str, kind: str) -> None:
    scheme, separator, rest = uri.partition("://")
    if not separator or not scheme or not rest.strip("/") or len(uri) > MAX_URI or not uri.isprintable() or "@" in rest:
        raise InvalidRequestError("a credential is for a URI, such as s3://bucket/ or https://example.org/data")
    if (kind == "keys") != (scheme == "s3"):
        raise InvalidRequestError(
            f"keys are for s3, and s3 takes nothing else: not {kind} for {scheme}",
            hint="other services take a token, a user name and password, or a certificate",
        )
