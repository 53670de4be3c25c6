"""What a mount process leaves to its successor: records in shared memory that outlive it.

The memory is a memfd, which others hold too (`pantry.fusefs.holder`, or systemd). A process that is killed at any
instruction leaves each record as it was before or as it is after: a record's kind, written last, says whether it
counts.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from pantry.errors import ConfigError

_MAGIC = b"pantrymt"
_VERSION = 1
_HEADER = struct.Struct("=8sIIQQ")
"""magic, version, minor of the protocol, its capabilities, where the last record ends."""
_AGREEMENT = struct.Struct("=IQ")
_AGREEMENT_AT = 12
_END = struct.Struct("=Q")
_END_AT = 24
_FIRST = 64
_SLOT = struct.Struct("=IIIIQQ")
"""kind (0 for a free one), length of the slot, length of the payload, unused, number, count."""
_KIND = struct.Struct("=I")
_COUNT = struct.Struct("=Q")
_COUNT_AT = 24
_GRAIN = 32
_FIRST_BYTES = 1 << 20


class Slot(NamedTuple):
    """A record: what it is of, where it is, and its number."""

    kind: int
    offset: int
    number: int


class Slots:
    """Records of any length, with a count in each that can be changed in place.

    Parameters
    ----------
    fd : int
        Of a memfd: an empty one, or one that a process before this filled. Taken over.

    Raises
    ------
    ConfigError
        What is there was written by another version of the program.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        fresh = os.fstat(fd).st_size == 0
        if fresh:
            os.ftruncate(fd, _FIRST_BYTES)
        self._memory = mmap.mmap(fd, 0)
        self._free: dict[int, list[int]] = {}
        if fresh:
            _HEADER.pack_into(self._memory, 0, _MAGIC, _VERSION, 0, 0, _FIRST)
        magic, version, _, _, end = _HEADER.unpack_from(self._memory)
        self._end: int = end
        if (magic, version) != (_MAGIC, _VERSION):
            raise ConfigError("the state of the mount was left by another version of Pantry")

    @classmethod
    def create(cls) -> Slots:
        """Make empty memory for them."""
        return cls(os.memfd_create("pantry-mount"))

    def close(self) -> None:
        """Let go of the memory; it stays for whoever else holds it."""
        self._memory.close()
        os.close(self.fd)

    @property
    def agreement(self) -> tuple[int, int]:
        """Minor version and capabilities that were agreed on with the kernel; zeros if nothing was yet."""
        agreed: tuple[int, int] = _AGREEMENT.unpack_from(self._memory, _AGREEMENT_AT)
        return agreed

    @agreement.setter
    def agreement(self, agreed: tuple[int, int]) -> None:
        _AGREEMENT.pack_into(self._memory, _AGREEMENT_AT, *agreed)

    def add(self, kind: int, number: int, count: int, payload: bytes) -> int:
        """Add a record; return its offset."""
        length = -(-(_SLOT.size + len(payload)) // _GRAIN) * _GRAIN
        free = self._free.get(length)
        offset = free.pop() if free else self._append(length)
        start = offset + _SLOT.size
        self._memory[start : start + len(payload)] = payload
        _SLOT.pack_into(self._memory, offset, 0, length, len(payload), 0, number, count)
        # From here on a successor sees it.
        _KIND.pack_into(self._memory, offset, kind)
        return offset

    def _append(self, length: int) -> int:
        offset: int = self._end
        if offset + length > len(self._memory):
            self._memory.resize(max(2 * len(self._memory), offset + length))
        _SLOT.pack_into(self._memory, offset, 0, length, 0, 0, 0, 0)
        self._end = offset + length
        _END.pack_into(self._memory, _END_AT, self._end)
        return offset

    def remove(self, offset: int) -> None:
        """Remove a record; its place is used again."""
        _, length, *_ = _SLOT.unpack_from(self._memory, offset)
        _KIND.pack_into(self._memory, offset, 0)
        self._free.setdefault(length, []).append(offset)

    def payload(self, offset: int) -> bytes:
        """Return what a record holds."""
        _, _, length, *_ = _SLOT.unpack_from(self._memory, offset)
        start = offset + _SLOT.size
        return self._memory[start : start + length]

    def count(self, offset: int) -> int:
        """Return a record's count."""
        count: int = _COUNT.unpack_from(self._memory, offset + _COUNT_AT)[0]
        return count

    def set_count(self, offset: int, count: int) -> None:
        """Change a record's count."""
        _COUNT.pack_into(self._memory, offset + _COUNT_AT, count)

    def left(self) -> Iterator[Slot]:
        """Give every record that is there, and note which places are free; once, before anything is added."""
        offset = _FIRST
        while offset < self._end:
            kind, length, _, _, number, _ = _SLOT.unpack_from(self._memory, offset)
            if kind:
                yield Slot(kind, offset, number)
            else:
                self._free.setdefault(length, []).append(offset)
            offset += length

    @property
    def used_bytes(self) -> int:
        """Memory that records take or took."""
        return self._end
