"""Where the daemon's socket lies."""

from __future__ import annotations

import os

SYSTEM_SOCKET = "/run/pantry/pantryd.sock"
"""Socket of the node's daemon in system mode."""
SOCKET_VARIABLE = "PANTRY_SOCKET"
"""Environment variable that names the socket and switches the search off."""


def runtime_directory() -> str:
    """Return this user's runtime directory for Pantry (not created here).

    ``$XDG_RUNTIME_DIR/pantry``, or where the session has none ``/tmp/pantry-<uid>``, which whoever
    uses it must check to be the user's own.
    """
    base = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(base, "pantry") if base else f"/tmp/pantry-{os.getuid()}"  # noqa: S108 - owner checked by users


def user_socket() -> str:
    """Return the socket of this user's own daemon."""
    return os.path.join(runtime_directory(), "pantryd.sock")


def find_socket() -> tuple[str, bool]:
    """Return the socket to use, and whether a daemon may be started there on demand."""
    named = os.environ.get(SOCKET_VARIABLE)
    if named:
        return named, False
    if os.path.exists(SYSTEM_SOCKET):
        return SYSTEM_SOCKET, False
    return user_socket(), True
