"""Options of a VOSpace root, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import msgspec

from pantry.backends.contract import check_key
from pantry.backends.credentials import CREDENTIAL_OPTIONS, Credential, credential_from
from pantry.backends.options import check_positive, checked_options
from pantry.errors import ConfigError, InvalidRequestError

_AUTHORITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._!~*'()+=-]*")


class VOSpaceOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the service; besides these there are the options of `pantry.backends.credentials`.

    Attributes
    ----------
    endpoint_url : str
        URL of the service, below which its resources (``nodes``, ``transfers``, ``capabilities``) lie.
    trusted_hosts : str
        Hosts, besides the service's own, that are sent the credential too: ``host`` or ``host:port``, with commas.
    transfers : str
        ``sync`` negotiates by ``synctrans``, ``async`` by jobs of ``transfers``, ``auto`` by whichever there is.
    files : bool
        Read by the ``files`` resource where the service's capabilities have it: one request in place of three.
    authority_file : str
        PEM file of the certificates by which servers are verified; the system's if empty.
    page_size : int
        Children of a container that are asked for at once.
    max_connections : int
        Connections kept to each host.
    connect_timeout_s, read_timeout_s : float
        For one connection, and for silence on it, in seconds.
    job_timeout_s : float
        For a job of the service, such as a move, or a whole document, in seconds.
    min_bytes_per_s : int
        Slowest that data may come, on average over at least ``read_timeout_s``; 0 for as slowly as they like.
    max_attempts : int
        How often a request that may be repeated is sent at most.
    """

    endpoint_url: str
    trusted_hosts: str = ""
    transfers: Literal["auto", "sync", "async"] = "auto"
    files: bool = True
    authority_file: str = ""
    page_size: int = 1000
    max_connections: int = 32
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    job_timeout_s: float = 300.0
    min_bytes_per_s: int = 10_000
    max_attempts: int = 4

    @property
    def trusted(self) -> frozenset[str]:
        """Hosts, with their ports where they were given, that are sent the credential."""
        return frozenset(host.strip().lower() for host in self.trusted_hosts.split(",") if host.strip())


def parse_options(options: Mapping[str, object]) -> tuple[VOSpaceOptions, Credential | None]:
    """Check the options of one VOSpace root.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or an impossible value; never with a secret in it.
    """
    if "endpoint_url" not in options:
        raise ConfigError(
            "vospace storage: endpoint_url is missing",
            hint="Give the URL of the service in the daemon's configuration: "
            "storage: [{match: 'vos://...', options: {endpoint_url: 'https://...'}}]",
        )
    credential = credential_from(options, service="vospace storage")
    parsed = checked_options(options, VOSpaceOptions, service="vospace storage", besides=CREDENTIAL_OPTIONS)
    _check_values(parsed, credential)
    return parsed, credential


def _check_values(options: VOSpaceOptions, credential: Credential | None) -> None:
    parts = urlsplit(options.endpoint_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ConfigError(
            "vospace storage: endpoint_url must be http(s)://host[:port]/path without credentials",
            hint="Credentials go into token, or username and password, or certificate.",
        )
    loopback = parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
    if credential is not None and parts.scheme != "https" and not loopback:
        raise ConfigError("vospace storage: credentials are only sent by https", hint="Change endpoint_url to https.")
    timeouts = ("connect_timeout_s", "read_timeout_s", "job_timeout_s")
    check_positive(options, "max_connections", "max_attempts", *timeouts, service="vospace storage")
    if options.page_size < 2:
        raise ConfigError(
            "vospace storage: page_size must be at least 2: each page begins with the last of the one before"
        )
    if options.min_bytes_per_s < 0:
        raise ConfigError("vospace storage: min_bytes_per_s must not be negative")


def split_root(root: str) -> tuple[str, str]:
    """Split ``vos://authority/path`` into the authority and the path, decoded, without slashes at its ends."""
    scheme, separator, rest = root.partition("://")
    authority, _, path = rest.partition("/")
    if scheme != "vos" or not separator or not _AUTHORITY.fullmatch(authority):
        raise ConfigError(
            f"a VOSpace storage root is written vos://authority/path, not {root!r}",
            hint="The authority is that of the service's identifiers, such as example.org!vospace.",
        )
    path = unquote(path.strip("/"))
    try:
        return authority, check_key(path) if path else ""
    except InvalidRequestError as exc:
        raise ConfigError(f"bad path in a VOSpace storage root: {exc.message}") from None


def quoted(path: str) -> str:
    """Write a path for a URL or the URI of a node."""
    return "/".join(quote(part, safe="") for part in path.split("/"))
