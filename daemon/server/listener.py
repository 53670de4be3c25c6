"""The listening socket: one daemon per path, and a connection per peer."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
from collections.abc import Callable

import trio

from pantry.daemon.server.connection import Connection
from pantry.daemon.server.dispatch import to_failure
from pantry.daemon.server.identity import Identity, peer_identity
from pantry.daemon.server.limits import UserLimits
from pantry.errors import ConfigError, LimitExceededError, PermissionDeniedError
from pantry.wire.envelope import encode
from pantry.wire.framing import encode_frame

BACKLOG = 512
REFUSAL_TIMEOUT_S = 2.0
log = logging.getLogger(__name__)


class Listener:
    """A bound Unix socket, guarded by a lock file so that no two daemons share it.

    Parameters
    ----------
    path : str
        Of the socket; its directory is made with mode 0700, or 0755 in system mode.
    for_everybody : bool
        Whether other users may connect.
    """

    def __init__(self, path: str, *, for_everybody: bool) -> None:
        self.path = path
        self.for_everybody = for_everybody
        directory = os.path.dirname(path)
        os.makedirs(directory, mode=0o755 if for_everybody else 0o700, exist_ok=True)
        if not for_everybody:
            _check_private(directory)
        self._lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"another daemon already serves {path}", hint="see `pantry status`") from None
        self.sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The lock is ours, so whatever lies there is a dead daemon's.
            if os.path.lexists(path):
                os.unlink(path)
            previous = os.umask(0o111 if for_everybody else 0o177)
            try:
                socket.socket.bind(self.sock._sock, path)  # type: ignore[attr-defined]
            finally:
                os.umask(previous)
            self.sock.listen(BACKLOG)
        except OSError as exc:
            self.close()
            raise ConfigError(f"cannot listen on {path}: {exc.strerror}") from None

    def close(self) -> None:
        """Stop listening and remove the socket; connections go on."""
        self.sock.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            log.debug("socket %s was gone already", self.path)
        os.close(self._lock)

    async def accept_forever(
        self,
        nursery: trio.Nursery,
        *,
        limits: UserLimits,
        make: Callable[[trio.socket.SocketType, Identity], Connection],
    ) -> None:
        """Accept peers and serve each in a task of ``nursery``."""
        while True:
            try:
                sock, _ = await self.sock.accept()
            except OSError as exc:
                # Out of descriptors: wait for some to be given back rather than die or spin.
                log.warning("cannot accept a connection: %s", exc)
                await trio.sleep(0.1)
                continue
            nursery.start_soon(self._serve, sock, limits, make)

    async def _serve(
        self,
        sock: trio.socket.SocketType,
        limits: UserLimits,
        make: Callable[[trio.socket.SocketType, Identity], Connection],
    ) -> None:
        with sock:
            try:
                peer, _ = peer_identity(sock)  # type: ignore[arg-type]
            except OSError as exc:
                log.error("cannot tell who connected: %s", exc)
                return
            try:
                if not self.for_everybody and peer.uid not in (os.geteuid(), 0):
                    raise PermissionDeniedError(f"this daemon serves uid {os.geteuid()} only")
                with limits.connection(peer.uid):
                    await make(sock, peer).serve()
            except (PermissionDeniedError, LimitExceededError) as exc:
                # A new connection has room in its buffer for one small frame. What the peer has sent is
                # taken first: closing a socket with unread data would reset it, and the answer be lost.
                with trio.move_on_after(REFUSAL_TIMEOUT_S):
                    await sock.recv(65536)
                    await sock.send(encode_frame(encode(to_failure(0, exc))))
            except Exception:
                log.exception("a connection of uid %d ended by a defect", peer.uid)


def _check_private(directory: str) -> None:
    found = os.stat(directory)
    if found.st_uid not in (os.geteuid(), 0) or (
        found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX
    ):
        raise ConfigError(
            f"the socket's directory {directory} can be written by others",
            hint="chmod 700 it, or set XDG_RUNTIME_DIR to a directory of your own",
        )
