# ruff: noqa: S101, S107
"""How the contract suite calls a backend, and how it looks at a store from outside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import trio

from pantry.backends.contract import ByteRange, ObjectBackend, ObjectStat

T = TypeVar("T")


class Outside(Protocol):
    """Sees and changes the store without the class under test."""

    def put(self, key: str, content: bytes) -> None:
        """Set an object, replacing what is there."""
        ...

    def get(self, key: str) -> bytes | None:
        """Return the whole object, or None."""
        ...

    def keys(self) -> set[str]:
        """Name all complete objects."""
        ...

    def residue(self) -> set[str]:
        """Name whatever else is there: temporary files, unfinished uploads; empty if all is clean."""
        ...


@contextmanager
def descriptor(content: bytes = b"") -> Iterator[int]:
    """Open an unnamed temporary file with ``content``, offset 0."""
    with tempfile.TemporaryFile() as file:
        os.pwrite(file.fileno(), content, 0)
        yield file.fileno()


def run(func: Callable[[], Awaitable[T]]) -> T:
    """Run an async test body, with a deadline that no honest backend meets."""

    async def bounded() -> T:
        with trio.fail_after(120):
            return await func()

    return trio.run(bounded)


async def write(backend: ObjectBackend, key: str, content: bytes, token: str = "t-1") -> ObjectStat:
    """Write ``content`` as a new object."""
    with descriptor(content) as fd:
        return await backend.write_from(key, fd, len(content), token=token)


async def read(backend: ObjectBackend, key: str, start: int, stop: int, if_version: str | None = None) -> bytes:
    """Read a range; checks that it landed at the same offsets and nothing beyond it was written."""
    with descriptor() as fd:
        await backend.read_into(key, ByteRange(start, stop), fd, if_version=if_version)
        assert os.fstat(fd).st_size in ((0,) if start == stop else (stop,))
        assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        return os.pread(fd, stop - start, start)


async def listed(backend: ObjectBackend, prefix: str) -> dict[str, ObjectStat]:
    """List; checks that no key comes twice."""
    found: dict[str, ObjectStat] = {}
    async for status in backend.list_keys(prefix):
        assert status.key not in found
        found[status.key] = status
    return found


def pattern(size_bytes: int) -> bytes:
    """Bytes in which every position is recognisable."""
    block = b"".join(i.to_bytes(4, "big") for i in range(1 << 14))
    return (block * (size_bytes // len(block) + 1))[:size_bytes]
