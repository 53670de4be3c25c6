"""``pantry query-graph``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    condition_options,
    exclude_option,
    parse_data_id,
    repository_argument,
)
from pantry.client.cli.completion import dataset_type_names, dimension_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note, print_data_ids, print_datasets
from pantry.client.cli.session import butler


@click.command("query-graph", cls=Command)
@repository_argument
@click.argument("dataset_types", metavar="[DATASET_TYPE]...", nargs=-1, shell_complete=dataset_type_names)
@click.option(
    "--dimensions",
    multiple=True,
    metavar="NAMES",
    shell_complete=dimension_names,
    help="More dimensions, such as those of outputs.",
)
@click.option(
    "--optional",
    multiple=True,
    metavar="NAMES",
    shell_complete=dataset_type_names,
    help="Dataset types that need not be there, such as outputs made already.",
)
@collections_option
@click.option("--find-all", is_flag=True, help="Not only the first of each data id in the collections' order.")
@exclude_option
@condition_options
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    default=1_000_000,
    metavar="N",
    help="Fail if there are more combinations.",
)
@click.option(
    "--data-ids",
    multiple=True,
    metavar="NAMES",
    shell_complete=dimension_names,
    help="List the data ids of these dimensions in place of the datasets.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole graph, for DiscoveryGraph.from_json.")
@click.option("--dot", is_flag=True, help="The whole graph, for Graphviz.")
@click.pass_context
def query_graph(
    ctx: click.Context,
    repository: str,
    dataset_types: tuple[str, ...],
    dimensions: tuple[str, ...],
    optional: tuple[str, ...],
    collections: tuple[str, ...],
    find_all: bool,
    exclude_file: str | None,
    data_id: tuple[str, ...],
    where: str,
    max_rows: int,
    data_ids: tuple[str, ...],
    as_json: bool,
    dot: bool,
) -> None:
    """Find data units and datasets that match, and which belong together.

    Only data units for which there are datasets of all DATASET_TYPEs count. Without --json or --dot, lists the
    datasets, or with --data-ids the data units.

    For example:
      pantry query-graph demo calexp --dimensions patch -c runs/night -w "tract = 9813 AND band = 'r'" --json > graph
      pantry query-graph demo calexp --dimensions patch -c runs/night --data-ids tract,patch
      pantry query-graph demo raw -c LSSTCam/raw/all -d exposure=12 --dot | dot -Tsvg > graph.svg
    """
    if as_json + dot + bool(data_ids) > 1:
        raise click.UsageError("only one of --json, --dot and --data-ids can be written")
    graph = butler(ctx, repository, collections).query_graph(
        dataset_types,
        comma_separated(dimensions),
        optional=comma_separated(optional),
        find_first=not find_all,
        data_id=parse_data_id(data_id),
        where=where,
        exclude=exclude_file,
        max_rows=max_rows,
    )
    if as_json:
        click.echo(graph.to_json())
    elif dot:
        for line in graph.to_dot_lines():
            click.echo(line)
    elif data_ids:
        print_data_ids(graph.data_ids(comma_separated(data_ids)))
    elif len(graph):
        print_datasets(graph.datasets())
    else:
        note(f"no datasets; the graph has the dimensions {', '.join(graph.dimensions)}: --data-ids lists them")
