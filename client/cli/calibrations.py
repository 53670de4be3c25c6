"""``pantry certify-calibrations``, ``ingest-calibrations`` and ``write-curated-calibrations``."""

from __future__ import annotations

import click

from pantry.client.cli.arguments import repository_argument
from pantry.client.cli.completion import collection_names, dataset_type_names
from pantry.client.cli.ingest import skip_existing_option, transfer_option
from pantry.client.cli.ingest_raws import find_files
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json
from pantry.client.cli.session import butler
from pantry.errors import DatasetNotFoundError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetRef
from pantry.wire.operations.data import Transfer

collection_option = click.option(
    "--collection",
    metavar="NAME",
    default="",
    shell_complete=collection_names,
    help="CALIBRATION collection; by default <instrument>/calib. Made if it does not exist.",
)


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


@click.command("ingest-calibrations", cls=Command)
@repository_argument
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True))
@click.option("--instrument", default="", metavar="NAME", help="If the headers do not name it.")
@collection_option
@click.option(
    "--run", metavar="NAME", shell_complete=collection_names, help="RUN; by default <instrument>/calib/<date>."
)
@click.option("--begin-date", metavar="TIME", help="From when they are valid: ISO 8601, TAI. Always, if not given.")
@click.option("--end-date", metavar="TIME", help="Until when, exclusively; for ever, if not given.")
@click.option("--by-date", is_flag=True, help="Each from its own date until that of the next.")
@transfer_option
@skip_existing_option
@json_option
@click.pass_context
def ingest_calibrations(
    ctx: click.Context,
    repository: str,
    paths: tuple[str, ...],
    instrument: str,
    collection: str,
    run: str | None,
    begin_date: str | None,
    end_date: str | None,
    by_date: bool,
    transfer: Transfer,
    skip_existing: bool,
    as_json: bool,
) -> None:
    """Take master biases, darks, flats and the like in, and certify them.

    PATHS are FITS files, or directories to search for them. Their headers say type, detector, filter and date.

    For example:
      pantry ingest-calibrations demo CALIB --instrument LATISS --begin-date 2018-09-01
    """
    if by_date and (begin_date or end_date):
        raise click.UsageError("--by-date goes without --begin-date and --end-date")
    refs = butler(ctx, repository).ingest_calibrations(
        find_files(paths),
        instrument=instrument,
        collection=collection,
        run=run,
        validity="by_date" if by_date else (begin_date, end_date),
        transfer=transfer,
        skip_existing=skip_existing,
    )
    _report(refs, as_json)


@click.command("write-curated-calibrations", cls=Command)
@repository_argument
@click.argument("instrument")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@collection_option
@transfer_option
@skip_existing_option
@json_option
@click.pass_context
def write_curated_calibrations(
    ctx: click.Context,
    repository: str,
    instrument: str,
    directory: str,
    collection: str,
    transfer: Transfer,
    skip_existing: bool,
    as_json: bool,
) -> None:
    """Take calibrations of an INSTRUMENT in that people keep as text, and certify them.

    DIRECTORY has them in Rubin's layout, TYPE/DETECTOR/[FILTER/]YYYYMMDDThhmmss.ecsv (or YAML, JSON, FITS), or is
    that of one type. Each is valid from its date (UTC) until the next for the same detector.

    For example:
      pantry write-curated-calibrations demo LATISS obs_lsst_data/latiss
    """
    refs = butler(ctx, repository).write_curated_calibrations(
        instrument, directory, collection=collection, transfer=transfer, skip_existing=skip_existing
    )
    _report(refs, as_json)


def _report(refs: list[DatasetRef], as_json: bool) -> None:
    if as_json:
        print_json([{"id": ref.id, "dataset_type": ref.dataset_type.name, "run": ref.run} for ref in refs])
        return
    for name in sorted({ref.dataset_type.name for ref in refs}):
        note(f"{sum(ref.dataset_type.name == name for ref in refs)} {name} ingested and certified")
