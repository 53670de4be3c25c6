"""Handles of open files and directories, which outlive the process that gave them out."""

from __future__ import annotations

import msgspec

from pantry.fusefs.link import User
from pantry.fusefs.slots import Slot, Slots

HANDLE_KIND = 2


class Handle(msgspec.Struct, frozen=True, array_like=True):
    """An open file or directory.

    Attributes
    ----------
    inode : int
        Of what is open.
    user : Behalf or None
        For whom.
    request : int
        Number of the request that opened it: if that comes again, its answer was never given.
    backing : int
        Number of its backing file; 0 if it does not pass through.
    incomplete : bool
        Whether it was opened before the whole file was there.
    directory : bool
        Whether it is a directory.
    """

    inode: int
    user: User = None
    request: int = 0
    backing: int = 0
    incomplete: bool = False
    directory: bool = False


class HandleTable:
    """All handles that the kernel has.

    Parameters
    ----------
    slots : Slots
        Where they are kept.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._offsets: dict[int, int] = {}
        self._by_request: dict[int, int] = {}
        self._last = 0
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Handle)

    def __getitem__(self, number: int) -> Handle:
        return self._decoder.decode(self._slots.payload(self._offsets[number]))

    def __contains__(self, number: int) -> bool:
        return number in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def take_over(self, slot: Slot) -> Handle:
        """Enter what a process before this one left, and return it."""
        self._offsets[slot.number] = slot.offset
        self._last = max(self._last, slot.number)
        handle = self[slot.number]
        self._by_request[handle.request] = slot.number
        return handle

    def add(self, handle: Handle) -> int:
        """Give out a number, before the kernel is told of it."""
        self._last += 1
        self._offsets[self._last] = self._slots.add(HANDLE_KIND, self._last, 1, self._encoder.encode(handle))
        return self._last

    def unanswered(self, request: int) -> int | None:
        """Return the handle that a process before this one made for a request and never told of."""
        return self._by_request.pop(request, None)

    def remove(self, number: int) -> Handle | None:
        """Take a number back; None if it was taken back before."""
        offset = self._offsets.pop(number, None)
        if offset is None:
            return None
        handle = self._decoder.decode(self._slots.payload(offset))
        self._slots.remove(offset)
        return handle
