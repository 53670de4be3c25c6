"""What the file system and the kernel agree on when it is mounted."""

from __future__ import annotations

import errno
import logging
from typing import NamedTuple

from pantry.fusefs.kernel.device import MOST_WRITE_BYTES
from pantry.fusefs.kernel.filesystem import FuseError
from pantry.fusefs.kernel.messages import INIT_IN, INIT_IN_FLAGS2, INIT_OUT, MAJOR, MINOR, OLDEST_MINOR, Capability

logger = logging.getLogger(__name__)

MOST_READ_BYTES = 1 << 20
"""Longest read that is asked for (FUSE_MAX_MAX_PAGES)."""
_PAGE_BYTES = 4096
_BACKGROUND = 12
_READ_AHEAD_BYTES = 1 << 20
_STACK_DEPTH = 1
"""Backing files must not be on a stacked file system themselves."""

WANTED = (
    Capability.ASYNC_READ
    | Capability.DO_READDIRPLUS
    | Capability.READDIRPLUS_AUTO
    | Capability.PARALLEL_DIROPS
    | Capability.MAX_PAGES
    | Capability.CACHE_SYMLINKS
    | Capability.EXPLICIT_INVAL_DATA
    | Capability.INIT_EXT
    | Capability.HAS_EXPIRE_ONLY
    | Capability.DIRECT_IO_ALLOW_MMAP
    | Capability.PASSTHROUGH
    | Capability.HAS_RESEND
)
"""Not ASYNC_DIO: who reads with O_DIRECT would then wait where nothing can end it, not even SIGKILL."""


class Agreement(NamedTuple):
    """What was agreed on.

    Attributes
    ----------
    minor : int
        Minor version of the protocol.
    capabilities : Capability
        What both sides can.
    """

    minor: int
    capabilities: Capability

    @property
    def passthrough(self) -> bool:
        """Whether the kernel may read complete files by itself."""
        return Capability.PASSTHROUGH in self.capabilities

    @property
    def resend(self) -> bool:
        """Whether a successor can have the requests that were not answered."""
        return Capability.HAS_RESEND in self.capabilities


def agree(body: memoryview) -> tuple[Agreement | None, bytes]:
    """Answer INIT.

    Parameters
    ----------
    body : memoryview
        The kernel's offer.

    Returns
    -------
    Agreement or None
        None if the kernel must first ask again, with another major version.
    bytes
        The answer.

    Raises
    ------
    FuseError
        With EPROTO: there is nothing to agree on with so old a kernel.
    """
    major, minor, read_ahead, flags = INIT_IN.unpack_from(body)
    if major > MAJOR:
        return None, INIT_OUT.pack(MAJOR, MINOR, *[0] * 11)
    if major < MAJOR or minor < OLDEST_MINOR:
        logger.error(
            "this kernel speaks FUSE %d.%d, and at least %d.%d (Linux 5.4) is needed", major, minor, MAJOR, OLDEST_MINOR
        )
        raise FuseError(errno.EPROTO)
    if flags & Capability.INIT_EXT and len(body) >= INIT_IN.size + INIT_IN_FLAGS2.size:
        (more,) = INIT_IN_FLAGS2.unpack_from(body, INIT_IN.size)
        flags |= more << 32
    agreement = Agreement(min(minor, MINOR), Capability(flags) & WANTED)
    capabilities = int(agreement.capabilities)
    answer = INIT_OUT.pack(
        MAJOR, agreement.minor, min(read_ahead, _READ_AHEAD_BYTES), capabilities & 0xFFFFFFFF,
        _BACKGROUND, _BACKGROUND * 3 // 4, MOST_WRITE_BYTES, 1, MOST_READ_BYTES // _PAGE_BYTES, 0,
        capabilities >> 32, _STACK_DEPTH if agreement.passthrough else 0, 0,
    )  # fmt: skip
    return agreement, answer
