"""Options of a service of the Virtual Observatory, checked once, with the secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from pantry.backends.credentials import CREDENTIAL_OPTIONS, Credential, credential_from
from pantry.errors import ConfigError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class TapOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to ask a service, besides its credentials.

    Attributes
    ----------
    mode : str
        Of TAP: ``sync`` for an answer in one request, ``async`` for a job, which may take longer.
    language : str
        Of statements, such as ``ADQL`` or ``ADQL-2.1``.
    connect_timeout_s, read_timeout_s : float
        For one connection, and for silence on it, in seconds.
    poll_s : float
        Longest time between two looks at a job, in seconds.
    max_answer_bytes : int
        Longest document that the service may send; about three times as much memory is taken while it is read.
    ca_file : str
        Certificates to trust in place of the system's.
    plain_http : bool
        Send credentials without encryption to other hosts than this one.
    """

    mode: Literal["sync", "async"] = "sync"
    language: str = "ADQL"
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0
    poll_s: float = 5.0
    max_answer_bytes: int = 512 << 20
    ca_file: str = ""
    plain_http: bool = False


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where a service is, and how it is asked.

    Attributes
    ----------
    url : str
        ``http`` or ``https``, without the kind of service.
    location : str
        With it, for messages.
    options : TapOptions
        See there.
    credential : Credential or None
        What it asks for.
    """

    url: str
    location: str
    options: TapOptions
    credential: Credential | None


def parse_access(root: str, options: Mapping[str, object], kind: str) -> Access:
    """Check the root and the options of a service of a kind: ``tap``, ``scs`` or ``sia2``.

    Raises
    ------
    ConfigError
        The message never has a secret in it.
    """
    what = f"the {kind} service {root.partition('?')[0]!r}"
    scheme, separator, rest = root.partition(":")
    transport = scheme.lower().removeprefix(f"{kind}+")
    try:
        parts = urlsplit(f"{transport}:{rest}")
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    if transport not in ("http", "https") or not separator or not parts.hostname:
        raise ConfigError(f"{kind} service: the root is no URI such as {kind}+https://example.org/{kind}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{kind} service at {parts.hostname}: credentials do not stand in its URI",
            hint=f"give the options {', '.join(CREDENTIAL_OPTIONS)}",
        )
    if any(ord(char) <= 32 or ord(char) >= 127 for char in root) or parts.fragment:
        raise ConfigError(f"{what}: must be printable ASCII without a fragment")
    plain = {name: value for name, value in options.items() if name not in CREDENTIAL_OPTIONS}
    try:
        parsed = msgspec.convert(plain, TapOptions, strict=True)
    except msgspec.ValidationError as exc:
        raise ConfigError(
            f"{what}: options: {str(exc).replace('Object', 'it')}",
            hint=f"there are {', '.join((*TapOptions.__struct_fields__, *CREDENTIAL_OPTIONS))}",
        ) from None
    for name in ("connect_timeout_s", "read_timeout_s", "poll_s", "max_answer_bytes"):
        if not getattr(parsed, name) > 0:
            raise ConfigError(f"{what}: options: {name} must be positive")
    credential = credential_from(options, service=what)
    if credential is not None and transport == "http" and not parsed.plain_http and parts.hostname not in _LOOPBACK:
        raise ConfigError(f"{what}: credentials are not sent without encryption; use https, or say plain_http: true")
    return Access(url=f"{transport}:{rest}", location=f"{scheme.lower()}:{rest}", options=parsed, credential=credential)
