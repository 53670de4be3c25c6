"""The FUSE protocol's messages, as far as a read-only file system meets them.

Numbers and layouts are those of the kernel's ``include/uapi/linux/fuse.h``, protocol 7.31 to 7.45; all fields
are in the machine's byte order.
"""

from __future__ import annotations

import stat
import struct
from enum import IntEnum, IntFlag
from typing import NamedTuple, Protocol

MAJOR = 7
MINOR = 41
"""The newest minor version whose meaning is known here."""
OLDEST_MINOR = 31
"""Linux 5.4: older kernels lack ``max_pages``, and much else."""

IN_HEADER = struct.Struct("=IIQQIIIHH")
"""len, opcode, unique, nodeid, uid, gid, pid, total_extlen, padding."""
OUT_HEADER = struct.Struct("=IiQ")
"""len, error, unique."""
INIT_IN = struct.Struct("=IIII")
"""major, minor, max_readahead, flags; newer kernels add flags2."""
INIT_IN_FLAGS2 = struct.Struct("=I")
INIT_OUT = struct.Struct("=IIIIHHIIHHIIH22x")
"""major, minor, max_readahead, flags, max_background, congestion_threshold, max_write, time_gran, max_pages,
map_alignment, flags2, max_stack_depth, request_timeout, unused."""
ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")
"""ino, size, blocks, atime, mtime, ctime, their nanoseconds, mode, nlink, uid, gid, rdev, blksize, flags."""
ENTRY_OUT = struct.Struct("=QQQQII")
"""nodeid, generation, entry_valid, attr_valid, entry_valid_nsec, attr_valid_nsec; the attributes follow."""
ATTR_OUT = struct.Struct("=QII")
"""attr_valid, attr_valid_nsec, dummy; the attributes follow."""
OPEN_IN = struct.Struct("=II")
"""flags, open_flags."""
OPEN_OUT = struct.Struct("=QIi")
"""fh, open_flags, backing_id."""
READ_IN = struct.Struct("=QQIIQII")
"""fh, offset, size, read_flags, lock_owner, flags, padding; READDIR's too."""
RELEASE_IN = struct.Struct("=QIIQ")
"""fh, flags, release_flags, lock_owner."""
GETXATTR_IN = struct.Struct("=II")
"""size, padding; GETXATTR's name follows."""
GETXATTR_OUT = struct.Struct("=II")
ACCESS_IN = struct.Struct("=II")
FORGET_IN = struct.Struct("=Q")
BATCH_FORGET_IN = struct.Struct("=II")
FORGET_ONE = struct.Struct("=QQ")
INTERRUPT_IN = struct.Struct("=Q")
STATFS_OUT = struct.Struct("=QQQQQIIII24x")
"""blocks, bfree, bavail, files, ffree, bsize, namelen, frsize, padding."""
DIRENT = struct.Struct("=QQII")
"""ino, off, namelen, type; the name follows, padded to eight bytes."""
INVAL_INODE = struct.Struct("=Qqq")
"""ino, off, len."""
INVAL_ENTRY = struct.Struct("=QII")
"""parent, namelen, flags; the name and a NUL follow."""


class Opcode(IntEnum):
    """What the kernel can ask for; those that would change something are in `CHANGING`."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    TMPFILE = 51


CHANGING = frozenset({
    Opcode.SETATTR, Opcode.SYMLINK, Opcode.MKNOD, Opcode.MKDIR, Opcode.UNLINK, Opcode.RMDIR, Opcode.RENAME, Opcode.LINK,
    Opcode.WRITE, Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.CREATE, Opcode.FALLOCATE, Opcode.RENAME2, Opcode.TMPFILE,
})  # fmt: skip
"""Requests that a read-only file system answers with EROFS."""


class Capability(IntFlag):
    """What kernel and file system agree on at INIT, both words of flags as one number."""

    ASYNC_READ = 1 << 0
    EXPORT_SUPPORT = 1 << 4
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    PARALLEL_DIROPS = 1 << 18
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    EXPLICIT_INVAL_DATA = 1 << 25
    INIT_EXT = 1 << 30
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    HAS_RESEND = 1 << 39


class OpenFlag(IntFlag):
    """How the kernel treats an open file or directory."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    CACHE_DIR = 1 << 3
    NOFLUSH = 1 << 5
    PASSTHROUGH = 1 << 7


class Notice(IntEnum):
    """What the file system can tell the kernel unasked; an answer to no request, with this as its error."""

    INVAL_INODE = 2
    INVAL_ENTRY = 3
    RESEND = 7


RESENT = 1 << 63
"""Set in the number of a request that the kernel gave to an earlier process already."""


class Request(NamedTuple):
    """One request.

    Attributes
    ----------
    opcode : int
        What is asked for.
    unique : int
        What the answer refers to.
    node : int
        Inode number.
    uid, gid, pid : int
        Of the asking process; the kernel says 0 for what it does on its own account.
    body : memoryview
        What follows the header. Only valid until the next request is read.
    """

    opcode: int
    unique: int
    node: int
    uid: int
    gid: int
    pid: int
    body: memoryview


class Attributes(NamedTuple):
    """What ``stat`` shows of a node; times in nanoseconds since 1970 UTC."""

    number: int
    mode: int
    size_bytes: int
    modified_ns: int
    uid: int
    gid: int
    block_bytes: int = 4096

    def pack(self) -> bytes:
        """Return the 88 bytes that the kernel takes."""
        seconds, nanoseconds = divmod(self.modified_ns, 1_000_000_000)
        return ATTRIBUTES.pack(
            self.number, self.size_bytes, -(-self.size_bytes // 512), seconds, seconds, seconds,
            nanoseconds, nanoseconds, nanoseconds, self.mode, 1, self.uid, self.gid, 0, self.block_bytes, 0,
        )  # fmt: skip


class EntryAnswer(NamedTuple):
    """A name's node, and for how many seconds the kernel may believe name and attributes; number 0: no such name."""

    attributes: Attributes
    name_valid_s: float
    attributes_valid_s: float

    def pack(self) -> bytes:
        """Return the 128 bytes that the kernel takes."""
        name_s, name_ns = _seconds(self.name_valid_s)
        attributes_s, attributes_ns = _seconds(self.attributes_valid_s)
        head = ENTRY_OUT.pack(self.attributes.number, 0, name_s, attributes_s, name_ns, attributes_ns)
        return head + self.attributes.pack()


def no_entry(valid_s: float) -> bytes:
    """Return the answer that there is no such name, which the kernel believes for so many seconds."""
    seconds, nanoseconds = _seconds(valid_s)
    return ENTRY_OUT.pack(0, 0, seconds, 0, nanoseconds, 0) + bytes(ATTRIBUTES.size)


def pack_attributes(attributes: Attributes, valid_s: float) -> bytes:
    """Return the answer to GETATTR."""
    seconds, nanoseconds = _seconds(valid_s)
    return ATTR_OUT.pack(seconds, nanoseconds, 0) + attributes.pack()


class _Packed(Protocol):
    def pack(self) -> bytes: ...


def pack_directory_entry(name: bytes, number: int, mode: int, position: int, entry: _Packed | None) -> bytes:
    """Return one entry of a directory.

    Parameters
    ----------
    name : bytes
        Without slashes.
    number, mode : int
        Of its node.
    position : int
        Where the listing goes on after it.
    entry : EntryAnswer or NoEntry, optional
        For READDIRPLUS, where the former counts as a look-up.
    """
    padded = name + bytes(-len(name) % 8)
    plain = DIRENT.pack(number, position, len(name), stat.S_IFMT(mode) >> 12) + padded
    return plain if entry is None else entry.pack() + plain


def _seconds(duration_s: float) -> tuple[int, int]:
    whole = int(duration_s)
    return whole, int((duration_s - whole) * 1_000_000_000)
