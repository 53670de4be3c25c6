"""Reading objects again to see whether the disk kept them: for readers, for commands, and in the background."""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import time
from enum import StrEnum
from typing import TYPE_CHECKING

import trio
import xxhash

from pantry.daemon.cache.object_id import ObjectId

if TYPE_CHECKING:
    from pantry.daemon.cache.objects import ObjectCache

BLOCK_BYTES = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What came out."""

    WHOLE = "whole"
    DAMAGED = "damaged"
    GONE = "gone"


class _Run:
    def __init__(self, bytes_per_s: int) -> None:
        self.bytes_per_s = bytes_per_s
        self.hurry = trio.Event()
        self.done = trio.Event()
        self.verdict: Verdict | None = None


class Verifier:
    """Verifies objects, each by one reader at a time; what is damaged is quarantined.

    Parameters
    ----------
    cache : ObjectCache
        Of the objects.
    """

    def __init__(self, cache: ObjectCache) -> None:
        self._cache = cache
        self._runs: dict[ObjectId, _Run] = {}

    async def verify(self, object_id: ObjectId, *, bytes_per_s: int = 0) -> Verdict:
        """Read an object and compare its hash; joins whoever does so already.

        Parameters
        ----------
        object_id : ObjectId
            Which.
        bytes_per_s : int
            Read no faster, as long as nobody joins who is in more of a hurry; 0 for as fast as can be.
        """
        while (run := self._runs.get(object_id)) is not None:
            if not bytes_per_s:
                run.hurry.set()
            await run.done.wait()
            if run.verdict is not None:
                return run.verdict
            # Whoever read was cancelled.
        run = self._runs[object_id] = _Run(bytes_per_s)
        try:
            with self._cache.leased(object_id):
                run.verdict = await self._verify(object_id, run)
        finally:
            del self._runs[object_id]
            run.done.set()
        return run.verdict

    async def _verify(self, object_id: ObjectId, run: _Run) -> Verdict:
        entry = self._cache.entry(object_id)
        if entry is None:
            return Verdict.GONE
        fd = self._cache.open_file(object_id)
        if fd is None:
            return Verdict.GONE
        counters = self._cache.counters
        try:
            length = os.fstat(fd).st_size
            problem = "" if length == entry.size_bytes else f"it has {length} bytes, not {entry.size_bytes}"
            if not problem and await _hash(fd, length, run) != (entry.content or object_id.hash):
                problem = "its content is not what its name says"
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            problem = "it cannot be read (EIO)"
        finally:
            os.close(fd)
        if self._cache.entry(object_id) is not entry:
            return Verdict.GONE
        if problem:
            log.error("cached object %s/%s (%s) is damaged: %s", *object_id, entry.name, problem)
            self._cache.quarantine_object(object_id)
            return Verdict.DAMAGED
        counters.verified_objects += 1
        counters.verified_bytes += length
        self._cache.verified(object_id, time.time_ns())
        return Verdict.WHOLE


async def _hash(fd: int, size_bytes: int, run: _Run) -> str:
    """Hash a file; from the disk and not from memory where the file system can, and leaving memory as it was."""
    direct = _open_direct(fd)
    state = xxhash.xxh3_128()
    try:
        # Anonymous memory begins at a page, as reading past the page cache needs.
        with mmap.mmap(-1, min(BLOCK_BYTES, -(-max(size_bytes, 1) // mmap.PAGESIZE) * mmap.PAGESIZE)) as buffer:
            offset = 0
            while offset < size_bytes:
                begun = trio.current_time()
                got = await trio.to_thread.run_sync(_update, state, direct, buffer, offset)
                if not got:
                    break
                offset += got
                if run.bytes_per_s and offset < size_bytes and not run.hurry.is_set():
                    with trio.move_on_at(begun + got / run.bytes_per_s):
                        await run.hurry.wait()
    finally:
        os.close(direct)
    return state.hexdigest()


def _open_direct(fd: int) -> int:
    path = f"/proc/self/fd/{fd}"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _update(state: xxhash.xxh3_128, fd: int, buffer: mmap.mmap, offset: int) -> int:
    try:
        got = os.preadv(fd, [buffer], offset)
    except OSError as exc:
        if exc.errno != errno.EINVAL:
            raise
        # The file system wants larger blocks for reading past the page cache.
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        got = os.preadv(fd, [buffer], offset)
    with memoryview(buffer) as view, view[:got] as part:
        state.update(part)
    return got
