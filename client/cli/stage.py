"""``pantry stage``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    exclude_option,
    parse_data_id,
    query_options,
    repository_argument,
)
from pantry.client.cli.completion import dataset_type_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json, size
from pantry.client.cli.progress import transfer_bar
from pantry.client.cli.session import butler
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef

if TYPE_CHECKING:
    from pantry.client.bundles import Bundled
    from pantry.client.butler import Butler
    from pantry.client.staging import Staged

F = TypeVar("F", bound=Callable[..., Any])


def selection_options(command: F) -> F:
    """Add what says which datasets are taken away: dataset types and conditions, or a graph."""
    for option in (
        exclude_option,
        click.option(
            "--graph",
            type=click.File("rb"),
            metavar="FILE",
            help="The datasets of a graph, as `pantry query-graph --json` writes it, in place of a query; '-' for "
            "standard input.",
        ),
        query_options,
        collections_option,
        click.argument("dataset_types", metavar="[DATASET_TYPE]...", nargs=-1, shell_complete=dataset_type_names),
    ):
        command = option(command)
    return command


def transfer_option(command: F) -> F:
    """Add the option ``--transfer``."""
    return click.option(
        "--transfer",
        type=click.Choice(["auto", "hardlink", "reflink", "copy"]),
        default="auto",
        show_default=True,
        help="How files get there; auto takes what the file system can do, and is safe.",
    )(command)


class Selected(NamedTuple):
    """Datasets, and the data ids of the outputs that a graph has besides."""

    refs: list[DatasetRef]
    data_ids: list[DataCoordinate]


def selected(
    source: Butler,
    dataset_types: tuple[str, ...],
    graph: BinaryIO | None,
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    exclude_file: str | None,
) -> Selected:
    """Find the datasets that the options of `selection_options` say."""
    if graph is None:
        if not dataset_types:
            raise click.UsageError("which datasets? Name dataset types, or give --graph")
        refs = source.query_datasets(
            dataset_types,
            data_id=parse_data_id(data_id),
            where=where,
            order_by=comma_separated(order_by),
            limit=limit,
            exclude=exclude_file,
        )
        return Selected(refs, [])
    if data_id or where or order_by or limit or exclude_file:
        raise click.UsageError(
            "a graph says itself which datasets it has; conditions were given to the command that made it"
        )
    from pantry.client.butler.graph import DiscoveryGraph

    found = DiscoveryGraph.from_json(graph.read())
    chosen = [ref for name in dataset_types for ref in found.datasets(name)] if dataset_types else found.datasets()
    return Selected(chosen, found.data_ids(found.dimensions))


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
    dataset_types: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    graph: BinaryIO | None,
    exclude_file: str | None,
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
    refs = selected(source, dataset_types, graph, data_id, where, order_by, limit, exclude_file).refs
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
