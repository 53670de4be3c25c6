"""The kernel's end of one mount: requests are read from it, answers and notices written to it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from collections.abc import Sequence

import trio

from pantry.fusefs.kernel.messages import IN_HEADER, INVAL_INODE, OUT_HEADER, Notice, Request

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 17
"""Longer than any request to a file system that nothing is written to."""
MOST_WRITE_BYTES = 4096
"""What the kernel may send at once in a WRITE, which never comes; the buffer must have room for it."""
_BACKING_OPEN = 0x4010E501
_BACKING_CLOSE = 0x4004E502
_BACKING_MAP = struct.Struct("=iIQ")
_BACKING_ID = struct.Struct("=i")

Buffer = bytes | bytearray | memoryview


class UnmountedError(Exception):
    """The file system is not mounted any more; there will be no further request."""


class Device:
    """A descriptor of ``/dev/fuse`` that belongs to a mount.

    Parameters
    ----------
    fd : int
        Taken over; other processes may hold the same one.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        os.set_blocking(fd, False)
        self._buffer = bytearray(READ_BYTES)
        self._view = memoryview(self._buffer).toreadonly()

    def close(self) -> None:
        """Let go of the descriptor; with the last one the kernel ends the connection."""
        os.close(self.fd)

    async def wait(self) -> None:
        """Wait until there is a request, or the mount is gone."""
        await trio.lowlevel.wait_readable(self.fd)

    def next_request(self) -> Request | None:
        """Return the next request, or None if there is none now.

        Raises
        ------
        UnmountedError
            There will be no more.
        """
        while True:
            try:
                length = os.readv(self.fd, [self._buffer])
            except OSError as exc:
                match exc.errno:
                    case errno.EAGAIN:
                        return None
                    case errno.ENODEV | errno.ECONNABORTED:
                        raise UnmountedError from None
                    case errno.ENOENT | errno.EINTR:
                        continue  # that request was withdrawn before it could be read
                raise
            if length == 0:
                raise UnmountedError
            if length < IN_HEADER.size:
                logger.error("the kernel sent %d bytes, which is no request", length)
                continue
            said, opcode, unique, node, uid, gid, pid, _, _ = IN_HEADER.unpack_from(self._view)
            if said != length:
                logger.error("the kernel sent %d bytes for a request of %d", length, said)
                self.refuse(unique, errno.EINVAL)
                continue
            return Request(opcode, unique, node, uid, gid, pid, self._view[IN_HEADER.size : length])

    def answer(self, unique: int, *parts: Buffer) -> bool:
        """Answer a request; False if nobody waits for it any more."""
        length = OUT_HEADER.size + sum(map(len, parts))
        return self._write([OUT_HEADER.pack(length, 0, unique), *parts])

    def refuse(self, unique: int, code: int) -> bool:
        """Answer a request with an errno; False if nobody waits for it any more."""
        return self._write([OUT_HEADER.pack(OUT_HEADER.size, -code, unique)])

    def _write(self, parts: Sequence[Buffer]) -> bool:
        try:
            os.writev(self.fd, parts)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENODEV, errno.EINTR, errno.ECONNABORTED):
                logger.exception("the kernel did not take an answer")
            return False
        return True

    # -- notices -----------------------------------------------------------------------------------

    def resend(self) -> bool:
        """Ask for every request that was read from the device and not answered, once more; False if it cannot.

        For who takes over from a process that died (Linux 6.9 and later).
        """
        return self._notify(Notice.RESEND)

    def drop_pages(self, node: int) -> bool:
        """Make the kernel forget a file's pages and attributes; False if it knew none.

        It waits for reads of that file, so it must not be called where they are answered.
        """
        return self._notify(Notice.INVAL_INODE, INVAL_INODE.pack(node, 0, 0))

    def _notify(self, notice: Notice, *parts: Buffer) -> bool:
        length = OUT_HEADER.size + sum(map(len, parts))
        try:
            os.writev(self.fd, [OUT_HEADER.pack(length, notice, 0), *parts])
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
                logger.info("the kernel did not take the notice %s: %s", notice.name, exc)
            return False
        return True

    # -- passthrough ---------------------------------------------------------------------------------

    def open_backing(self, fd: int) -> int:
        """Register an open file that the kernel may read instead of asking; it keeps the file open by itself.

        Returns
        -------
        int
            Its number on this mount, for the answer to OPEN and `close_backing`.

        Raises
        ------
        OSError
            EPERM without CAP_SYS_ADMIN, EOPNOTSUPP before Linux 6.9, ELOOP for files of stacked file systems.
        """
        # A mutable buffer, so that the number comes back and not the buffer.
        number: int = fcntl.ioctl(self.fd, _BACKING_OPEN, bytearray(_BACKING_MAP.pack(fd, 0, 0)))
        return number

    def close_backing(self, number: int) -> None:
        """Let go of a registered file; opens that were answered with it keep it."""
        fcntl.ioctl(self.fd, _BACKING_CLOSE, _BACKING_ID.pack(number))
