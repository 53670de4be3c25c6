"""What stands before a storage and passes each call on, after something of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import cast

from pantry.backends.contract import ByteRange, Capabilities, ObjectBackend, ObjectStat
from pantry.backends.progress import Progress


class DelegatingBackend(ABC):
    """An `ObjectBackend` that asks another one, as its heirs say.

    Parameters
    ----------
    model : ObjectBackend
        Tells what the storage is and can do; closed with this one.
    """

    def __init__(self, model: ObjectBackend) -> None:
        self._model = model

    @abstractmethod
    def _asking(self) -> AbstractAsyncContextManager[ObjectBackend]:
        """Give the backend that is asked, for one call."""

    @property
    def capabilities(self) -> Capabilities:
        """What the storage can do."""
        return self._model.capabilities

    @property
    def location(self) -> str:
        """A URI without any secret."""
        return self._model.location

    async def stat(self, key: str) -> ObjectStat:
        """As of `ObjectBackend`, as all below."""
        async with self._asking() as backend:
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
        async with self._asking() as backend:
            await backend.read_into(key, span, fd, if_version=if_version, on_progress=on_progress)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """List."""
        async with self._asking() as backend, listing(backend, prefix) as listed:
            async for one in listed:
                yield one

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Write."""
        async with self._asking() as backend:
            return await backend.write_from(key, fd, size_bytes, token=token)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Undo a write."""
        async with self._asking() as backend:
            return await backend.undo_write(key, token=token)

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget a token."""
        async with self._asking() as backend:
            await backend.settle_write(key, token=token)

    async def delete(self, key: str) -> None:
        """Delete."""
        async with self._asking() as backend:
            await backend.delete(key)

    async def aclose(self) -> None:
        """Close it."""
        await self._model.aclose()


def listing(backend: ObjectBackend, prefix: str) -> AbstractAsyncContextManager[AsyncGenerator[ObjectStat, None]]:
    """List keys, and be done with it at the end of the block, wherever that stops."""
    return aclosing(cast(AsyncGenerator[ObjectStat, None], backend.list_keys(prefix)))
