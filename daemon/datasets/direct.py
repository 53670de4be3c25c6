"""Handing out the stored file itself, where the storage is said to be as fast as the cache (decision 0058)."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import trio
import xxhash

from pantry.backends.contract import LocalPlacement
from pantry.daemon.cache.hashing import BLOCK_BYTES
from pantry.daemon.cache.object_id import ObjectId
from pantry.daemon.transfers.origin import Origin
from pantry.errors import IntegrityError

MOST_KNOWN = 200_000
"""Files whose content is remembered as checked; the ones that were opened longest ago are forgotten."""

MOST_READINGS = 5
"""How often a file that changes while it is read is read before it is refused."""


class _Seen(NamedTuple):
    """What of a file changes when its content may have: anybody can set the one time, nobody the other."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Seen:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class DirectFiles:
    """Opens stored files for readers, and knows which of them were found to be what is registered.

    Attributes
    ----------
    checked : int
        How often a file was read to be checked.
    """

    def __init__(self) -> None:
        self.checked = 0
        self._known: OrderedDict[tuple[ObjectId, str], _Seen] = OrderedDict()

    def knows(self, origin: Origin, key: str, object_id: ObjectId) -> bool:
        """Whether the file was checked before; it is looked at again when it is opened."""
        return (object_id, f"{origin.location}/{key}") in self._known

    async def open(self, origin: Origin, key: str, object_id: ObjectId, size_bytes: int, *, name: str) -> int:
        """Open the stored file read-only, after its content was compared with what is registered.

        Its content is read at the first time, and again when the file may have changed since.

        Parameters
        ----------
        origin : Origin
            That holds it, with local files.
        key : str
            Of the file.
        object_id : ObjectId
            What its content must be.
        size_bytes : int
            Its length.
        name : str
            For people.

        Returns
        -------
        int
            A descriptor; the caller closes it.

        Raises
        ------
        IntegrityError
            The file is not what is registered.
        BackendError
            It cannot be opened or read; as of `Origin.stat`.
        """
        known = (object_id, f"{origin.location}/{key}")
        opening = _Opening(origin, key, object_id, size_bytes, self._known.get(known), name)
        try:
            await origin.call(key, opening.run, size_bytes=size_bytes)
        except BaseException:
            self._known.pop(known, None)
            opening.give_up()
            raise
        self.checked += opening.was_read
        self._known[known] = opening.seen
        self._known.move_to_end(known)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return opening.take()


class _Opening:
    """One opening, in a thread that may be left behind."""

    seen: _Seen

    def __init__(
        self, origin: Origin, key: str, object_id: ObjectId, size_bytes: int, known: _Seen | None, name: str
    ) -> None:
        self.was_read = False
        self._backend = origin.primary
        self._key = key
        self._object_id = object_id
        self._size_bytes = size_bytes
        self._known = known
        self._name = name
        self._lock = threading.Lock()
        self._fd = -1
        self._given_up = False

    def run(self, moved: Callable[[], None]) -> None:
        """Open and check the file; blocks, for a worker thread, and tells that it goes on."""
        assert isinstance(self._backend, LocalPlacement)  # noqa: S101 - the opener asks before
        ((fd, status),) = self._backend.open_each([self._key])
        try:
            self.seen = _Seen.of(status)
            if status.st_size != self._size_bytes:
                raise IntegrityError(
                    f"{self._name}: the file has {status.st_size} bytes, {self._size_bytes} were registered",
                    hint="the file was changed in the storage; restore it there, or ingest it anew",
                )
            if self.seen != self._known:
                self._check(fd, moved)
        except BaseException:
            os.close(fd)
            raise
        with self._lock:
            if not self._given_up:
                self._fd = fd
                return
        os.close(fd)

    def _check(self, fd: int, moved: Callable[[], None]) -> None:
        self.was_read = True
        for _ in range(MOST_READINGS):
            digest = self._hash(fd, moved)
            if digest != self._object_id.hash:
                break
            # Again: what was written meanwhile may not have been read. Mostly it was only a link that went: a
            # write is settled after its answer.
            before, self.seen = self.seen, _Seen.of(os.fstat(fd))
            if before == self.seen:
                return
        raise IntegrityError(
            f"{self._name}: the file in the storage is not what was registered",
            hint="it is damaged or was replaced; restore it there, or ingest it anew",
            expected=self._object_id.hash,
            found=digest,
        )

    def _hash(self, fd: int, moved: Callable[[], None]) -> str:
        state = xxhash.xxh3_128()
        buffer = memoryview(bytearray(min(BLOCK_BYTES, max(1, self._size_bytes))))
        offset = 0
        while got := os.preadv(fd, [buffer], offset):
            trio.from_thread.check_cancelled()
            state.update(buffer[:got])
            offset += got
            moved()
        return state.hexdigest()

    def take(self) -> int:
        """Give the descriptor away."""
        fd, self._fd = self._fd, -1
        return fd

    def give_up(self) -> None:
        """Close what is or will be open."""
        with self._lock:
            self._given_up = True
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
