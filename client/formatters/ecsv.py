"""Tables as ECSV: text that any program reads, with units, descriptions and metadata in its header."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np
from astropy.table import Table
from astropy.table.meta import get_header_from_yaml
from astropy.time import TimeBase

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.serialized_tables import as_table, describe, visible_columns
from pantry.client.formatters.table_checks import (
    ACCEPTED_TABLES,
    Limits,
    check_columns,
    check_printable,
    masked_exactly,
)
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, part_or_component
from pantry.errors import FormatterError
from pantry.model.builtin_formats import EcsvOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json

_LIMITS = Limits("ECSV", "biufcUM", text="trimmed")
_COMPONENTS = (*TABLE_COMPONENTS, "provenance")
_MAX_HEADER_BYTES = 16 * 1024 * 1024


class EcsvFormatter:
    """One `~astropy.table.Table`.

    Read parameters: those of all tables, see `table_parts`. Components: ``columns`` (names), ``rowcount``, ``schema``,
    ``provenance``.
    Empty text is empty text: ECSV writes missing text alike, so in files of Pantry a column of masks tells them.
    """

    extension: ClassVar[str] = ".ecsv"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table or the selected part; text has no index, so the whole file is read."""
        check_request(source, component, parameters, components=_COMPONENTS, known=TABLE_PARAMETERS)
        with reading(source, "ECSV"):
            with source.open() as file:
                header = read_header(file)
                if component == "columns":
                    return _visible(header)
                if component == "provenance":
                    said = dict(header.get("meta") or {}).get(KEY)
                    return FileProvenance() if said is None else from_json(str(said), source.name)
                file.seek(0)
                content = io.BytesIO(file.read())
            text = [column["name"] for column in header["datatype"] if column["datatype"] == "string"]
            # With no text left to it, astropy takes the list of those to leave out for none.
            table = Table.read(content, format="ascii.ecsv", fill_exclude_names=text or None)
            table.meta.pop(KEY, None)
            return part_or_component(source, table, component, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write any kind of table."""
        options = request.options(EcsvOptions)
        with writing(obj, "ECSV"):
            table = as_table(obj)
            if table is None:
                raise refuse_type(obj, "ECSV", ACCEPTED_TABLES)
            table = masked_exactly(table, "ecsv", lambda column: column.dtype.kind in "biufc" and column.ndim == 1)
            _keep_times(table)
            table.meta.pop(KEY, None)
            if request.provenance is not None:
                table.meta[KEY] = request.provenance.to_json()
            plain, _ = describe(table, context="ecsv")
            check_columns(plain.itercols(), _LIMITS)
            check_printable(plain.colnames, "ECSV")
            for column in plain.itercols():
                if column.ndim > 1 and (not len(column) or column.dtype.kind == "M"):
                    raise FormatterError(
                        f"ECSV cannot hold the column {column.name!r} of arrays of times, or without rows",
                        hint="leave it out, or use a Parquet, HDF5 or FITS storage class",
                    )
        text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
        try:
            with writing(obj, "ECSV"):
                table.write(text, format="ascii.ecsv", delimiter=options.delimiter)
        finally:
            text.flush()
            text.detach()


def read_header(file: BinaryIO) -> dict[str, Any]:
    """Return the description of a table at the beginning of a file: its columns, ``datatype``, and ``meta``."""
    lines: list[str] = []
    size = 0
    for line in file:
        size += len(line)
        if not line.startswith(b"#") or size > _MAX_HEADER_BYTES:
            break
        lines.append(line[1:].removeprefix(b" ").decode())
    # The first line is the format's version.
    header: dict[str, Any] = get_header_from_yaml(lines[1:])
    return header


def _visible(header: Mapping[str, Any]) -> list[str]:
    names = [column["name"] for column in header["datatype"]]
    mixins = dict(header.get("meta") or {}).get("__serialized_columns__", {})
    return visible_columns(names, mixins)


def _keep_times(view: Table) -> None:
    """Have times written as two numbers, if the text of their own format would lose something."""
    for column in view.itercols():
        if isinstance(column, TimeBase):
            again = type(column)(column.value, format=column.format, scale=column.scale)
            exact = np.array_equal(again.jd1, column.jd1) and np.array_equal(again.jd2, column.jd2)
            method = "formatted_value" if exact else "jd1_jd2"
            column.info.serialize_method = {**column.info.serialize_method, "ecsv": method}
