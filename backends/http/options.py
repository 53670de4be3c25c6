"""Options of an HTTP root, checked once, with the secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from pantry.backends.credentials import CREDENTIAL_OPTIONS, Credential, Secret, credential_from
from pantry.backends.options import check_positive, checked_options
from pantry.errors import ConfigError


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the server; every field may be given in the configuration.

    Attributes
    ----------
    token : Secret or None
        Sent as ``Authorization: Bearer``.
    username, password : Secret or None
        Sent as basic authentication.
    certificate : Secret or None
        A client certificate with its chain and private key, as one PEM text; for https only.
    ca_file : str or None
        Path of the certificates that the server's may be signed by, in place of the usual ones.
    listing : str
        ``autoindex``: the server lists a directory as JSON in the form of nginx's ``autoindex_format json``;
        ``none``: it does not, and nothing here can be listed.
    insecure_credentials : bool
        Send credentials over plain http to other hosts than this one too.
    connect_timeout_s, read_timeout_s : float
        For one connection, and for silence on it, in seconds.
    min_bytes_per_s : int
        Slowest that an answer's body may come, on average over at least ``read_timeout_s``, before
        the request is given up and sent again for the rest; 0 for as slowly as it likes.
    max_attempts : int
        How often a request that may be repeated is sent at most.
    max_connections : int
        Connections kept to the server.
    """

    token: Secret | None = None
    username: Secret | None = None
    password: Secret | None = None
    certificate: Secret | None = None
    ca_file: str | None = None
    listing: Literal["autoindex", "none"] = "autoindex"
    insecure_credentials: bool = False
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    min_bytes_per_s: int = 10_000
    max_attempts: int = 4
    max_connections: int = 32

    @property
    def credential(self) -> Credential | None:
        """The one credential that the options give."""
        given = {name: getattr(self, name) for name in CREDENTIAL_OPTIONS}
        return credential_from(given, service="http storage")


class Root(NamedTuple):
    """A root, in its parts.

    Attributes
    ----------
    origin : str
        ``scheme://host:port``, without a slash at the end.
    path : str
        Percent-encoded, with a slash at both ends.
    """

    origin: str
    path: str


def parse_options(options: Mapping[str, object]) -> HttpOptions:
    """Check the options of one HTTP root.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or an impossible value; never with a secret in it.
    """
    parsed = checked_options(options, HttpOptions, service="http storage")
    timeouts = ("connect_timeout_s", "read_timeout_s")
    check_positive(parsed, "max_connections", "max_attempts", *timeouts, service="http storage")
    if parsed.min_bytes_per_s < 0:
        raise ConfigError("http storage: min_bytes_per_s must not be negative")
    return parsed


def split_root(root: str, options: HttpOptions) -> Root:
    """Split ``http(s)://host[:port]/path``, and refuse to send a credential where anybody could read it."""
    try:
        parts = urlsplit(root)
        port = parts.port
    except ValueError:
        raise ConfigError("an HTTP storage root is written http(s)://host[:port]/path") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("an HTTP storage root is written http(s)://host[:port]/path")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        # Without the root: it may hold the secret.
        raise ConfigError(
            "an HTTP storage root has no user, password, query or fragment",
            hint="Credentials go into the options token, or username and password, or certificate.",
        )
    path = parts.path.strip("/")
    if path and any(part in ("", ".", "..") for part in path.split("/")):
        raise ConfigError(f"bad path {path!r} in an HTTP storage root")
    _check_credential(parts.scheme, parts.hostname, options)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    return Root(origin, f"/{path}/" if path else "/")


def _check_credential(scheme: str, host: str, options: HttpOptions) -> None:
    credential = options.credential
    if credential is None or scheme == "https":
        return
    if options.certificate is not None:
        raise ConfigError("http storage: a client certificate is for https only")
    if host not in ("localhost", "127.0.0.1", "::1") and not options.insecure_credentials:
        raise ConfigError(
            f"http storage: a credential would go to {host} unencrypted",
            hint="Write https:// in the root; or set insecure_credentials if the network between is trusted.",
        )
