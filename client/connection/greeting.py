"""How a connection begins, and what is said when it ends."""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from pantry import __version__
from pantry.client.connection.transport import receive, send_frame
from pantry.errors import DaemonUnavailableError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import PROTOCOL_VERSIONS, Failure, Hello, Welcome, decode_from_daemon, encode
from pantry.wire.framing import Frame, FrameParser


def greet(sock: socket.socket, parser: FrameParser, timeout_s: float | None) -> Welcome:
    """Say hello on a new connection and wait for the daemon's welcome.

    Raises
    ------
    PantryError
        What the daemon says against it.
    ProtocolError
        It is no Pantry daemon, or speaks none of our versions.
    """
    program = os.path.basename(sys.argv[0]) if sys.argv and sys.argv[0] else "python"
    frames: list[Frame] = []
    until = None if timeout_s is None else time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    try:
        send_frame(sock, encode(Hello(PROTOCOL_VERSIONS, f"pantry {__version__} ({program})"[:200])))
        while not frames:
            if not poll.poll(None if until is None else max(0.0, until - time.monotonic()) * 1000):
                raise too_slow(timeout_s)
            data, fds = receive(sock)
            if not data:
                raise connection_lost()
            frames = parser.feed(data, fds)
    except OSError:
        raise connection_lost() from None
    for frame in frames:
        close_all(frame.fds)
    answer = decode_from_daemon(frames[0].payload)
    if isinstance(answer, Failure):
        raise answer.to_error()
    if not isinstance(answer, Welcome) or len(frames) > 1:
        raise ProtocolError("the daemon did not greet", hint="is that socket a Pantry daemon's?")
    if answer.version not in PROTOCOL_VERSIONS:
        raise ProtocolError(f"the daemon chose protocol version {answer.version}, which was not offered")
    return answer


def connection_lost() -> DaemonUnavailableError:
    """Return the error for a connection that the daemon closed."""
    return DaemonUnavailableError(
        "the daemon closed the connection",
        hint="it was stopped or restarted; what was not answered may or may not have been done, "
        "and the next call connects again",
    )


def connection_interrupted() -> DaemonUnavailableError:
    """Return the error for a connection of which a part of a message was lost here."""
    return DaemonUnavailableError(
        "the connection to the daemon was interrupted in the middle of a message",
        hint="the next call connects again",
    )


def too_slow(timeout_s: float | None) -> DaemonUnavailableError:
    """Return the error for an answer that did not come in time."""
    return DaemonUnavailableError(f"the daemon did not answer within {timeout_s} s")
