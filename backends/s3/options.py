"""Options of an S3 root, checked once, with the secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from pantry.backends.credentials import Secret
from pantry.backends.options import check_positive, checked_options
from pantry.errors import ConfigError

MIN_PART_BYTES = 5 << 20
"""Smallest part of a multipart upload, by the definition of S3."""


class S3Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach the service; every field may be given in the configuration.

    Attributes
    ----------
    endpoint_url : str or None
        Of the service, ``https://host:port``; Amazon's if None.
    region : str or None
        Region name; the standard chain's if None, and ``us-east-1`` if that knows none.
    access_key_id, secret_access_key, session_token : Secret or None
        Credentials; the standard chain (environment, files, instance role) if None.
    profile : str or None
        Name in the credentials file.
    credentials_file : str or None
        Path of a file in the AWS form, used instead of ``~/.aws/credentials``.
    anonymous : bool
        Send unsigned requests, for public buckets.
    addressing : str
        ``path``, ``virtual`` or ``auto``; ``path`` by default if there is an ``endpoint_url``.
    multipart_size_bytes : int
        Objects larger than this are sent in parts of this size.
    max_connections : int
        Connections kept to the service.
    connect_timeout_s, read_timeout_s : float
        For one connection, and for silence on it, in seconds.
    min_bytes_per_s : int
        Slowest that an answer's body may come, on average over at least ``read_timeout_s``, before
        the request is given up and sent again for the rest; 0 for as slowly as it likes.
    max_attempts : int
        How often a request that may be repeated is sent at most.
    conditional_writes : str
        ``auto`` uses conditional requests where the service honours them; ``never`` looks first and
        then writes, which two writers at the same instant can both pass.
    """

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None
    credentials_file: str | None = None
    anonymous: bool = False
    addressing: Literal["path", "virtual", "auto"] | None = None
    multipart_size_bytes: int = 16 << 20
    max_connections: int = 32
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    min_bytes_per_s: int = 10_000
    max_attempts: int = 4
    conditional_writes: Literal["auto", "never"] = "auto"

    @property
    def addressing_style(self) -> str:
        """The addressing that holds when none was given."""
        return self.addressing or ("path" if self.endpoint_url else "auto")


def parse_options(options: Mapping[str, object]) -> S3Options:
    """Check the options of one S3 root.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or an impossible value; never with a secret in it.
    """
    parsed = checked_options(options, S3Options, service="s3 storage")
    _check_values(parsed)
    return parsed


def split_root(root: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into the bucket and the prefix, which ends in a slash if it is not empty."""
    scheme, separator, rest = root.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if scheme != "s3" or not separator or not bucket or "@" in bucket:
        raise ConfigError("an S3 storage root is written s3://bucket/prefix")
    if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):
        raise ConfigError(f"bad prefix {prefix!r} in an S3 storage root")
    return bucket, f"{prefix}/" if prefix else ""


def _check_values(options: S3Options) -> None:
    if (options.access_key_id is None) != (options.secret_access_key is None):
        raise ConfigError("s3 storage: access_key_id and secret_access_key go together")
    if options.session_token is not None and options.access_key_id is None:
        raise ConfigError("s3 storage: session_token needs access_key_id and secret_access_key")
    given = [options.access_key_id, options.profile or options.credentials_file, options.anonymous or None]
    if sum(value is not None for value in given) > 1:
        raise ConfigError("s3 storage: give keys, or profile and credentials_file, or anonymous; not several of them")
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
            raise ConfigError(
                "s3 storage: endpoint_url must be http(s)://host[:port] without credentials",
                hint="Credentials go into access_key_id and secret_access_key, or a credentials_file.",
            )
    if options.multipart_size_bytes < MIN_PART_BYTES:
        raise ConfigError(f"s3 storage: multipart_size_bytes must be at least {MIN_PART_BYTES}")
    timeouts = ("connect_timeout_s", "read_timeout_s")
    check_positive(options, "max_connections", "max_attempts", *timeouts, service="s3 storage")
    if options.min_bytes_per_s < 0:
        raise ConfigError("s3 storage: min_bytes_per_s must not be negative")
