"""``pantry ingest-raws``: raw exposures, by what their headers say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import collection_names
from pantry.client.cli.ingest import skip_existing_option, transfer_option
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json
from pantry.client.cli.progress import progress_bar
from pantry.client.cli.session import butler
from pantry.errors import PantryError
from pantry.wire.operations.data import Transfer

if TYPE_CHECKING:
    from pantry.client.butler import Butler
    from pantry.client.instruments import RawObservation

_SUFFIXES = (".fits", ".fits.fz", ".fits.gz")
_DIMENSIONS = ("instrument", "exposure", "detector")


@click.command("ingest-raws", cls=Command)
@repository_argument
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option(
    "--run",
    metavar="NAME",
    shell_complete=collection_names,
    help="RUN collection that the raws go to; by default <instrument>/raw/all.",
)
@click.option("--dataset-type", default="raw", show_default=True, metavar="NAME", help="What they are.")
@click.option("--keep-going", is_flag=True, help="Pass over files that cannot be understood; fail at the end.")
@transfer_option
@skip_existing_option
@json_option
@click.pass_context
def ingest_raws(
    ctx: click.Context,
    repository: str,
    paths: tuple[str, ...],
    run: str | None,
    dataset_type: str,
    keep_going: bool,
    transfer: Transfer,
    skip_existing: bool,
    as_json: bool,
) -> None:
    """Take raw exposures in; PATHS are FITS files, or directories to search for them.

    Their headers tell instrument, exposure and detector; what is not yet known of these is recorded, and
    the dataset type is registered if need be.

    For example:
      pantry ingest-raws demo ~/raws --transfer hardlink
    """
    files = list(find_files(paths))
    if not files:
        raise click.UsageError(f"no {', '.join(_SUFFIXES)} file in {', '.join(paths)}")
    target = butler(ctx, repository)
    observations, failures = _translate(files, keep_going)
    _insert_records(target, [one for _, one in observations])
    target.register_dataset_type(dataset_type, _DIMENSIONS, "FitsHDUList")
    done: dict[str, UUID] = {}
    for name in dict.fromkeys(_run_of(one, run) for _, one in observations):
        rows = [(path, one.data_id) for path, one in observations if _run_of(one, run) == name]
        with progress_bar(f"ingesting into {name}", len(rows)) as progress:
            ids = target.ingest(
                dataset_type, rows, run=name, transfer=transfer, skip_existing=skip_existing, progress=progress
            )
        new = {path: one for (path, _), one in zip(rows, ids, strict=True) if one is not None}
        done.update(new)
        there = f", {len(ids) - len(new)} were there" if len(new) < len(ids) else ""
        note(f"{len(new)} raws ingested into {name}{there}")
    if as_json:
        print_json({"ingested": done, "failed": failures})
    if failures:
        note(f"{len(failures)} files were passed over")
        ctx.exit(1)


def find_files(paths: tuple[str, ...]) -> Iterator[str]:
    """Give the files named, and the FITS files in the directories named, in order of name."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        for directory, below, names in os.walk(path):
            below.sort()
            yield from (os.path.join(directory, name) for name in sorted(names) if name.endswith(_SUFFIXES))


def _translate(files: list[str], keep_going: bool) -> tuple[list[tuple[str, RawObservation]], dict[str, str]]:
    from pantry.client.instruments import translate

    observations = []
    failures: dict[str, str] = {}
    with progress_bar("reading headers", len(files)) as progress:
        for number, path in enumerate(files, 1):
            try:
                observations.append((path, translate(path, name=path)))
            except PantryError as exc:
                if not keep_going:
                    raise
                failures[path] = exc.message
                note(f"passed over: {exc.message}")
            progress(number)
    return observations, failures


def _insert_records(target: Butler, observations: list[RawObservation]) -> None:
    """Record what the headers say, each thing once, in an order in which things depend on one another."""
    by_element: dict[str, dict[tuple[object, ...], dict[str, object]]] = {}
    for one in observations:
        for element, values in one.records.items():
            key = tuple(values.get(name) for name in ("instrument", "id", "name"))
            by_element.setdefault(element, {}).setdefault(key, dict(values))
    for element, records in by_element.items():
        target.insert_dimension_records(element, *records.values(), skip_existing=True)


def _run_of(one: RawObservation, run: str | None) -> str:
    return run or f"{one.instrument}/raw/all"
