"""``pantry query-datasets``, ``query-data-ids`` and ``query-dimension-records``."""

from __future__ import annotations

from typing import Any

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    exclude_option,
    parse_data_id,
    query_options,
    repository_argument,
)
from pantry.client.cli.completion import dataset_type_names, dimension_names, element_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import (
    json_option,
    numeric,
    plain,
    print_data_ids,
    print_datasets,
    print_json,
    print_table,
)
from pantry.client.cli.session import butler
from pantry.model.datasets import DatasetRef
from pantry.model.metadata import MetadataValue


@click.command("query-datasets", cls=Command)
@repository_argument
@click.argument("dataset_types", metavar="DATASET_TYPE...", nargs=-1, required=True, shell_complete=dataset_type_names)
@collections_option
@click.option("--find-all", is_flag=True, help="Not only the first of each data id in the collections' order.")
@exclude_option
@click.option("--count", is_flag=True, help="Only say how many there are.")
@click.option(
    "--metadata",
    multiple=True,
    metavar="NAMES",
    help="Columns with these entries of the metadata that the dataset types declare; '*' for all.",
)
@query_options
@json_option
@click.pass_context
def query_datasets(
    ctx: click.Context,
    repository: str,
    dataset_types: tuple[str, ...],
    collections: tuple[str, ...],
    find_all: bool,
    exclude_file: str | None,
    count: bool,
    metadata: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Find the datasets of these types; names or patterns such as 'calib*'.

    For example:
      pantry query-datasets demo raw -c LSSTCam/raw/all -d detector=94
      pantry query-datasets demo calexp -c runs/night -w "calexp.fwhm < 3" --metadata fwhm,zeropoint
      pantry query-datasets demo raw -c LSSTCam/raw/all --exclude-file bad.txt --count
      pantry query-datasets demo raw -c '*' -w "exposure.exposure_time > 30 AND band = 'r'" --json
    """
    asked = butler(ctx, repository, collections)
    conditions: dict[str, Any] = {
        "find_first": not find_all,
        "data_id": parse_data_id(data_id),
        "where": where,
        "limit": limit,
        "exclude": exclude_file,
    }
    if count:
        number = asked.count_datasets(dataset_types, **conditions)
        print_json({"count": number}) if as_json else click.echo(number)
        return
    if metadata:
        entries = () if "*" in metadata else comma_separated(metadata)
        described: dict[DatasetRef, dict[str, MetadataValue]] = {}
        for name in dataset_types:
            rows = asked.query_metadata(name, entries=entries, order_by=comma_separated(order_by), **conditions)
            described.update(rows)
        if as_json:
            print_json([{**plain(ref), "metadata": values} for ref, values in described.items()])
        else:
            print_datasets(list(described), described)
        return
    found = asked.query_datasets(dataset_types, order_by=comma_separated(order_by), **conditions)
    print_json(found) if as_json else print_datasets(found)


@click.command("query-data-ids", cls=Command)
@repository_argument
@click.argument("dimensions", nargs=-1, required=True, shell_complete=dimension_names)
@click.option(
    "--dataset-type",
    multiple=True,
    metavar="NAME",
    shell_complete=dataset_type_names,
    help="Only those for which --collections have such a dataset; may be repeated.",
)
@collections_option
@query_options
@json_option
@click.pass_context
def query_data_ids(
    ctx: click.Context,
    repository: str,
    dimensions: tuple[str, ...],
    dataset_type: tuple[str, ...],
    collections: tuple[str, ...],
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Find the data ids of these DIMENSIONS.

    For example:
      pantry query-data-ids demo exposure detector --dataset-type raw -c LSSTCam/raw/all
    """
    found = butler(ctx, repository, collections).query_data_ids(
        dimensions,
        dataset_types=dataset_type,
        data_id=parse_data_id(data_id),
        where=where,
        order_by=comma_separated(order_by),
        limit=limit,
    )
    if as_json:
        print_json(found)
    else:
        print_data_ids(found)


@click.command("query-dimension-records", cls=Command)
@repository_argument
@click.argument("element", shell_complete=element_names)
@query_options
@json_option
@click.pass_context
def query_dimension_records(
    ctx: click.Context,
    repository: str,
    element: str,
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Find what is known of an ELEMENT, such as instrument, exposure or tract.

    For example:
      pantry query-dimension-records demo exposure -w "exposure.observation_type = 'flat'" --json
    """
    found = butler(ctx, repository).query_dimension_records(
        element,
        data_id=parse_data_id(data_id),
        where=where,
        order_by=comma_separated(order_by),
        limit=limit,
    )
    if as_json:
        print_json(found)
    elif found:
        columns = tuple(found[0].values)
        print_table(
            columns, (tuple(one.values.get(name) for name in columns) for one in found), right=numeric(found[0].values)
        )
