"""Whether an incomplete file is read through the kernel's page cache.

It should be, since only then can it be mapped. But reads through the page cache are background requests, of which a
mount has a limited number under way, warm files included. In a mount of many users one of them could fill it with
reads that wait, so each gets a share; what goes beyond is opened for direct reads, which do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from pantry.errors import LimitExceededError
from pantry.fusefs.link import User

KERNEL_DEFAULT = 12
"""Background requests that a mount may have under way, unless told otherwise."""
_LEAST = 256
"""With fewer there are no shares worth having."""
_FILES_SHARE = 16
_WAITING_SHARE = 4


class CachingShares:
    """Counts what each user has of a mount's background requests.

    Parameters
    ----------
    many_users : bool
        Whether the mount has more than one user; if not, there is nothing to share.
    """

    def __init__(self, *, many_users: bool) -> None:
        self._many_users = many_users
        self._background = KERNEL_DEFAULT
        self._files: Counter[int | None] = Counter()
        self._waiting: Counter[int | None] = Counter()

    def set_background(self, requests: int) -> None:
        """Take note of how many background requests the kernel allows the mount."""
        self._background = requests

    def take_file(self, user: User) -> bool:
        """Whether one more incomplete file of this user is read through the page cache; give it back if so."""
        if self._many_users:
            if self._background < _LEAST or self._files[_key(user)] >= self._background // _FILES_SHARE:
                return False
            self._files[_key(user)] += 1
        return True

    def give_file_back(self, user: User) -> None:
        """Take note that an incomplete file was closed."""
        _decrease(self._files, _key(user))

    @contextmanager
    def waiting(self, user: User) -> Iterator[None]:
        """Count a read through the page cache that waits for the daemon.

        Raises
        ------
        LimitExceededError
            The user has a quarter of all that the mount may have; only many threads on few files come to that.
        """
        key = _key(user)
        if self._many_users and self._waiting[key] >= self._background // _WAITING_SHARE:
            raise LimitExceededError(f"uid {key} has {self._waiting[key]} reads waiting in this mount")
        self._waiting[key] += 1
        try:
            yield
        finally:
            _decrease(self._waiting, key)


def _key(user: User) -> int | None:
    """By uid alone: who can change groups must not thereby get more."""
    return None if user is None else user.uid


def _decrease(counter: Counter[int | None], key: int | None) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
