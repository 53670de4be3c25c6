"""The mount process: ``python -m pantry.fusefs.main [options] MOUNTPOINT``.

In the foreground it serves until it gets SIGTERM or SIGINT, or until somebody unmounts it. With ``--background``
it starts itself anew, detached, and returns when the mount answers.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio

from pantry.errors import ConfigError, PantryError
from pantry.fusefs import mounting
from pantry.fusefs.caching import CachingShares
from pantry.wire.paths import find_socket, user_socket

logger = logging.getLogger("pantry.fusefs")

_GRACE_S = 2.0
"""How long requests under way may go on after SIGTERM."""
_MOST_TASKS = 4096
"""Requests that may wait at once; each waiting one holds a task and a few KiB."""


@dataclass(frozen=True)
class MountConfig:
    """How to mount.

    Attributes
    ----------
    mount_point : str
        An existing directory.
    socket_path : str
        The daemon's socket; empty to look for it.
    allow_other : bool
        Serve all users of the node, each with their own rights.
    repositories : tuple of str
        Show only these; empty for all.
    deadline_s : float
        After so many seconds a request fails.
    collections_ttl_s : float
        For how long collections and permissions are believed.
    read_ahead_kib : int
        How far the kernel reads ahead, in KiB, where we may set it.
    ready_fd : int
        Descriptor to write ``ready`` to; -1 for none.
    """

    mount_point: str
    socket_path: str = ""
    allow_other: bool = False
    repositories: tuple[str, ...] = ()
    deadline_s: float = 300.0
    collections_ttl_s: float = 2.0
    read_ahead_kib: int = mounting.READ_AHEAD_KIB
    ready_fd: int = -1


def run_mount(config: MountConfig) -> None:
    """Mount and serve until unmounted or told to end; the mount is gone when this returns.

    Raises
    ------
    PantryError
        It could not be mounted.
    """
    # Imported here, so that wrong use is told without libfuse.
    import pyfuse3

    from pantry.fusefs.callers import Callers
    from pantry.fusefs.link import DaemonLink
    from pantry.fusefs.operations import PantryOperations
    from pantry.fusefs.reading import Files
    from pantry.fusefs.statistics import Statistics
    from pantry.fusefs.tree import Tree

    path = mounting.prepare(config.mount_point)
    if not mounting.is_empty(path):
        logger.warning("%s is not empty; what is in it is hidden while mounted", path)
    socket_path, daemon_uid = _choose_socket(config.socket_path)
    link = DaemonLink(socket_path, daemon_uid=daemon_uid)
    tree = Tree(
        link,
        repositories=config.repositories,
        collections_ttl_s=config.collections_ttl_s,
        many_users=config.allow_other,
    )
    files = Files(link, deadline_s=config.deadline_s)
    shares = CachingShares(many_users=config.allow_other)
    callers = Callers(many_users=config.allow_other)
    operations = PantryOperations(tree, files, callers, Statistics(link), shares, deadline_s=config.deadline_s)
    options = {
        "default_permissions", "ro", "nosuid", "nodev",
        f"fsname={mounting.FILE_SYSTEM_NAME}", f"subtype={mounting.FILE_SYSTEM_NAME}",
    }  # fmt: skip
    if config.allow_other:
        options.add("allow_other")
    try:
        pyfuse3.init(operations, path, options)
    except RuntimeError as exc:
        raise ConfigError(
            f"cannot mount at {path}: {exc}",
            hint="libfuse says why above; --allow-other needs user_allow_other in /etc/fuse.conf unless you are root",
        ) from exc

    async def serve() -> None:
        async with link.running(), files.running(), trio.open_nursery() as nursery:
            await nursery.start(_end_on_signal, nursery.cancel_scope)
            nursery.start_soon(_announce, config, path, shares)
            nursery.start_soon(operations.park_idle_directories)
            await pyfuse3.main(min_tasks=8, max_tasks=_MOST_TASKS)
            nursery.cancel_scope.cancel()

    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)
        logger.info("unmounted %s", path)


async def _end_on_signal(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
    import pyfuse3

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            logger.info("ending on %s", signal.Signals(number).name)
            pyfuse3.terminate()
            # Requests that wait for the daemon would keep the main loop from returning.
            await trio.sleep(_GRACE_S)
            scope.cancel()


async def _announce(config: MountConfig, path: str, shares: CachingShares) -> None:
    """Wait until the mount answers, set it up, and say so to whoever waits."""

    def set_up() -> tuple[str, str]:
        # Only after the kernel's INIT was answered, which resets the read-ahead.
        return mounting.set_read_ahead(path, config.read_ahead_kib), mounting.raise_background(path)

    no_read_ahead, no_background = await trio.to_thread.run_sync(set_up, abandon_on_cancel=True)
    if no_read_ahead:
        logger.info("the kernel reads ahead less than it could: %s", no_read_ahead)
    if no_background:
        logger.info("files that are still fetched are read directly if there are many users: %s", no_background)
    else:
        shares.set_background(mounting.BACKGROUND_REQUESTS)
    logger.info("mounted at %s", path)
    if config.ready_fd >= 0:
        with suppress(OSError):
            os.write(config.ready_fd, b"ready\n")
        os.close(config.ready_fd)
    _notify_systemd("READY=1")


def _notify_systemd(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode(), address)


def _choose_socket(named: str) -> tuple[str, int | None]:
    """Return the socket, and who may listen there if others could have made it."""
    path = named or find_socket()[0]
    return path, os.getuid() if not named and path == user_socket() else None


def _start_in_background(arguments: Sequence[str], log_file: str) -> int:
    """Start this program detached; return when it is ready or has failed."""
    log_file = log_file or _default_log_file()
    ready, ready_for_child = os.pipe()
    command = [sys.executable, "-m", "pantry.fusefs.main", *arguments, "--ready-fd", str(ready_for_child)]
    with open(ready, "rb") as answers, open(log_file, "ab") as log:
        begin = log.tell()
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[ready_for_child],
        )
        os.close(ready_for_child)
        if answers.readline() == b"ready\n":
            child.returncode = 0  # it goes on without us, and is nobody's zombie: init takes it over
            return 0
    code = child.wait()
    with open(log_file, "rb") as log_again:
        log_again.seek(begin)
        sys.stderr.write(log_again.read().decode(errors="replace"))
    return code or 1


def _default_log_file() -> str:
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    directory = os.path.join(base, "pantry")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    return os.path.join(directory, "mount.log")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pantry-mount", description="Mount the repositories of a Pantry daemon, read-only."
    )
    parser.add_argument("mount_point", metavar="MOUNTPOINT", help="an existing directory")
    parser.add_argument("--socket", default="", metavar="PATH", help="the daemon's socket; looked for if not given")
    parser.add_argument(
        "--allow-other", action="store_true", help="serve all users of this node, each with their own rights"
    )
    parser.add_argument(
        "--repository", action="append", default=[], metavar="NAME", help="show only this one; may be repeated"
    )
    parser.add_argument(
        "--deadline", type=float, default=300.0, metavar="SECONDS", help="fail a request after this time [%(default)g]"
    )
    parser.add_argument(
        "--collections-ttl", type=float, default=2.0, metavar="SECONDS",
        help="believe collections and permissions for this time [%(default)g]",
    )  # fmt: skip
    parser.add_argument(
        "--read-ahead", type=int, default=mounting.READ_AHEAD_KIB, metavar="KIB",
        help="how far the kernel reads ahead, where permitted [%(default)d]",
    )  # fmt: skip
    parser.add_argument(
        "--ready-fd", type=int, default=-1, metavar="FD", help="write 'ready' to this descriptor when mounted"
    )
    parser.add_argument("--background", action="store_true", help="return when mounted, and go on in the background")
    parser.add_argument(
        "--log-file",
        default="",
        metavar="PATH",
        help="append the log here, not to standard error (with --background: ~/.local/state/pantry/mount.log)",
    )
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument("--unmount", action="store_true", help="unmount MOUNTPOINT")
    parser.add_argument("--lazy", action="store_true", help="with --unmount: also when it is in use")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.unmount:
            mounting.unmount(options.mount_point, lazy=options.lazy)
            return 0
        if options.background:
            return _start_in_background([word for word in given if word != "--background"], options.log_file)
        logging.basicConfig(
            filename=options.log_file or None,
            level=logging.DEBUG if options.verbose else logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        run_mount(
            MountConfig(
                mount_point=options.mount_point,
                socket_path=options.socket,
                allow_other=options.allow_other,
                repositories=tuple(options.repository),
                deadline_s=options.deadline,
                collections_ttl_s=options.collections_ttl,
                read_ahead_kib=options.read_ahead,
                ready_fd=options.ready_fd,
            )
        )
    except PantryError as exc:
        sys.stderr.write(f"pantry mount: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
