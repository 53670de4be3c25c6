"""``pantry get`` and ``put``: datasets and files."""

from __future__ import annotations

import os
import shutil
import sys
from typing import BinaryIO, Literal

import click
import msgspec

from pantry.client.cli.arguments import (
    collections_option,
    dataset_type_argument,
    parse_data_id,
    repository_argument,
    run_option,
)
from pantry.client.cli.completion import data_ids
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, plain, print_json
from pantry.client.cli.session import butler
from pantry.errors import ConflictError, FormatterError

_data_id_argument = click.argument("data_id", metavar="[NAME=VALUE]...", nargs=-1, shell_complete=data_ids)


@click.command(cls=Command)
@repository_argument
@dataset_type_argument
@_data_id_argument
@collections_option
@click.option("-o", "--output", metavar="FILE", help="Write the dataset's file here; '-' for standard output.")
@click.option("--force", is_flag=True, help="Let --output replace a file.")
@click.option("--metadata", is_flag=True, help="Print the metadata that the dataset type declares; no file is read.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["fits", "hdf5"]),
    help="Write it with all its components as one file of this format into the directory --output.",
)
@click.pass_context
def get(
    ctx: click.Context,
    repository: str,
    dataset_type: str,
    data_id: tuple[str, ...],
    collections: tuple[str, ...],
    output: str | None,
    force: bool,
    metadata: bool,
    format_name: Literal["fits", "hdf5"] | None,
) -> None:
    """Print a dataset as JSON, or write its file as it is stored, or all of it as one file of another format.

    For example:
      pantry get demo raw exposure=12 detector=3 -c LSSTCam/raw/all -o raw.fits
      pantry get demo calexp visit=12 detector=3 -c runs/night --metadata
      pantry get demo raw.metadata exposure=12 detector=3 -c LSSTCam/raw/all
      pantry get demo calexp visit=12 detector=3 -c runs/night --format fits -o /scratch
      pantry get demo calexp.provenance visit=12 detector=3 -c runs/night
    """
    source = butler(ctx, repository, collections)
    values = parse_data_id(data_id)
    if metadata:
        if output is not None:
            raise click.UsageError("--metadata prints what the registry has, and --output writes the file")
        print_json(source.get_metadata(dataset_type, values))
        return
    if format_name is not None:
        if output is None or not os.path.isdir(output):
            raise click.UsageError("--format needs a directory that exists: --output DIR")
        try:
            click.echo(source.export_file(dataset_type, output, values, format=format_name, overwrite=force))
        except FileExistsError as exc:
            raise ConflictError(f"{exc.filename} exists already", hint="give --force to replace it") from None
        return
    if output is None:
        print_json(_as_json(source.get(dataset_type, values), dataset_type))
        return
    with source.open(dataset_type, values, partial=output == "-") as file:
        if output == "-":
            shutil.copyfileobj(file, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
            return
        write_file(file, output, force)


def _as_json(obj: object, dataset_type: str) -> object:
    if isinstance(obj, msgspec.Struct | dict | list | tuple | str | int | float | None):
        return plain(obj)
    if hasattr(obj, "to_simple"):  # ObservationInfo, the visit metadata of raws
        return {name: value for name, value in plain(obj.to_simple()).items() if not name.startswith("_")}
    raise FormatterError(
        f"{dataset_type} is a {type(obj).__name__}, which cannot be printed as JSON",
        hint="give -o FILE to write its file, or ask for a component, such as raw.metadata",
    )


def write_file(file: BinaryIO, output: str, force: bool) -> None:
    """Copy a file's content to a new file, which appears when it is whole."""
    from pantry.client.staging import copy_content, replaced_atomically

    if os.path.lexists(output) and not force:
        raise ConflictError(f"{output} exists already", hint="give --force to replace it, or another name")
    with replaced_atomically(os.path.abspath(output)) as fd:
        copy_content(file.fileno(), fd)


@click.command(cls=Command)
@repository_argument
@dataset_type_argument
@click.argument("file", type=click.File("rb"))
@_data_id_argument
@run_option
@click.option("--publish", multiple=True, metavar="TARGET", help="Publish it to this web service; may be repeated.")
@click.option("--wait", is_flag=True, help="Store it only if the services have accepted it, within five minutes.")
@json_option
@click.pass_context
def put(
    ctx: click.Context,
    repository: str,
    dataset_type: str,
    file: BinaryIO,
    data_id: tuple[str, ...],
    run: str,
    publish: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Store FILE, which is in the dataset type's format already, as a new dataset; '-' for standard input.

    For example:
      pantry put demo camera_config camera.json instrument=LSSTCam --run u/ann/configs
      pantry put demo metric_seeing seeing.json visit=903334 --run runs/ci --publish qa --wait
    """
    source = butler(ctx, repository, run=run)
    ref = source.put_file(file, dataset_type, parse_data_id(data_id), publish=publish, wait=wait)
    if as_json:
        print_json(ref)
    else:
        click.echo(ref.id)
