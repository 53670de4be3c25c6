"""Files of which the kernel may hold pages that were read before the whole file had been verified."""

from __future__ import annotations

from pantry.fusefs.slots import Slot, Slots

UNVERIFIED_KIND = 3


class UnverifiedPages:
    """Knows at which open such pages are to be dropped: the first one after the file was verified.

    Parameters
    ----------
    slots : Slots
        Where it is kept for a successor.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._offsets: dict[int, int] = {}
        self._opens: dict[int, int] = {}

    def take_over(self, slot: Slot) -> None:
        """Enter what a process before this one left."""
        self._offsets[slot.number] = slot.offset

    def opened(self, inode: int) -> None:
        """Take note that a file was opened that is not verified."""
        self._opens[inode] = self._opens.get(inode, 0) + 1
        if inode not in self._offsets:
            self._offsets[inode] = self._slots.add(UNVERIFIED_KIND, inode, 0, b"")

    def closed(self, inode: int) -> None:
        """Take note that such an open ended."""
        left = self._opens.pop(inode, 1) - 1
        if left:
            self._opens[inode] = left

    def to_be_dropped(self, inode: int) -> bool:
        """Whether the open of a verified file must drop the kernel's pages; after that they are good."""
        if inode not in self._offsets or self._opens.get(inode):
            return False
        self.forget(inode)
        return True

    def forget(self, inode: int) -> None:
        """Take note that the kernel has forgotten the file with its pages."""
        offset = self._offsets.pop(inode, None)
        if offset is not None:
            self._slots.remove(offset)
