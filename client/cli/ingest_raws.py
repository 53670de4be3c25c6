"""``pantry ingest-raws``: raw exposures, by what their headers say."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import click

from pantry.client.butler.raws import RAW_PATTERNS
from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import collection_names
from pantry.client.cli.ingest import skip_existing_option, transfer_option
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json
from pantry.client.cli.progress import progress_bar
from pantry.client.cli.session import butler
from pantry.wire.operations.data import Transfer


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
    target = butler(ctx, repository)
    patterns = target.file_patterns()
    files = list(find_files(paths, patterns))
    if not files:
        raise click.UsageError(f"no file named {', '.join(patterns)} in {', '.join(paths)}")
    done = target.ingest_raws(
        files,
        run=run,
        dataset_type=dataset_type,
        transfer=transfer,
        skip_existing=skip_existing,
        keep_going=keep_going,
        progress=progress_bar,
    )
    for reason in done.failures.values():
        note(f"passed over: {reason}")
    new = {path: one for path, one in done.ids.items() if one is not None}
    for name, members in done.runs.items():
        count = sum(path in new for path in members)
        there = f", {len(members) - count} were there" if count < len(members) else ""
        note(f"{count} raws ingested into {name}{there}")
    if as_json:
        print_json({"ingested": new, "failed": done.failures})
    if done.failures:
        note(f"{len(done.failures)} files were passed over")
        ctx.exit(1)


def find_files(paths: tuple[str, ...], patterns: Sequence[str] = RAW_PATTERNS) -> Iterator[str]:
    """Give the files named, and those of such names in the directories named, in order of name."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        for directory, below, names in os.walk(path):
            below.sort()
            wanted = (name for name in sorted(names) if any(fnmatchcase(name, pattern) for pattern in patterns))
            yield from (os.path.join(directory, name) for name in wanted)
