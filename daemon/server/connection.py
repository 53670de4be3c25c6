"""One connection: hello, then requests side by side until the peer goes.

Tasks: the reader (`serve`) owns a nursery with one task per request. Nothing outlives `serve`: the
peer's end cancels the requests under way, and what the session holds is released.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
import trio

import pantry
from pantry.backends.admission import acting_uid
from pantry.daemon.server.context import RequestContext, Session
from pantry.daemon.server.dispatch import Dispatcher, to_failure
from pantry.daemon.server.identity import Identity
from pantry.daemon.server.limits import UserLimits
from pantry.errors import LimitExceededError, PermissionDeniedError, ProtocolError
from pantry.wire.descriptors import close_all
from pantry.wire.envelope import (
    MAX_REQUESTS,
    PROTOCOL_VERSIONS,
    STREAM_WINDOW,
    Behalf,
    Cancel,
    Credit,
    End,
    Failure,
    Hello,
    Item,
    Reply,
    Request,
    Welcome,
    decode_from_client,
    encode,
)
from pantry.wire.framing import Frame, FrameParser
from pantry.wire.operations import StreamOperation, decode_operation
from pantry.wire.trio_transport import receive, send_frame

HELLO_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 120.0
"""A peer that takes nothing for so long is gone."""

log = logging.getLogger(__name__)


class _UnderWay:
    """A request being answered."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.credit = trio.Semaphore(STREAM_WINDOW)
        self.cancelled_by_peer = False


class Connection:
    """The daemon's end of one connection.

    Parameters
    ----------
    sock : trio.socket.SocketType
        Connected; closed by `serve`.
    peer : Identity
        Who connected.
    may_ask_for_others : bool
        Whether `Request.behalf` is honoured.
    dispatcher : Dispatcher
        Answers requests.
    limits : UserLimits
        Requests under way, per user.
    """

    def __init__(
        self,
        sock: trio.socket.SocketType,
        peer: Identity,
        *,
        may_ask_for_others: bool,
        own_uid: int,
        dispatcher: Dispatcher,
        limits: UserLimits,
    ) -> None:
        self._sock = sock
        self._peer = peer
        self._may_ask_for_others = may_ask_for_others
        self._own_uid = own_uid
        self._dispatcher = dispatcher
        self._limits = limits
        self._session = Session()
        self._under_way: dict[int, _UnderWay] = {}
        self._sending = trio.Lock()

    async def serve(self) -> None:
        """Answer the peer until it goes, breaks the protocol, or this is cancelled."""
        parser = FrameParser()
        try:
            async with trio.open_nursery() as nursery:
                await self._read(parser, nursery)
                nursery.cancel_scope.cancel()
        except* ProtocolError as group:
            log.info("uid %d broke the protocol: %s", self._peer.uid, group.exceptions[0])
        except* (OSError, trio.ClosedResourceError) as group:
            log.debug("connection of uid %d lost: %s", self._peer.uid, group.exceptions[0])
        finally:
            parser.close()
            self._sock.close()
            with trio.CancelScope(shield=True):
                await self._session.release_all()

    async def _read(self, parser: FrameParser, nursery: trio.Nursery) -> None:
        greeted = False
        deadline = trio.current_time() + HELLO_TIMEOUT_S
        while True:
            with trio.CancelScope(deadline=float("inf") if greeted else deadline) as scope:
                data, fds = await receive(self._sock)
            if scope.cancelled_caught:
                raise ProtocolError("no hello came in time")
            if not data:
                return
            frames = parser.feed(data, fds)
            for position, frame in enumerate(frames):
                try:
                    if greeted:
                        self._take(frame, nursery)
                    else:
                        await self._greet(frame)
                        greeted = True
                except BaseException:
                    for later in frames[position + 1 :]:
                        close_all(later.fds)
                    raise

    async def _greet(self, frame: Frame) -> None:
        close_all(frame.fds)
        try:
            message = decode_from_client(frame.payload)
            if not isinstance(message, Hello):
                raise ProtocolError("the first message must be a hello")
            versions = set(message.versions) & set(PROTOCOL_VERSIONS)
            if not versions:
                raise ProtocolError(
                    f"this daemon speaks protocol versions {PROTOCOL_VERSIONS}, the client {message.versions}",
                    hint="update the older of the two",
                )
        except ProtocolError as exc:
            await self._send(to_failure(0, exc))
            raise
        await self._send(Welcome(max(versions), pantry.__version__, self._own_uid))

    def _take(self, frame: Frame, nursery: trio.Nursery) -> None:
        """Act on one frame; owns its descriptors until a task takes them."""
        owned = frame.fds
        try:
            message = decode_from_client(frame.payload)
            match message:
                case Request():
                    if message.number in self._under_way or message.number < 1:
                        raise ProtocolError(f"the request number {message.number} is in use or not positive")
                    under_way = self._under_way[message.number] = _UnderWay()
                    nursery.start_soon(self._answer, message, under_way, frame.fds)
                    owned = ()
                case Cancel():
                    if (found := self._under_way.get(message.number)) is not None:
                        found.cancelled_by_peer = True
                        found.scope.cancel()
                case Credit():
                    found = self._under_way.get(message.number)
                    if message.items < 1 or message.items > STREAM_WINDOW:
                        raise ProtocolError(f"credit for {message.items} items")
                    for _ in range(message.items if found else 0):
                        if found is not None and found.credit.value < STREAM_WINDOW:
                            found.credit.release()
                case Hello():
                    raise ProtocolError("a second hello")
        finally:
            close_all(owned)

    async def _answer(self, request: Request, under_way: _UnderWay, fds: tuple[int, ...]) -> None:
        number = request.number

        async def emit(batch: Any) -> None:
            await under_way.credit.acquire()
            await self._send(Item(number, msgspec.Raw(encode(batch))))

        context = RequestContext(self._peer, self._peer, self._session, fds, emit)
        try:
            with under_way.scope:
                try:
                    context.caller = self._caller(request.behalf)
                    acting_uid.set(context.caller.uid)
                    if len(self._under_way) > MAX_REQUESTS:
                        raise LimitExceededError(
                            f"more than {MAX_REQUESTS} requests under way on one connection", hint="wait for answers"
                        )
                    operation = decode_operation(request.operation)
                    with self._limits.request(context.caller.uid):
                        result = await self._dispatcher.dispatch(context, operation)
                    if isinstance(operation, StreamOperation):
                        await self._send(End(number))
                    else:
                        await self._send(Reply(number, msgspec.Raw(encode(result))), tuple(context.answer_fds))
                except OSError:
                    if self._sock.fileno() == -1:
                        return
                    raise
                except Exception as exc:
                    await self._send(to_failure(number, exc))
            if under_way.scope.cancelled_caught and under_way.cancelled_by_peer:
                await self._send(Failure(number, "cancelled", "the request was cancelled"))
        finally:
            context.close()
            del self._under_way[number]

    def _caller(self, behalf: Behalf | None) -> Identity:
        if behalf is None:
            return self._peer
        if not self._may_ask_for_others and behalf.uid != self._peer.uid:
            raise PermissionDeniedError(
                f"uid {self._peer.uid} may not ask on behalf of uid {behalf.uid}",
                hint="the administrator may list it under 'trusted' in the daemon's configuration",
            )
        if not self._may_ask_for_others:
            return self._peer
        return Identity(behalf.uid, behalf.gid, frozenset(behalf.groups) | {behalf.gid})

    async def _send(self, message: Any, fds: tuple[int, ...] = ()) -> None:
        payload = encode(message)
        try:
            self._sending.acquire_nowait()  # mostly free, and then nothing else goes before the answer
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            # Once a frame is begun it is ended, or the connection is of no use: hence the shield.
            with trio.CancelScope(shield=True, deadline=trio.current_time() + SEND_TIMEOUT_S) as scope:
                await send_frame(self._sock, payload, fds)
            if scope.cancelled_caught:
                self._sock.close()
                raise ProtocolError(f"the peer took nothing for {SEND_TIMEOUT_S:.0f} s")
        finally:
            self._sending.release()
