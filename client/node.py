"""The node's daemon itself: how its storage and services are."""

from __future__ import annotations

from pantry.client.connection import Connection, connect
from pantry.wire import operations as ops


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

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
