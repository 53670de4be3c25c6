"""Opened files: complete ones are read from their descriptor, incomplete ones as they are fetched.

Every open asks the daemon, which authorises the asking user. A descriptor belongs to one `OpenFile` and is
closed with it; a handle of the daemon is only good on the connection that it came on.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from pantry.errors import DaemonUnavailableError, IntegrityError, PantryError, StaleHandleError
from pantry.fusefs.link import DaemonLink, User
from pantry.fusefs.readahead import RangeSet, ReadAhead
from pantry.fusefs.tree import File
from pantry.wire.descriptors import close_all
from pantry.wire.operations import CloseOpened, FetchRanges, OpenDataset, Opened
from pantry.wire.trio_driver import TrioConnection

logger = logging.getLogger(__name__)

MOST_READ_BYTES = 1 << 20
"""Longest read that the kernel sends (FUSE_MAX_MAX_PAGES)."""
_CLOSE_DEADLINE_S = 5.0

Bytes = bytes | memoryview


class Files:
    """Opens files, and owns the fetching ahead of their readers.

    Parameters
    ----------
    link : DaemonLink
        How to reach the daemon.
    deadline_s : float
        For a fetch ahead, in seconds; who reads sets a deadline of its own.
    """

    def __init__(self, link: DaemonLink, *, deadline_s: float = 300.0) -> None:
        self.link = link
        self.deadline_s = deadline_s
        self._threads = trio.CapacityLimiter(32)
        self._nursery: trio.Nursery | None = None
        self.failures = RecentFailures()
        # Reads without a pause between filling and sending it share one buffer; see `read_now`.
        self._buffer = bytearray(MOST_READ_BYTES)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Files]:
        """Own the tasks that fetch ahead."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield self
            finally:
                self._nursery = None
                nursery.cancel_scope.cancel()

    async def open(self, file: File, user: User) -> OpenFile:
        """Open a file on behalf of a user.

        Raises
        ------
        PantryError
            As the daemon answers; `IntegrityError` if what it opened is not the file that is listed.
        """
        opened, fd, connection = await self.resolve(file, user)
        return OpenFile(self, file, user, opened, fd, connection)

    async def resolve(self, file: File, user: User, *, uncached: bool = False) -> tuple[Opened, int, TrioConnection]:
        """Ask the daemon for a file's descriptor; the caller owns it and the handle."""
        opened, answer = await self.link.call_with_descriptors(
            OpenDataset(repository=file.repository, id=file.id, partial=True, uncached=uncached, ahead=False), user
        )
        try:
            if len(answer.descriptors) != 1:
                raise IntegrityError(f"the daemon opened {file.id} with {len(answer.descriptors)} descriptors")
            fd = answer.descriptors[0]
            info = os.fstat(fd)
            length = info.st_size if opened.complete and stat.S_ISREG(info.st_mode) else opened.file.size_bytes
            if length != file.size_bytes:
                raise IntegrityError(f"dataset {file.id} has {length} bytes, not the {file.size_bytes} that are listed")
        except PantryError:
            close_all(answer.descriptors)
            await self.give_back(opened, answer.connection, user)
            raise
        return opened, fd, answer.connection

    async def give_back(self, opened: Opened, connection: TrioConnection, user: User) -> None:
        """Tell the daemon that a handle is not needed any more."""
        if opened.handle and connection.alive:
            with suppress(PantryError), trio.move_on_after(_CLOSE_DEADLINE_S):
                await connection.call(CloseOpened(handle=opened.handle), behalf=user)

    async def cached(self, file: File, user: User) -> str:
        """Tell without traffic to the storage whether a file is cached: complete, partial or no."""
        opened, fd, connection = await self.resolve(file, user)
        try:
            if opened.complete:
                return "complete"
            os.lseek(fd, 0, os.SEEK_DATA)
            return "partial"
        except OSError as exc:
            if exc.errno != errno.ENXIO:
                raise
            return "no"
        finally:
            close_all([fd])
            await self.give_back(opened, connection, user)

    def read_now(self, fd: int, start: int, stop: int) -> memoryview | None:
        """Read without waiting, or return None if that is not possible.

        The result is overwritten by the next call, so the caller must have used it before anything else
        runs: pyfuse3 sends what `read` returned without an await in between.
        """
        if stop - start > MOST_READ_BYTES:
            return None
        view = memoryview(self._buffer)[: stop - start]
        try:
            done = os.preadv(fd, [view], start, os.RWF_NOWAIT)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EOPNOTSUPP):
                return None
            raise
        return view if done == stop - start else None

    async def read_waiting(self, fd: int, start: int, stop: int) -> bytes:
        """Read in a thread; fewer bytes than asked for only at the end of the file."""

        def read() -> bytes:
            pieces = []
            position = start
            while position < stop:
                piece = os.pread(fd, stop - position, position)
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

        return await trio.to_thread.run_sync(read, limiter=self._threads)

    def close_soon(self, file: OpenFile) -> None:
        """Close a file without waiting for the daemon to hear of it."""
        if self._nursery is not None:
            self._nursery.start_soon(file.close)

    def start_ahead(self, file: OpenFile, start: int, stop: int) -> bool:
        """Begin to fetch ahead for a reader, unless everything is ending."""
        if self._nursery is None:
            return False
        self._nursery.start_soon(file.fetch_ahead, start, stop)
        return True


class RecentFailures:
    """Fetches that took long to fail.

    The kernel lets those who wait for one page try one after the other when reading it fails. So each would
    wait for as long as the first, if what the first was told were not good for the others.
    """

    _LONG_S = 0.5
    _VALID_S = 2.0
    _MOST = 256

    def __init__(self) -> None:
        self._failures: dict[str, tuple[float, int, int, PantryError | trio.TooSlowError]] = {}

    def check(self, file: File, start: int, stop: int) -> None:
        """Raise what a fetch of an overlapping range raised just now."""
        known = self._failures.get(file.key)
        if known is not None and known[1] < stop and start < known[2] and trio.current_time() < known[0]:
            raise known[3]

    def note(self, file: File, start: int, stop: int, error: PantryError | trio.TooSlowError, *, took_s: float) -> None:
        """Take note of a failure."""
        if took_s < self._LONG_S:
            return
        if len(self._failures) >= self._MOST:
            self._failures.clear()
        self._failures[file.key] = (trio.current_time() + self._VALID_S, start, stop, error)


class OpenFile:
    """One open of a file.

    Attributes
    ----------
    complete : bool
        Whether the whole file is there, so that reads need nothing but the descriptor.
    file : File
        What was opened.
    user : Behalf or None
        For whom.
    """

    def __init__(
        self, files: Files, file: File, user: User, opened: Opened, fd: int, connection: TrioConnection
    ) -> None:
        self.file = file
        self.complete = opened.complete
        self._files = files
        self.user = user
        self._opened = opened
        self._fd = fd
        self._old_fds: list[int] = []
        self._connection = connection
        self._there = RangeSet()
        self._ahead = ReadAhead()
        self._ahead_scope: trio.CancelScope | None = None
        self._renewing = trio.Lock()
        self._closed = False
        self._uncached = False

    @property
    def fd(self) -> int:
        """Descriptor of what is there, which may have holes if it is not complete."""
        return self._fd

    def read_at_once(self, offset: int, size: int) -> Bytes | None:
        """Read if nothing must be waited for, or return None; see `Files.read_now` for how long it lasts."""
        stop = min(offset + size, self.file.size_bytes)
        if offset >= stop:
            return b""
        if not self.complete:
            if not self._there.covers(offset, stop):
                return None
            self._ahead.note(offset, stop)
            self._look_ahead(stop)
        return self._files.read_now(self._fd, offset, stop)

    async def read(self, offset: int, size: int) -> Bytes:
        """Read ``size`` bytes at ``offset``, fewer at the end, waiting for them if need be."""
        stop = min(offset + size, self.file.size_bytes)
        if offset >= stop:
            return b""
        if not self.complete:
            await self._prepare(offset, stop)
        data = await self._files.read_waiting(self._fd, offset, stop)
        if len(data) != stop - offset:
            raise IntegrityError(f"dataset {self.file.id} ends before byte {stop}")
        return data

    async def close(self) -> None:
        """Give everything back."""
        self._closed = True
        if self._ahead_scope is not None:
            self._ahead_scope.cancel()
        close_all([self._fd, *self._old_fds])
        await self._files.give_back(self._opened, self._connection, self.user)

    # -- incomplete files ---------------------------------------------------------------------------

    async def _prepare(self, start: int, stop: int) -> None:
        """Wait until a range can be read, and see that what follows comes in time."""
        self._ahead.note(start, stop)
        if not self._there.covers(start, stop):
            self._files.failures.check(self.file, start, stop)
            begun = trio.current_time()
            try:
                with trio.fail_after(self._files.deadline_s):
                    await self._fetch(start, stop)
            except DaemonUnavailableError:
                raise  # that it is gone is known to the link, and so is when it is back
            except (PantryError, trio.TooSlowError) as exc:
                self._files.failures.note(self.file, start, stop, exc, took_s=trio.current_time() - begun)
                raise
        self._look_ahead(stop)

    def _look_ahead(self, position: int) -> None:
        window = self._ahead.window_bytes
        if not window or self._ahead_scope is not None or self.complete:
            return
        begin = self._there.stop_from(position)
        target = min(position + window, self.file.size_bytes)
        if begin - position > window // 2 or begin >= target:
            return
        self._ahead_scope = trio.CancelScope()
        if not self._files.start_ahead(self, begin, target):
            self._ahead_scope = None

    async def fetch_ahead(self, start: int, stop: int) -> None:
        """Fetch a range for which nobody waits yet; failures are left to whoever reads there."""
        scope = self._ahead_scope
        assert scope is not None  # noqa: S101 - set by `_look_ahead`, which starts this
        try:
            with scope, trio.move_on_after(self._files.deadline_s):
                await self._fetch(start, stop)
                self._ahead.grow()
        except Exception as exc:
            logger.debug("fetching ahead of a reader of %s failed: %s", self.file.id, exc)
        finally:
            self._ahead_scope = None

    async def _fetch(self, start: int, stop: int) -> None:
        while not self.complete and not self._closed:
            connection, opened = self._connection, self._opened
            try:
                await connection.call(FetchRanges(handle=opened.handle, ranges=((start, stop),)), behalf=self.user)
            except DaemonUnavailableError:
                if connection.alive:
                    raise
                await self._renew(connection, opened)
                continue
            except StaleHandleError:
                if opened is self._opened and self._uncached:
                    raise
                await self._renew(connection, opened, uncached=True)
                continue
            if opened is self._opened:
                self._there.add(start, stop)
                return

    async def _renew(self, broken: TrioConnection, stale: Opened, *, uncached: bool = False) -> None:
        """Open anew after the connection broke or the cache's disk took no more; content by one id never changes."""
        async with self._renewing:
            if self._connection is not broken or self._opened is not stale:
                return
            opened, fd, connection = await self._files.resolve(self.file, self.user, uncached=uncached)
            if self._closed:
                close_all([fd])
                await self._files.give_back(opened, connection, self.user)
                return
            # No await from here on. Reads in threads may still use the old descriptor.
            self._old_fds.append(self._fd)
            self._uncached = uncached
            self._opened, self._fd, self._connection = opened, fd, connection
            self._there.clear()
            self.complete = opened.complete
        await self._files.give_back(stale, broken, self.user)
