"""A file of which only what is read gets fetched."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pantry.client.butler.opened import OpenedFileBase


class PartialFile(io.RawIOBase):
    """Seekable, read-only, thread-safe view of an incomplete file; never returns a hole's zeros.

    Parameters
    ----------
    source : OpenedFileBase
        Kept open until this file and all others made from it are closed.
    """

    def __init__(self, source: OpenedFileBase[Any]) -> None:
        super().__init__()
        source.acquire()
        self._source = source
        self._size: int = source.opened.size_bytes
        self._position = 0
        self._lock = threading.Lock()
        self.name = source.opened.name

    def readable(self) -> bool:
        """Return True."""
        return not self._check_open()

    def seekable(self) -> bool:
        """Return True."""
        return not self._check_open()

    def tell(self) -> int:
        """Return the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, also beyond the end."""
        self._check_open()
        with self._lock:
            origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}.get(whence)
            if origin is None:
                raise ValueError(f"whence is 0, 1 or 2, not {whence}")
            if origin + offset < 0:
                raise ValueError(f"negative seek position {origin + offset}")
            self._position = origin + offset
            return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Read until the buffer is full or the file ends, fetching what is missing."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        with self._lock:
            done = self._read_at(view, self._position)
            self._position += done
        return done

    def readall(self) -> bytes:
        """Read the rest, fetched in one go."""
        self._check_open()
        with self._lock:
            content = bytearray(max(0, self._size - self._position))
            done = self._read_at(memoryview(content), self._position)
            self._position += done
        return bytes(content)

    def close(self) -> None:
        """Close this view; the last one gives the file back to the daemon."""
        if not self.closed:
            super().close()
            self._source.release()

    def _read_at(self, view: memoryview, position: int) -> int:
        length = min(len(view), max(0, self._size - position))
        if not length:
            return 0
        fd = self._source.fetch(position, position + length)
        done = 0
        while done < length:
            count = os.preadv(fd, [view[done:length]], position + done)
            if not count:
                raise OSError(f"{self.name}: the cached file ends at byte {position + done}, not {self._size}")
            done += count
        return length

    def _check_open(self) -> bool:
        if self.closed:
            raise ValueError("I/O operation on closed file")
        return False
