"""Who waits for an answer on a `pantry.wire.trio_driver.TrioConnection`: a call, or a stream of batches."""

from __future__ import annotations

from collections import deque
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio

from pantry.errors import PantryError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import STREAM_WINDOW, Behalf, End, Failure, FromDaemon, Item, Reply
from pantry.wire.operations import Operation, StreamOperation

R = TypeVar("R")
_CREDIT_STEP = STREAM_WINDOW // 2
"""Items are acknowledged in steps of so many, which keeps the daemon going at fewer frames."""


class Requests(Protocol):
    """What a stream needs of its connection."""

    async def begin(
        self, operation: Operation[Any], waiter: PendingCall | BatchStream[Any], behalf: Behalf | None
    ) -> int:
        """Send the request; return its number."""
        ...

    def abandon(self, number: int) -> None:
        """Say that nobody waits any more."""
        ...

    def credit(self, number: int, items: int) -> None:
        """Let the daemon send so many items more."""
        ...


class PendingCall:
    """One waiting caller; ``done`` is set with a payload or an error."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.payload: msgspec.Raw | None = None
        self.error: PantryError | None = None
        self.fds: list[int] = []

    def take(self, message: FromDaemon, fds: list[int]) -> None:
        """Take the answer, and own its descriptors."""
        if self.done.is_set():
            close_all(fds)
            return
        match message:
            case Reply():
                self.payload, self.fds = message.result, fds
            case Failure():
                self.error = message.to_error()
                close_all(fds)
            case _:
                self.error = ProtocolError("the daemon answered a call with a stream")
                close_all(fds)
        self.done.set()

    def fail(self, error: PantryError) -> None:
        """Wake with an error: the connection is gone."""
        self.error = error
        self.done.set()


class BatchStream(Generic[R]):
    """The batches of one streamed answer.

    An asynchronous iterator; the request is made with the first batch asked for. It may be advanced by
    different tasks, one at a time. Once it has failed or was cancelled it never ends as if complete:
    each further step raises.
    """

    def __init__(self, connection: Requests, operation: StreamOperation[R], behalf: Behalf | None) -> None:
        self._connection = connection
        self._operation = operation
        self._behalf = behalf
        self._number = 0
        self._batches: deque[msgspec.Raw] = deque()
        self._unacknowledged = 0
        self._arrived = trio.Event()
        self._ended = False
        self._error: PantryError | None = None

    def __aiter__(self) -> BatchStream[R]:
        return self

    async def __anext__(self) -> R:
        try:
            if not self._number and self._error is None:
                self._number = await self._connection.begin(self._operation, self, self._behalf)
            while not self._batches:
                if self._error is not None:
                    raise self._error
                if self._ended:
                    raise StopAsyncIteration
                self._arrived = trio.Event()
                await self._arrived.wait()
            self._unacknowledged += 1
            if self._unacknowledged >= _CREDIT_STEP and not self._ended:
                self._connection.credit(self._number, self._unacknowledged)
                self._unacknowledged = 0
            return decode_result(self._batches.popleft(), self._operation)
        except StopAsyncIteration:
            raise
        except BaseException as exc:
            self._stop(exc if isinstance(exc, PantryError) else ProtocolError("the stream was cancelled"))
            raise

    def stop(self) -> None:
        """Stop the stream, if it has not ended; the daemon is told."""
        self._stop(ProtocolError("the stream was stopped"))

    async def aclose(self) -> None:
        """Stop the stream, for `contextlib.aclosing`."""
        self.stop()
        await trio.lowlevel.checkpoint()

    def _stop(self, error: PantryError) -> None:
        self._batches.clear()
        if self._error is None and not self._ended and self._number:
            self._connection.abandon(self._number)
        self._error = self._error or error

    def take(self, message: FromDaemon) -> None:
        """Take one frame of the answer."""
        match message:
            case Item() if len(self._batches) < STREAM_WINDOW:
                self._batches.append(message.result)
            case End():
                self._ended = True
            case Failure():
                self._error = message.to_error()
            case _:
                self._stop(ProtocolError("the daemon broke the rules of a stream"))
        self._arrived.set()

    def fail(self, error: PantryError) -> None:
        """Wake with an error: the connection is gone."""
        self._error = error
        self._arrived.set()


_decoders: dict[type[Any], msgspec.msgpack.Decoder[Any]] = {}


def decode_result(payload: msgspec.Raw, operation: Operation[R]) -> R:
    """Decode what answers ``operation``; anything else is a `ProtocolError`."""
    kind = operation.result_type
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        result: R = decoder.decode(payload)
    except (ValueError, RecursionError) as exc:  # msgspec's own errors are ValueErrors
        raise ProtocolError(f"the daemon's result cannot be understood: {exc}") from None
    return result
