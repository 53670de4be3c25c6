"""Backends whose secrets may change while they are used: made anew when that happens, and nobody above notices."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Generic, Protocol, TypeVar, cast

import trio

from pantry.backends.contract import ByteRange, Capabilities, ObjectBackend, ObjectStat
from pantry.backends.progress import Progress
from pantry.daemon.config.secrets import Options, read_secrets, stand_in
from pantry.errors import BackendAccessError

HOLDS_S = 1.0
"""How long secrets are believed after they were read, in seconds."""


class Closable(Protocol):
    """What has to be closed."""

    async def aclose(self) -> None:
        """Close it."""
        ...


B = TypeVar("B", bound=Closable)
Made = Mapping[str, object]


class OptionSource(Protocol):
    """Gives the options of a backend, secrets included."""

    def stand_in(self) -> Made:
        """Return options that are good for all checks and for no request."""
        ...

    async def now(self) -> Made:
        """Return the options as they are at present."""
        ...


class NodeOptions:
    """Options of the node's own, of which some are kept elsewhere.

    Parameters
    ----------
    options : Options
        As configured.
    what : str
        What they are for, for messages.
    in_thread : Callable
        Runs a blocking function in a thread.
    """

    def __init__(self, options: Options, what: str, in_thread: Callable[[Callable[[], Made]], Awaitable[Made]]) -> None:
        self._options = options
        self._what = what
        self._in_thread = in_thread
        self._known: Made = {}
        self._until_s = float("-inf")

    def stand_in(self) -> Made:
        """As of `OptionSource`."""
        return stand_in(self._options)

    async def now(self) -> Made:
        """Read the secrets, unless that was done a moment ago; raises as `SecretSource.read`."""
        if trio.current_time() >= self._until_s:
            asked_s = trio.current_time()
            self._known = await self._in_thread(lambda: read_secrets(self._options, self._what))
            self._until_s = asked_s + HOLDS_S
        return self._known


class _One(Generic[B]):
    """A backend, and how many calls use it."""

    def __init__(self, options: Made, backend: B) -> None:
        self.options = options
        self.backend = backend
        self.users = 0
        self.retired = False


class Renewed(Generic[B]):
    """The backend of some options as they are at present.

    Parameters
    ----------
    options : OptionSource
        Asked before each use.
    make : Callable
        Makes the backend of options; connects nothing yet.
    """

    def __init__(self, options: OptionSource, make: Callable[[Made], B]) -> None:
        self._options = options
        self._make = make
        self.model = make(options.stand_in())
        self._one: _One[B] | None = None

    @asynccontextmanager
    async def use(self) -> AsyncIterator[tuple[Made, B]]:
        """Give the present options and their backend, which stays as long as the block."""
        options = await self._options.now()
        # No await from here to the count.
        one, before = self._one, None
        if one is None or one.options != options:
            one, before = _One(options, self._make(options)), one
            self._one = one
        one.users += 1
        try:
            if before is not None:
                await self._retire(before)
            yield options, one.backend
        finally:
            one.users -= 1
            if one.retired:
                await self._close(one)

    async def forget(self) -> None:
        """Close what is connected as soon as nobody uses it; the next use makes it anew."""
        if (one := self._one) is not None:
            self._one = None
            await self._retire(one)

    async def _retire(self, one: _One[B]) -> None:
        one.retired = True
        await self._close(one)

    async def _close(self, one: _One[B]) -> None:
        if not one.users:
            with trio.CancelScope(shield=True):
                await one.backend.aclose()

    async def aclose(self) -> None:
        """Close everything."""
        await self.forget()
        await self.model.aclose()


class RenewedBackend:
    """An `ObjectBackend` that is made anew when its options have changed.

    Parameters
    ----------
    renewed : Renewed
        Gives the backend for each call.
    refused : str
        What to do if the service refuses, in place of what the backend says.
    """

    def __init__(self, renewed: Renewed[ObjectBackend], *, refused: str = "") -> None:
        self.renewed = renewed
        self._refused = refused

    @asynccontextmanager
    async def _backend(self) -> AsyncIterator[ObjectBackend]:
        async with self.renewed.use() as (_, backend):
            try:
                yield backend
            except BackendAccessError as exc:
                exc.hint = self._refused or exc.hint
                raise

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""
        return self.renewed.model.capabilities

    @property
    def location(self) -> str:
        """A URI without any secret."""
        return self.renewed.model.location

    async def stat(self, key: str) -> ObjectStat:
        """As of `ObjectBackend`, as all below."""
        async with self._backend() as backend:
            return await backend.stat(key)

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Read."""
        async with self._backend() as backend:
            await backend.read_into(key, span, fd, if_version=if_version, on_progress=on_progress)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """List."""
        async with (
            self._backend() as backend,
            aclosing(cast(AsyncGenerator[ObjectStat, None], backend.list_keys(prefix))) as listed,
        ):
            async for one in listed:
                yield one

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Write."""
        async with self._backend() as backend:
            return await backend.write_from(key, fd, size_bytes, token=token)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Undo a write."""
        async with self._backend() as backend:
            return await backend.undo_write(key, token=token)

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget a token."""
        async with self._backend() as backend:
            await backend.settle_write(key, token=token)

    async def delete(self, key: str) -> None:
        """Delete."""
        async with self._backend() as backend:
            await backend.delete(key)

    async def aclose(self) -> None:
        """Close everything."""
        await self.renewed.aclose()
