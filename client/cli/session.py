"""How a command gets at the daemon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from pantry.client.cli.arguments import comma_separated

if TYPE_CHECKING:
    from pantry.client.butler import Butler
    from pantry.client.connection import Connection


def daemon(ctx: click.Context, *, start: bool = True) -> Connection:
    """Return the connection to the daemon; closed when the command ends."""
    from pantry.client.connection import connect

    return ctx.with_resource(connect(ctx.obj, start=start))


def butler(ctx: click.Context, repository: str, collections: Iterable[str] = (), *, run: str | None = None) -> Butler:
    """Return a Butler of a repository; closed when the command ends."""
    from pantry.client.butler import Butler

    searched = comma_separated(collections)
    return ctx.with_resource(Butler(repository, collections=searched or None, run=run, socket=ctx.obj))
