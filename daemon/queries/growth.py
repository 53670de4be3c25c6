"""Room for a file whose length nobody knows before it is written."""

from __future__ import annotations

import os

import trio

from pantry.daemon.cache.account import Reservation, charged
from pantry.daemon.cache.objects import ObjectCache
from pantry.errors import LimitExceededError

STEP_BYTES = 32 * 1024 * 1024
"""What is reserved ahead. A writer of Parquet makes far less of it in `WATCH_S`."""

WATCH_S = 0.05


class Growth:
    """Watches a file that a backend writes, and reserves room before it is needed.

    Parameters
    ----------
    cache : ObjectCache
        Where the room is.
    fd : int
        Of the file.
    name : str
        Of the query, for messages.
    max_bytes : int
        How long the file may become.

    Raises
    ------
    CacheFullError
        The quota has no room even for its beginning.
    """

    def __init__(self, cache: ObjectCache, fd: int, name: str, max_bytes: int) -> None:
        self._cache = cache
        self._fd = fd
        self._name = name
        self._max_bytes = max_bytes
        self._reserved: list[Reservation] = []
        self._reserved_bytes = 0
        self._extend(charged(min(STEP_BYTES, max_bytes, cache.config.quota_bytes // 16)))

    def _extend(self, size_bytes: int) -> None:
        self._reserved.append(self._cache.reserve(size_bytes))
        self._reserved_bytes += size_bytes

    def check(self) -> None:
        """Look at the file now; reserve what it needs.

        Raises
        ------
        LimitExceededError
            It is too long, or the cache has no room for it.
        """
        size = os.fstat(self._fd).st_size
        if size > self._max_bytes:
            raise LimitExceededError(
                f"the answer to {self._name} has more than {self._max_bytes} bytes",
                hint="ask for fewer rows or columns, or let the administrator raise max_bytes of the service",
            )
        step = self._reserved_bytes if self._reserved_bytes < STEP_BYTES else STEP_BYTES
        if charged(size) + step // 2 > self._reserved_bytes:
            self._extend(charged(size + step - self._reserved_bytes))

    async def watch(self) -> None:
        """Do `check` for ever."""
        while True:
            await trio.sleep(WATCH_S)
            self.check()

    def use(self, size_bytes: int) -> None:
        """Count the file's whole length as used; it is the cache's from now on."""
        left = charged(size_bytes)
        if left > self._reserved_bytes:
            self._extend(left - self._reserved_bytes)
        for reservation in self._reserved:
            part = min(left, reservation.left_bytes)
            reservation.use(part)
            left -= part

    def __enter__(self) -> Growth:
        return self

    def __exit__(self, *_: object) -> None:
        for reservation in self._reserved:
            reservation.release()
        self._reserved.clear()
