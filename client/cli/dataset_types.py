"""``pantry dataset-types`` and ``pantry register-dataset-type``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import dataset_type_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, print_table
from pantry.client.cli.session import butler
from pantry.model.storage import STORAGE_CLASSES


@click.command("dataset-types", cls=Command)
@repository_argument
@click.argument("patterns", metavar="[PATTERN]...", nargs=-1, shell_complete=dataset_type_names)
@json_option
@click.pass_context
def list_dataset_types(ctx: click.Context, repository: str, patterns: tuple[str, ...], as_json: bool) -> None:
    """List the dataset types whose names match a PATTERN; all if none is given.

    For example:
      pantry dataset-types demo 'calib*'
    """
    found = butler(ctx, repository).query_dataset_types(patterns)
    if as_json:
        print_json(found)
    else:
        print_table(
            ("name", "dimensions", "storage class"),
            ((one.name, ", ".join(one.dimensions), one.storage_class) for one in found),
        )


@click.command("register-dataset-type", cls=Command)
@repository_argument
@click.argument("name")
@click.argument("storage_class", type=click.Choice(sorted(STORAGE_CLASSES)), metavar="STORAGE_CLASS")
@click.argument("dimensions", nargs=-1)
@click.option("--is-calibration", is_flag=True, help="May go into CALIBRATION collections.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="ENTRY",
    help="Keep an entry of the files' metadata for queries: 'name:type=KEY [unit]'; may be repeated.",
)
@click.pass_context
def register_dataset_type(
    ctx: click.Context,
    repository: str,
    name: str,
    storage_class: str,
    dimensions: tuple[str, ...],
    is_calibration: bool,
    metadata: tuple[str, ...],
) -> None:
    """Register the dataset type NAME; nothing happens if it is registered so already.

    STORAGE_CLASS says how datasets are stored and what they are in Python; DIMENSIONS say what
    identifies one.

    For example:
      pantry register-dataset-type demo raw FitsHDUList instrument exposure detector
      pantry register-dataset-type demo calexp CCDData visit detector --metadata 'fwhm:float=PSF_FWHM [pixel]'
    """
    new = butler(ctx, repository).register_dataset_type(
        name, dimensions, storage_class, is_calibration=is_calibration, metadata=metadata
    )
    note(f"{name}: {'registered' if new else 'was registered already'}")


register_dataset_type.epilog = f"Storage classes: {', '.join(sorted(STORAGE_CLASSES))}."
