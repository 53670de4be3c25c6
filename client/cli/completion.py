"""Completion: the scripts for shells, and the names that the daemon knows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from pantry.client.cli.lazy import Command

if TYPE_CHECKING:
    from pantry.client.connection import Connection
    from pantry.client.introspection.asking import Introspection

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

    from pantry.client.cli.bash import register
    from pantry.client.cli.main import cli

    register()
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


def element_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of what has dimension records."""
    return [name for name in _introspect(ctx, lambda known: known.elements()) if name.startswith(incomplete)]


def dimension_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a dimension."""
    return [name for name in _introspect(ctx, lambda known: known.dimensions()) if name.startswith(incomplete)]


def order_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a name to order by, after the last comma."""
    before, comma, last = incomplete.rpartition(",")
    sign = "-" if last.startswith("-") else ""
    found = _introspect(ctx, lambda known: known.names(last.removeprefix("-"), _about(ctx)))
    return [before + comma + sign + name for name in found]


def data_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete ``name=value`` of a data id."""
    name, equals, begun = incomplete.partition("=")
    if not equals:
        found = _introspect(ctx, lambda known: known.dimensions_of(_about(ctx)))
        return [f"{one}=" for one in found if one.startswith(incomplete)]
    values = _introspect(ctx, lambda known: list(map(str, known.values(name, begun))))
    return [f"{name}={value}" for value in values if value.startswith(begun) and _UNQUOTED.fullmatch(value)]


def expressions(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a query expression; candidates are whole, as a shell replaces the whole word.

    A shell closes its quotes behind the only candidate, which is seldom the end of an expression: so behind a
    name that is complete come the operators.
    """

    def ask(known: Introspection) -> list[str]:
        found = known.expression(incomplete, None, _about(ctx))
        texts = [incomplete[: found.start] + text for text in found.candidates]
        if len(texts) == 1 and texts[0].endswith(("'", " ")) is False:
            after = known.expression(texts[0] + " ", None, _about(ctx))
            texts = [texts[0] + " " + text for text in after.candidates] or texts
        return texts

    # Values are anybody's text, and stand within the user's double quotes: nothing that a shell would act on.
    return [text for text in _introspect(ctx, ask) if text.isprintable() and not _ACTIVE & set(text[len(incomplete) :])]


_ACTIVE = frozenset('$`"\\!')
_UNQUOTED = re.compile(r"[\w.,:@%+/-]+", re.ASCII)


def _about(ctx: click.Context) -> list[str]:
    """Dataset types or dimensions that were given; see `_repository`."""
    given = ctx.params.get("dataset_types") or ctx.params.get("dataset_type") or ctx.params.get("dimensions")
    if not given:
        return list(ctx.args[0 if ctx.params.get("repository") else 1 :])
    return [given] if isinstance(given, str) else list(given)


def _introspect(ctx: click.Context, ask: Callable[[Introspection], list[str]]) -> list[str]:
    from pantry.client.introspection.asking import Introspection

    repository = _repository(ctx)
    if not repository:
        return []
    known = Introspection(_connection(ctx), repository)
    try:
        return ask(known)
    finally:
        known.close()


def _connection(ctx: click.Context) -> Connection:
    """Return a connection to a daemon that runs, or to the bundle that was given."""
    from pantry.client.connection import connect

    repository = _repository(ctx)
    if "/" in repository:
        from pantry.client.bundles import BundleConnection

        return BundleConnection(repository)
    return connect(ctx.find_root().params.get("socket"), start=False, timeout_s=_TIMEOUT_S)


def _repository(ctx: click.Context) -> str:
    # While the value of an option is completed, click leaves the arguments before it unparsed.
    return ctx.params.get("repository") or next(iter(ctx.args), "")


def _ask(ctx: click.Context, incomplete: str, names: Callable[[Connection, str], Iterable[str]]) -> list[str]:
    """Ask a daemon that runs; none is started, and silence is the answer to every failure."""
    from pantry.errors import PantryError

    try:
        with _connection(ctx) as daemon:
            return [name for name in names(daemon, _repository(ctx)) if name.startswith(incomplete)]
    except (PantryError, OSError):
        return []


def efd_topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a topic of the engineering facility database."""
    from pantry.client.efd.facility import Efd

    return _ask(ctx, incomplete, lambda daemon, _: Efd(daemon).topics(service=ctx.params.get("service") or ""))


def efd_fields(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of a field of the topic that was given."""
    from pantry.client.efd.facility import Efd

    topic = ctx.params.get("topic") or next(iter(ctx.args), "")
    return _ask(ctx, incomplete, lambda daemon, _: Efd(daemon).fields(topic, service=ctx.params.get("service") or ""))
