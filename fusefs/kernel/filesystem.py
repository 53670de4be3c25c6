"""What a session asks of the file system that it serves."""

from __future__ import annotations

import stat
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from pantry.fusefs.kernel.device import Buffer
from pantry.fusefs.kernel.messages import (
    OPEN_OUT,
    STATFS_OUT,
    Attributes,
    EntryAnswer,
    OpenFlag,
    no_entry,
    pack_directory_entry,
)

T = TypeVar("T")
Soon: TypeAlias = T | Coroutine[Any, Any, T]
"""An answer, or a coroutine that gives it. What can be told at once costs no task."""


class FuseError(Exception):
    """A request fails with this errno, and nothing is to be logged.

    Parameters
    ----------
    code : int
        From `errno`.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Caller(NamedTuple):
    """Who asks.

    Attributes
    ----------
    uid, gid : int
        Of the process.
    pid : int
        Number of its thread; 0 if that is in a namespace that we cannot see.
    request : int
        Number of the request.
    resent : bool
        Whether an earlier process had it already; then it comes by the same number.
    """

    uid: int
    gid: int
    pid: int
    request: int = 0
    resent: bool = False


class NoEntry(NamedTuple):
    """There is no such name, which the kernel may believe for so many seconds."""

    valid_s: float

    def pack(self) -> bytes:
        """Return what the kernel takes."""
        return no_entry(self.valid_s)


class Opened(NamedTuple):
    """An open file or directory: its handle, how the kernel treats it, and the backing file if it passes through."""

    handle: int
    flags: OpenFlag = OpenFlag(0)
    backing: int = 0

    def pack(self) -> bytes:
        """Return what the kernel takes."""
        return OPEN_OUT.pack(self.handle, self.flags, self.backing)


class Space(NamedTuple):
    """What ``df`` shows, in blocks of ``block_bytes``."""

    block_bytes: int
    blocks: int
    free: int
    files: int
    longest_name_bytes: int = 255

    def pack(self) -> bytes:
        """Return what the kernel takes."""
        return STATFS_OUT.pack(
            self.blocks,
            self.free,
            self.free,
            self.files,
            0,
            self.block_bytes,
            self.longest_name_bytes,
            self.block_bytes,
            0,
        )


class Listing:
    """Room for entries of a directory.

    Parameters
    ----------
    room_bytes : int
        What the kernel takes.
    with_attributes : bool
        READDIRPLUS: each entry counts as a look-up.
    """

    def __init__(self, room_bytes: int, *, with_attributes: bool) -> None:
        self.with_attributes = with_attributes
        self._left = room_bytes
        self._parts: list[bytes] = []

    def add(self, name: bytes, entry: EntryAnswer, position: int) -> bool:
        """Add an entry, after which the listing goes on at ``position``; False if there is no room for it."""
        part = pack_directory_entry(
            name,
            entry.attributes.number,
            entry.attributes.mode,
            position,
            entry if self.with_attributes else None,
        )
        if len(part) > self._left:
            return False
        self._left -= len(part)
        self._parts.append(part)
        return True

    def add_link(self, name: bytes, number: int, position: int) -> None:
        """Add ``.`` or ``..``, which never count as a look-up; there is always room for them."""
        part = pack_directory_entry(
            name, number, stat.S_IFDIR, position, NoEntry(0.0) if self.with_attributes else None
        )
        self._left -= len(part)
        self._parts.append(part)

    def pack(self) -> bytes:
        """Return what the kernel takes."""
        return b"".join(self._parts)


class FileSystem(Protocol):
    """A read-only file system. Any exception fails the request; the session asks `errno_of` with what."""

    def errno_of(self, error: Exception, doing: str) -> int:
        """Choose the errno for an error, and log it if need be."""
        ...

    def lookup(self, parent: int, name: bytes, caller: Caller) -> Soon[EntryAnswer | NoEntry]:
        """Find a name; an entry counts as a reference to its node."""
        ...

    def forget(self, node: int, references: int) -> None:
        """Give references back."""
        ...

    def getattr(self, node: int, caller: Caller) -> tuple[Attributes, float]:
        """Tell a node's attributes, and for how many seconds they hold."""
        ...

    def access(self, node: int, mode: int, caller: Caller) -> Soon[None]:
        """Fail unless the caller may."""
        ...

    def statfs(self, caller: Caller) -> Soon[Space]:
        """Tell the size of it all."""
        ...

    def opendir(self, node: int, caller: Caller) -> Soon[Opened]:
        """Open a directory."""
        ...

    def readdir(self, handle: int, position: int, listing: Listing) -> Soon[Listing]:
        """Fill a listing from a position on; leave it empty at the end."""
        ...

    def releasedir(self, handle: int) -> Soon[None]:
        """Close a directory."""
        ...

    def open(self, node: int, flags: int, caller: Caller) -> Soon[Opened]:
        """Open a file."""
        ...

    def read(self, handle: int, offset: int, size: int) -> Soon[Buffer]:
        """Read; fewer bytes than asked for only at the end. What is returned at once may be used again at once."""
        ...

    def release(self, handle: int) -> Soon[None]:
        """Close a file."""
        ...

    def listxattr(self, node: int, caller: Caller) -> Sequence[bytes]:
        """Name a node's extended attributes."""
        ...

    def getxattr(self, node: int, name: bytes, caller: Caller) -> Soon[bytes]:
        """Tell an extended attribute."""
        ...
