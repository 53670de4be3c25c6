"""``pantry cache pin``, ``unpin``, ``pins``, ``prefetch`` and ``export``: what shall be at hand."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    condition_options,
    parse_data_id,
    repository_argument,
)
from pantry.client.cli.completion import dataset_type_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, print_table, size, time
from pantry.client.cli.progress import transfer_bar
from pantry.client.cli.session import butler, daemon
from pantry.wire.operations import ListPins, PinDatasets, PrefetchProgress, UnpinDatasets

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _types_argument(command: F) -> F:
    return click.argument(
        "dataset_types", metavar="DATASET_TYPE...", nargs=-1, required=True, shell_complete=dataset_type_names
    )(command)


def duration_s(text: str) -> int:
    """Parse ``90s``, ``30m``, ``12h``, ``7d`` or ``2w`` into seconds."""
    match = re.fullmatch(r"(\d+)([smhdw])", text)
    if match is None or not int(match[1]):
        raise click.UsageError(f"{text!r} is no time; write it as 90s, 30m, 12h, 7d or 2w")
    return int(match[1]) * _SECONDS[match[2]]


@click.command(cls=Command)
@repository_argument
@_types_argument
@collections_option
@condition_options
@click.option("--expires", metavar="TIME", help="Let it lapse after 90s, 30m, 12h, 7d or 2w; by default never.")
@click.option("--note", "text", default="", metavar="TEXT", help="For whom or what, for people.")
@click.option("--fetch", is_flag=True, help="Also fetch now what is not in the cache.")
@json_option
@click.pass_context
def pin(
    ctx: click.Context,
    repository: str,
    dataset_types: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    expires: str | None,
    text: str,
    fetch: bool,
    as_json: bool,
) -> None:
    """Keep what a query finds, now and later, in the cache once it is there.

    The query is run again every few minutes, so that a growing collection is kept.

    For example:
      pantry cache pin demo raw -c LSSTCam/raw/all -d exposure=12 --expires 7d --fetch
    """
    expires_ns = clock.time_ns() + duration_s(expires) * 1_000_000_000 if expires else 0
    values = parse_data_id(data_id)
    source = butler(ctx, repository, collections)
    made = source.connection.call(
        PinDatasets(
            repository=repository,
            dataset_types=dataset_types,
            collections=comma_separated(collections),
            where=where,
            data_id=values,
            note=text,
            expires_ns=expires_ns,
        )
    )
    if not as_json:
        click.echo(made.id)
        note(
            f"{made.objects} objects, {size(made.bytes)}; "
            f"{made.cached_objects} of them, {size(made.cached_bytes)}, are in the cache"
        )
    done = None
    if fetch:
        done = _with_bar(
            lambda progress: source.prefetch(
                dataset_types, comma_separated(collections), data_id=values, where=where, progress=progress
            )
        )
    if as_json:
        print_json({"pin": made, "prefetch": done} if done else made)
    if done is not None:
        _tell(ctx, done, quiet=as_json)


@click.command(cls=Command)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All of your own.")
@json_option
@click.pass_context
def unpin(ctx: click.Context, ids: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Remove pins: your own ones; administrators may remove any.

    Nothing is evicted at once: what was kept may go when room is needed.

    For example:
      pantry cache unpin p1a2b3c4d
    """
    if bool(ids) == everything:
        raise click.UsageError("give either ids, as `pantry cache pins` shows them, or --all")
    found = daemon(ctx).call(UnpinDatasets(ids=ids, everything=everything))
    if as_json:
        print_json(found)
    else:
        note(f"removed {found.count} pins")


@click.command(cls=Command)
@json_option
@click.pass_context
def pins(ctx: click.Context, as_json: bool) -> None:
    """List your pins, oldest first; administrators see those of all users.

    For example:
      pantry cache pins
    """
    found = daemon(ctx).call(ListPins()).pins
    if as_json:
        print_json(list(found))
        return
    print_table(
        ("id", "owner", "what", "objects", "size", "cached", "lapses", "note"),
        (
            (
                one.id,
                one.owner,
                " ".join(
                    [one.repository, ",".join(one.dataset_types), "in", ",".join(one.collections), one.where]
                    + [f"{name}={value}" for name, value in one.data_id.items()]
                ).replace("  ", " "),
                one.objects,
                size(one.bytes),
                size(one.cached_bytes),
                time(one.expires_ns) or "never",
                "; ".join(filter(None, (one.note, one.problem))),
            )
            for one in found
        ),
        right=("objects", "size", "cached"),
    )


@click.command(cls=Command)
@repository_argument
@_types_argument
@collections_option
@condition_options
@click.option("--partial", is_flag=True, help="Fetch as many as there is room for.")
@json_option
@click.pass_context
def prefetch(
    ctx: click.Context,
    repository: str,
    dataset_types: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    partial: bool,
    as_json: bool,
) -> None:
    """Fetch the files of what a query finds into the cache; fails if any of them failed.

    For example:
      pantry cache prefetch demo raw -c LSSTCam/raw/all -w "exposure.day_obs = 20250501"
    """
    source = butler(ctx, repository, collections)
    done = _with_bar(
        lambda progress: source.prefetch(
            dataset_types, data_id=parse_data_id(data_id), where=where, partial=partial, progress=progress
        )
    )
    if as_json:
        print_json(done)
    _tell(ctx, done, quiet=as_json)


@click.command(cls=Command)
@repository_argument
@click.argument("destination", type=click.Path(file_okay=False))
@click.argument("dataset_types", metavar="[DATASET_TYPE]...", nargs=-1, shell_complete=dataset_type_names)
@collections_option
@condition_options
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    repository: str,
    destination: str,
    dataset_types: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    as_json: bool,
) -> None:
    """Copy to DESTINATION those datasets that are complete in the cache, by their names in the mount.

    Nothing is fetched, so it also works while the origin does not answer. All dataset types if none is given.

    For example:
      pantry cache export demo /media/disk raw -c LSSTCam/raw/all
    """
    from pantry.client.staging import export as export_files

    source = butler(ctx, repository, collections)
    refs = source.query_datasets(dataset_types or ("*",), data_id=parse_data_id(data_id), where=where)
    paths, left_out = export_files(source, refs, destination)
    if as_json:
        print_json({"files": [str(path) for path in paths], "left_out": left_out})
        return
    for path in paths:
        click.echo(path)
    for ref in left_out:
        note(f"left out, not in the cache: {ref}")
    note(f"{len(paths)} files in {destination}, {len(left_out)} left out")


def _with_bar(run: Callable[[Callable[[PrefetchProgress], None]], PrefetchProgress]) -> PrefetchProgress:
    """Run a prefetch with a progress bar."""
    with transfer_bar("fetching") as draw:
        return run(lambda told: draw(told.bytes_done, told.bytes_total))


def _tell(ctx: click.Context, done: PrefetchProgress, *, quiet: bool) -> None:
    """Say how a prefetch went, and make the command fail if files failed."""
    if not quiet:
        there = done.files_done - done.fetched_files - done.failed_files
        click.echo(f"fetched {done.fetched_files} files, {size(done.fetched_bytes)}; {there} were in the cache")
        if done.left_out_files:
            note(f"no room for {done.left_out_files} files, {size(done.left_out_bytes)}")
        for one in done.failures:
            note(f"{one.name}: {one.message}")
        if done.failed_files > len(done.failures):
            note(f"and {done.failed_files - len(done.failures)} more")
    if done.failed_files:
        ctx.exit(1)
