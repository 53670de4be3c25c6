"""Whatever a daemon says and leaves on its disk, to be searched for secrets."""

from __future__ import annotations

from collections.abc import Iterator

from click.testing import CliRunner
from tests.servers.pantryd import PantryDaemon

from pantry.client.cli.main import cli
from pantry.client.connection import connect
from pantry.wire.operations import GetBackends, GetConfiguration, GetMetrics


def everything_said(daemon: PantryDaemon, errors: list[BaseException]) -> Iterator[tuple[str, str]]:
    """Whatever the daemon writes and answers, and what is on its disk."""
    for error in errors:
        yield "error", f"{error!r} {error} {getattr(error, 'fields', '')}"
    with connect(daemon.socket) as connection:
        yield "metrics", connection.call(GetMetrics()).text
        yield "backends", repr(connection.call(GetBackends()))
        yield "configuration", repr(connection.call(GetConfiguration()))
    for words in (("status", "--json"), ("config", "dump", "--all"), ("cache", "ls"), ("repo", "list", "--json")):
        yield " ".join(words), CliRunner().invoke(cli, ["--socket", daemon.socket, *words]).output
    for path in [*daemon.directory.glob("*.log"), *daemon.state.rglob("*"), *daemon.cache.rglob("*")]:
        if path.is_file() and not path.is_symlink():
            yield str(path), path.read_bytes().decode("latin-1")
