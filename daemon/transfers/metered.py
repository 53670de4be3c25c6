"""Listings and writes, which go to a storage beside the reads of its `Origin`: counted, and within its limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import cast

from pantry.backends.admission import Admission
from pantry.backends.contract import ByteRange, Capabilities, ObjectBackend, ObjectStat
from pantry.backends.progress import Progress
from pantry.daemon.transfers.traffic import Traffic


@asynccontextmanager
async def place_in(limit: Admission | None) -> AsyncIterator[None]:
    """Wait for a place in the limit of an origin, if it has one and this task has no place yet."""
    if limit is None or limit.held is not None:
        yield
        return
    async with limit.turn():
        yield


class MeteredBackend:
    """An `ObjectBackend` whose requests are counted and limited.

    No latencies are taken: a request may wait for its turn.

    Parameters
    ----------
    inner : ObjectBackend
        Which is asked.
    traffic : Traffic
        Where it is counted.
    limit : Admission, optional
        Of the origin. A place in it is taken before any turn of the node's, here as in `Origin`.
    """

    def __init__(self, inner: ObjectBackend, traffic: Traffic, limit: Admission | None) -> None:
        self._inner = inner
        self._traffic = traffic
        self._limit = limit

    @property
    def capabilities(self) -> Capabilities:
        """As of `ObjectBackend`, as all below."""
        return self._inner.capabilities

    @property
    def location(self) -> str:
        """A URI without any secret."""
        return self._inner.location

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[ObjectBackend]:
        async with place_in(self._limit):
            with self._traffic.request(timed=False):
                yield self._inner

    async def stat(self, key: str) -> ObjectStat:
        """Describe."""
        async with self._asking() as inner:
            return await inner.stat(key)

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
        async with self._asking() as inner:
            await inner.read_into(key, span, fd, if_version=if_version, on_progress=on_progress)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """List; whoever takes the keys slowly keeps no place meanwhile."""
        with self._traffic.request(timed=False):
            async with aclosing(cast(AsyncGenerator[ObjectStat, None], self._inner.list_keys(prefix))) as listed:
                while True:
                    async with place_in(self._limit):
                        one = await anext(listed, None)
                    if one is None:
                        return
                    yield one

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Write."""
        async with self._asking() as inner:
            return await inner.write_from(key, fd, size_bytes, token=token)

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Undo a write."""
        async with self._asking() as inner:
            return await inner.undo_write(key, token=token)

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget a token."""
        async with self._asking() as inner:
            await inner.settle_write(key, token=token)

    async def delete(self, key: str) -> None:
        """Delete."""
        async with self._asking() as inner:
            await inner.delete(key)

    async def aclose(self) -> None:
        """Close the backend."""
        await self._inner.aclose()
