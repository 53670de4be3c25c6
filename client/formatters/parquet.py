"""Tables in Parquet, read column by column; units, descriptions and metadata live in the schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from pantry.client.formatters.arrow import to_arrow
from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    column_names,
    reading,
    refuse_type,
    row_range,
    writing,
)
from pantry.model.builtin_formats import ParquetOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json


class ParquetFormatter:
    """Tables, always read as `pyarrow.Table`; `convert` makes of it what the storage class asks for.

    Read parameters: ``columns`` (names), ``rows`` ((start, stop) or a slice). Only the bytes of those
    columns, in the row groups that hold those rows, are read. Components: ``columns``, ``rowcount``, ``schema``,
    ``provenance``.
    """

    extension: ClassVar[str] = ".parq"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table, the selected part of it, or a component."""
        check_request(
            source,
            component,
            parameters,
            components=("columns", "rowcount", "schema", "provenance"),
            known=("columns", "rows"),
        )
        with reading(source, "Parquet"), source.open() as file, pq.ParquetFile(file) as parquet:
            if component == "provenance":
                return _provenance(source, parquet.schema_arrow)
            if component == "rowcount":
                return parquet.metadata.num_rows
            if component == "schema":
                return parquet.schema_arrow
            if component == "columns":
                return _visible_columns(parquet.schema_arrow)
            return _without_provenance(_read(source, parquet, parameters))

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an astropy Table or QTable, a pandas DataFrame, a pyarrow Table or a structured numpy array."""
        options = request.options(ParquetOptions)
        with writing(obj, "Parquet"):
            table = to_arrow(obj)
            if table is None:
                raise refuse_type(
                    obj, "Parquet", "astropy Table and QTable, pandas DataFrame, pyarrow Table, structured numpy arrays"
                )
            table = _without_provenance(table)
            if request.provenance is not None:
                kept = {**(table.schema.metadata or {}), KEY.encode(): request.provenance.to_json().encode()}
                table = table.replace_schema_metadata(kept)
            pq.write_table(
                table,
                file,
                row_group_size=options.row_group_rows,
                compression=options.compression,
                compression_level=options.compression_level,
                write_page_checksum=True,
            )


def _provenance(source: ReadSource, schema: pa.Schema) -> FileProvenance:
    text = (schema.metadata or {}).get(KEY.encode())
    return FileProvenance() if text is None else from_json(text, source.name)


def _without_provenance(table: pa.Table) -> pa.Table:
    metadata = dict(table.schema.metadata or {})
    return table if metadata.pop(KEY.encode(), None) is None else table.replace_schema_metadata(metadata)


def _described(schema: pa.Schema) -> list[str] | None:
    yaml = (schema.metadata or {}).get(b"table_meta_yaml")
    return None if yaml is None else yaml.decode("utf-8").split("\n")


def _visible_columns(schema: pa.Schema) -> list[str]:
    from pantry.client.formatters.serialized_tables import described_columns

    yaml = _described(schema)
    return list(schema.names) if yaml is None else described_columns(schema.names, yaml)


def _stored_columns(source: ReadSource, schema: pa.Schema, columns: object) -> list[str] | None:
    """Return the stored columns for the asked ones; a SkyCoord column, for one, is stored as several."""
    if columns is None:
        return None
    yaml = _described(schema)
    names = column_names(source, columns, _visible_columns(schema)) or []
    if yaml is None:
        return names
    from pantry.client.formatters.serialized_tables import plain_columns

    return plain_columns(names, yaml)


def _read(source: ReadSource, parquet: pq.ParquetFile, parameters: Mapping[str, object]) -> pa.Table:
    columns = _stored_columns(source, parquet.schema_arrow, parameters.get("columns"))
    if parameters.get("rows") is None:
        return parquet.read(columns=columns, use_pandas_metadata=True)
    start, stop = row_range(source, parameters["rows"], parquet.metadata.num_rows)
    groups, first_row = _groups(parquet.metadata, start, stop)
    table = parquet.read_row_groups(groups, columns=columns, use_pandas_metadata=True)
    return table.slice(start - first_row, stop - start)


def _groups(metadata: Any, start: int, stop: int) -> tuple[list[int], int]:
    """Return the row groups that hold a range of rows, and the number of the first row in them."""
    groups: list[int] = []
    first_row = start
    position = 0
    for i in range(metadata.num_row_groups):
        length = metadata.row_group(i).num_rows
        if position < stop and position + length > start:
            if not groups:
                first_row = position
            groups.append(i)
        position += length
    return groups, first_row
