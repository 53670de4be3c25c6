"""``pantry repo import``: exports of the Gen3 Butler."""

from __future__ import annotations

from typing import get_args

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_fields, print_json
from pantry.client.cli.progress import steps_bar
from pantry.client.cli.session import butler
from pantry.wire.operations.data import Transfer


@click.command("import", cls=Command)
@repository_argument
@click.argument("export", metavar="EXPORT.YAML")
@click.option("--directory", metavar="DIR", help="Where its files are; by default the directory of the export.")
@click.option(
    "--transfer",
    type=click.Choice(get_args(Transfer)),
    default="copy",
    show_default=True,
    help="How files are taken over.",
)
@click.option(
    "--skip-dimensions", "-s", multiple=True, metavar="ELEMENT", help="Pass over its records; may be repeated."
)
@click.option("--without-datastore", is_flag=True, help="Register the datasets and take over no files.")
@click.option("--allow-missing", is_flag=True, help="Register datasets whose files are missing without them.")
@click.option(
    "--storage-class",
    multiple=True,
    metavar="THEIRS=OURS",
    help="Read a storage class of Gen3 as one of ours; may be repeated.",
)
@json_option
@click.pass_context
def import_export(
    ctx: click.Context,
    repository: str,
    export: str,
    directory: str | None,
    transfer: Transfer,
    skip_dimensions: tuple[str, ...],
    without_datastore: bool,
    allow_missing: bool,
    storage_class: tuple[str, ...],
    as_json: bool,
) -> None:
    """Import what the Gen3 Butler exported into a repository.

    Dimension records, dataset types, collections, and datasets with their ids and files. Asked again, it passes
    over what is there; what contradicts it is an error.

    For example:
      pantry repo import demo /exports/night/export.yaml
      pantry repo import demo export.yaml --directory /exports/night --transfer hardlink
    """
    with steps_bar() as progress:
        done = butler(ctx, repository).import_(
            directory=directory,
            filename=export,
            format="yaml",
            transfer=transfer,
            skip_dimensions=skip_dimensions,
            without_datastore=without_datastore,
            allow_missing=allow_missing,
            storage_classes=dict(_pair(one) for one in storage_class),
            progress=progress,
        )
    if as_json:
        print_json(done)
        return
    print_fields(
        {
            "new records": done.dimension_records,
            "new types and collections": done.definitions,
            "new datasets": done.datasets,
            "files taken over": done.files,
            "without a file": done.without_file,
            "there before": done.present,
            "new members": done.members,
        }
    )
    for said in done.notes:
        note(said)


def _pair(text: str) -> tuple[str, str]:
    theirs, equals, ours = text.partition("=")
    if not (theirs and equals and ours):
        raise click.UsageError(f"--storage-class {text!r}: write it as THEIRS=OURS")
    return theirs, ours
