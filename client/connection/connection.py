"""The connection that a process has to a daemon: one link at a time, made when it is needed."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from pantry.client.connection.contract import Link
from pantry.errors import DaemonUnavailableError
from pantry.wire.operations import Operation, StreamOperation

if TYPE_CHECKING:
    from pantry.wire.envelope import Welcome

R = TypeVar("R")


class Connection:
    """Talks to one daemon, for all threads of a process.

    The socket is opened by the first call, and again by the next call after it was lost or after a
    fork. A call that was under way then is not repeated, since it may have been done.

    Parameters
    ----------
    socket_path : str
        Of the daemon's socket.
    start : callable, optional
        Called with the path if no daemon is there; returns when one listens.
    timeout_s : float, optional
        Longest wait for a connection and for each answer, in seconds; None for ever.
    """

    def __init__(
        self, socket_path: str, *, start: Callable[[str], None] | None = None, timeout_s: float | None = None
    ) -> None:
        self.socket_path = socket_path
        self._start = start
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._link: Link | None = None
        _connections.add(self)

    def __repr__(self) -> str:
        return f"Connection({self.socket_path!r})"

    def apart(self, timeout_s: float) -> Connection:
        """Return another connection to the same, for who waits no longer than ``timeout_s``; it starts nothing."""
        return Connection(self.socket_path, timeout_s=timeout_s)

    @property
    def welcome(self) -> Welcome:
        """The daemon's version and Unix user id."""
        return self.link().welcome

    def link(self) -> Link:
        """Return the open link, making one if there is none.

        Who needs several calls to be about the same thing (an opened file, a put) makes them on one
        link, since the daemon's numbers for these are of no meaning on another.
        """
        link = self._link
        if link is not None and not link.notices_hangup():
            return link
        with self._lock:
            if self._link is None or not self._link.is_alive:
                self._link = self._open()
            return self._link

    def call(self, operation: Operation[R], fds: Sequence[int] = ()) -> R:
        """Ask the daemon for one operation and wait for the result.

        Parameters
        ----------
        operation : Operation
            What to do.
        fds : sequence of int
            Descriptors to send with it; they stay open here.

        Raises
        ------
        PantryError
            The same error that the daemon raised.
        DaemonUnavailableError
            No daemon answers, or the connection was lost while waiting.
        """
        return self.link().call(operation, fds)

    def call_with_fds(self, operation: Operation[R], fds: Sequence[int] = ()) -> tuple[R, tuple[int, ...]]:
        """Ask as `call` does, and also return the descriptors that came; they belong to the caller."""
        return self.link().call_with_fds(operation, fds)

    def stream(self, operation: StreamOperation[R]) -> Iterator[R]:
        """Ask for a stream of batches; closing or dropping the iterator cancels what is left."""
        return self.link().stream(operation)

    def close(self) -> None:
        """Close the socket; the next call opens it again."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        link = getattr(self, "_link", None)
        if link is not None and link.is_alive:
            link.close()

    def _open(self) -> Link:
        # First needed here: sockets and frames would be a tenth of the time that importing the client takes.
        from pantry.client.connection.link import SocketLink
        from pantry.client.connection.transport import dial

        try:
            sock = dial(self.socket_path, timeout_s=self._timeout_s)
        except DaemonUnavailableError as exc:
            if self._start is None or exc.fields.get("reason") != "absent":
                raise
            self._start(self.socket_path)
            sock = dial(self.socket_path, timeout_s=self._timeout_s)
        return SocketLink(sock, timeout_s=self._timeout_s)

    def _forget_parent(self) -> None:
        # In a forked child, before any other thread of it runs; the lock may have been held by a thread
        # that is not here any more.
        self._lock = threading.Lock()
        link, self._link = self._link, None
        if link is not None:
            link.disown()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for connection in list(_connections):
        connection._forget_parent()


os.register_at_fork(after_in_child=_after_fork)
