"""``pantry query-datasets``, ``query-data-ids`` and ``query-dimension-records``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from pantry.client.cli.arguments import (
    collections_option,
    comma_separated,
    parse_data_id,
    query_options,
    repository_argument,
)
from pantry.client.cli.completion import dataset_type_names, dimension_names, element_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, print_json, print_table
from pantry.client.cli.session import butler
from pantry.model.datasets import DatasetRef


@click.command("query-datasets", cls=Command)
@repository_argument
@click.argument("dataset_types", metavar="DATASET_TYPE...", nargs=-1, required=True, shell_complete=dataset_type_names)
@collections_option
@click.option("--find-all", is_flag=True, help="Not only the first of each data id in the collections' order.")
@click.option(
    "--exclude-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Leave out the datasets of this list: UUIDs, or lines as 'raw exposure=12 detector=3 run=NAME'.",
)
@click.option("--count", is_flag=True, help="Only say how many there are.")
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
    data_id: tuple[str, ...],
    where: str,
    order_by: tuple[str, ...],
    limit: int | None,
    as_json: bool,
) -> None:
    """Find the datasets of these types; names or patterns such as 'calib*'.

    For example:
      pantry query-datasets demo raw -c LSSTCam/raw/all -d detector=94
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
    found = asked.query_datasets(dataset_types, order_by=comma_separated(order_by), **conditions)
    if as_json:
        print_json(found)
        return
    by_type: dict[str, list[DatasetRef]] = {}
    for ref in found:
        by_type.setdefault(ref.dataset_type.name, []).append(ref)
    for number, refs in enumerate(by_type.values()):
        if number:
            click.echo()
        where_from = ("repository",) if refs[0].repository else ()
        print_table(
            ("type", *where_from, "run", "id", *refs[0].data_id),
            (
                (ref.dataset_type.name, *([ref.repository] * len(where_from)), ref.run, ref.id, *ref.data_id.values())
                for ref in refs
            ),
            right=_numeric(refs[0].data_id.mapping),
        )


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
    elif found:
        print_table(tuple(found[0]), (tuple(one.values()) for one in found), right=_numeric(found[0].mapping))


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
            columns, (tuple(one.values.get(name) for name in columns) for one in found), right=_numeric(found[0].values)
        )


def _numeric(values: dict[str, Any]) -> Sequence[str]:
    return [name for name, value in values.items() if isinstance(value, int | float)]
