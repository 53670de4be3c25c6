"""Rows of an answer as one Parquet file, a row group at a time. Blocking; imports Arrow."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from pantry.backends.querying import QueryOutcome
from pantry.errors import LimitExceededError

_CELLS_PER_GROUP = 2_000_000


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, fd: int, max_rows: int, *, hint: str) -> QueryOutcome:
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
    hint : str
        For whoever asked for more.

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
                raise LimitExceededError(f"the answer has more than {max_rows} rows", hint=hint)
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
