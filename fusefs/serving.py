"""The process that answers the kernel's requests, for as long as it lives; see `pantry.fusefs.holding` for longer."""

from __future__ import annotations

import logging
import os
import signal
import socket

import trio

from pantry.errors import ConfigError
from pantry.fusefs import mounting
from pantry.fusefs.caching import CachingShares
from pantry.fusefs.callers import Callers
from pantry.fusefs.config import MountConfig
from pantry.fusefs.holding import ALIVE, ANEW, ASK, END, READY, start_holder
from pantry.fusefs.kept import Kept
from pantry.fusefs.kernel.device import Device
from pantry.fusefs.kernel.messages import Capability
from pantry.fusefs.kernel.session import Session
from pantry.fusefs.link import DaemonLink
from pantry.fusefs.modes import OpenModes
from pantry.fusefs.operations import PantryOperations
from pantry.fusefs.reading import Files
from pantry.fusefs.self_test import PassthroughTest
from pantry.fusefs.slots import Slots
from pantry.fusefs.statistics import Statistics
from pantry.fusefs.tree import Tree
from pantry.wire.paths import find_socket, user_socket

logger = logging.getLogger(__name__)

_GRACE_S = 2.0
"""How long requests under way may go on after SIGTERM."""
_DEADLINE_MARGIN_S = 0.5
"""What waits for the daemon has the deadline itself, and knows better what to say when it comes."""


def serve_mount(config: MountConfig, device_fd: int, state_fd: int, holder_fd: int) -> None:
    """Serve a mount until it is unmounted or told to end; then it is unmounted.

    Parameters
    ----------
    config : MountConfig
        How it was mounted.
    device_fd, state_fd : int
        Of the kernel's end, and of the memory where the state is kept.
    holder_fd : int
        Socket of the process that holds them too.

    Raises
    ------
    PantryError
        It cannot be served.
    """
    holder = socket.socket(fileno=holder_fd)
    holder.setblocking(False)
    slots = _take_over(state_fd)
    if slots is None:
        holder.send(ANEW)
        return
    device = Device(device_fd)
    serving = _Serving(config, device, slots, holder)
    # Whatever is raised here ends this process and not the mount: another one goes on.
    trio.run(serving.run)
    mounting.let_go(config.mount_point, device.fd)
    logger.info("unmounted %s", config.mount_point)
    serving.say(END)


def _take_over(state_fd: int) -> Slots | None:
    """Return what an earlier process left, or nothing for a new mount; None if no process can go on with it."""
    try:
        slots = Slots(state_fd)
    except ConfigError as exc:
        logger.error("%s", exc.message)
        return None
    minor, capabilities = slots.agreement
    if minor and Capability.HAS_RESEND not in Capability(capabilities):
        logger.error("requests that were under way are lost: this kernel (before Linux 6.9) does not repeat them")
        return None
    return slots


class _Serving:
    def __init__(self, config: MountConfig, device: Device, slots: Slots, holder: socket.socket) -> None:
        kept = Kept(slots)
        self._config = config
        self._device = device
        self._state_fd = slots.fd
        self._holder = holder
        socket_path, daemon_uid = _choose_socket(config.socket_path)
        self._link = DaemonLink(socket_path, daemon_uid=daemon_uid, patience_s=config.patience_s)
        tree = Tree(
            self._link,
            repositories=config.repositories,
            collections_ttl_s=config.collections_ttl_s,
            many_users=config.allow_other,
        )
        self._files = Files(self._link, deadline_s=config.deadline_s)
        self._shares = CachingShares(many_users=config.allow_other)
        self._modes = OpenModes(device if config.passthrough else None)
        self._test = PassthroughTest(device)
        self._operations = PantryOperations(
            tree,
            self._files,
            Callers(many_users=config.allow_other),
            Statistics(self._link),
            self._shares,
            kept,
            self._modes,
            self._test,
        )
        self._resumed = kept.agreement is not None
        self._session = Session(
            device,
            self._operations,
            deadline_s=config.deadline_s + _DEADLINE_MARGIN_S,
            agreement=kept.agreement,
            agreed=kept.agreed,
        )

    async def run(self) -> None:
        async with self._link.running(), self._files.running(), trio.open_nursery() as nursery:
            await nursery.start(self._end_on_signal, nursery.cancel_scope)
            nursery.start_soon(self._set_up)
            nursery.start_soon(self._stay_held)
            nursery.start_soon(self._operations.park_idle_directories)
            if self._resumed:
                self._device.resend()
            await self._session.serve()
            nursery.cancel_scope.cancel()

    def say(self, word: bytes) -> None:
        """Tell the holder, if there is one."""
        try:
            self._holder.send(word)
        except OSError as exc:
            logger.debug("the holder does not listen: %s", exc)

    async def _end_on_signal(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                logger.info("ending on %s", signal.Signals(number).name)
                self._session.stop()
                # Requests that wait for the daemon would keep it from returning.
                await trio.sleep(_GRACE_S)
                scope.cancel()

    async def _set_up(self) -> None:
        """Wait until the mount answers, set it up, and say so."""
        path = self._config.mount_point

        def set_up() -> tuple[str, str]:
            # Only after the kernel's INIT was answered, which resets the read-ahead.
            self._modes.enabled = self._config.passthrough and self._test.passes(path)
            return mounting.set_read_ahead(path, self._config.read_ahead_kib), mounting.raise_background(path)

        no_read_ahead, no_background = await trio.to_thread.run_sync(set_up, abandon_on_cancel=True)
        if no_read_ahead:
            logger.info("the kernel reads ahead less than it could: %s", no_read_ahead)
        if no_background:
            logger.info("files that are still fetched are read directly if there are many users: %s", no_background)
        else:
            self._shares.set_background(mounting.BACKGROUND_REQUESTS)
        logger.info("%s at %s", "going on" if self._resumed else "mounted", path)
        self.say(READY)

    async def _stay_held(self) -> None:
        """Answer the holder, and start another one should it be gone."""
        while True:
            await trio.lowlevel.wait_readable(self._holder)
            try:
                word = self._holder.recv(64)
            except BlockingIOError:
                continue
            except ConnectionError:
                word = b""
            if word == ASK:
                self.say(ALIVE)
            elif word == END:
                signal.raise_signal(signal.SIGTERM)
            elif not word:
                logger.warning("the process that holds the mount is gone; starting another")
                self._holder.close()
                self._holder = start_holder(self._config, self._device.fd, self._state_fd)
                self._holder.setblocking(False)


def _choose_socket(named: str) -> tuple[str, int | None]:
    """Return the socket, and who may listen there if others could have made it."""
    path = named or find_socket()[0]
    return path, os.getuid() if not named and path == user_socket() else None
