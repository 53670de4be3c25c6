"""What a handler gets with a request, and what a connection holds."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pantry.daemon.server.identity import Identity
from pantry.errors import InvalidRequestError


class Releasable(Protocol):
    """Something that a connection holds and that must be given back."""

    async def release(self) -> None:
        """Give it back; called once, shielded from cancellation."""
        ...


class Session:
    """What one connection holds between requests: opened files, puts begun.

    All of it is released when the peer goes, however it goes.
    """

    def __init__(self, max_held: int = 4096) -> None:
        self._max_held = max_held
        self._held: dict[int, Releasable] = {}
        self._last = 0

    def hold(self, thing: Releasable) -> int:
        """Keep something for the peer; return the number by which it can name it."""
        if len(self._held) >= self._max_held:
            raise InvalidRequestError(f"this connection holds {len(self._held)} things; give some back first")
        self._last += 1
        self._held[self._last] = thing
        return self._last

    def held(self, number: int, kind: type[Any] | tuple[type[Any], ...]) -> Any:
        """Return what the peer named, if it is of this kind, or of one of these."""
        thing = self._held.get(number)
        if not isinstance(thing, kind):
            names = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
            raise InvalidRequestError(f"this connection holds no {names} by number {number}")
        return thing

    def give_back(self, number: int) -> None:
        """Forget something that was released."""
        self._held.pop(number, None)

    async def release_all(self) -> None:
        """Release everything, in the order it was taken."""
        while self._held:
            number = next(iter(self._held))
            await self._held.pop(number).release()


class RequestContext:
    """One request: who asks, the descriptors that came with it and those to send back.

    Attributes
    ----------
    caller : Identity
        On whose behalf; the peer itself unless it is trusted and named another user.
    peer : Identity
        The process on the socket.
    session : Session
        Of its connection.
    fds : tuple of int
        Descriptors that came with the request; closed after the handler.
    """

    def __init__(
        self,
        caller: Identity,
        peer: Identity,
        session: Session,
        fds: tuple[int, ...],
        emit: Callable[[Any], Awaitable[None]],
    ) -> None:
        self.caller = caller
        self.peer = peer
        self.session = session
        self.fds = fds
        self.answer_fds: list[int] = []
        self._emit = emit

    def attach(self, fd: int) -> None:
        """Send ``fd`` with the reply; the context owns it from now on."""
        self.answer_fds.append(fd)

    async def emit(self, batch: Any) -> None:
        """Send one batch of a stream; waits while the peer does not keep up."""
        await self._emit(batch)

    def close(self) -> None:
        """Close every descriptor that came or was to go."""
        for fd in (*self.fds, *self.answer_fds):
            os.close(fd)
        self.fds = ()
        self.answer_fds.clear()
