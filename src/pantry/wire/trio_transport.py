"""Frames and descriptors over a trio Unix socket; used by the daemon's server and by `trio_driver`."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

import trio

from pantry.errors import ProtocolError
from pantry.wire.framing import encode_frame

_MAX_RECEIVED_FDS = 253
"""SCM_MAX_FD: the kernel takes no more in one send, and never merges two sends."""
_ANCILLARY_BYTES = socket.CMSG_SPACE(_MAX_RECEIVED_FDS * array.array("i").itemsize)


async def send_frame(sock: trio.socket.SocketType, payload: bytes, fds: Sequence[int] = ()) -> None:
    """Send one frame; the descriptors go with its first byte and stay open here.

    The caller sees to it that only one frame is being sent at a time. After any exception from
    here, cancellation included, part of the frame may have been sent: close the socket, or begin
    only when nothing can cancel.

    Raises
    ------
    ProtocolError
        The frame exceeds a limit; nothing was sent.
    OSError
        The peer is gone.
    """
    frame = memoryview(encode_frame(payload, len(fds)))
    if fds:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        sent = await sock.sendmsg([frame], ancillary)
    else:
        sent = await sock.send(frame)
    while sent < len(frame):
        sent += await sock.send(frame[sent:])


async def receive(sock: trio.socket.SocketType, max_bytes: int = 262144) -> tuple[bytes, list[int]]:
    """Receive what is there, at most ``max_bytes``, and the descriptors that came with it.

    Returns
    -------
    data : bytes
        Empty at the end of the stream.
    fds : list of int
        Close-on-exec; the caller owns them.

    Raises
    ------
    ProtocolError
        Descriptors were lost, because this process has too many open; those that came are closed.
    OSError
        The connection broke.
    """
    data, ancillary, flags, _ = await sock.recvmsg(max_bytes, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    if not ancillary and not flags & socket.MSG_CTRUNC:
        return data, []
    fds = _descriptors(ancillary)
    if flags & socket.MSG_CTRUNC:
        close_all(fds)
        raise ProtocolError(
            "descriptors were lost on the way", hint="the limit of open files of this process is too low (ulimit -n)"
        )
    return data, fds


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, also when one of them cannot be closed."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _descriptors(ancillary: Iterable[tuple[int, int, Any]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return found.tolist()
