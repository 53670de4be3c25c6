"""``pantry register-instrument``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note
from pantry.client.cli.session import butler


@click.command("register-instrument", cls=Command)
@repository_argument
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.pass_context
def register_instrument(ctx: click.Context, repository: str, files: tuple[str, ...]) -> None:
    """Add instruments that text FILES define: detectors, filters, and how headers are translated.

    Raws of them are then ingested and read as those of the instruments that Pantry knows by itself. Doing it
    again, with a changed file, changes how headers are translated from then on.

    For example:
      pantry register-instrument demo democam.yaml
    """
    target = butler(ctx, repository)
    for file in files:
        is_new = target.register_instrument(file)
        note(f"{file}: {'registered' if is_new else 'was registered already'}")
