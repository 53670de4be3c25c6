"""``pantry stage``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pantry.client.cli.arguments import (
    repository_argument,
)
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, size
from pantry.client.cli.progress import transfer_bar
from pantry.client.cli.selection import Selection, selection_options
from pantry.client.cli.session import butler

if TYPE_CHECKING:
    from pantry.client.bundles import Bundled
    from pantry.client.staging import Staged

F = TypeVar("F", bound=Callable[..., Any])


def transfer_option(command: F) -> F:
    """Add the option ``--transfer``."""
    return click.option(
        "--transfer",
        type=click.Choice(["auto", "hardlink", "reflink", "copy"]),
        default="auto",
        show_default=True,
        help="How files get there; auto takes what the file system can do, and is safe.",
    )(command)


@click.command(cls=Command)
@repository_argument
@click.argument("destination", type=click.Path(file_okay=False))
@selection_options
@transfer_option
@click.option("--overwrite", is_flag=True, help="Replace files that have other content.")
@json_option
@click.pass_context
def stage(
    ctx: click.Context,
    repository: str,
    destination: str,
    collections: tuple[str, ...],
    selection: Selection,
    transfer: Any,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Put the files of the datasets that a query finds, or that a graph has, into DESTINATION.

    They are called as in the mount. Each is compared with its hash. Files that are there already are left alone, so the
    command can be repeated after an interruption.

    For example:
      pantry stage demo /scratch/raws raw -c LSSTCam/raw/all -d exposure=12
      pantry stage demo /scratch/inputs --graph graph.json
    """
    source = butler(ctx, repository, collections)
    refs = selection.find(source).refs
    with transfer_bar("staging") as draw:
        done = source.stage(refs, destination, transfer=transfer, overwrite=overwrite, progress=draw)
    if as_json:
        print_json(
            {
                "files": [str(path) for path in done.paths],
                "size_bytes": done.size_bytes,
                "hardlinks": done.hardlinks,
                "reflinks": done.reflinks,
                "copies": done.copies,
                "present": done.present,
            }
        )
        return
    for path in done.paths:
        click.echo(path)
    note(f"{how(done)}; {size(done.size_bytes)} in {destination}")


def how(done: Staged | Bundled) -> str:
    """Say in words how files got to their place."""
    counts = {
        "hard links": done.hardlinks,
        "reflinks": done.reflinks,
        "copies": done.copies,
        "there already": done.present,
    }
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "no files"
