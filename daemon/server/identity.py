"""Who is on the other end of the socket, as the kernel says it."""

from __future__ import annotations

import ctypes
import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Iterable

import msgspec

_libc = ctypes.CDLL(None, use_errno=True)
_UCRED = struct.Struct("3i")
_SO_PEERGROUPS = 59  # linux/socket.h; Python's socket module has no name for it
_MAX_GROUPS = 65536  # NGROUPS_MAX


class Identity(msgspec.Struct, frozen=True):
    """A Unix user.

    Attributes
    ----------
    uid, gid : int
        Effective user and group.
    groups : frozenset of int
        Supplementary groups and ``gid``.
    """

    uid: int
    gid: int
    groups: frozenset[int]

    @property
    def user_name(self) -> str:
        """Name of the user, or the number where there is none."""
        return user_name_of(self.uid)

    def matches(self, rules: Iterable[str]) -> bool:
        """Whether any rule names this user: ``*``, a user, a uid, ``@group`` or ``@gid``."""
        return any(self._matches(rule) for rule in rules)

    def _matches(self, rule: str) -> bool:
        if rule == "*":
            return True
        if rule.startswith("@"):
            gid = _group_number(rule[1:])
            return gid is not None and gid in self.groups
        uid = _user_number(rule)
        return uid is not None and uid == self.uid


def user_name_of(uid: int) -> str:
    """Return the name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def identity_of(uid: int) -> Identity:
    """Return a user as the system knows them now; without groups if it does not know them. May block."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Identity(uid, -1, frozenset())
    return Identity(uid, entry.pw_gid, frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid)))


def peer_identity(sock: socket.socket) -> tuple[Identity, int]:
    """Return the identity and process number of the peer of a connected Unix socket.

    Taken from SO_PEERCRED and SO_PEERGROUPS: what the peer was when it connected, which it cannot
    forge.
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Identity(uid, gid, frozenset(_peer_groups(sock.fileno())) | {gid}), pid


def _peer_groups(fd: int) -> list[int]:
    # Not by socket.getsockopt, which takes no more than 1024 bytes: 256 groups.
    most = 256
    while True:
        buffer = (ctypes.c_uint32 * most)()
        length = ctypes.c_uint32(ctypes.sizeof(buffer))
        if not _libc.getsockopt(fd, socket.SOL_SOCKET, _SO_PEERGROUPS, buffer, ctypes.byref(length)):
            return list(buffer[: length.value // 4])
        error = ctypes.get_errno()
        if error != errno.ERANGE or most >= _MAX_GROUPS:
            raise OSError(error, os.strerror(error))
        most *= 16


def _user_number(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return int(name) if name.isdecimal() else None


def _group_number(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return int(name) if name.isdecimal() else None
