"""Operations on a user's own credentials, which the daemon holds in memory."""

from __future__ import annotations

import msgspec

from pantry.wire.operations.base import Operation
from pantry.wire.operations.repositories import Done


class CredentialInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that the daemon holds; nobody can read it back.

    Attributes
    ----------
    uri : str
        Beginning of the URIs that it is for.
    kind : str
        ``token``, ``password``, ``certificate`` or ``keys``.
    expires_ns : int
        Its end, nanoseconds since 1970-01-01 UTC.
    """

    uri: str
    kind: str
    expires_ns: int


class CredentialList(msgspec.Struct, frozen=True):
    """Credentials of one user."""

    credentials: tuple[CredentialInfo, ...]


class AddCredential(Operation[CredentialInfo], frozen=True, kw_only=True, tag="credentials.add"):
    """Hand over a credential of one's own; one for the same URI gives way.

    Attributes
    ----------
    uri : str
        Beginning of the URIs that it is for, in whole components.
    options : dict of str to str
        ``token``; ``username`` and ``password``; ``certificate``, with its chain and key; or ``access_key_id``,
        ``secret_access_key`` and perhaps ``session_token``.
    lifetime_s : float
        How long the daemon keeps it, in seconds.
    """

    result_type = CredentialInfo
    uri: str
    options: dict[str, str]
    lifetime_s: float

    def __repr__(self) -> str:
        return f"AddCredential(uri={self.uri!r}, options={sorted(self.options)}, lifetime_s={self.lifetime_s!r})"


class ListCredentials(Operation[CredentialList], frozen=True, tag="credentials.list"):
    """List one's own credentials."""

    result_type = CredentialList


class RemoveCredential(Operation[Done], frozen=True, kw_only=True, tag="credentials.remove"):
    """Take a credential back; what came by it stays in the cache for whoever proves the right to it."""

    result_type = Done
    uri: str
