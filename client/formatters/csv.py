"""Tables as CSV, as third parties publish them: names in the first line, types by the values, no units."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
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
from pantry.client.formatters.table_checks import ACCEPTED_TABLES, Limits, check_columns, check_printable
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, Column, chosen_rows
from pantry.errors import FormatterError
from pantry.model.builtin_formats import WriteOptions

_DELIMITERS = ",\t;|"
_HEAD_BYTES = 1 << 16
_MOST_BLOCK_BYTES = 1 << 30
_ROWS_AT_ONCE = 1 << 12
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_OTHER_FORMATS = "an ECSV or a Parquet storage class keeps it"
_TYPES = {pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.date32(), pa.timestamp("s"), pa.timestamp("ns")}
_NEAREST: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_integer, "int64"),
    (pa.types.is_floating, "float64"),
    (pa.types.is_timestamp, "datetime64[ns]"),
    (pa.types.is_dictionary, "text or numbers"),
)
_LIMITS = Limits("CSV", "biufUM")
_MISSING = [text for text in csv.ConvertOptions().null_values if "nan" not in text.lower()]
"""What a missing number is in files of others; NaN is a value."""


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
        check_request(source, component, parameters, components=TABLE_COMPONENTS, known=TABLE_PARAMETERS)
        with reading(source, "CSV"), source.open() as file:
            table = _parsed(file, source.size_bytes)
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
        """Write any kind of table; refuse one whose types, units or texts would come back as something else."""
        request.options(WriteOptions)
        with writing(obj, "CSV"):
            table = _bare(obj)
            if table is None:
                raise refuse_type(obj, "CSV", ACCEPTED_TABLES)
            check_printable(table.column_names, "CSV")
            if len(set(table.column_names)) < table.num_columns:
                raise FormatterError("CSV cannot tell columns of one name apart", hint="rename them")
            if not table.num_rows or not table.num_columns:
                raise FormatterError("CSV cannot tell the types of a table without rows", hint=_OTHER_FORMATS)
            alone = table.num_columns == 1
            columns = [_as_written(name, table.column(name), alone=alone) for name in table.column_names]
            csv.write_csv(pa.table(columns, names=table.column_names), file)


def _parsed(file: BinaryIO, size_bytes: int) -> pa.Table:
    skipped, heading = _heading(file)
    delimiter = max(_DELIMITERS, key=_QUOTED.sub("", heading).count)
    file.seek(0)
    return csv.read_csv(
        file,
        # One block, so that the type of a column is that of all its values, not of the first ones.
        read_options=csv.ReadOptions(skip_rows=skipped, block_size=min(max(size_bytes, 1 << 20), _MOST_BLOCK_BYTES)),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=csv.ConvertOptions(null_values=_MISSING),
    )


def _heading(file: BinaryIO) -> tuple[int, str]:
    """Return how many comment lines there are, and the line with the names."""
    head = file.read(_HEAD_BYTES).decode("utf-8", "replace")
    for number, line in enumerate(head.splitlines()):
        if not line.startswith("#"):
            return number, line
    return 0, ""


def _bare(obj: object) -> pa.Table | None:
    """Return a table as Arrow's; refuse what stands beside its values."""
    from pantry.client.formatters.serialized_tables import as_table

    if isinstance(obj, pa.Table):
        said = {key for key in obj.schema.metadata or {} if key != b"pandas"}
        said |= {key for field in obj.schema for key in field.metadata or {}}
        if said:
            names = ", ".join(sorted(repr(key.decode("utf-8", "replace")) for key in said))
            raise FormatterError(f"CSV cannot hold the metadata {names} of this table", hint=_OTHER_FORMATS)
        return obj
    table = as_table(obj)
    if table is None:
        return None
    if table.meta:
        raise FormatterError(
            f"CSV cannot hold the metadata {', '.join(map(repr, table.meta))} of this table", hint=_OTHER_FORMATS
        )
    for column in table.itercols():
        _check_bare(column)
    check_columns(table.itercols(), _LIMITS)
    arrow = to_arrow(table)
    return None if arrow is None else arrow.replace_schema_metadata(None)


def _check_bare(column: Any) -> None:
    from astropy.table import Column as PlainColumn

    name = column.info.name
    if not isinstance(column, PlainColumn):
        raise FormatterError(f"CSV cannot hold the column {name!r} of {type(column).__name__}", hint=_OTHER_FORMATS)
    for what, said in (("unit", column.unit), ("description", column.description), ("metadata", column.meta)):
        if said:
            raise FormatterError(f"CSV cannot hold the {what} {said!s:.80} of the column {name!r}", hint=_OTHER_FORMATS)
    if column.ndim > 1:
        raise FormatterError(f"CSV cannot hold the column {name!r} of arrays, {column.shape[1:]}", hint=_OTHER_FORMATS)


def _as_written(name: str, column: pa.ChunkedArray, *, alone: bool) -> pa.ChunkedArray:
    """Return a column so that its type is the one that its values will be taken for; refuse it if there is no way."""
    kind = column.type
    if pa.types.is_large_string(kind):
        kind, column = pa.string(), column.cast(pa.string())
    if kind not in _TYPES:
        other = next((other for has_it, other in _NEAREST if has_it(kind)), "")
        raise _refused(name, f"of {kind}", f"convert it to {other}; or {_OTHER_FORMATS}" if other else _OTHER_FORMATS)
    if column.null_count == len(column):
        raise _refused(name, "in which all is missing", _OTHER_FORMATS)
    if kind == pa.string() and column.null_count:
        raise _refused(name, "with missing texts, which come back as empty ones", f"fill them; or {_OTHER_FORMATS}")
    if kind == pa.string() or pa.types.is_temporal(kind):
        _check_by_reading(name, column)
    if kind == pa.float64():
        text = column.cast(pa.string())
        if pc.all(pc.match_substring_regex(text, "^-?[0-9]+$")).as_py():  # or they would be integers
            column = pc.binary_join_element_wise(text, ".0", "")
    if alone and column.null_count:  # readers pass over empty lines
        column = column.cast(pa.string()).fill_null("")
    return column


def _check_by_reading(name: str, column: pa.ChunkedArray) -> None:
    """Refuse texts that all look like numbers or times, and times that look like others."""
    if column.type == pa.string():
        # One text that is nothing else makes the whole column text; most often it is among the first.
        if all(_as_read(column[:length]).type != pa.string() for length in (_ROWS_AT_ONCE, len(column))):
            raise _refused(name, "of texts that would come back as numbers, times or nothing", _OTHER_FORMATS)
        return
    for start in range(0, len(column), _ROWS_AT_ONCE):
        part = column[start : start + _ROWS_AT_ONCE]
        found = _as_read(part)
        if found.type != column.type or not found.equals(part):
            raise _refused(name, f"of {column.type} exactly", _OTHER_FORMATS)


def _as_read(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return what a column is when it was written and read."""
    # With another one beside it: empty lines are passed over.
    written = io.BytesIO()
    csv.write_csv(pa.table([column, pa.array([True] * len(column))], names=["x", "y"]), written)
    return _parsed(written, written.tell()).column("x")


def _refused(name: str, what: str, hint: str) -> FormatterError:
    return FormatterError(f"CSV cannot hold the column {name!r} {what}: types follow from the values", hint=hint)
