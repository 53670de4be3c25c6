"""Frames and descriptors over a blocking Unix socket."""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence

from pantry.errors import DaemonUnavailableError
from pantry.wire.descriptors import ANCILLARY_BYTES, received
from pantry.wire.framing import encode_frame

RECEIVE_BYTES = 65536
"""Most that one receive takes; more costs a page fault per page also for short answers."""


def dial(path: str, *, timeout_s: float | None = None) -> socket.socket:
    """Connect to the daemon's socket.

    Parameters
    ----------
    path : str
        Of the socket.
    timeout_s : float, optional
        How long to wait for room in the daemon's backlog, in seconds; None for ever.

    Raises
    ------
    DaemonUnavailableError
        Nobody listens there. The field ``reason`` is ``absent`` if there is no daemon, ``refused`` if
        this user may not use it, else ``busy``.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.connect(path)
        sock.settimeout(None)
    except OSError as exc:
        sock.close()
        raise _unavailable(path, exc) from None
    return sock


def _unavailable(path: str, exc: OSError) -> DaemonUnavailableError:
    if isinstance(exc, FileNotFoundError | NotADirectoryError | ConnectionRefusedError):
        reason = "absent"
        hint = "start it with `systemctl start pantryd`, or unset PANTRY_SOCKET to have one started for you"
    elif isinstance(exc, PermissionError):
        reason, hint = "refused", "ask who runs this node for access to the socket"
    else:
        reason, hint = "busy", "try again; `pantry status` shows whether the daemon is well"
    what = "too long a path for a socket" if "AF_UNIX path" in str(exc) else exc.strerror or str(exc)
    return DaemonUnavailableError(f"no daemon answers on {path}: {what}", hint=hint, socket=path, reason=reason)


def send_frame(sock: socket.socket, payload: bytes, fds: Sequence[int] = ()) -> None:
    """Send one frame; the descriptors go with its first byte and stay open here.

    After an exception other than `ProtocolError` part of it may have been sent: close the socket.
    """
    frame = encode_frame(payload, len(fds))
    if not fds:
        sock.sendall(frame)
        return
    sent = sock.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
    if sent < len(frame):
        sock.sendall(memoryview(frame)[sent:])


def receive(sock: socket.socket) -> tuple[bytes, Sequence[int]]:
    """Receive what is there, at most `RECEIVE_BYTES`, and the descriptors that came with it.

    The descriptors are close-on-exec and belong to the caller; no data means the peer has closed.

    Raises
    ------
    ProtocolError
        Descriptors were lost, because this process has too many open; those that came are closed.
    """
    data, ancillary, flags, _ = sock.recvmsg(RECEIVE_BYTES, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    return data, received(ancillary, flags)
