"""Part of a file as the file object that an SDK sends."""

from __future__ import annotations

import os
from collections.abc import Callable


class PositionedReader:
    """Part of a file, read without moving the descriptor's own offset.

    It can be rewound, so that a retry sends the same bytes.

    Parameters
    ----------
    fd : int
        Open for reading.
    start, stop : int
        Offsets in bytes.
    checkpoint : Callable[[], None]
        Called before each piece; raises to stop.
    seen : Callable[[bytes], None], optional
        Given every piece as it is sent; for who never rewinds.
    """

    def __init__(
        self,
        fd: int,
        start: int,
        stop: int,
        checkpoint: Callable[[], None],
        seen: Callable[[bytes], None] | None = None,
    ) -> None:
        self._fd = fd
        self._start = start
        self._size = stop - start
        self._position = 0
        self._checkpoint = checkpoint
        self._seen = seen

    def __len__(self) -> int:
        return self._size

    def read(self, size: int | None = -1) -> bytes:
        """Read up to ``size`` bytes, or all."""
        self._checkpoint()
        left = self._size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        data = os.pread(self._fd, wanted, self._start + self._position)
        self._position += len(data)
        if self._seen is not None:
            self._seen(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move within the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """Position within the part."""
        return self._position
