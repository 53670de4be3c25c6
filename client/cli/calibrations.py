"""``pantry certify-calibrations``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import collection_names, dataset_type_names
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import note
from pantry.client.cli.session import butler
from pantry.errors import DatasetNotFoundError
from pantry.model.collections import CollectionType


@click.command("certify-calibrations", cls=Command)
@repository_argument
@click.argument("input_collection", shell_complete=collection_names)
@click.argument("output_collection", shell_complete=collection_names)
@click.argument("dataset_type_name", shell_complete=dataset_type_names)
@click.option("--begin-date", metavar="TIME", help="From when they are valid: ISO 8601, TAI. Always, if not given.")
@click.option("--end-date", metavar="TIME", help="Until when, exclusively; for ever, if not given.")
@click.option("--search-all-inputs", is_flag=True, help="All children of a CHAINED input, not only its first.")
@click.pass_context
def certify_calibrations(
    ctx: click.Context,
    repository: str,
    input_collection: str,
    output_collection: str,
    dataset_type_name: str,
    begin_date: str | None,
    end_date: str | None,
    search_all_inputs: bool,
) -> None:
    """Say for which time the calibrations of INPUT_COLLECTION are valid.

    OUTPUT_COLLECTION is a CALIBRATION collection; made if it does not exist.

    For example:
      pantry certify-calibrations demo u/ann/bias LSSTCam/calib bias --begin-date 2025-04-15
    """
    from pantry.client.butler.times import as_timespan

    session = butler(ctx, repository)
    timespan = as_timespan((begin_date, end_date))
    if not search_all_inputs:
        info = session.collections.get_info(input_collection)
        if info.type is CollectionType.CHAINED and info.children:
            input_collection = info.children[0]
    refs = session.query_datasets(dataset_type_name, input_collection)
    if not refs:
        raise DatasetNotFoundError(
            f"{input_collection!r} has no {dataset_type_name}", hint="`pantry query-datasets` shows what there is"
        )
    session.collections.register(output_collection, CollectionType.CALIBRATION)
    count = session.certify(output_collection, refs, timespan)
    note(f"{count} {dataset_type_name} certified in {output_collection}")
