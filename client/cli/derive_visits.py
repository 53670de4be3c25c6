"""``pantry derive-visits``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import collections_option, repository_argument
from pantry.client.cli.completion import dataset_type_names, repository_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note
from pantry.client.cli.session import butler
from pantry.errors import InvalidRequestError


@click.command("derive-visits", cls=Command)
@repository_argument
@click.argument("source", shell_complete=repository_names)
@click.argument("dataset_type", shell_complete=dataset_type_names)
@collections_option
@click.option("--where", "-w", default="", help="Only images for which this expression holds.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=KEYWORD",
    help="Take a column of visit from the headers, as 'seeing=PSF_FWHM'; may be repeated.",
)
@click.option("--skip-existing", is_flag=True, help="Leave visits that are there as they are.")
@click.pass_context
def derive_visits(
    ctx: click.Context,
    repository: str,
    source: str,
    dataset_type: str,
    collections: tuple[str, ...],
    where: str,
    columns: tuple[str, ...],
    skip_existing: bool,
) -> None:
    """Take visits from the repository SOURCE, with regions from its processed images.

    DATASET_TYPE are images by visit and detector, such as calexp. Their WCS gives the regions of visits and
    detectors in place of what SOURCE itself knows; only their headers are read.

    For example:
      pantry derive-visits coadds dp1 calexp -c LSSTComCam/DP1 --column seeing=PSF_FWHM
    """
    asked = dict(_pair(one) for one in columns)
    other = butler(ctx, source, collections)
    count = butler(ctx, repository).derive_visits(
        other, dataset_type, where=where, columns=asked, skip_existing=skip_existing
    )
    note(f"{count} records are new in {repository}")


def _pair(text: str) -> tuple[str, str]:
    name, equals, keyword = text.partition("=")
    if not (name and equals and keyword):
        raise InvalidRequestError(f"--column is NAME=KEYWORD, not {text!r}")
    return name, keyword
