"""Frames and descriptors over a trio Unix socket; used by the daemon's server and by `trio_driver`."""

from __future__ import annotations

import array
import socket
from collections.abc import Sequence

import trio

from pantry.wire.descriptors import ANCILLARY_BYTES, received
from pantry.wire.framing import encode_frame


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


async def receive(sock: trio.socket.SocketType, max_bytes: int = 262144) -> tuple[bytes, Sequence[int]]:
    """Receive what is there, at most ``max_bytes``, and the descriptors that came with it.

    Returns
    -------
    data : bytes
        Empty at the end of the stream.
    fds : sequence of int
        Close-on-exec; the caller owns them.

    Raises
    ------
    ProtocolError
        Descriptors were lost, because this process has too many open; those that came are closed.
    OSError
        The connection broke.
    """
    data, ancillary, flags, _ = await sock.recvmsg(max_bytes, ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
    return data, received(ancillary, flags)
