"""The cache's directory on its disk: layout, lock, room left, and whether the disk can be used.

A disk that is full, fails or vanishes is a state, not the daemon's end: readers are then served from
memory, and the disk is tried again until it works.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

import trio

from pantry.daemon.config import CacheConfig
from pantry.errors import CacheDiskError, ConfigError, LimitExceededError, PantryError

log = logging.getLogger(__name__)

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_OWN = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DiskState(StrEnum):
    """Whether files can be written to the cache's disk."""

    OK = "ok"
    FULL = "full"
    FAILING = "failing"
    GONE = "gone"


class Room(NamedTuple):
    """What the file system has left above the floors; may be negative."""

    free_bytes: int
    free_inodes: int


class CacheDisk:
    """The directory of one cache.

    Parameters
    ----------
    config : CacheConfig
        Directory and floors.

    Attributes
    ----------
    incoming, objects, quarantine : str
        Directories of files in the making, of complete objects, and of damaged ones.
    state : DiskState
        Whether the disk can be written to, as far as is known.
    reason : str
        Why not.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._config = config
        self.directory = config.directory
        self.incoming = os.path.join(self.directory, "incoming")
        self.objects = os.path.join(self.directory, "objects")
        self.quarantine = os.path.join(self.directory, "quarantine")
        self.state = DiskState.OK
        self.reason = ""
        self._lock = -1
        self._mount_point = ""
        self._prepare()

    def _prepare(self) -> None:
        """Make the directories, and take the lock: two daemons would count and evict against each other."""
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        found = os.stat(self.directory)
        if found.st_uid != os.geteuid():
            raise ConfigError(f"the cache directory {self.directory} belongs to another user")
        os.chmod(self.directory, 0o700)
        lock = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(f"another daemon uses the cache directory {self.directory}") from None
        self.close()
        self._lock = lock
        for path in (self.incoming, self.objects, self.quarantine):
            os.makedirs(path, mode=0o700, exist_ok=True)
        self._mount_point = mount_point(self.directory)

    def close(self) -> None:
        """Give up the lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @property
    def usable(self) -> bool:
        """Whether files should be written there."""
        return self.state is DiskState.OK

    def room(self) -> Room:
        """Ask the file system what is left above the floors.

        Raises
        ------
        CacheDiskError
            It does not answer.
        """
        try:
            found = os.statvfs(self.directory)
        except OSError as exc:
            raise self.failed(exc) from exc
        inodes = found.f_favail - self._config.keep_free_inodes if found.f_files else 1 << 62
        return Room(found.f_bavail * found.f_frsize - self._config.keep_free_bytes, inodes)

    def is_full(self, what: str) -> CacheDiskError:
        """Take note that the floors leave no room; return the error to raise."""
        self._enter(DiskState.FULL, what)
        return self._error()

    def require(self) -> None:
        """Raise `CacheDiskError` unless files can be written."""
        if not self.usable:
            raise self._error()

    def _error(self) -> CacheDiskError:
        return CacheDiskError(
            f"the disk of the cache in {self.directory} is {self.state}: {self.reason}",
            hint="what can be had is served from memory until the disk works again; `pantry cache status` tells",
        )

    def failed(self, exc: OSError) -> PantryError:
        """Take note that the disk did not do what was asked; return the error to raise."""
        reason = exc.strerror or str(exc)
        if exc.errno in _OWN:
            return LimitExceededError(f"the daemon has no more of what it needs: {reason}")
        state = DiskState.FULL if exc.errno in _FULL else DiskState.FAILING
        if state is DiskState.FULL:
            reason = self._why_full(reason)
        if exc.errno in _GONE:
            state = DiskState.GONE
        self._enter(state, reason)
        return self._error()

    def _why_full(self, reason: str) -> str:
        with contextlib.suppress(OSError):
            found = os.statvfs(self.directory)
            if found.f_files and found.f_bavail * found.f_frsize >= self._config.chunk_bytes:
                # There is space; files are what cannot be made.
                return f"{reason} for more files (inodes), {found.f_favail} are said to be free"
        return reason

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn `OSError` of file operations in the cache's directory into what `failed` returns."""
        try:
            yield
        except OSError as exc:
            raise self.failed(exc) from exc

    def _enter(self, state: DiskState, reason: str) -> None:
        if state is not self.state:
            level = logging.INFO if state is DiskState.OK else logging.WARNING
            log.log(level, "the disk of the cache is %s%s", state, f": {reason}" if reason else "")
        self.state = state
        self.reason = reason

    async def probe(self) -> bool:
        """Look whether the disk can be used; True if it was not usable before and is now, but for `recover`."""
        if self.usable:
            if (away := self.away()) is not None:
                self._enter(DiskState.GONE, away)
            return False
        reason = await trio.to_thread.run_sync(self._probe)
        if reason is not None:
            self.reason = reason
        return reason is None

    def recover(self) -> None:
        """Use the disk again; the caller has looked at what is on it."""
        self._enter(DiskState.OK, "")

    def away(self) -> str | None:
        """Tell what is wrong with the directory at the cache's path, if it is not the cache's."""
        try:
            found = os.stat(self.directory)
            locked = os.fstat(self._lock).st_dev == found.st_dev and os.path.samefile(
                f"/proc/self/fd/{self._lock}", os.path.join(self.directory, "lock")
            )
        except OSError as exc:
            return exc.strerror
        return None if locked else "the directory was removed, or its file system is not mounted"

    def _probe(self) -> str | None:
        """Try the disk, for a worker thread; None if it works."""
        try:
            if self.away() is not None:
                return self._come_back()
            path = os.path.join(self.incoming, "probe")
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.pwrite(fd, bytes(65536), 0) != 65536:
                    return os.strerror(errno.ENOSPC)
                os.fsync(fd)
            finally:
                os.close(fd)
                os.unlink(path)
            return self._lacking()
        except OSError as exc:
            reason = str(exc.strerror)
            return self._why_full(reason) if exc.errno in _FULL else reason

    def _lacking(self) -> str | None:
        """Tell what is below its floor, with room for one file more."""
        found = os.statvfs(self.directory)
        if found.f_bavail * found.f_frsize < self._config.keep_free_bytes + self._config.chunk_bytes:
            return f"only {found.f_bavail * found.f_frsize} bytes are free"
        if found.f_files and found.f_favail < self._config.keep_free_inodes + 2:
            return f"only {found.f_favail} inodes are free"
        return None

    def _come_back(self) -> str | None:
        """Begin anew in the directory that is at the cache's path now, if its file system is mounted."""
        # The bare directory below a mount point lies on another disk: to fill it would fill the wrong one.
        if mount_point(self.directory) != self._mount_point:
            return f"no file system is mounted on {self._mount_point}"
        try:
            self._prepare()
        except ConfigError as exc:
            return exc.message
        return None


def mount_point(path: str) -> str:
    """Return where the file system is mounted that ``path`` lies on, or would lie on."""
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
