"""How the kernel reads each open file: by itself (passthrough), through its pages, or directly.

The kernel refuses an open that does not fit the others of the same file: all of them pass through, with the same
backing file, or none does. So the first open decides until the last is closed, and an incomplete file passes through
from the first open on that finds it complete and closed.
"""

from __future__ import annotations

import logging
from typing import Protocol

logger = logging.getLogger(__name__)


class BackingFiles(Protocol):
    """Where backing files are registered."""

    def open_backing(self, fd: int) -> int:
        """Register an open file."""
        ...

    def close_backing(self, number: int) -> None:
        """Let go of it."""
        ...


class OpenModes:
    """Decides for each open.

    Parameters
    ----------
    backing_files : BackingFiles, optional
        The mount's device; none where the operator does not want passthrough.

    Attributes
    ----------
    enabled : bool
        Whether files may pass through from now on; see `pantry.fusefs.self_test`.
    """

    def __init__(self, backing_files: BackingFiles | None) -> None:
        self._backing_files = backing_files
        self.enabled = False
        self._passing: dict[int, tuple[int, int]] = {}  # inode: backing file, opens
        self._others: dict[int, int] = {}  # inode: opens

    def backing_of(self, inode: int) -> int:
        """Return the backing file that a file is read from now; 0 if it does not pass through."""
        return self._passing.get(inode, (0, 0))[0]

    def open(self, inode: int, fd: int, *, complete: bool) -> int:
        """Count an open.

        Parameters
        ----------
        inode, fd : int
            What is opened, and a descriptor of it.
        complete : bool
            Whether the whole of it is there.

        Returns
        -------
        int
            Its backing file, or 0 if it does not pass through.
        """
        backing, opens = self._passing.get(inode, (0, 0))
        if not backing and complete and inode not in self._others:
            backing = self._register(fd)
        if backing:
            self._passing[inode] = backing, opens + 1
        else:
            self._others[inode] = self._others.get(inode, 0) + 1
        return backing

    def take_over(self, inode: int, backing: int) -> None:
        """Count an open of a process before this one."""
        if backing:
            self._passing[inode] = backing, self._passing.get(inode, (0, 0))[1] + 1
        else:
            self._others[inode] = self._others.get(inode, 0) + 1

    def close(self, inode: int, backing: int) -> None:
        """Count a close; with the last one the backing file goes."""
        if not backing:
            left = self._others.pop(inode, 1) - 1
            if left:
                self._others[inode] = left
            return
        number, opens = self._passing.pop(inode)
        if opens > 1:
            self._passing[inode] = number, opens - 1
        elif self._backing_files is not None:
            self._backing_files.close_backing(number)

    def _register(self, fd: int) -> int:
        if self._backing_files is None or not self.enabled:
            return 0
        try:
            return self._backing_files.open_backing(fd)
        except OSError as exc:
            # Of a file of a stacked file system, say.
            logger.debug("a file cannot pass through: %s", exc)
            return 0
