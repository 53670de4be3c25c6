"""Damaged objects are put aside for whoever wants to know what happened: few, small, and the first to go."""

from __future__ import annotations

import os
import time

from pantry.daemon.cache.account import Account, charged
from pantry.daemon.cache.object_id import ObjectId

MOST_FILES = 16
"""So many are kept at most, the newest."""

SHARE = 0.05
"""Of the quota that they may take."""


class Quarantine:
    """The directory of damaged objects.

    Parameters
    ----------
    directory : str
        In the cache's file system.
    account : Account
        Where their bytes stay counted.
    quota_bytes : int
        Of the cache.
    """

    def __init__(self, directory: str, account: Account, quota_bytes: int) -> None:
        self._directory = directory
        self._account = account
        self._most_bytes = int(quota_bytes * SHARE)
        self._files: list[tuple[str, int]] = []
        self.load()

    def load(self) -> None:
        """Look what is there, and count it."""
        with os.scandir(self._directory) as entries:
            found = [(entry.name, charged(entry.stat(follow_symlinks=False).st_size)) for entry in entries]
        # Names begin with the time.
        self._files = sorted(found)
        self._account.used_bytes += self.size_bytes

    def __len__(self) -> int:
        return len(self._files)

    @property
    def size_bytes(self) -> int:
        """What they take, in bytes."""
        return sum(size for _, size in self._files)

    def take(self, path: str, object_id: ObjectId, size_bytes: int) -> bool:
        """Take a file over whose bytes are counted as used; False if it is too large to be kept.

        Raises
        ------
        OSError
            The disk does not move it.
        """
        if size_bytes > self._most_bytes:
            return False
        name = f"{time.time_ns():020d}-{object_id.realm}-{object_id.hash}"
        os.rename(path, os.path.join(self._directory, name))
        self._files.append((name, size_bytes))
        while len(self._files) > MOST_FILES or self.size_bytes > self._most_bytes:
            self._remove_oldest()
        return True

    def free(self, free_bytes: int) -> int:
        """Remove files, oldest first, until so many bytes are free; return how many are."""
        freed = 0
        while freed < free_bytes and self._files:
            freed += self._files[0][1]
            self._remove_oldest()
        return freed

    def _remove_oldest(self) -> None:
        name, size = self._files[0]
        os.unlink(os.path.join(self._directory, name))
        del self._files[0]
        self._account.used_bytes -= size
