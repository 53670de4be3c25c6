"""Moving the body of an answer into a descriptor, as it comes and not slower than is bearable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pantry.backends.contract import SinkError
from pantry.backends.progress import PROGRESS_BYTES, Progress

PIECE_BYTES = 1 << 18
"""Most that is taken from the connection at once."""

_TELL_S = 0.25


class Pace:
    """Tells when bytes have come too slowly, window by window.

    Parameters
    ----------
    min_bytes_per_s : int
        Slowest average over a window; 0 for any.
    window_s : float
        Shortest window, in seconds.
    """

    def __init__(self, min_bytes_per_s: int, window_s: float) -> None:
        self._min_bytes_per_s = min_bytes_per_s
        self._window_s = window_s
        self._since_s = time.monotonic()
        self._bytes = 0

    def too_slow(self, size_bytes: int, now_s: float) -> bool:
        """Count bytes that came, and say whether those of a whole window were too few."""
        self._bytes += size_bytes
        elapsed_s = now_s - self._since_s
        if elapsed_s < self._window_s:
            return False
        slow = self._bytes < self._min_bytes_per_s * elapsed_s
        self._since_s, self._bytes = now_s, 0
        return slow


class Ended(NamedTuple):
    """How far a body came, and why no further; the reason is without meaning at its end."""

    position: int
    reason: str


def pump(
    raw: Any, start: int, stop: int, fd: int, *, checkpoint: Callable[[], None], report: Progress, pace: Pace
) -> Ended:
    """Write a body's bytes at ``start <= offset < stop`` of ``fd``, each piece as soon as it is there.

    Parameters
    ----------
    raw : urllib3.response.HTTPResponse
        The body. Only its `read1` comes back with what there is; botocore's wrapper has none, and its
        reads wait until all they asked for has come, however slowly.
    start, stop : int
        Offsets in bytes.
    fd : int
        Open for writing.
    checkpoint : Callable[[], None]
        Called between pieces; raises to stop.
    report : Progress
        Told the position.
    pace : Pace
        Says when to give up.
    """
    import urllib3.exceptions

    # urllib3 1.26 has no read1.
    take = getattr(raw, "read1", raw.read)
    position = told = start
    told_s = time.monotonic()
    reason = "the connection was cut"
    while position < stop:
        checkpoint()
        try:
            piece = take(min(PIECE_BYTES, stop - position))
        except (urllib3.exceptions.HTTPError, OSError):
            break
        if not piece:
            break
        _write_all(fd, memoryview(piece), position)
        position += len(piece)
        now_s = time.monotonic()
        if position - told >= PROGRESS_BYTES or now_s - told_s >= _TELL_S:
            report(position)
            told, told_s = position, now_s
        if position < stop and pace.too_slow(len(piece), now_s):
            reason = "the service sent too slowly"
            break
    if position > told:
        report(position)
    return Ended(position, reason)


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    try:
        while data:
            written = os.pwrite(fd, data, offset)
            data = data[written:]
            offset += written
    except OSError as exc:
        raise SinkError(exc.errno, exc.strerror) from exc
