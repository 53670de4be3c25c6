"""Files that are taken over: open for reading, hashed, and known again when they are stored."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from pantry.backends.contract import LocalPlacement
from pantry.daemon.cache.hashing import hash_file
from pantry.errors import BackendError, InvalidRequestError


class SourceFile:
    """One file to take over: open for reading, with its size and hash."""

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self.fd = fd
        self.size_bytes = 0
        self.hash = ""
        self._status: tuple[int, ...] = ()

    def measure(self) -> None:
        """Hash the file; for a worker thread."""
        opened = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY) if self.fd is None else self.fd
        try:
            found = os.fstat(opened)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidRequestError(f"{self.path} is not a regular file")
            self.size_bytes = found.st_size
            self._status = _fingerprint(found)
            self.hash = hash_file(opened, found.st_size)
        finally:
            if self.fd is None:
                os.close(opened)

    def open(self) -> int:
        """Open the file anew, to be closed by the caller."""
        return os.dup(self.fd) if self.fd is not None else os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def require_unchanged(self, fd: int) -> None:
        """Raise unless the file is still the one that was hashed."""
        if _fingerprint(os.fstat(fd)) != self._status:
            raise BackendError(f"{self.path} was changed while it was ingested", hint="ingest it when it is complete")


def measure_stored(backend: LocalPlacement, keys: Sequence[str]) -> list[SourceFile]:
    """Measure files that lie in a storage already; for a worker thread."""
    sources = []
    for key, (fd, found) in zip(keys, backend.open_each(keys), strict=True):
        source = SourceFile(key, None)
        try:
            source.size_bytes = found.st_size
            source.hash = hash_file(fd, found.st_size)
        except OSError as exc:
            raise unreadable(key, exc) from None
        finally:
            os.close(fd)
        sources.append(source)
    return sources


def unreadable(path: str, exc: OSError) -> BackendError:
    """Return the error for a file that the system does not give."""
    return BackendError(f"{path} cannot be read: {exc.strerror}")


def _fingerprint(found: os.stat_result) -> tuple[int, ...]:
    # Not the ctime: a hard link or a chmod changes it and no content.
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def remove_source(path: str) -> None:
    """Remove a file that was to be moved; for a worker thread."""
    try:
        os.unlink(path)
    except OSError as exc:
        raise BackendError(
            f"{path} was ingested but cannot be removed: {exc.strerror}", hint="remove it yourself"
        ) from None
