"""``pantry ingest-discovered``: what an archive's discovery service finds becomes datasets."""

from __future__ import annotations

from collections import Counter

import click

from pantry.client.cli.arguments import repository_argument, run_option
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, printable
from pantry.client.cli.progress import steps_bar
from pantry.client.cli.services import ask_by_words
from pantry.client.cli.session import butler, daemon

_MOST_REASONS = 10


@click.command("ingest-discovered", cls=Command)
@repository_argument
@click.argument("mapping", metavar="MAPPING.YAML", type=click.Path(exists=True, dir_okay=False))
@click.argument("query")
@click.argument("values", metavar="[NAME=VALUE]...", nargs=-1)
@run_option
@json_option
@click.pass_context
def ingest_discovered(
    ctx: click.Context, repository: str, mapping: str, query: str, values: tuple[str, ...], run: str, as_json: bool
) -> None:
    """Ask the configured QUERY of an archive, and register the files that it finds.

    Its rows are of ObsCore or SIA 2; MAPPING.YAML says which columns are which dimension values. The files stay in
    the archive, and are read through the cache. Asked again, it registers what is new. The exit code is 1 if rows were
    refused, each with the reason.

    For example:
      pantry ingest-discovered demo archive.yaml images region=53.1,-28.1,0.5 --run archive/images
    """
    from pantry.client.queries.service import QueryService

    rows = ask_by_words(QueryService("", connection=daemon(ctx)), query, values)
    with steps_bar() as progress:
        done = butler(ctx, repository).ingest_discovered(rows, mapping, run=run, progress=progress)
    if as_json:
        print_json(done)
    note(f"{len(done.ids)} datasets registered in {run}, {done.present} were there, {len(done.refused)} refused")
    if done.without_region:
        note(f"{done.without_region} of the records have no region: the archive did not say where they are")
    for reason, count in Counter(done.refused.values()).most_common(_MOST_REASONS):
        example = next(did for did, said in done.refused.items() if said == reason)
        note(printable(f"refused {count}, as {example}: {reason}"))
    if done.refused:
        ctx.exit(1)
