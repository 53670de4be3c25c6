"""A dataset's file as the daemon gave it: a descriptor, and a handle if it is not complete."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Protocol, TypeVar, cast

import msgspec

from pantry.client.connection import Link
from pantry.errors import ProtocolError, StaleHandleError
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.wire.operations import CloseOpened, FetchRanges, OpenDataset, Opened, Operation

if TYPE_CHECKING:
    from pantry.client.butler.partial_file import PartialFile


class Answer(Protocol):
    """What the daemon says of a file that it opened, as far as reading goes."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def size_bytes(self) -> int: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def handle(self) -> int: ...  # noqa: D102


A = TypeVar("A", bound=Answer)
F = TypeVar("F", bound="OpenedFileBase[Any]")


class OpenedFileBase(ABC, Generic[A]):
    """An open file, shared by the readers made from it; closed when the last of them is.

    Attributes
    ----------
    opened : Opened or OpenedObject
        What the daemon said of it.
    fd : int
        Read-only; -1 when closed.
    """

    def __init__(self, link: Link, operation: Operation[A], opened: A, fd: int) -> None:
        self.opened = opened
        self.fd = fd
        self._link = link
        self._lock = threading.RLock()  # re-entrant, as the garbage collector may close while this thread holds it
        self._users = 1
        self._present: Presence | None = None if opened.complete else Presence(opened.size_bytes)
        self._operation = operation
        self._is_anew = False
        self._stale_fds: list[int] = []

    @classmethod
    def open(cls: type[F], link: Link, operation: Operation[Any]) -> F:
        """Resolve and open, in one round trip."""
        return cls(link, operation, *_open(link, operation))

    @property
    def path(self) -> str | None:
        """A path that opens the file as long as this object is open; None while parts of it are missing."""
        return f"/proc/self/fd/{self.fd}" if self._present is None or self._present.is_whole else None

    def fetch(self, start: int, stop: int) -> int:
        """Wait until the bytes ``[start, stop)`` can be read; return the descriptor that has them."""
        while True:
            with self._lock:
                opened, fd, present = self.opened, self.fd, self._present
                missing = () if present is None else present.missing(start, stop)
            if not missing or present is None:
                return fd
            try:
                # Not under the lock: several threads may wait for several ranges.
                self._link.call(FetchRanges(handle=opened.handle, ranges=missing))
            except StaleHandleError as exc:
                self._open_anew(opened, exc)
                continue
            with self._lock:
                for begin, end in missing:
                    present.add(begin, end)

    @abstractmethod
    def _anew(self, stale: A) -> Operation[A]:
        """Return the operation that opens the same through memory."""

    def _open_anew(self, stale: A, reason: StaleHandleError) -> None:
        """Replace a file that the cache's disk can take no more of by one that is read through memory."""
        with self._lock:
            if self.opened is not stale:
                return
            if self._is_anew:
                # That one failed too.
                raise reason
            opened, fd = _open(self._link, self._anew(stale))
            self._is_anew = True
            # What others read from the old one at this moment is right, and stays so.
            self._stale_fds.append(self.fd)
            self.opened, self.fd = opened, fd
            self._present = None if opened.complete else Presence(opened.size_bytes)
        self._link.post(CloseOpened(handle=stale.handle))

    def reader(self) -> PartialFile:
        """Return a new seekable raw file that fetches what is read."""
        from pantry.client.butler.partial_file import PartialFile

        return PartialFile(self)

    def complete_file(self) -> BinaryIO:
        """Return a new buffered file object of its own, which stays open when this object is closed."""
        return cast(BinaryIO, open(f"/proc/self/fd/{self.fd}", "rb"))

    def acquire(self) -> None:
        """Count one more user."""
        with self._lock:
            if self.fd < 0:
                raise ValueError("the dataset's file is closed")
            self._users += 1

    def release(self) -> None:
        """Count one user less; the last one closes. Never waits."""
        with self._lock:
            self._users -= 1
            if self._users > 0 or self.fd < 0:
                return
            fds, self.fd = [self.fd, *self._stale_fds], -1
        for fd in fds:
            os.close(fd)
        if self.opened.handle:
            self._link.post(CloseOpened(handle=self.opened.handle))

    def __enter__(self: F) -> F:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            self._users = 0
            self.release()


class OpenedFile(OpenedFileBase[Opened]):
    """A dataset's open file."""

    @property
    def ref(self) -> DatasetRef:
        """The dataset."""
        return self.opened.ref

    @property
    def file(self) -> StoredFile:
        """What is recorded of its file."""
        return self.opened.file

    def _anew(self, stale: Opened) -> Operation[Opened]:
        assert isinstance(self._operation, OpenDataset)  # noqa: S101 - as the type of `opened` says
        return msgspec.structs.replace(self._operation, id=stale.ref.id, uncached=True)


def _open(link: Link, operation: Operation[A]) -> tuple[A, int]:
    opened, fds = link.call_with_fds(operation)
    if len(fds) != 1:
        for fd in fds:
            os.close(fd)
        raise ProtocolError(f"the daemon sent {len(fds)} descriptors in place of one")
    return opened, fds[0]


class Presence:
    """Which parts of a file are known to be there: disjoint ranges in order.

    Parameters
    ----------
    size_bytes : int
        Length of the file.
    """

    GRAIN_BYTES = 65536
    """What is asked for is rounded to multiples of this: headers are read in small steps."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.ranges: list[tuple[int, int]] = []

    @property
    def is_whole(self) -> bool:
        """Whether everything is there."""
        return self.size_bytes == 0 or self.ranges == [(0, self.size_bytes)]

    def missing(self, start: int, stop: int) -> tuple[tuple[int, int], ...]:
        """Return what must be fetched so that ``[start, stop)`` is there, in rounded ranges."""
        grain = self.GRAIN_BYTES
        stop = min(stop, self.size_bytes)
        if start >= stop:
            return ()
        wanted_start, wanted_stop = start // grain * grain, min(-(-stop // grain) * grain, self.size_bytes)
        gaps = []
        for begin, end in self.ranges:
            if end <= wanted_start:
                continue
            if begin >= wanted_stop:
                break
            if begin > wanted_start:
                gaps.append((wanted_start, begin))
            wanted_start = end
        if wanted_start < wanted_stop:
            gaps.append((wanted_start, wanted_stop))
        return tuple(gaps)

    def add(self, start: int, stop: int) -> None:
        """Note that ``[start, stop)`` is there."""
        kept = []
        for begin, end in self.ranges:
            if end < start or begin > stop:
                kept.append((begin, end))
            else:
                start, stop = min(start, begin), max(stop, end)
        kept.append((start, stop))
        kept.sort()
        self.ranges = kept
