"""Options of an EFD, checked once, with the secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar
from urllib.parse import urlsplit

import msgspec

from pantry.backends.credentials import CREDENTIAL_OPTIONS, BearerToken, ClientCertificate, Credential, credential_from
from pantry.backends.options import check_positive, checked_options
from pantry.errors import ConfigError

_ENCODED = "%"


class EfdOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both kinds of EFD are told.

    Attributes
    ----------
    time_field : str
        Field with the sender's time, TAI seconds since 1970; empty to go by the service's own time alone.
    index_scale : str
        Scale of the service's own time, which is counted from 1970: ``utc`` (as Unix does) or ``tai``.
    slack_s : float
        How far, in seconds, the service's own time of a sample may be from the sender's.
    index_field : str
        Field or tag that tells the instances of a component apart.
    descriptions : str
        Path of a YAML file with units and descriptions; see `pantry.backends.efd.descriptions`.
    schema_ttl_s : float
        How long the lists of topics and fields are believed, in seconds.
    connect_timeout_s, read_timeout_s : float
        For one connection, and for silence on it, in seconds.
    max_attempts : int
        How often a query is asked at most if the service fails in a way that may pass.
    """

    time_field: str = "private_sndStamp"
    index_scale: Literal["utc", "tai"] = "utc"
    slack_s: float = 2.0
    index_field: str = "salIndex"
    descriptions: str = ""
    schema_ttl_s: float = 300.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0
    max_attempts: int = 3


class InfluxOptions(EfdOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a base EFD.

    Attributes
    ----------
    retention_policy : str
        Whose points are read; the database's default policy if empty.
    compression : bool
        Ask for compressed answers; worth it over slow lines only.
    ca_file : str
        Certificates to trust, PEM; the usual ones if empty.
    """

    retention_policy: str = ""
    compression: bool = False
    ca_file: str = ""


class PostgresqlOptions(EfdOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a transformed EFD, and how its tables are laid out.

    Attributes
    ----------
    schema : str
        Schema whose tables are the topics.
    time_column : str
        Column of the service's own time in each: ``timestamp with time zone``, or ``bigint`` nanoseconds since 1970.
    topics_table : str
        Table of that schema with columns ``topic``, ``table_name`` and ``description``; only what it lists is a topic
        then. Empty if every table with the time column is a topic by its own name.
    fields_table : str
        Table of that schema with columns ``topic``, ``field``, ``column_name``, ``unit`` and ``description``. Empty if
        columns have the names of their fields.
    sslmode : str
        As of libpq.
    """

    schema: str = "efd"
    time_column: str = "time"
    topics_table: str = ""
    fields_table: str = ""
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"


OptionsT = TypeVar("OptionsT", bound=EfdOptions)


def parse_options(options: Mapping[str, object], kind: type[OptionsT]) -> tuple[OptionsT, Credential | None]:
    """Check the options of one EFD, and take the credential out of them.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or an impossible value; never with a secret in it.
    """
    parsed = checked_options(options, kind, service="efd", besides=CREDENTIAL_OPTIONS)
    check_positive(parsed, "connect_timeout_s", "read_timeout_s", "max_attempts", service="efd")
    if not 0 <= parsed.slack_s <= 3600:
        raise ConfigError("efd: slack_s must be between 0 and 3600")
    if parsed.schema_ttl_s < 0:
        raise ConfigError("efd: schema_ttl_s must not be negative")
    credential = credential_from(options, service="efd")
    if isinstance(credential, ClientCertificate) or (isinstance(credential, BearerToken) and kind is PostgresqlOptions):
        raise ConfigError("efd: this kind of credential is not for it", hint="Give username and password.")
    return parsed, credential


class Root(msgspec.Struct, frozen=True):
    """Where an EFD is.

    Attributes
    ----------
    scheme : str
        ``http``, ``https`` or ``postgresql``.
    host : str
        Name or address.
    port : int
        TCP port.
    database : str
        Name of the database.
    """

    scheme: str
    host: str
    port: int
    database: str

    @property
    def location(self) -> str:
        """The root as a URI, without any secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"efd+{self.scheme}://{host}:{self.port}/{self.database}"


_PORTS = {"http": 8086, "https": 8086, "postgresql": 5432}


def split_root(root: str) -> Root:
    """Split ``efd+SCHEME://host:port/database``.

    Raises
    ------
    ConfigError
        If it is written in another way.
    """
    how = ConfigError("an EFD is written efd+https://host:8086/database or efd+postgresql://host:5432/database")
    try:
        parts = urlsplit(root)
        port = parts.port
    except ValueError:
        raise how from None
    scheme = parts.scheme.removeprefix("efd+")
    database = parts.path.strip("/")
    if scheme not in _PORTS or not parts.scheme.startswith("efd+") or not parts.hostname or not database:
        raise how
    if parts.username is not None or parts.password is not None:
        raise ConfigError("an EFD's address has no credentials in it", hint="Give the options username and password.")
    if parts.query or parts.fragment or "/" in database or _ENCODED in database:
        raise how
    return Root(scheme, parts.hostname, port or _PORTS[scheme], database)
