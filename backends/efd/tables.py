"""Answers as Parquet, a row group at a time, described as Pantry's Parquet formatter and astropy read them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pantry.backends.querying import QueryOutcome
from pantry.errors import LimitExceededError

TIME = "time"
"""Column of the instants: TAI, to the nanosecond."""

_YAML_KEY = b"table_meta_yaml"
_CELLS_PER_GROUP = 2_000_000
_NAMES = {
    pa.float64(): "float64",
    pa.int64(): "int64",
    pa.bool_(): "bool",
    pa.string(): "string",
    pa.timestamp("ns"): "datetime64",
}


class Column(NamedTuple):
    """A column of an answer."""

    name: str
    type: pa.DataType
    unit: str = ""
    description: str = ""


def schema_of(columns: Sequence[Column], meta: Mapping[str, str | int | float]) -> pa.Schema:
    """Describe a table; if it has the column `TIME`, astropy makes a `~astropy.time.Time` in TAI of it."""
    fields = []
    for one in columns:
        metadata = {"unit": one.unit, "description": one.description}
        fields.append(pa.field(one.name, one.type, metadata={key: value for key, value in metadata.items() if value}))
    return pa.schema(fields, metadata={_YAML_KEY: _described(columns, meta).encode()})


def _described(columns: Sequence[Column], meta: Mapping[str, str | int | float]) -> str:
    """Write the YAML that astropy's Parquet reader knows; JSON texts are YAML, whatever is in them."""
    lines = ["datatype:"]
    for one in columns:
        about = {"name": one.name, "datatype": _NAMES[one.type]}
        about |= {key: value for key, value in (("unit", one.unit), ("description", one.description)) if value}
        lines.append("- {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in about.items()) + "}")
    lines.append("meta:")
    lines += [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in meta.items()]
    if any(one.name == TIME and one.type == pa.timestamp("ns") for one in columns):
        lines += [
            "  __serialized_columns__:",
            "    time:",
            "      __class__: astropy.time.core.Time",
            "      format: datetime64",
            "      scale: tai",
            "      value: !astropy.table.SerializedColumn {name: time}",
        ]
    elif not meta:
        lines[-1] = "meta: {}"
    return "\n".join(lines)


def write(tables: Iterable[pa.Table], schema: pa.Schema, fd: int, max_rows: int) -> QueryOutcome:
    """Write tables of one schema, one after the other.

    Parameters
    ----------
    tables : iterable of pa.Table
        With the types of ``schema``.
    schema : pa.Schema
        With units and descriptions.
    fd : int
        An empty file, which stays open.
    max_rows : int
        Most rows.

    Raises
    ------
    LimitExceededError
        There are more rows.
    """
    group_rows = max(1000, _CELLS_PER_GROUP // max(1, len(schema)))
    pending: list[pa.Table] = []
    rows = waiting = 0
    with (
        os.fdopen(os.dup(fd), "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", compression_level=1, write_page_checksum=True) as writer,
    ):
        for table in tables:
            rows += table.num_rows
            if rows > max_rows:
                raise LimitExceededError(
                    f"the answer has more than {max_rows} rows", hint="ask for a shorter span, or resample it"
                )
            pending.append(table)
            waiting += table.num_rows
            if waiting >= group_rows:
                writer.write_table(_one(pending, schema), row_group_size=waiting)
                pending, waiting = [], 0
        if waiting:
            writer.write_table(_one(pending, schema), row_group_size=waiting)
    return QueryOutcome(rows=rows, size_bytes=os.fstat(fd).st_size)


def _one(pending: list[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables(pending).combine_chunks().cast(schema)
