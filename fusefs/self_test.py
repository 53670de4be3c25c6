"""Whether files can pass through on this node: tried with one of our own, before any user's does.

That the kernel takes a backing file does not mean that it will open it for a reader: a security module may object, and
then users would have the error. So a file that only this process knows is opened and read through the mount.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from contextlib import suppress

from pantry.fusefs.kernel.device import Device
from pantry.fusefs.kernel.filesystem import Opened
from pantry.fusefs.kernel.messages import Attributes, EntryAnswer, OpenFlag

logger = logging.getLogger(__name__)

INODE = 2
"""No node has it: theirs are hashes, and this is left out."""
HANDLE = 0
"""Those of users begin at 1."""
_CONTENT = b"read by the kernel itself\n"


class PassthroughTest:
    """The file of the test, and the test.

    Parameters
    ----------
    device : Device
        Of the mount.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._backing = 0
        self.name = f".pantry-test-{secrets.token_hex(8)}".encode()

    def entry(self) -> EntryAnswer:
        """Tell of the file, which has no time."""
        mode = stat.S_IFREG | 0o400
        return EntryAnswer(Attributes(INODE, mode, len(_CONTENT), 0, os.getuid(), os.getgid()), 0.0, 0.0)

    def opened(self) -> Opened:
        """Tell how it is open."""
        return Opened(HANDLE, OpenFlag.NOFLUSH | OpenFlag.PASSTHROUGH, self._backing)

    def passes(self, mount_point: str) -> bool:
        """Open and read the file through the mount; blocks, while requests are answered by another thread."""
        fd = os.memfd_create("pantry-passthrough")
        try:
            os.write(fd, _CONTENT)
            self._backing = self._device.open_backing(fd)
            with open(os.path.join(os.fsencode(mount_point), self.name), "rb", buffering=0) as file:
                if file.read() == _CONTENT:
                    return True
            reason = "it was not read right"
        except OSError as exc:
            reason = os.strerror(exc.errno or 0)
        finally:
            os.close(fd)
            if self._backing:
                with suppress(OSError):  # unmounted meanwhile
                    self._device.close_backing(self._backing)
        logger.warning("files are read through this process, not by the kernel itself: %s", reason)
        return False
