"""Tables in Parquet, read column by column; units, descriptions and metadata live in the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pantry.client.formatters.arrow import to_arrow, to_astropy
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
from pantry.client.formatters.table_checks import ACCEPTED_TABLES
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, Column, chosen_rows
from pantry.model.builtin_formats import ParquetOptions
from pantry.model.file_provenance import KEY, FileProvenance, from_json


class ParquetFormatter:
    """Tables, always read as `pyarrow.Table`; `convert` makes of it what the storage class asks for.

    Read parameters: those of all tables, see `table_parts`. Only the bytes of those
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
            components=(*TABLE_COMPONENTS, "provenance"),
            known=TABLE_PARAMETERS,
        )
        with reading(source, "Parquet"), _opened(source) as parquet:
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
                raise refuse_type(obj, "Parquet", ACCEPTED_TABLES)
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
                # Most numbers are seen once: a dictionary of them makes the file longer and takes most of the time.
                use_dictionary=[field.name for field in table.schema if _is_text(field.type)],
                write_page_checksum=options.checksums,
            )


@contextmanager
def _opened(source: ReadSource) -> Iterator[pq.ParquetFile]:
    if source.path is not None:  # Arrow's own threads read it, without Python's lock
        with pq.ParquetFile(source.path) as parquet:
            yield parquet
    else:
        with source.open() as file, pq.ParquetFile(file) as parquet:
            yield parquet


def _is_text(kind: pa.DataType) -> bool:
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(text or pa.types.is_dictionary(kind))


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
    schema = parquet.schema_arrow
    columns = _stored_columns(source, schema, parameters.get("columns"))
    times = Column(_visible_columns(schema), _times(schema), lambda name: _one_column(source, parquet, name))
    rows = chosen_rows(source, parameters, parquet.metadata.num_rows, times)
    if rows is None:
        return parquet.read(columns=columns, use_pandas_metadata=True)
    metadata = parquet.metadata
    first_rows = np.cumsum([0] + [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
    wanted = np.arange(rows.start, rows.stop) if rows.numbers is None else rows.numbers
    in_group = np.searchsorted(first_rows, wanted, side="right") - 1
    groups, position = np.unique(in_group, return_inverse=True)
    table = parquet.read_row_groups(groups.tolist(), columns=columns, use_pandas_metadata=True)
    before = np.concatenate([[0], np.cumsum(np.diff(first_rows)[groups])])[:-1]
    if rows.numbers is None:
        start = rows.start - int(first_rows[groups[0]]) if len(groups) else 0
        return table.slice(start, rows.stop - rows.start)
    return table.take(before[position] + wanted - first_rows[in_group])


def _times(schema: pa.Schema) -> list[str]:
    """Return the columns that are times by their type: Arrow's, and those of astropy."""
    found = [field.name for field in schema if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)]
    yaml = _described(schema)
    if yaml is not None:
        from pantry.client.formatters.serialized_tables import columns_of_class

        found += columns_of_class(yaml, "astropy.time.core.Time")
    return found


def _one_column(source: ReadSource, parquet: pq.ParquetFile, name: str) -> Any:
    columns = _stored_columns(source, parquet.schema_arrow, [name])
    return to_astropy(parquet.read(columns=columns))[name]
