"""Tables as CSV, as third parties publish them: names in the first line, types by the values, no units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, ClassVar

import pyarrow as pa
from pyarrow import csv

from pantry.client.formatters.arrow import to_arrow, to_column
from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    column_names,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.table_parts import TABLE_PARAMETERS, Column, chosen_rows
from pantry.model.builtin_formats import WriteOptions

_DELIMITERS = ",\t;|"
_HEAD_BYTES = 1 << 16
_MOST_BLOCK_BYTES = 1 << 30


class CsvFormatter:
    """Tables, always read as `pyarrow.Table`; `convert` makes of it what the storage class asks for.

    Read parameters: those of all tables, see `table_parts`. Components: ``columns`` (names), ``rowcount``, ``schema``.
    Leading lines that begin with ``#`` are
    passed over; columns are separated by commas, tabs, semicolons or bars, by what the line of names has most of. An
    empty field of a column of numbers is a missing value.
    """

    extension: ClassVar[str] = ".csv"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table or the selected part; text has no index, so the whole file is read."""
        check_request(
            source, component, parameters, components=("columns", "rowcount", "schema"), known=TABLE_PARAMETERS
        )
        with reading(source, "CSV"), source.open() as file:
            skipped, heading = _heading(file)
            delimiter = max(_DELIMITERS, key=heading.count)
            file.seek(0)
            table = csv.read_csv(
                file,
                # One block, so that the type of a column is that of all its values, not of the first ones.
                read_options=csv.ReadOptions(
                    skip_rows=skipped, block_size=min(max(source.size_bytes, 1 << 20), _MOST_BLOCK_BYTES)
                ),
                parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            )
            if component == "columns":
                return list(table.column_names)
            if component == "rowcount":
                return table.num_rows
            if component == "schema":
                return table.schema
            names = column_names(source, parameters.get("columns"), table.column_names)
            times = [field.name for field in table.schema if pa.types.is_timestamp(field.type)]
            column = Column(table.column_names, times, lambda name: to_column(name, table.column(name)))
            rows = chosen_rows(source, parameters, table.num_rows, column)
            part = table if names is None else table.select(names)
            if rows is None:
                return part
            return part.slice(rows.start, rows.stop - rows.start) if rows.numbers is None else part.take(rows.numbers)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an astropy Table or QTable, a pandas DataFrame, a pyarrow Table or a structured numpy array."""
        request.options(WriteOptions)
        with writing(obj, "CSV"):
            table = to_arrow(obj)
            if table is None:
                raise refuse_type(
                    obj, "CSV", "astropy Table and QTable, pandas DataFrame, pyarrow Table, structured numpy arrays"
                )
            nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
            if nested:
                raise refuse_type(obj, "CSV", f"columns of single values, and not {', '.join(nested)}")
            csv.write_csv(table, file)


def _heading(file: BinaryIO) -> tuple[int, str]:
    """Return how many comment lines there are, and the line with the names."""
    head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(head.splitlines()):
        if not line.startswith("#"):
            return number, line
    return 0, ""
