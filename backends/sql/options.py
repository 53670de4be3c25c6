"""Options of a database, checked once, with the secrets kept out of sight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import msgspec

from pantry.backends.credentials import CREDENTIAL_OPTIONS, BasicAuth, credential_from
from pantry.backends.options import check_positive, checked_options
from pantry.errors import ConfigError


class SqlOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to reach a database.

    Attributes
    ----------
    connect_timeout_s : float
        For one connection, in seconds.
    statement_timeout_s : float
        For one statement or one part of an answer, in seconds; in SQLite, how long a lock is waited for.
    sslmode : str
        As of libpq.
    """

    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 120.0
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = "prefer"


class SqlStorageOptions(SqlOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to keep objects in a database.

    Attributes
    ----------
    schema : str
        Of PostgreSQL, for all tables; the connection's own if empty. It must exist.
    tables : str
        Which objects are tables, a rule a line; see `pantry.backends.sql.rules`.
    """

    schema: str = ""
    tables: str = ""


OptionsT = TypeVar("OptionsT", bound=SqlOptions)


def parse_options(options: Mapping[str, object], kind: type[OptionsT]) -> tuple[OptionsT, BasicAuth | None]:
    """Check the options of one database, and take the credential out of them.

    Raises
    ------
    ConfigError
        For an unknown name, a wrong type or an impossible value; never with a secret in it.
    """
    parsed = checked_options(options, kind, service="sql", besides=CREDENTIAL_OPTIONS)
    check_positive(parsed, "connect_timeout_s", "statement_timeout_s", service="sql")
    credential = credential_from(options, service="sql")
    if credential is not None and not isinstance(credential, BasicAuth):
        raise ConfigError("sql: this kind of credential is not for it", hint="Give username and password.")
    return parsed, credential
