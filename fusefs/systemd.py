"""What systemd is told, and what it keeps: the service's descriptors, while its processes come and go.

Protocols: sd_notify(3), sd_listen_fds(3).
"""

from __future__ import annotations

import array
import logging
import os
import socket

logger = logging.getLogger(__name__)

_DEVICE = "pantry-device"
_STATE = "pantry-state"
_FIRST_FD = 3


def notify(state: str, *fds: int) -> None:
    """Tell systemd, if it is there to be told, and give it descriptors."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendmsg([state.encode()], rights, 0, address)
    except OSError as exc:
        logger.warning("systemd was not told %s: %s", state.replace("\n", " "), exc)


def keep_descriptors(device_fd: int, state_fd: int) -> None:
    """Give systemd the descriptors of a mount; it keeps them if the unit has ``FileDescriptorStoreMax=2``."""
    notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={_DEVICE}", device_fd)
    notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={_STATE}", state_fd)


def forget_descriptors() -> None:
    """Tell systemd that there is nothing to keep any more."""
    notify(f"FDSTOREREMOVE=1\nFDNAME={_DEVICE}")
    notify(f"FDSTOREREMOVE=1\nFDNAME={_STATE}")


def kept_descriptors() -> tuple[int, int] | None:
    """Return device and state that systemd kept for this process; None if it did not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = int(os.environ.get("LISTEN_FDS", "0"))
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")[:count]
    fds = {name: _FIRST_FD + place for place, name in enumerate(names)}
    for fd in fds.values():
        os.set_inheritable(fd, False)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if _DEVICE in fds and _STATE in fds:
        return fds[_DEVICE], fds[_STATE]
    return None
