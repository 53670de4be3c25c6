"""The blocking driver: how a program talks to the daemon (DESIGN section 5)."""

from __future__ import annotations

from pantry.client.connection.connection import Connection
from pantry.client.connection.contract import Link
from pantry.wire.paths import find_socket

__all__ = ["Connection", "Link", "connect"]


def connect(socket: str | None = None, *, start: bool = True, timeout_s: float | None = None) -> Connection:
    """Make a connection to the node's daemon, or to the user's own, which is started if need be.

    Nothing is opened or started before the first call.

    Parameters
    ----------
    socket : str, optional
        Path of the daemon's socket; by default what ``PANTRY_SOCKET`` names, else the node's daemon,
        else the user's own.
    start : bool
        Whether a daemon of the user's own may be started.
    timeout_s : float, optional
        Longest wait for a connection and for each answer, in seconds; None for ever.
    """
    if socket is not None:
        return Connection(socket, timeout_s=timeout_s)
    path, on_demand = find_socket()
    return Connection(path, start=_start if on_demand and start else None, timeout_s=timeout_s)


def _start(path: str) -> None:
    from pantry.client.connection.launch import start_daemon

    start_daemon(path)
