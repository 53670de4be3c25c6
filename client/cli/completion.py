"""Completion: the scripts for shells, and the names that the daemon knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from pantry.client.cli.lazy import Command

if TYPE_CHECKING:
    from pantry.client.connection import Connection

_TIMEOUT_S = 0.5
"""Who presses Tab waits no longer, in seconds."""


@click.command(cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For example, for bash:
      echo 'eval "$(pantry completion bash)"' >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    from pantry.client.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(found(cli, {}, "pantry", "_PANTRY_COMPLETE").source())


def repository_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a repository."""
    from pantry.wire.operations import ListRepositories

    return _ask(
        ctx,
        incomplete,
        lambda daemon, _: [one.name for one in daemon.call(ListRepositories()).repositories],
    )


def collection_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a collection of the repository that was given, after the last comma."""
    from pantry.wire.operations import QueryCollections

    before, comma, last = incomplete.rpartition(",")
    found = _ask(
        ctx,
        last,
        lambda daemon, name: [one.name for one in daemon.call(QueryCollections(repository=name)).collections],
    )
    return [before + comma + one for one in found]


def dataset_type_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a dataset type of the repository that was given."""
    from pantry.wire.operations import ListDatasetTypes

    return _ask(
        ctx,
        incomplete,
        lambda daemon, name: [one.name for one in daemon.call(ListDatasetTypes(repository=name)).dataset_types],
    )


def _repository(ctx: click.Context) -> str:
    # While the value of an option is completed, click leaves the arguments before it unparsed.
    return ctx.params.get("repository") or next(iter(ctx.args), "")


def _ask(ctx: click.Context, incomplete: str, names: Callable[[Connection, str], Iterable[str]]) -> list[str]:
    """Ask a daemon that runs; none is started, and silence is the answer to every failure."""
    from pantry.client.connection import connect
    from pantry.errors import PantryError

    parameters: dict[str, Any] = ctx.find_root().params
    try:
        with connect(parameters.get("socket"), start=False, timeout_s=_TIMEOUT_S) as daemon:
            return [name for name in names(daemon, _repository(ctx)) if name.startswith(incomplete)]
    except (PantryError, OSError):
        return []
