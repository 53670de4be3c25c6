"""Taking the body of an answer as it comes, and not slower than is bearable: into a descriptor, or small ones whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pantry.backends.progress import PROGRESS_BYTES, Progress
from pantry.backends.sink import write_all
from pantry.errors import BackendError, TransientBackendError

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


class Reading(NamedTuple):
    """One attempt to read.

    Attributes
    ----------
    key : str
        Of the object.
    start, stop : int
        Offsets in bytes.
    fd : int
        Open for writing; the bytes go to the same offsets.
    if_version : str or None
        The only version that will do; None for any.
    checkpoint : Callable[[], None]
        Called between pieces; raises to stop.
    on_progress : Progress or None
        Told the position.
    """

    key: str
    start: int
    stop: int
    fd: int
    if_version: str | None
    checkpoint: Callable[[], None]
    on_progress: Progress | None = None


class BodyCutError(TransientBackendError):
    """A body ended early; what came before is written, and the rest can be asked for.

    Attributes
    ----------
    position : int
        Offset up to which all is written.
    version : str
        Of the object that the body is of; empty if it is not known.
    """

    def __init__(self, reading: Reading, reason: str, *, position: int, version: str) -> None:
        left = reading.stop - position
        super().__init__(f"{reason} with {left} bytes of {reading.key!r} still to come", key=reading.key)
        self.position = position
        self.version = version


def pump(
    raw: Any,
    reading: Reading,
    *,
    version: str,
    report: Progress,
    pace: Pace,
    seen: Callable[[bytes], None] | None = None,
) -> None:
    """Write a body's bytes into the descriptor of ``reading``, each piece as soon as it is there.

    Parameters
    ----------
    raw : urllib3.response.HTTPResponse
        The body. Only its `read1` comes back with what there is; botocore's wrapper has none, and its
        reads wait until all they asked for has come, however slowly.
    reading : Reading
        Its ``on_progress`` is not called, but ``report``.
    version : str
        Of the object that the body is of; empty if it is not known.
    report : Progress
        Of `pantry.backends.progress.reporting`.
    pace : Pace
        Says when to give up.
    seen : Callable[[bytes], None], optional
        Given every piece, in order.

    Raises
    ------
    BodyCutError
        If the body ends early, or comes too slowly.
    """
    import urllib3.exceptions

    # urllib3 1.26 has no read1.
    take = getattr(raw, "read1", raw.read)
    stop = reading.stop
    position = told = reading.start
    told_s = time.monotonic()
    reason = "the connection was cut"
    while position < stop:
        reading.checkpoint()
        try:
            piece = take(min(PIECE_BYTES, stop - position))
        except (urllib3.exceptions.HTTPError, OSError):
            break
        if not piece:
            break
        write_all(reading.fd, memoryview(piece), position)
        if seen is not None:
            seen(piece)
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
    if position != stop:
        raise BodyCutError(reading, reason, position=position, version=version)


def read_whole(
    raw: Any, what: str, *, most_bytes: int, within_s: float, checkpoint: Callable[[], None], cut: bool = False
) -> bytes:
    """Return a body that must be small, and come in time.

    Parameters
    ----------
    raw : urllib3.response.HTTPResponse
        The body.
    what : str
        What it is about, for messages.
    most_bytes : int
        Longer ones are refused.
    within_s : float
        Time until its end, in seconds; to this comes the time-out of the connection, once.
    checkpoint : Callable[[], None]
        Called between pieces; raises to stop.
    cut : bool
        Take the beginning of what is longer.

    Raises
    ------
    BackendError
        If it is longer.
    TransientBackendError
        If it comes too slowly.
    """
    # Not read, which waits until all that it was asked for has come, and a time-out is from byte to byte.
    take = getattr(raw, "read1", raw.read)
    until_s = time.monotonic() + within_s
    found = bytearray()
    while piece := take(PIECE_BYTES, decode_content=True):
        checkpoint()
        found += piece
        if len(found) > most_bytes:
            if cut:
                return bytes(found[:most_bytes])
            raise BackendError(f"the answer about {what!r} is longer than {most_bytes} bytes", key=what)
        if time.monotonic() > until_s:
            raise TransientBackendError(f"the answer about {what!r} did not come within {within_s:g} s", key=what)
    return bytes(found)
