"""``pantry ingest``: existing files become datasets."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import click
import msgspec

from pantry.client.cli.arguments import dataset_type_argument, parse_data_id, repository_argument, run_option
from pantry.client.cli.lazy import Command
from pantry.client.cli.output import json_option, note, print_json
from pantry.client.cli.progress import progress_bar
from pantry.client.cli.session import butler
from pantry.errors import InvalidRequestError
from pantry.wire.operations.data import Transfer

transfer_option = click.option(
    "--transfer",
    type=click.Choice(get_args(Transfer)),
    default="copy",
    show_default=True,
    help="How files are taken over.",
)
skip_existing_option = click.option(
    "--skip-existing", is_flag=True, help="Pass over data ids that the run has already, in place of failing."
)


@click.command(cls=Command)
@repository_argument
@dataset_type_argument
@click.argument("file", metavar="[FILE]", required=False, type=click.Path())
@click.argument("data_id", metavar="[NAME=VALUE]...", nargs=-1)
@click.option(
    "--table",
    metavar="TABLE",
    type=click.Path(exists=True, dir_okay=False),
    help="Many files: a CSV, ECSV or JSON lines table with the column 'path', relative to the table, and one "
    "column for each dimension.",
)
@run_option
@transfer_option
@skip_existing_option
@click.option("--formatter", default="", metavar="NAME", help="That will read the files, if not the usual one.")
@json_option
@click.pass_context
def ingest(
    ctx: click.Context,
    repository: str,
    dataset_type: str,
    file: str | None,
    data_id: tuple[str, ...],
    table: str | None,
    run: str,
    transfer: Transfer,
    skip_existing: bool,
    formatter: str,
    as_json: bool,
) -> None:
    """Take one FILE with its data id, or all files of a table, into a repository.

    For example:
      pantry ingest demo flat ~/flat.fits instrument=LSSTCam detector=3 --run calib/flats
      pantry ingest demo flat --table flats.csv --run calib/flats --transfer hardlink
    """
    if (file is None) == (table is None):
        raise click.UsageError("give one file with its data id, or --table")
    common = parse_data_id(data_id)
    if table is not None:
        rows = list(read_table(table, common, in_place=transfer == "in_place"))
    else:
        rows = [(str(file), common)]
    with progress_bar("ingesting", len(rows)) as progress:
        ids = butler(ctx, repository).ingest(
            dataset_type,
            rows,
            run=run,
            transfer=transfer,
            formatter=formatter,
            skip_existing=skip_existing,
            progress=progress,
        )
    if as_json:
        print_json(ids)
    else:
        done = sum(one is not None for one in ids)
        note(f"{done} files ingested into {run}" + (f", {len(ids) - done} were there" if done < len(ids) else ""))


Row = tuple[str, dict[str, int | str]]


def read_table(path: str, common: dict[str, int | str], *, in_place: bool) -> Iterator[Row]:
    """Read a table of files.

    Parameters
    ----------
    path : str
        CSV with a heading, ECSV, or JSON lines (``.json``, ``.jsonl``, ``.ndjson``).
    common : dict
        Dimension values of all rows; a column of the same name wins.
    in_place : bool
        Relative paths are keys of the repository's storage, not relative to the table.

    Yields
    ------
    tuple of str and dict
        Path and data id.
    """
    base = "" if in_place else os.path.dirname(os.path.abspath(path))
    with open(path, encoding="utf-8-sig", newline="") as lines:
        is_json = path.endswith((".json", ".jsonl", ".ndjson"))
        try:
            for number, values in _json_rows(lines) if is_json else _csv_rows(lines):
                where = f"{path}: row {number}"
                name = values.pop("path", None)
                if not isinstance(name, str) or not name:
                    raise InvalidRequestError(f"{where} has no path", hint="the table needs a column 'path'")
                bad = [key for key, value in values.items() if type(value) not in (int, str) or value == ""]
                if bad:
                    raise InvalidRequestError(f"{where}: no integer or text in {', '.join(bad)}")
                yield os.path.join(base, name), {**common, **values}
        except (UnicodeDecodeError, csv.Error) as exc:
            raise InvalidRequestError(f"{path} is no table: {exc}", hint="CSV, ECSV or JSON lines in UTF-8") from None


def _json_rows(lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield number, msgspec.json.decode(line, type=dict[str, Any])
            except (msgspec.DecodeError, msgspec.ValidationError) as exc:
                raise InvalidRequestError(f"row {number}: {exc}", hint="each line is one JSON object") from None


def _csv_rows(lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    first = lines.readline()
    lines.seek(0)
    is_ecsv = first.startswith("# %ECSV")
    delimiter = ","
    if is_ecsv:
        # The YAML in its comments gives types and units; of it only the delimiter matters here.
        header = [line for line in lines if line.startswith("#")]
        lines.seek(0)
        delimiter = "," if any(line.replace(" ", "").startswith("#delimiter:','") for line in header) else " "
    rows = csv.reader(
        (line for line in lines if not (is_ecsv and line.startswith("#"))), delimiter=delimiter, strict=True
    )
    columns: Sequence[str] = next(rows, [])
    if "path" not in columns:
        raise InvalidRequestError("the table has no column 'path'", hint=f"its columns: {', '.join(columns) or 'none'}")
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if len(row) != len(columns):
            raise InvalidRequestError(f"row {number} of the table has {len(row)} values for {len(columns)} columns")
        yield number, dict(zip(columns, row, strict=True))
