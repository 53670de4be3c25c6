"""A backend that fails on purpose, call by call: for tests of what stands above backends."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

import trio

from pantry.backends.contract import ByteRange, Capabilities, ObjectBackend, ObjectStat
from pantry.backends.progress import Progress
from pantry.errors import PantryError


class After(NamedTuple):
    """A fault that strikes when the call has done its work: the caller cannot tell that it did."""

    error: PantryError


class Hold(NamedTuple):
    """A call that waits for ``release`` before it begins; ``reached`` tells that it waits."""

    reached: trio.Event
    release: trio.Event


class Cut(NamedTuple):
    """A fault in the middle of a read, when ``size_bytes`` of it have come; else like `After`."""

    size_bytes: int
    error: PantryError


Fault = PantryError | After | Cut | Hold | None


class Call(NamedTuple):
    """One call that was made."""

    method: str
    key: str


class FlakyBackend:
    """Passes calls on to another backend, each after the next of the given faults.

    Parameters
    ----------
    inner : ObjectBackend
        Does the work.
    faults : Iterable[Fault]
        One for each counted call: an error to raise instead, `After` for one to raise afterwards,
        `Cut` for one in the middle of a read, `Hold` to wait, None to let it pass. When they are
        used up, all calls pass.
    only : str, optional
        Count and fail calls of this method only.

    Attributes
    ----------
    calls : list[Call]
        All calls so far, failed ones too, in order.
    """

    def __init__(self, inner: ObjectBackend, faults: Iterable[Fault] = (), *, only: str | None = None) -> None:
        self.inner = inner
        self.calls: list[Call] = []
        self._faults = deque(faults)
        self._only = only

    def fail(self, *faults: Fault) -> None:
        """Append faults for the calls to come."""
        self._faults.extend(faults)

    async def _before(self, method: str, key: str) -> After | Cut | None:
        self.calls.append(Call(method, key))
        if not self._faults or self._only not in (None, method):
            return None
        fault = self._faults.popleft()
        if isinstance(fault, PantryError):
            await trio.lowlevel.checkpoint()
            raise fault
        if isinstance(fault, Hold):
            fault.reached.set()
            await fault.release.wait()
            return None
        return fault

    @property
    def capabilities(self) -> Capabilities:
        """Those of the inner backend."""
        return self.inner.capabilities

    @property
    def location(self) -> str:
        """That of the inner backend."""
        return self.inner.location

    async def stat(self, key: str) -> ObjectStat:
        """Describe one object."""
        after = await self._before("stat", key)
        result = await self.inner.stat(key)
        _strike(after)
        return result

    async def read_into(
        self,
        key: str,
        span: ByteRange,
        fd: int,
        *,
        if_version: str | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        """Read ``span`` into ``fd``."""
        after = await self._before("read_into", key)
        if isinstance(after, Cut):
            span = ByteRange(span.start, min(span.stop, span.start + after.size_bytes))
        await self.inner.read_into(key, span, fd, if_version=if_version, on_progress=on_progress)
        _strike(after)

    async def list_keys(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """Iterate over objects; an `After` fault strikes at the end of the listing."""
        after = await self._before("list_keys", prefix)
        async for status in self.inner.list_keys(prefix):
            yield status
        _strike(after)

    async def write_from(self, key: str, fd: int, size_bytes: int, *, token: str) -> ObjectStat:
        """Store a new object."""
        after = await self._before("write_from", key)
        result = await self.inner.write_from(key, fd, size_bytes, token=token)
        _strike(after)
        return result

    async def undo_write(self, key: str, *, token: str) -> bool:
        """Remove what a write left."""
        after = await self._before("undo_write", key)
        result = await self.inner.undo_write(key, token=token)
        _strike(after)
        return result

    async def settle_write(self, key: str, *, token: str) -> None:
        """Forget a token."""
        after = await self._before("settle_write", key)
        await self.inner.settle_write(key, token=token)
        _strike(after)

    async def delete(self, key: str) -> None:
        """Delete one object."""
        after = await self._before("delete", key)
        await self.inner.delete(key)
        _strike(after)

    async def aclose(self) -> None:
        """Close the inner backend; never fails on purpose."""
        await self.inner.aclose()


def _strike(after: After | Cut | None) -> None:
    if after is not None:
        raise after.error
