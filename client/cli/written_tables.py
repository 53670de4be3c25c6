"""Tables that commands write: CSV, ECSV or Parquet, into a file or to the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from pantry.errors import ConflictError, InvalidRequestError

if TYPE_CHECKING:
    import pyarrow as pa

F = TypeVar("F", bound=Callable[..., Any])

_FORMATS = ("csv", "ecsv", "parquet")


def table_options(command: F) -> F:
    """Add ``--format``, ``--output`` and ``--force``."""
    for option in (
        click.option("--force", is_flag=True, help="Let --output replace a file."),
        click.option("-o", "--output", metavar="FILE", help="Write it here; else it is printed."),
        click.option("--format", "written_as", type=click.Choice(_FORMATS), help="Else that of the suffix, or CSV."),
    ):
        command = option(command)
    return command


def chosen_format(written_as: str | None, output: str | None, *, force: bool) -> str:
    """Say as what a table is written, before anything is asked for it.

    Raises
    ------
    ConflictError
        The file is there, and may not be replaced.
    InvalidRequestError
        No format has its suffix.
    """
    if output is not None and os.path.lexists(output) and not force:
        raise ConflictError(f"{output} exists already", hint="give --force to replace it, or another name")
    suffix = os.path.splitext(output or "")[1].removeprefix(".")
    kind = written_as or {"parq": "parquet"}.get(suffix, suffix) or "csv"
    if kind not in _FORMATS:
        raise InvalidRequestError(f"no format has the suffix .{suffix}", hint=f"say --format {', '.join(_FORMATS)}")
    return kind


def write_table(
    table: pa.Table, kind: str, output: str | None, as_astropy: Callable[[pa.Table], Any] | None = None
) -> None:
    """Write a table, whole or not at all; ``as_astropy`` makes of it what ECSV is written of."""
    if output is None:
        if kind == "parquet" and sys.stdout.isatty():
            raise click.UsageError("Parquet is not for terminals; give --output")
        _write_to(table, kind, sys.stdout.buffer, as_astropy)
        return
    from pantry.client.staging import replaced_atomically

    with replaced_atomically(os.path.abspath(output)) as fd, open(f"/proc/self/fd/{fd}", "w+b") as file:
        _write_to(table, kind, file, as_astropy)


def _write_to(table: pa.Table, kind: str, file: Any, as_astropy: Callable[[pa.Table], Any] | None) -> None:
    if kind == "csv":
        import pyarrow.csv as csv

        csv.write_csv(table, file)
        return
    from pantry.client.formatters import WriteRequest, convert, formatter_by_name

    if kind == "ecsv":
        written = as_astropy(table) if as_astropy is not None else convert(table, "astropy.table.Table")
        formatter_by_name("ecsv").write(written, cast(Any, file), WriteRequest(formatter="ecsv"))
        return
    formatter_by_name("parquet").write(table, file, WriteRequest(formatter="parquet"))
