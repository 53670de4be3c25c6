"""``pantryd``: the daemon's command line, and its life from start to clean end."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence

import trio

import pantry
from pantry.daemon.config import DaemonConfig, load_config
from pantry.daemon.handlers import make_dispatcher
from pantry.daemon.node import Node, running_node
from pantry.daemon.publishing.target import publish_targets
from pantry.daemon.server.connection import Connection
from pantry.daemon.server.identity import Identity
from pantry.daemon.server.listener import Listener
from pantry.errors import PantryError

log = logging.getLogger(__name__)

IDLE_CHECK_S = 1.0
GARBAGE_THRESHOLDS = (10_000, 20, 50)
"""For `gc.set_threshold`. A request of 5,000 items makes tens of thousands of objects, none of which is garbage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; the exit status is 0 after a clean end, 1 if it could not start."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(
            options.config,
            mode="system" if options.system else "",
            socket=options.socket,
            state=options.state,
            cache=options.cache,
            on_demand=options.on_demand,
        )
        publish_targets(config)
        if options.check:
            print(f"{config.source or 'built-in defaults'}: in order")  # noqa: T201 - the command's answer
            return 0
        logging.basicConfig(
            level=config.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        # botocore's debug log shows requests with their signatures.
        for noisy in ("botocore", "boto3", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        _raise_open_files()
        _spare_collections()
        trio.run(_serve, config, options.ready_fd)
    except PantryError as exc:
        print(f"pantryd: error: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    except BaseExceptionGroup as group:
        expected, rest = group.split(PantryError)
        if rest is not None or expected is None:
            raise
        print(f"pantryd: error: {_first(expected)}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _first(group: BaseExceptionGroup[PantryError]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pantryd", description="The Pantry daemon: one per user, or one per node.")
    parser.add_argument("--config", default="", metavar="FILE", help="configuration file (YAML)")
    parser.add_argument("--system", action="store_true", help="serve all users of this node")
    parser.add_argument("--socket", default="", metavar="PATH", help="Unix socket to listen on")
    parser.add_argument("--state", default="", metavar="DIR", help="directory of the journal and the site index")
    parser.add_argument("--cache", default="", metavar="DIR", help="directory of the cache")
    parser.add_argument("--on-demand", action="store_true", help="leave when nobody has been connected for a while")
    parser.add_argument("--ready-fd", type=int, default=-1, metavar="N", help="write 'ready' to this descriptor")
    parser.add_argument("--check", action="store_true", help="check the configuration and leave")
    parser.add_argument("--version", action="version", version=f"pantryd {pantry.__version__}")
    return parser


def _raise_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _spare_collections() -> None:
    """Let the garbage collector look at what requests make, not again and again at all modules: 40 ms each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


async def _serve(config: DaemonConfig, ready_fd: int) -> None:
    async with running_node(config) as node:
        listener = Listener(config.socket, for_everybody=config.mode == "system")
        try:
            async with trio.open_nursery() as nursery:
                await _run(node, listener, nursery, ready_fd)
        finally:
            listener.close()
    log.info("ended")


async def _run(node: Node, listener: Listener, nursery: trio.Nursery, ready_fd: int) -> None:
    config = node.config
    dispatcher = make_dispatcher(node)

    def make(sock: trio.socket.SocketType, peer: Identity) -> Connection:
        return Connection(
            sock,
            peer,
            may_ask_for_others=node.may_ask_for_others(peer),
            own_uid=node.own_uid,
            dispatcher=dispatcher,
            limits=node.limits,
        )

    async with trio.open_nursery() as accepting:

        async def accept() -> None:
            await listener.accept_forever(nursery, limits=node.limits, make=make)

        accepting.start_soon(accept)
        if config.idle_exit_s:
            accepting.start_soon(_leave_when_idle, node, accepting.cancel_scope)
        log.info("pantryd %s serves %s (%s mode)", pantry.__version__, config.socket, config.mode)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            if ready_fd >= 0:
                os.write(ready_fd, b"ready\n")
                os.close(ready_fd)
            _notify_systemd("READY=1")

            async def leave_on_signal() -> None:
                async for number in signals:
                    log.info("ending after %s", signal.Signals(number).name)
                    accepting.cancel_scope.cancel()
                    return

            accepting.start_soon(leave_on_signal)
            await trio.sleep_forever()
    # Nobody new comes in; whoever is here gets until the deadline.
    _notify_systemd("STOPPING=1")
    with trio.move_on_after(config.shutdown_s):
        await node.limits.wait_idle()
    nursery.cancel_scope.cancel()


async def _leave_when_idle(node: Node, scope: trio.CancelScope) -> None:
    idle_since = trio.current_time()
    while trio.current_time() - idle_since < node.config.idle_exit_s:
        await trio.sleep(min(IDLE_CHECK_S, node.config.idle_exit_s / 4))
        if node.limits.open_connections or node.publisher.is_sending:
            idle_since = trio.current_time()
    log.info("nobody was connected for %.0f s", node.config.idle_exit_s)
    scope.cancel()


def _notify_systemd(message: str) -> None:
    """Tell the service manager, if one asked to be told (sd_notify(3))."""
    import socket

    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(message.encode(), "\0" + path[1:] if path.startswith("@") else path)


if __name__ == "__main__":
    sys.exit(main())
