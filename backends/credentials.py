"""What a service asks of whoever calls it: credentials, kept out of sight.

Every backend that is not a local file system or S3 takes the same options: ``token``; ``username``
and ``password``; ``certificate``. `credential_from` turns them into one value. A user's own
credential takes the place of these options, never the place of another user's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

import msgspec

from pantry.errors import ConfigError

CREDENTIAL_OPTIONS = ("token", "username", "password", "certificate")
"""The options that `credential_from` reads; whoever brings a credential of their own replaces all of them."""

KINDS: dict[str, tuple[frozenset[str], ...]] = {
    "token": (frozenset({"token"}),),
    "password": (frozenset({"username", "password"}),),
    "certificate": (frozenset({"certificate"}),),
    "keys": (
        frozenset({"access_key_id", "secret_access_key"}),
        frozenset({"access_key_id", "secret_access_key", "session_token"}),
    ),
}
"""Kinds of credentials, and of which options of a backend each is made."""

NOT_FOR_USERS = frozenset({"profile", "credentials_file", "anonymous"}).union(
    *(form for forms in KINDS.values() for form in forms)
)
"""Options by which the node says who it is itself; a user's own requests go out with none of them."""

_TOKEN = re.compile(r"[!-~]+")


class Secret:
    """A string that neither `repr` nor `str` nor a debugger's listing of fields shows."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the SDK."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secrets are not pickled")


class BearerToken(msgspec.Struct, frozen=True):
    """Sent as ``Authorization: Bearer`` (RFC 6750; ``ivo://ivoa.net/sso#token``)."""

    token: Secret


class BasicAuth(msgspec.Struct, frozen=True):
    """User name and password (RFC 7617; ``ivo://ivoa.net/sso#BasicAA``)."""

    username: str
    password: Secret


class ClientCertificate(msgspec.Struct, frozen=True):
    """A certificate, or proxy certificate, with its chain and its private key, all in one PEM text.

    For ``ivo://ivoa.net/sso#tls-with-certificate``.
    """

    pem: Secret


Credential = BearerToken | BasicAuth | ClientCertificate


def credential_from(options: Mapping[str, object], *, service: str) -> Credential | None:
    """Make the one credential that ``options`` give, or None if they give none.

    Parameters
    ----------
    options : Mapping[str, object]
        May have `CREDENTIAL_OPTIONS`, each a `Secret` or a string; others are passed over.
    service : str
        What the options are for, such as ``vospace storage``, for messages.

    Raises
    ------
    ConfigError
        If several kinds are given, or half of one; never with a secret in it.
    """
    given = {name: _secret(options[name], name, service) for name in CREDENTIAL_OPTIONS if options.get(name)}
    if not given:
        return None
    match sorted(given):
        case ["token"]:
            # A header that the HTTP library refuses would stand in its message.
            if not _TOKEN.fullmatch(given["token"].reveal()):
                raise ConfigError(f"{service}: token must be printable ASCII without blanks")
            return BearerToken(given["token"])
        case ["password", "username"]:
            if not given["username"].reveal().isprintable():
                raise ConfigError(f"{service}: username must be printable")
            return BasicAuth(given["username"].reveal(), given["password"])
        case ["certificate"]:
            return ClientCertificate(given["certificate"])
    raise ConfigError(
        f"{service}: {' and '.join(sorted(given))} do not go together",
        hint="Give token, or username and password, or certificate.",
    )


def without_secrets(said: bytes, credential: Credential | None) -> bytes:
    """Return what a service said without our own secret, should it repeat what it was shown."""
    match credential:
        case BearerToken(token=token):
            shown = [token.reveal().encode()]
        case BasicAuth(username=name, password=password):
            plain = password.reveal().encode()
            shown = [base64.b64encode(name.encode() + b":" + plain), plain]
        case _:
            return said  # a private key is shown to nobody
    for one in shown:
        said = said.replace(one, b"***")
    return said


def _secret(value: object, name: str, service: str) -> Secret:
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        return Secret(value)
    # Without the value: it may be a secret written in the wrong form.
    raise ConfigError(f"{service}: {name} must be a text")
