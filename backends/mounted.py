"""Which kind of file system a path is on, from what the kernel says; asks the file system itself nothing."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

SHARED_KINDS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "ceph",
        "lustre",
        "gpfs",
        "beegfs",
        "beegfs_nodev",
        "orangefs",
        "pvfs2",
        "afs",
        "coda",
        "9p",
        "virtiofs",
        "gfs2",
        "ocfs2",
        "panfs",
        "wekafs",
    }
)
"""Types of file systems that other machines write to at the same time; FUSE's are ``fuse`` or ``fuse.NAME``."""

EXCLUSIVE_FUSE_KINDS = frozenset({"fuse.glusterfs"})
"""FUSE's file systems of which it was tried that a link never replaces what another host makes at the same time."""

_ESCAPED = re.compile(r"\\([0-7]{3})")


class Mounted(NamedTuple):
    """A mounted file system.

    Attributes
    ----------
    point : str
        Where it is mounted.
    kind : str
        Its type, such as ``ext4``, ``nfs4``, ``fuse.glusterfs``; empty if the kernel does not say.
    """

    point: str
    kind: str

    @property
    def is_shared(self) -> bool:
        """Whether other machines may write to it at the same time."""
        return self.kind in SHARED_KINDS or self.kind.partition(".")[0] == "fuse"

    @property
    def links_are_exclusive(self) -> bool:
        """Whether of two hosts that link to one name only one succeeds.

        A client that decides by what it remembers lets both: that of SeaweedFS does in nine of ten tries, also
        with ``O_EXCL`` and ``RENAME_NOREPLACE``. Only its directories are made by the server.
        """
        return self.kind.partition(".")[0] != "fuse" or self.kind in EXCLUSIVE_FUSE_KINDS


LOCAL = Mounted("", "")
"""A file system of which nothing is known but that it is this host's own."""


def mounted_at(path: str) -> Mounted:
    """Return the file system that holds ``path``.

    Parameters
    ----------
    path : str
        Absolute; need not exist. Symbolic links are not looked at, since that would ask the file system.
    """
    path = os.path.normpath(path)
    found = Mounted("", "")
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            for line in lines:
                before, _, after = line.partition(" - ")
                point = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4])
                # Of several mounts in one place, the last one covers the others.
                if len(point) >= len(found.point) and _is_below(path, point):
                    found = Mounted(point, after.split(" ")[0])
    except OSError:
        return found
    return found


def _is_below(path: str, point: str) -> bool:
    return point == "/" or path == point or path.startswith(point + "/")
