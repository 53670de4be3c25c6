"""The mount program: ``python -m pantry.fusefs.main [options] MOUNTPOINT``.

In the foreground it holds the mount until it gets SIGTERM or SIGINT, or until somebody unmounts it; another process,
that it starts, serves it. With ``--background`` it starts itself anew, detached, and returns when the mount answers.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from pantry.errors import PantryError
from pantry.fusefs import holding, mounting, systemd
from pantry.fusefs.config import MountConfig

logger = logging.getLogger("pantry.fusefs")


def run_mount(config: MountConfig, *, ready_fd: int = -1) -> int:
    """Mount and hold until unmounted or told to end; the mount is gone when this returns.

    Parameters
    ----------
    config : MountConfig
        How.
    ready_fd : int
        Descriptor to write ``ready`` to when the mount answers; -1 for none.

    Raises
    ------
    PantryError
        It could not be mounted.
    """

    def say_ready() -> None:
        if ready_fd >= 0:
            with suppress(OSError):
                os.write(ready_fd, b"ready\n")
            os.close(ready_fd)
        systemd.notify("READY=1")

    kept = systemd.kept_descriptors()
    if kept is not None and not mounting.is_alive(kept[0]):
        systemd.forget_descriptors()
        kept = None
    if kept is None:
        config = replace(config, mount_point=mounting.prepare(config.mount_point))
        if not mounting.is_empty(config.mount_point):
            logger.warning("%s is not empty; what is in it is hidden while mounted", config.mount_point)
    else:
        config = replace(config, mount_point=mounting.resolve(config.mount_point))
    return holding.hold(config, kept, say_ready)


def _start_in_background(arguments: Sequence[str], log_file: str) -> int:
    """Start this program detached; return when it is ready or has failed."""
    log_file = log_file or _default_log_file()
    ready, ready_for_child = os.pipe()
    command = [sys.executable, "-m", "pantry.fusefs.main", "--ready-fd", str(ready_for_child), *arguments]
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
        "--patience", type=float, default=5.0, metavar="SECONDS",
        help="wait for so long for a daemon that has gone [%(default)g]",
    )  # fmt: skip
    parser.add_argument(
        "--hung-after", type=float, default=30.0, metavar="SECONDS",
        help="replace the serving process when it does not answer for so long [%(default)g]",
    )  # fmt: skip
    parser.add_argument(
        "--no-passthrough", action="store_true", help="do not let the kernel read complete files by itself"
    )
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
    # How the processes of one mount start each other.
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    parser.add_argument("--hold", default="", help=argparse.SUPPRESS)
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
        return _run(options)
    except PantryError as exc:
        sys.stderr.write(f"pantry mount: {exc}\n")
        return 1


def _run(options: argparse.Namespace) -> int:
    config = MountConfig(
        mount_point=options.mount_point,
        socket_path=options.socket,
        allow_other=options.allow_other,
        repositories=tuple(options.repository),
        deadline_s=options.deadline,
        collections_ttl_s=options.collections_ttl,
        patience_s=options.patience,
        hung_s=options.hung_after,
        read_ahead_kib=options.read_ahead,
        passthrough=not options.no_passthrough,
    )
    if options.serve:
        from pantry.fusefs.serving import serve_mount

        serve_mount(config, *_numbers(options.serve))
        return 0
    if options.hold:
        return holding.adopt(config, *_numbers(options.hold))
    return run_mount(config, ready_fd=options.ready_fd)


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


if __name__ == "__main__":
    sys.exit(main())
