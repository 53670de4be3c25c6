"""All that a mount process keeps for its successor."""

from __future__ import annotations

import time

from pantry.fusefs.handles import HANDLE_KIND, Handle, HandleTable
from pantry.fusefs.inodes import INODE_KIND, InodeTable
from pantry.fusefs.kernel.agreement import Agreement
from pantry.fusefs.kernel.messages import Capability
from pantry.fusefs.modes import OpenModes
from pantry.fusefs.slots import Slots
from pantry.fusefs.unverified import UNVERIFIED_KIND, UnverifiedPages

_MOUNTED_KIND = 4


class Kept:
    """What the kernel knows of the mount, as records in shared memory.

    Attributes
    ----------
    inodes : InodeTable
        The nodes that it knows.
    handles : HandleTable
        The files and directories that are open.
    unverified : UnverifiedPages
        Of which files it may have pages that were not verified.
    mounted_ns : int
        When it was mounted, in nanoseconds since 1970 UTC.

    Parameters
    ----------
    slots : Slots
        The memory; what an earlier process left there is taken over.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self.inodes = InodeTable(slots)
        self.handles = HandleTable(slots)
        self.unverified = UnverifiedPages(slots)
        self.mounted_ns = 0
        left: list[Handle] = []
        for slot in slots.left():
            if slot.kind == INODE_KIND:
                self.inodes.take_over(slot)
            elif slot.kind == HANDLE_KIND:
                left.append(self.handles.take_over(slot))
            elif slot.kind == UNVERIFIED_KIND:
                self.unverified.take_over(slot)
            elif slot.kind == _MOUNTED_KIND:
                self.mounted_ns = slot.number
        self._files = [handle for handle in left if not handle.directory]
        for handle in self._files:
            if handle.incomplete:
                self.unverified.opened(handle.inode)
        if not self.mounted_ns:
            self.mounted_ns = time.time_ns()
            slots.add(_MOUNTED_KIND, self.mounted_ns, 0, b"")

    def count_opens(self, modes: OpenModes) -> None:
        """Tell how the files are open that an earlier process opened."""
        for handle in self._files:
            modes.take_over(handle.inode, handle.backing)
        self._files.clear()

    @property
    def agreement(self) -> Agreement | None:
        """What was agreed on with the kernel, if anything was."""
        minor, capabilities = self._slots.agreement
        return Agreement(minor, Capability(capabilities)) if minor else None

    def agreed(self, agreement: Agreement) -> None:
        """Keep what was agreed on, before the kernel is told."""
        self._slots.agreement = agreement.minor, int(agreement.capabilities)
