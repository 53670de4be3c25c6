"""Who else has a file open: what the kernel's leases tell, without asking anybody."""

from __future__ import annotations

import errno
import fcntl
import os

from pantry.daemon.cache.account import Account


def is_open(path: str) -> bool:
    """Whether any process has the file open or mapped; the kernel grants a write lease only if none has."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return is_open_elsewhere(fd)
    finally:
        os.close(fd)


def is_open_elsewhere(fd: int) -> bool:
    """Whether the file is open or mapped by other means than ``fd``, which is open read-only."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        # Anything else is a file system without leases: unlinking is always safe for those who read.
        return exc.errno in (errno.EAGAIN, errno.EACCES)
    return False


def is_written(fd: int) -> bool:
    """Whether anybody still has the file open or mapped for writing; ``fd`` is open read-only.

    The kernel grants a read lease only if nobody has. Where leases do not work the answer is True.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return True
    return False


class LingeringFiles:
    """Files that lost their names while somebody had them open; their blocks are taken until the last closes.

    Parameters
    ----------
    account : Account
        Where their bytes stay counted as used meanwhile.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._files: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        """What they take, in bytes."""
        return sum(size for _, size in self._files)

    def unlink(self, path: str, size_bytes: int) -> None:
        """Remove a file's name, and count its bytes as free as soon as nobody has it open.

        Raises
        ------
        OSError
            The name cannot be removed; nothing is changed.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            self._account.used_bytes -= size_bytes
            return
        try:
            os.unlink(path)
        except OSError:
            os.close(fd)
            raise
        self._files.append((fd, size_bytes))
        self._settle_one(len(self._files) - 1)

    def settle(self) -> None:
        """Look which of them nobody has open any more."""
        for number in reversed(range(len(self._files))):
            self._settle_one(number)

    def _settle_one(self, number: int) -> None:
        fd, size = self._files[number]
        if not is_open_elsewhere(fd):
            del self._files[number]
            os.close(fd)
            self._account.used_bytes -= size

    def close(self) -> None:
        """Give up the descriptors, in the end."""
        for fd, _ in self._files:
            os.close(fd)
        self._files.clear()
