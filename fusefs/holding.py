"""The process that holds a mount while those that serve it come and go.

It keeps the kernel's end and the state of the mount (`pantry.fusefs.slots`) open, starts the serving process, and
starts another one when that dies. It does nothing else, so that there is little in it that could fail; and should it be
killed, the serving process starts another holder. Under systemd both are in the service's descriptor store too.

What they say to each other over a socket is one word a message.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from pantry.fusefs import mounting, systemd
from pantry.fusefs.config import MountConfig

logger = logging.getLogger(__name__)

READY = b"ready"
"""The mount answers."""
END = b"end"
"""To the holder: it was unmounted, and all is done. To the server: unmount."""
ANEW = b"anew"
"""It cannot go on with what an earlier process left; open files are lost."""
ASK = b"?"
ALIVE = b"!"
_END_S = 15.0
_MOST_EARLY_DEATHS = 20
_LONGEST_DELAY_S = 1.0
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Holder:
    """Holds one mount.

    Parameters
    ----------
    config : MountConfig
        How it is mounted.
    device_fd, state_fd : int
        Of the kernel's end, and of the state.
    on_ready : callable
        Called when the mount answers for the first time.
    """

    def __init__(self, config: MountConfig, device_fd: int, state_fd: int, on_ready: Callable[[], None]) -> None:
        self._config = config
        self._device_fd = device_fd
        self._state_fd = state_fd
        self._on_ready = on_ready
        self._server: socket.socket | None = None
        self._server_pid = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._ready_once = False
        self._early_deaths = 0
        self._ask_s = config.hung_s / 6
        self._heard_at = self._asked_at = 0.0
        self._ending_since = 0.0

    def run(self, server: socket.socket | None = None, server_pid: int = 0) -> int:
        """Hold until the mount is gone; return the exit status.

        Parameters
        ----------
        server : socket.socket, optional
            Of a serving process that is there already.
        server_pid : int
            Its number.
        """
        signals, wake = socket.socketpair()
        for end in (signals, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        if server is None:
            self._start()
        else:
            self._server, self._server_pid, self._ready_once = server, server_pid, True
            self._heard_at = time.monotonic()
        while True:
            assert self._server is not None  # noqa: S101 - one was started, and dead ones are replaced
            readable, _, _ = select.select([signals, self._server], [], [], self._ask_s)
            if signals in readable:
                self._signalled(signals.recv(64))
            if self._server in readable:
                word = self._hear()
                if word == END:
                    return self._finish(0)
                if word == ANEW:
                    self._mount_anew()
                elif not word and not self._replace():
                    return self._finish(1)
            self._look_after()

    # -- the serving process -------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (self._device_fd, self._state_fd, theirs.fileno())
        self._child = subprocess.Popen(
            [*_program(), "--serve", ",".join(map(str, fds)), *self._config.words()], pass_fds=fds
        )
        theirs.close()
        ours.setblocking(False)
        self._server, self._server_pid = ours, self._child.pid
        self._heard_at = time.monotonic()

    def _hear(self) -> bytes:
        assert self._server is not None  # noqa: S101 - see `run`
        try:
            word = self._server.recv(64)
        except BlockingIOError:
            return ALIVE
        except ConnectionError:
            word = b""
        self._heard_at = time.monotonic()
        if word == READY:
            self._early_deaths = 0
            if not self._ready_once:
                self._ready_once = True
                self._on_ready()
        return word

    def _replace(self) -> bool:
        """Start another serving process for one that died; False if there is no use in it."""
        self._reap()
        if self._ending_since:
            return False
        self._early_deaths += 1
        if not self._ready_once or self._early_deaths > _MOST_EARLY_DEATHS:
            logger.error("the process that serves %s does not come up", self._config.mount_point)
            return False
        if self._early_deaths > 1:
            time.sleep(min(0.05 * 2**self._early_deaths, _LONGEST_DELAY_S))
        logger.warning("the process that served %s is gone; starting another", self._config.mount_point)
        self._start()
        return True

    def _mount_anew(self) -> None:
        logger.error("mounting %s anew; files that are open in it are lost", self._config.mount_point)
        self._reap()
        mounting.let_go(self._config.mount_point, self._device_fd)
        os.close(self._device_fd)
        os.close(self._state_fd)
        systemd.forget_descriptors()
        self._device_fd, self._state_fd = _mount(self._config)
        self._start()

    def _reap(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._child is not None:
            self._child.wait()
            self._child = None

    def _look_after(self) -> None:
        """Ask whether the server lives, and kill one that hangs."""
        now = time.monotonic()
        since, allowed_s = self._heard_at, self._config.hung_s
        if self._ending_since:
            since, allowed_s = self._ending_since, _END_S
        if now - since > allowed_s:
            logger.error("the process that serves %s does not answer", self._config.mount_point)
            self._kill()
        elif now - self._asked_at >= self._ask_s:
            self._asked_at = now
            self._say(ASK)

    def _say(self, word: bytes) -> None:
        try:
            if self._server is not None:
                self._server.send(word)
        except OSError as exc:
            logger.debug("the serving process does not listen: %s", exc)

    def _kill(self) -> None:
        try:
            os.kill(self._server_pid, signal.SIGKILL)
        except ProcessLookupError:
            logger.debug("it was gone already")

    def _signalled(self, numbers: bytes) -> None:
        if any(number in numbers for number in _ENDING):
            self._ending_since = self._ending_since or time.monotonic()
            self._say(END)
        elif signal.SIGUSR1 in numbers:
            # There is no gentler way that would not be the same: whatever serves can be killed at any time.
            logger.info("starting the serving process anew")
            self._kill()

    def _finish(self, status: int) -> int:
        self._reap()
        if status:
            mounting.let_go(self._config.mount_point, self._device_fd)
        systemd.forget_descriptors()
        return status


def hold(config: MountConfig, kept: tuple[int, int] | None, on_ready: Callable[[], None]) -> int:
    """Mount, or go on with what systemd kept, and hold it; return the exit status.

    Raises
    ------
    PantryError
        It could not be mounted.
    """
    if kept is None:
        device_fd, state_fd = _mount(config)
    else:
        logger.info("going on with what systemd kept of %s", config.mount_point)
        device_fd, state_fd = kept
    return Holder(config, device_fd, state_fd, on_ready).run()


def _mount(config: MountConfig) -> tuple[int, int]:
    device_fd = mounting.mount(config.mount_point, config.mount_options(mounting.FILE_SYSTEM_NAME))
    state_fd = os.memfd_create("pantry-mount")
    systemd.keep_descriptors(device_fd, state_fd)
    return device_fd, state_fd


def start_holder(config: MountConfig, device_fd: int, state_fd: int) -> socket.socket:
    """Start a holder for the process that calls this and serves; return the socket to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = (device_fd, state_fd, theirs.fileno())
    words = [*_program(), "--hold", ",".join(map(str, (*fds, os.getpid()))), *config.words()]
    subprocess.Popen(words, pass_fds=fds, start_new_session=True)
    theirs.close()
    return ours


def adopt(config: MountConfig, device_fd: int, state_fd: int, server_fd: int, server_pid: int) -> int:
    """Hold what a process serves that is there already; return the exit status."""
    server = socket.socket(fileno=server_fd)
    server.setblocking(False)
    return Holder(config, device_fd, state_fd, lambda: None).run(server, server_pid)


def _program() -> list[str]:
    return [sys.executable, "-m", "pantry.fusefs.main"]
