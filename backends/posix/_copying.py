"""Copying a range of bytes between descriptors without moving their offsets."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from pantry.backends.contract import SinkError
from pantry.backends.posix._errors import FULL
from pantry.backends.progress import PROGRESS_BYTES
from pantry.backends.sink import write_all

_KERNEL_PIECE_BYTES = 16 << 20
_NO_KERNEL_COPY = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF, errno.ETXTBSY, errno.EIO}
)
# EIO is here because some FUSE file systems answer it instead of EOPNOTSUPP; a real one comes back from pread.


def copy_range(
    source: int,
    target: int,
    *,
    start: int,
    stop: int,
    target_start: int,
    checkpoint: Callable[[], None],
    on_copied: Callable[[int], None] | None = None,
    by_kernel: bool = True,
) -> int:
    """Copy ``source[start:stop]`` to ``target`` at ``target_start``; in the kernel where it can.

    Parameters
    ----------
    source, target : int
        Open descriptors of files.
    start, stop, target_start : int
        Offsets in bytes.
    checkpoint : Callable[[], None]
        Called between pieces; raises to stop.
    on_copied : Callable[[int], None], optional
        Called after each piece with the bytes copied so far; pieces are then `PROGRESS_BYTES` at most.
    by_kernel : bool
        Let the kernel copy, if it can.

    Returns
    -------
    int
        Bytes copied; fewer than asked for if ``source`` ends before ``stop``.

    Raises
    ------
    SinkError
        If ``target`` cannot be written.
    """
    size = stop - start
    done = 0
    if not by_kernel:
        return _copy_by_buffer(source, target, done, start, stop, target_start, checkpoint, on_copied)
    while done < size:
        checkpoint()
        piece = min(size - done, _KERNEL_PIECE_BYTES if on_copied is None else PROGRESS_BYTES)
        try:
            copied = os.copy_file_range(source, target, piece, start + done, target_start + done)
        except OSError as exc:
            if exc.errno in FULL:
                raise SinkError(exc.errno, exc.strerror) from exc
            if exc.errno not in _NO_KERNEL_COPY:
                raise
            copied = 0
        if copied == 0:
            # The end, or a file system whose kernel copy reports nothing: plain reads decide.
            return _copy_by_buffer(source, target, done, start, stop, target_start, checkpoint, on_copied)
        done += copied
        if on_copied is not None:
            on_copied(done)
    return done


def _copy_by_buffer(
    source: int,
    target: int,
    done: int,
    start: int,
    stop: int,
    target_start: int,
    checkpoint: Callable[[], None],
    on_copied: Callable[[int], None] | None,
) -> int:
    buffer = memoryview(bytearray(min(PROGRESS_BYTES, stop - start - done)))
    while start + done < stop:
        checkpoint()
        count = os.preadv(source, [buffer[: stop - start - done]], start + done)
        if count == 0:
            break
        write_all(target, buffer[:count], target_start + done)
        done += count
        if on_copied is not None:
            on_copied(done)
    return done
