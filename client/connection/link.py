"""One socket to the daemon, shared by many threads.

Whoever waits for an answer reads for all: the first waiter leads, receives, and hands every answer
to the one it belongs to; when its own has come it makes another waiter the leader. So there is no
background thread, and an undisturbed call costs one send and one receive.

What is guarded by what: ``_lock`` guards ``_waiting``, ``_leader`` and the answers of every
`Pending`; only the leader touches the parser and receives; only the holder of ``_send_lock``
sends. The garbage collector may close a stream or a file while this very thread holds a lock:
therefore ``_lock`` is re-entrant, nobody takes ``_send_lock`` while holding it, and what ``__del__``
has to say goes through ``_outbox``, which never waits.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from pantry.client.connection.answers import Abandoned, Answer, Pending, decode_result
from pantry.client.connection.contract import Link
from pantry.client.connection.greeting import connection_interrupted, connection_lost, greet, too_slow
from pantry.client.connection.transport import receive, send_frame
from pantry.errors import DaemonUnavailableError, PantryError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import (
    STREAM_WINDOW,
    Cancel,
    Credit,
    End,
    Failure,
    Item,
    Reply,
    Request,
    Welcome,
    decode_from_daemon,
    encode,
)
from pantry.wire.framing import Frame, FrameParser
from pantry.wire.operations import AbortPut, CloseOpened, Opened, Operation, PutTicket, StreamOperation

R = TypeVar("R")

_ACKNOWLEDGE_EVERY = STREAM_WINDOW // 2
"""Items of a stream that one `Credit` acknowledges: half the window, so that the daemon never stalls."""


class SocketLink(Link):
    """An open connection; of no further use once it broke, or in another process.

    Parameters
    ----------
    sock : socket.socket
        Connected; belongs to the link from now on.
    timeout_s : float, optional
        Longest wait for an answer, in seconds; None for ever.

    Attributes
    ----------
    welcome : Welcome
        Who the daemon is.
    """

    def __init__(self, sock: socket.socket, *, timeout_s: float | None = None) -> None:
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._timeout_s = timeout_s
        self._pid = os.getpid()
        self._parser = FrameParser()
        self._lock = threading.RLock()
        self._send_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Pending | Abandoned] = {}
        self._waiting: deque[Pending] = deque()
        self._leader = 0
        self._outbox: deque[bytes] = deque()
        self._broken: PantryError | None = None
        try:
            self.welcome = greet(sock, self._parser, timeout_s)
        except BaseException:
            self.close()
            raise

    # -- what callers do --------------------------------------------------------------------

    def call_with_fds(self, operation: Operation[R], fds: Sequence[int] = ()) -> tuple[R, tuple[int, ...]]:
        """Ask for one operation; the descriptors that come with the result belong to the caller."""
        number, pending = self._begin(operation, fds)
        try:
            answer, came = self._next_answer(pending)
        except BaseException:
            self._abandon(number, pending)
            raise
        if isinstance(answer, Reply):
            return decode_result(operation.result_type, answer.result, came), came
        close_all(came)
        if isinstance(answer, Failure):
            raise answer.to_error()
        raise self._break(ProtocolError(f"the daemon answered {type(operation).__name__} with a stream"))

    def stream(self, operation: StreamOperation[R]) -> Iterator[R]:
        """Ask for a stream; its batches come as they are taken, and closing the iterator cancels it."""
        number, pending = self._begin(operation, ())
        taken = 0
        ended = False
        try:
            while True:
                answer, came = self._next_answer(pending)
                close_all(came)
                if isinstance(answer, Item):
                    yield decode_result(operation.result_type, answer.result, ())
                    taken += 1
                    if taken % _ACKNOWLEDGE_EVERY == 0:
                        self._post(encode(Credit(number, _ACKNOWLEDGE_EVERY)))
                    continue
                ended = True
                if isinstance(answer, End):
                    return
                if isinstance(answer, Failure):
                    raise answer.to_error()
                raise self._break(ProtocolError(f"the daemon answered {type(operation).__name__} with one result"))
        finally:
            if not ended:
                self._abandon(number, pending)

    def post(self, operation: Operation[Any]) -> None:
        """Ask for one operation and drop its answer; never waits for it nor raises, for use in ``__del__``."""
        if self.is_alive:
            number = next(self._numbers)
            self._pending[number] = Abandoned(operation.result_type)
            self._post(encode(Request(number, msgspec.Raw(encode(operation)))))

    @property
    def is_alive(self) -> bool:
        """Whether the link can be used: not broken, and not inherited from another process."""
        return self._broken is None and self._pid == os.getpid()

    def notices_hangup(self) -> bool:
        """Take what has come, without waiting, and tell whether the daemon has closed the link.

        So a call after a restart of the daemon need not fail to find out.
        """
        me = threading.get_ident()
        try:
            with self._lock:
                if self._leader not in (0, me) or not self.is_alive:
                    return not self.is_alive
                self._leader = me
            while self._broken is None and self._poll.poll(0):
                self._receive(None)
        finally:
            if self._leader == me:
                self._stop_leading()
        return self._broken is not None

    def close(self) -> None:
        """Close the link; whoever still waits gets a `DaemonUnavailableError`."""
        self._break(DaemonUnavailableError("the connection to the daemon was closed"))

    def disown(self) -> None:
        """Close a forked child's copies of the descriptors; the parent's connection is not disturbed."""
        self._sock.close()
        self._parser.close()

    # -- sending ----------------------------------------------------------------------------

    def _begin(self, operation: Operation[Any], fds: Sequence[int]) -> tuple[int, Pending]:
        pending = Pending(operation.result_type)
        number = next(self._numbers)
        payload = encode(Request(number, msgspec.Raw(encode(operation))))
        self._check()
        self._pending[number] = pending
        try:
            with self._send_lock:
                self._send(payload, fds)
        except ProtocolError:
            self._pending.pop(number, None)  # it exceeds a limit, and nothing was sent
            raise
        except BaseException:
            self._break(connection_interrupted())
            raise
        if self._outbox:
            self._flush()
        return number, pending

    def _send(self, payload: bytes, fds: Sequence[int] = ()) -> None:
        # Holds the send lock. A frame sent in part cannot be taken back: only breaking the link is left.
        try:
            send_frame(self._sock, payload, fds)
        except ProtocolError:
            raise
        except OSError:
            raise self._break(connection_lost()) from None
        except BaseException:
            self._break(connection_interrupted())
            raise

    def _post(self, payload: bytes) -> None:
        self._outbox.append(payload)
        self._flush()

    def _flush(self) -> None:
        """Send what is in the outbox, unless somebody is sending, who then does it after."""
        while self._outbox and self._broken is None and self._send_lock.acquire(blocking=False):
            try:
                while self._outbox:
                    self._send(self._outbox.popleft())
            except PantryError:
                return
            finally:
                self._send_lock.release()

    def _abandon(self, number: int, pending: Pending) -> None:
        """Stop caring for a request: cancel it if it is still under way, drop what has come for it."""
        if self._pid != os.getpid():
            return
        abandoned = Abandoned(pending.result_type)
        with self._lock:
            under_way = self._broken is None and number in self._pending
            if under_way:
                self._pending[number] = abandoned
        while pending.answers:
            self._discard(abandoned, *pending.answers.popleft())
        if under_way:
            self._post(encode(Cancel(number)))

    def _discard(self, abandoned: Abandoned, answer: Answer, fds: tuple[int, ...]) -> None:
        """Drop an answer that comes too late, and give back what the daemon holds for it."""
        close_all(fds)
        if isinstance(answer, Reply) and abandoned.result_type in (Opened, PutTicket):
            result = decode_result(abandoned.result_type, answer.result, ())
            if isinstance(result, PutTicket):
                self.post(AbortPut(put=result.put))
            elif result.handle:
                self.post(CloseOpened(handle=result.handle))

    # -- receiving --------------------------------------------------------------------------

    def _next_answer(self, pending: Pending) -> tuple[Answer, tuple[int, ...]]:
        """Wait for the next answer to a request, reading for all if nobody does."""
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        me = threading.get_ident()
        while True:
            try:
                with self._lock:
                    if pending.answers:
                        return pending.answers.popleft()
                    self._check()
                    # That it is this thread already is left from an interruption at a bad moment.
                    if self._leader not in (0, me):
                        self._follow(pending, deadline)
                        continue
                    self._leader = me
                while not pending.answers and self._broken is None:
                    self._receive(deadline)
            finally:
                if self._leader == me:
                    self._stop_leading()

    def _follow(self, pending: Pending, deadline: float | None) -> None:
        # Holds the lock; wakes for an answer, to lead, or because the link broke.
        if pending.wakeup is None:
            pending.wakeup = threading.Condition(self._lock)
        self._waiting.append(pending)
        try:
            woken = pending.wakeup.wait(None if deadline is None else deadline - time.monotonic())
            if not woken and not pending.answers:
                raise too_slow(self._timeout_s)
        except BaseException:
            self._waiting.remove(pending)
            if self._leader == 0:
                self._wake_one()  # it may have been this one's turn to lead
            raise
        self._waiting.remove(pending)

    def _wake_one(self) -> None:
        for follower in self._waiting:
            if not follower.answers and follower.wakeup is not None:
                follower.wakeup.notify()
                return

    def _stop_leading(self) -> None:
        with self._lock:
            self._leader = 0
            if self._broken is not None:
                self._free()
            else:
                self._wake_one()

    def _wait_readable(self, deadline: float | None) -> None:
        wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not self._poll.poll(wait_ms):
            raise too_slow(self._timeout_s)

    def _receive(self, deadline: float | None) -> None:
        """Receive once and hand out what is complete; only the leader does."""
        # An interruption while waiting here loses nothing; later it could lose a part of a frame.
        self._wait_readable(deadline)
        try:
            data, fds = receive(self._sock)
            if not data:
                close_all(fds)
                self._break(connection_lost())
                return
            frames = deque(self._parser.feed(data, fds))
            try:
                while frames:
                    self._hand_out(frames.popleft())
            finally:
                for frame in frames:
                    close_all(frame.fds)
        except OSError:
            self._break(connection_lost())
        except ProtocolError as exc:
            self._break(exc)
        except BaseException:
            self._break(connection_interrupted())
            raise

    def _hand_out(self, frame: Frame) -> None:
        try:
            answer = decode_from_daemon(frame.payload)
            if isinstance(answer, Welcome):
                raise ProtocolError("the daemon greeted twice")
            with self._lock:
                pending = self._pending.get(answer.number)
                if isinstance(pending, Pending):
                    pending.answers.append((answer, frame.fds))
                    if pending.wakeup is not None:
                        pending.wakeup.notify()
                if not isinstance(answer, Item):
                    self._pending.pop(answer.number, None)
            if pending is None:
                raise ProtocolError(f"the daemon answered request {answer.number}, which is not under way")
        except ProtocolError:
            close_all(frame.fds)
            raise
        if isinstance(pending, Abandoned):
            self._discard(pending, answer, frame.fds)

    # -- beginning and end ------------------------------------------------------------------

    def _check(self) -> None:
        if self._broken is not None:
            raise type(self._broken)(self._broken.message, hint=self._broken.hint)
        if self._pid != os.getpid():
            raise DaemonUnavailableError(
                "this was opened by the parent process", hint="open it again after the fork; a Butler does that itself"
            )

    def _break(self, error: PantryError) -> PantryError:
        """End the link and wake everybody; the first reason counts. Returns the error to raise."""
        if self._pid != os.getpid():
            return error
        with self._lock:
            if self._broken is not None:
                return error
            self._broken = error
            for pending in list(self._pending.values()):
                if isinstance(pending, Pending) and pending.wakeup is not None:
                    pending.wakeup.notify()
            self._pending.clear()
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)  # wakes the leader, who then frees what only it may touch
            if self._leader == 0:
                self._free()
        return error

    def _free(self) -> None:
        self._parser.close()
        self._sock.close()
