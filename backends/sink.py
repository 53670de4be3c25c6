"""Writing into the descriptor of whoever reads."""

from __future__ import annotations

import os

from pantry.backends.contract import SinkError


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; `SinkError` if that fails."""
    try:
        while data:
            written = os.pwrite(fd, data, offset)
            data = data[written:]
            offset += written
    except OSError as exc:
        raise SinkError(exc.errno, exc.strerror) from exc
