"""Descriptors that come with the bytes of a Unix socket."""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

from pantry.errors import ProtocolError

_MAX_RECEIVED = 253
"""SCM_MAX_FD: the kernel takes no more in one send, and never merges two sends."""
ANCILLARY_BYTES = socket.CMSG_SPACE(_MAX_RECEIVED * array.array("i").itemsize)
"""Room for all that may come at once."""


def received(ancillary: Sequence[tuple[int, int, Any]], flags: int) -> Sequence[int]:
    """Give the descriptors that one ``recvmsg`` brought; the caller owns them.

    Raises
    ------
    ProtocolError
        Some were lost, because this process has too many open; those that came are closed.
    """
    if not ancillary and not flags & socket.MSG_CTRUNC:
        return ()
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    if flags & socket.MSG_CTRUNC:
        close_all(fds)
        raise ProtocolError(
            "descriptors were lost on the way", hint="the limit of open files of this process is too low (ulimit -n)"
        )
    return fds


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors, also when one of them cannot be closed."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
