"""The client's side of the wire on trio, used by the mount.

One connection carries many requests at once. Two tasks belong to it: the reader takes frames apart and
wakes whoever waits, the writer sends what was put into the outbox. Callers never touch the socket, so
one that is cancelled leaves no half-sent frame behind. A number stays taken until the daemon has
answered it, also when nobody waits any more; descriptors of such late answers are closed.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
import trio

from pantry.errors import DaemonUnavailableError, PantryError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import (
    MAX_REQUESTS,
    PROTOCOL_VERSIONS,
    Behalf,
    Cancel,
    Credit,
    Failure,
    Hello,
    Item,
    Request,
    Welcome,
    decode_from_daemon,
    encode,
)
from pantry.wire.framing import MAX_FRAME_BYTES, FrameParser
from pantry.wire.operations import Operation, StreamOperation
from pantry.wire.trio_answers import BatchStream, PendingCall, decode_result
from pantry.wire.trio_transport import receive, send_frame

logger = logging.getLogger(__name__)

R = TypeVar("R")
_MOST_UNDER_WAY = MAX_REQUESTS - 32
"""The daemon takes a request for ended a moment after its answer has arrived, so some are left to spare."""
_UCRED = struct.Struct("3i")


class TrioConnection:
    """A connection to the daemon; made by `open_connection`.

    Attributes
    ----------
    welcome : Welcome
        Who answered, and in which version of the protocol.
    """

    def __init__(self, sock: trio.socket.SocketType, socket_path: str, welcome: Welcome, parser: FrameParser) -> None:
        self.welcome = welcome
        self._sock = sock
        self._path = socket_path
        self._parser = parser
        self._pending: dict[int, PendingCall | BatchStream[Any] | None] = {}
        self._slots = trio.Semaphore(_MOST_UNDER_WAY, max_value=_MOST_UNDER_WAY)
        self._next_number = 1
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._outbox_filled = trio.Event()
        self._failure: PantryError | None = None
        self._closed = trio.Event()

    @property
    def alive(self) -> bool:
        """Whether requests can be made."""
        return self._failure is None

    @property
    def requests_under_way(self) -> int:
        """Requests that the daemon has not answered yet."""
        return len(self._pending)

    async def wait_closed(self) -> None:
        """Wait until the connection is of no further use."""
        await self._closed.wait()

    async def call(
        self, operation: Operation[R], fds: Sequence[int] = (), behalf: Behalf | None = None
    ) -> tuple[R, list[int]]:
        """Ask for one operation and wait for its answer.

        Parameters
        ----------
        operation : Operation
            What to do.
        fds : Sequence[int]
            Descriptors that go with it; they stay the caller's.
        behalf : Behalf, optional
            The user for whom we ask, if not for ourselves.

        Returns
        -------
        result : R
            The operation's result.
        fds : list of int
            Descriptors that came with it; the caller owns them.

        Raises
        ------
        PantryError
            Whatever the daemon raised, as the same class; `DaemonUnavailableError` if it is gone.
        """
        call = PendingCall()
        number = await self.begin(operation, call, behalf, fds)
        try:
            await call.done.wait()
        except BaseException:
            if call.done.is_set():
                close_all(call.fds)
            else:
                self.abandon(number)
            raise
        if call.error is not None:
            raise call.error
        assert call.payload is not None  # noqa: S101 - `done` is only set with an error or a payload
        try:
            return decode_result(call.payload, operation), call.fds
        except ProtocolError:
            close_all(call.fds)
            raise

    def stream(self, operation: StreamOperation[R], behalf: Behalf | None = None) -> BatchStream[R]:
        """Ask for a stream; give an iterator over its batches, which must be closed if not exhausted."""
        return BatchStream(self, operation, behalf)

    def close(self) -> None:
        """End the connection; everybody who waits gets a `DaemonUnavailableError`."""
        self._fail(DaemonUnavailableError(f"the connection to {self._path} was closed"))

    # -- for `BatchStream` ------------------------------------------------------------------------

    async def begin(
        self,
        operation: Operation[Any],
        waiter: PendingCall | BatchStream[Any],
        behalf: Behalf | None,
        fds: Sequence[int] = (),
    ) -> int:
        """Send a request as soon as there is a free number; return the number."""
        if self._failure is not None:
            raise self._gone()
        await self._slots.acquire()
        if self._failure is not None:
            self._slots.release()
            raise self._gone()
        # No await from here to the end: the number, the table and the outbox change together.
        number = self._next_number
        try:
            request = encode(Request(number, msgspec.Raw(encode(operation)), behalf))
            if len(request) > MAX_FRAME_BYTES:
                raise ProtocolError(f"the request has {len(request)} bytes, more than {MAX_FRAME_BYTES}")
            self._post(request, _duplicate(fds))
        except BaseException:
            self._slots.release()
            raise
        self._next_number += 1
        self._pending[number] = waiter
        return number

    def abandon(self, number: int) -> None:
        """Nobody waits for the answer any more; tell the daemon, once."""
        if self._pending.get(number) is not None:
            self._pending[number] = None
            self._post(encode(Cancel(number)), [])

    def credit(self, number: int, items: int) -> None:
        """Let the daemon send so many items more of a stream."""
        if number in self._pending:
            self._post(encode(Credit(number, items)), [])

    # -- the two tasks ---------------------------------------------------------------------------

    def _post(self, payload: bytes, fds: list[int]) -> None:
        if self._failure is not None:
            close_all(fds)
            return
        self._outbox.append((payload, fds))
        self._outbox_filled.set()

    async def _write(self) -> None:
        try:
            while self._failure is None:
                await self._outbox_filled.wait()
                self._outbox_filled = trio.Event()
                while self._outbox:
                    payload, fds = self._outbox.popleft()
                    try:
                        await send_frame(self._sock, payload, fds)
                    finally:
                        close_all(fds)
        except (OSError, trio.ClosedResourceError) as exc:
            self._fail(_unavailable(self._path, exc))
        except ProtocolError as exc:
            self._fail(exc)

    async def _read(self) -> None:
        try:
            while self._failure is None:
                data, fds = await receive(self._sock)
                frames = deque(self._parser.feed(data, fds))
                if not data:
                    raise DaemonUnavailableError(
                        f"the daemon at {self._path} closed the connection", hint="see whether pantryd is running"
                    )
                try:
                    while frames:
                        payload, descriptors = frames.popleft()
                        self._dispatch(payload, list(descriptors))
                finally:
                    for frame in frames:
                        close_all(frame.fds)
        except (OSError, trio.ClosedResourceError) as exc:
            self._fail(_unavailable(self._path, exc))
        except PantryError as exc:
            self._fail(exc)

    def _dispatch(self, payload: bytes, fds: list[int]) -> None:
        try:
            message = decode_from_daemon(payload)
            if isinstance(message, Welcome) or message.number not in self._pending:
                raise ProtocolError(f"the daemon answered what was not asked: {type(message).__name__}")
            waiter = self._pending[message.number]
            if not isinstance(message, Item):
                del self._pending[message.number]
                self._slots.release()
            if waiter is None:
                return
            if isinstance(waiter, BatchStream):
                waiter.take(message)
            else:
                waiter.take(message, fds)
                fds = []
        finally:
            close_all(fds)

    def _fail(self, error: PantryError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        pending, self._pending = self._pending, {}
        for waiter in pending.values():
            self._slots.release()
            if waiter is not None:
                waiter.fail(self._gone())
        while self._outbox:
            close_all(self._outbox.popleft()[1])
        self._parser.close()
        self._outbox_filled.set()
        self._closed.set()
        self._sock.close()

    def _gone(self) -> PantryError:
        """Return the error of this connection, anew for each who gets it."""
        error = self._failure
        assert error is not None  # noqa: S101
        return type(error)(error.message, hint=error.hint, **error.fields)


@asynccontextmanager
async def open_connection(
    socket_path: str, *, client: str = "pantry", daemon_uid: int | None = None, timeout_s: float = 10.0
) -> AsyncIterator[TrioConnection]:
    """Connect to the daemon; its tasks live as long as the context.

    Parameters
    ----------
    socket_path : str
        Of the daemon's socket.
    client : str
        Our name, for the daemon's log.
    daemon_uid : int, optional
        Refuse any peer but this user or root; for sockets in places where others can write.
    timeout_s : float
        For connecting and the exchange of hellos, in seconds.

    Raises
    ------
    DaemonUnavailableError
        Nobody answers there.
    ProtocolError
        Whoever answers is no Pantry daemon, or none of a version that we speak.
    """
    parser = FrameParser()
    sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    failure: Exception | None = None
    try:
        welcome = await _introduce(sock, socket_path, parser, client, daemon_uid, timeout_s)
        connection = TrioConnection(sock, socket_path, welcome, parser)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection._read)
            nursery.start_soon(connection._write)
            # Carried out by hand, so that the caller sees its own exception and no group around it.
            try:
                yield connection
            except Exception as exc:
                failure = exc
            finally:
                connection.close()
                nursery.cancel_scope.cancel()
    finally:
        sock.close()
        parser.close()
    if failure is not None:
        raise failure


async def _introduce(
    sock: trio.socket.SocketType,
    path: str,
    parser: FrameParser,
    client: str,
    daemon_uid: int | None,
    timeout_s: float,
) -> Welcome:
    try:
        with trio.fail_after(timeout_s):
            await sock.connect(path)
            if daemon_uid is not None:
                _check_peer(sock, path, daemon_uid)
            await send_frame(sock, encode(Hello(PROTOCOL_VERSIONS, client)))
            while True:
                data, fds = await receive(sock)
                frames = parser.feed(data, fds)
                if frames:
                    break
                if not data:
                    raise DaemonUnavailableError(f"the daemon at {path} closed the connection without a word")
    except trio.TooSlowError:
        raise DaemonUnavailableError(f"the daemon at {path} did not answer within {timeout_s:g} s") from None
    except OSError as exc:
        raise _unavailable(path, exc) from exc
    for frame in frames:
        close_all(frame.fds)
    message = decode_from_daemon(frames[0].payload)
    if isinstance(message, Failure):
        raise message.to_error()
    if not isinstance(message, Welcome) or len(frames) > 1:
        raise ProtocolError(f"the daemon at {path} did not answer the hello")
    if message.version not in PROTOCOL_VERSIONS:
        raise ProtocolError(
            f"the daemon at {path} speaks version {message.version} of the protocol, we {PROTOCOL_VERSIONS}",
            hint="client and daemon are of different versions; restart the older one",
        )
    return message


def _duplicate(fds: Sequence[int]) -> list[int]:
    """Give the outbox its own descriptors, so that the caller may close its at any time."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))  # noqa: PERF401 - those made so far are closed if one fails
    except OSError:
        close_all(copies)
        raise
    return copies


def _check_peer(sock: trio.socket.SocketType, path: str, daemon_uid: int) -> None:
    _, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in (daemon_uid, 0):
        raise DaemonUnavailableError(
            f"whoever listens at {path} is user {uid}, not {daemon_uid} or root",
            hint="somebody may be posing as pantryd",
        )


def _unavailable(path: str, exc: BaseException) -> DaemonUnavailableError:
    reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc) or type(exc).__name__
    return DaemonUnavailableError(f"no daemon at {path}: {reason}", hint="see whether pantryd is running")
