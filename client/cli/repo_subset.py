"""``pantry repo subset``."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from pantry.client.cli.arguments import reader_option, registry_option, repository_argument, writer_option
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, size
from pantry.client.cli.progress import steps_bar
from pantry.client.cli.selection import Selection, selection_options
from pantry.client.cli.session import butler
from pantry.errors import NotFoundError


@click.command(cls=Command)
@repository_argument
@click.argument("name")
@click.argument("root")
@selection_options
@click.option(
    "--copy", is_flag=True, help="Copy the files. This or --view is needed, so that nobody copies by mistake."
)
@click.option("--view", is_flag=True, help="Leave the files where they are, and read them from there.")
@click.option(
    "--transfer",
    type=click.Choice(["auto", "hardlink", "copy"]),
    default="auto",
    show_default=True,
    help="With --copy: how files get there; auto is safe.",
)
@registry_option
@reader_option
@writer_option
@json_option
@click.pass_context
def subset(
    ctx: click.Context,
    repository: str,
    name: str,
    root: str,
    collections: tuple[str, ...],
    selection: Selection,
    copy: bool,
    view: bool,
    transfer: Any,
    registry: str,
    reader: tuple[str, ...],
    writer: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a repository called NAME in ROOT with a copy, or a view, of what a query finds, or of a graph.

    ROOT is a directory or s3://bucket/prefix. Records, dataset types, provenance and the collections of -c come along.
    Run again after an interruption, the command goes on; until it is done nobody can read the new repository.

    With --view ROOT gets no file but those that are put into NAME later. Who reads a view must be allowed to read the
    source too. Removing the view leaves the source's files alone.

    For example:
      pantry repo subset demo mini /data/mini raw bias -c LSSTCam/defaults --where "exposure IN (12, 13)" --copy
      pantry repo subset demo mini s3://bucket/mini --graph graph.json -c LSSTCam/defaults --copy
      pantry repo subset demo night /data/night raw -c LSSTCam/raw/all --where "day_obs = 20250415" --view
    """
    if copy == view:
        raise click.UsageError("Say either --copy or --view.")
    if view and ctx.get_parameter_source("transfer") is not ParameterSource.DEFAULT:
        raise click.UsageError("--transfer is for --copy: with --view nothing is transferred.")
    source = butler(ctx, repository, collections)
    refs, outputs = selection.find(source)
    if not refs:
        raise NotFoundError(
            "no datasets match, and no subset was made", hint="`pantry query-datasets` shows what there is"
        )
    make = source.create_view if view else partial(source.subset, transfer=transfer)
    with steps_bar() as draw:
        done = make(
            refs, name, root, data_ids=outputs, registry=registry, readers=reader, writers=writer, progress=draw
        )
    if as_json:
        print_json(done)
        return
    how = "registered in" if view else "copied to"
    note(
        f"{done.datasets} datasets, {size(done.size_bytes)}, and {done.quanta} quanta {how} {done.repository} in "
        f"{done.root}; {done.present} datasets were there already"
    )
