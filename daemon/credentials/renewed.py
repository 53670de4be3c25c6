"""Backends whose secrets may change while they are used: made anew when that happens, and nobody above notices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import trio

from pantry.backends.contract import ObjectBackend
from pantry.backends.delegating import DelegatingBackend
from pantry.daemon.config.secrets import Options, has_sources, read_secrets, stand_in
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
    """

    def __init__(self, options: Options, what: str) -> None:
        self._options = options
        self._what = what
        self._has_sources = has_sources(options)
        # Not a thread of those who ask origins: what is cached would wait for them.
        self._thread = trio.CapacityLimiter(1)
        self._reading = trio.Lock()
        self._known: Made = {}
        self._until_s = float("-inf")

    def stand_in(self) -> Made:
        """As of `OptionSource`."""
        return stand_in(self._options)

    async def now(self) -> Made:
        """Read the secrets, unless that was done a moment ago; raises as `SecretSource.read`."""
        if not self._has_sources:
            await trio.lowlevel.checkpoint()
            return self._options
        async with self._reading:
            if (now_s := trio.current_time()) >= self._until_s:
                # A file may lie in a file system that does not answer: whoever waits may go, and one thread hangs.
                self._known = await trio.to_thread.run_sync(
                    read_secrets, self._options, self._what, limiter=self._thread, abandon_on_cancel=True
                )
                self._until_s = now_s + HOLDS_S
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


class RenewedBackend(DelegatingBackend):
    """An `ObjectBackend` that is made anew when its options have changed.

    Parameters
    ----------
    renewed : Renewed
        Gives the backend for each call.
    refused : str
        What to do if the service refuses, in place of what the backend says.
    """

    def __init__(self, renewed: Renewed[ObjectBackend], *, refused: str = "") -> None:
        super().__init__(renewed.model)
        self._renewed = renewed
        self._refused = refused

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[ObjectBackend]:
        async with self._renewed.use() as (_, backend):
            try:
                yield backend
            except BackendAccessError as exc:
                exc.hint = self._refused or exc.hint
                raise

    async def aclose(self) -> None:
        """Close everything."""
        await self._renewed.aclose()
