"""``pantry bundle``: datasets taken to where there is no repository, and outputs brought back."""

from __future__ import annotations

from typing import Any

import click

from pantry.client.cli.arguments import comma_separated, repository_argument
from pantry.client.cli.completion import collection_names
from pantry.client.cli.lazy import Command, CommandGroup
from pantry.client.cli.output import json_option, note, print_fields, print_json, size
from pantry.client.cli.progress import steps_bar, transfer_bar
from pantry.client.cli.selection import Selection, selection_options
from pantry.client.cli.session import butler
from pantry.client.cli.stage import how, transfer_option
from pantry.errors import NotFoundError


@click.group(cls=CommandGroup)
def bundle() -> None:
    """Take datasets to where there is no daemon and no network, and bring outputs back.

    A bundle is a directory. Every command that takes the name of a repository also takes the path of a bundle, with a
    slash in it.

    For example:
      pantry bundle create demo /scratch/job12 raw -c LSSTCam/raw/all -d exposure=12 --run u/you/job12
      pantry get /scratch/job12 raw exposure=12 detector=3
      pantry bundle harvest /scratch/job12 demo
    """


@bundle.command(cls=Command)
@repository_argument
@click.argument("directory", type=click.Path(file_okay=False))
@selection_options
@click.option(
    "--run", metavar="NAME", shell_complete=collection_names, help="RUN collection that outputs go to by default."
)
@transfer_option
@json_option
@click.pass_context
def create(
    ctx: click.Context,
    repository: str,
    directory: str,
    collections: tuple[str, ...],
    selection: Selection,
    run: str | None,
    transfer: Any,
    as_json: bool,
) -> None:
    """Make a bundle in DIRECTORY of the datasets that a query finds, or that a graph has.

    The collections of -c are those that the bundle is searched in; a graph also says the data ids of outputs. Run
    again, the command makes only what is missing or damaged.

    For example:
      pantry bundle create demo /scratch/job12 raw bias -c LSSTCam/defaults -d exposure=12 --run u/you/job12
      pantry bundle create demo /scratch/job12 --graph graph.json -c LSSTCam/defaults --run u/you/job12
    """
    source = butler(ctx, repository, collections)
    refs, outputs = selection.find(source)
    if not refs and selection.graph is None:
        raise NotFoundError(
            "no datasets match, and no bundle was made", hint="`pantry query-datasets` shows what there is"
        )
    with transfer_bar("bundling") as draw:
        done = source.create_bundle(
            refs,
            directory,
            collections=comma_separated(collections),
            run=run,
            data_ids=outputs,
            transfer=transfer,
            progress=draw,
        )
    if as_json:
        print_json(done)
        return
    note(f"{how(done)}; {size(done.size_bytes)} and {done.dimension_records} dimension records in {directory}")


@bundle.command(cls=Command)
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@repository_argument
@click.option(
    "--transfer",
    type=click.Choice(["copy", "move", "link", "hardlink", "symlink"]),
    default="copy",
    show_default=True,
    help="How files are taken over, as by `pantry ingest`.",
)
@json_option
@click.pass_context
def harvest(ctx: click.Context, directory: str, repository: str, transfer: Any, as_json: bool) -> None:
    """Take the outputs of the bundle in DIRECTORY into REPOSITORY, with their ids and provenance.

    Each is compared with the hash that it was put with. Run again, the command passes over what is there.

    For example:
      pantry bundle harvest /scratch/job12 demo
    """
    target = butler(ctx, repository)
    with steps_bar() as draw:
        done = target.harvest(directory, transfer=transfer, progress=draw)
    if as_json:
        print_json(done)
        return
    note(
        f"{done.datasets} datasets, {size(done.size_bytes)}, and {done.quanta} quanta into {repository}; "
        f"{done.present} were there already"
    )


@bundle.command(cls=Command)
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@json_option
def verify(directory: str, as_json: bool) -> None:
    """Read all files of the bundle in DIRECTORY and compare their hashes; fails if any is missing or damaged.

    For example:
      pantry bundle verify /scratch/job12
    """
    from pantry.client.bundles import verify_bundle

    with transfer_bar("verifying") as draw:
        found = verify_bundle(directory, progress=draw)
    if as_json:
        print_json(found)
    else:
        print_fields(
            {
                "inputs": found.inputs,
                "outputs": found.outputs,
                "size": size(found.size_bytes),
                "missing": len(found.missing),
                "damaged": len(found.damaged),
            }
        )
        for word, paths in (("missing", found.missing), ("damaged", found.damaged)):
            for path in paths:
                note(f"{word}: {path}")
    if found.missing or found.damaged:
        click.get_current_context().exit(1)
