"""The node's daemon itself: how its storage and services are, and your own credentials for them."""

from __future__ import annotations

from pantry.client.connection import Connection, connect
from pantry.wire import operations as ops

LIFETIME_S = 12 * 3600.0
"""How long a credential is kept if nothing else is said, in seconds."""


class Node:
    """The daemon of this node.

    Parameters
    ----------
    socket : str, optional
        Of the daemon; the usual one by default.

    Examples
    --------
    >>> [one.location for one in Node().backends() if one.circuit != "closed"]
    ['s3://survey/dp1']
    """

    def __init__(self, socket: str | None = None) -> None:
        self.connection: Connection = connect(socket)

    def backends(self) -> list[ops.BackendInfo]:
        """Return how the storage and services are that you may read and that were used since the daemon started."""
        return list(self.connection.call(ops.GetBackends()).backends)

    def add_credential(self, uri: str, *, lifetime_s: float = LIFETIME_S, **credential: str) -> ops.CredentialInfo:
        """Hand a credential of your own over, for storage and services that are asked with users' own rights.

        The daemon keeps it in memory, for you alone, until it expires, is removed or the daemon ends.

        Parameters
        ----------
        uri : str
            Beginning of the URIs that it is for, in whole components: ``https://example.org/data``.
        lifetime_s : float
            How long it is kept, in seconds.
        **credential : str
            ``token``; ``username`` and ``password``; ``certificate`` (PEM, with its chain and key); or
            ``access_key_id``, ``secret_access_key`` and perhaps ``session_token``.

        Raises
        ------
        InvalidRequestError
            It is no credential, or nothing on this node would ask for it.
        LimitExceededError
            You have handed over too many.
        """
        return self.connection.call(ops.AddCredential(uri=uri, options=credential, lifetime_s=lifetime_s))

    def credentials(self) -> list[ops.CredentialInfo]:
        """Return what the daemon has of you, without the secrets."""
        return list(self.connection.call(ops.ListCredentials()).credentials)

    def remove_credential(self, uri: str) -> None:
        """Take a credential back; `NotFoundError` if there is none."""
        self.connection.call(ops.RemoveCredential(uri=uri))

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
