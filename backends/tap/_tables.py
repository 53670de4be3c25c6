"""Between astropy's tables and Parquet, as Pantry's Parquet formatter reads it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Column, Table, meta

from pantry.backends.querying import QueryOutcome
from pantry.errors import BackendError, InvalidQueryError, LimitExceededError

_CELLS_PER_GROUP = 2_000_000
_MAX_UPLOAD_CELLS = 20_000_000
_MAX_UPLOAD_BYTES = 512 << 20


def write_parquet(table: Table, fd: int) -> QueryOutcome:
    """Write a table of a VOTable: units, descriptions, UCDs, missing values, arrays and texts as they are."""
    arrays, fields = [], []
    for column in table.itercols():
        array = _array(column)
        about = {"unit": str(column.unit or ""), "description": column.description or ""}
        arrays.append(array)
        fields.append(pa.field(column.name, array.type, metadata={key: text for key, text in about.items() if text}))
    schema = pa.schema(fields, metadata={b"table_meta_yaml": "\n".join(_yaml(table)).encode("utf-8", "replace")})
    rows = max(1000, _CELLS_PER_GROUP // max(1, len(fields)))
    with os.fdopen(os.dup(fd), "wb") as file:
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=schema),
            file,
            row_group_size=rows,
            compression="zstd",
            compression_level=1,
            write_page_checksum=True,
        )
    return QueryOutcome(rows=len(table), size_bytes=os.fstat(fd).st_size)


def _yaml(table: Table) -> list[str]:
    """Describe the columns as astropy does; their types are Parquet's business."""
    described = Table()
    for column in table.itercols():
        described[column.name] = Column(
            np.zeros(0), unit=column.unit, description=column.description, meta=_plain(column.meta)
        )
    described.meta.update(_plain(table.meta))
    lines: list[str] = meta.get_yaml_from_table(described)
    return lines


def _plain(mapping: Any) -> dict[str, Any]:
    """Keep what has a place in YAML: texts, numbers, and groups of these."""
    made: dict[str, Any] = {}
    for key, value in (mapping or {}).items():
        if isinstance(value, bool | int | float | str):
            made[str(key)] = value
        elif isinstance(value, np.generic):
            made[str(key)] = value.item()
        elif hasattr(value, "items"):
            made[str(key)] = _plain(value)
        elif isinstance(value, list | tuple):
            made[str(key)] = [one if isinstance(one, bool | int | float | str) else str(one) for one in value]
    return made


def _array(column: Any) -> pa.Array:
    values = np.ma.getdata(np.ma.asarray(column)) if hasattr(column, "mask") else np.asarray(column)
    mask = np.array(np.ma.getmaskarray(column)) if hasattr(column, "mask") else None
    if mask is not None and not mask.any():
        mask = None
    if values.dtype.kind == "O":
        return _objects(column.name, values, mask)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "c":
        raise BackendError(
            f"the column {column.name!r} has complex numbers, which Parquet has not", hint="ask for its parts"
        )
    inner = pa.array(values.reshape(-1), mask=None if mask is None else mask.reshape(-1))
    for size in reversed(values.shape[1:]):
        inner = pa.FixedSizeListArray.from_arrays(inner, size)
    return inner


def _objects(name: str, values: Any, mask: Any) -> pa.Array:
    """Make texts, or arrays whose lengths differ; elements that are missing are missing rows."""
    missing = np.zeros(len(values), dtype=bool) if mask is None else mask.reshape(len(values), -1).all(axis=1)
    rows: list[Any] = []
    for value, is_missing in zip(values, missing, strict=True):
        if is_missing or value is None or value is np.ma.masked:
            rows.append(None)
        elif isinstance(value, bytes):
            rows.append(value.decode("utf-8", "replace"))
        elif isinstance(value, str):
            rows.append(value)
        else:
            rows.append(np.ma.asarray(value).tolist())
    try:
        if all(row is None or isinstance(row, str) for row in rows):
            return pa.array(rows, type=pa.string())
        return pa.array(rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        raise BackendError(f"the column {name!r} is of a type that Parquet has not", hint="leave it out") from None


def read_upload(name: str, fd: int) -> Table:
    """Read an uploaded Parquet file: numbers, texts and booleans, with units and descriptions.

    Raises
    ------
    InvalidQueryError
        It is none, or has what a table of a VOTable cannot have.
    """
    try:
        with pq.ParquetFile(f"/proc/self/fd/{fd}") as parquet:
            about = parquet.metadata
            size = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
            if about.num_rows * about.num_columns > _MAX_UPLOAD_CELLS or size > _MAX_UPLOAD_BYTES:
                raise LimitExceededError(f"the table {name!r} is too large to be uploaded")
            arrow = parquet.read()
    except (OSError, pa.ArrowException) as exc:
        raise InvalidQueryError(f"the table {name!r} is no Parquet file: {str(exc)[:100]}") from None
    table = Table()
    for field in arrow.schema:
        column = arrow.column(field.name)
        text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        if not (text or pa.types.is_boolean(field.type) or pa.types.is_integer(field.type) or _is_float(field.type)):
            raise InvalidQueryError(f"the table {name!r}: the column {field.name!r} of {field.type} cannot be uploaded")
        if column.null_count and not _is_float(field.type):
            raise InvalidQueryError(
                f"the table {name!r}: the column {field.name!r} has missing values", hint="fill them, or leave it out"
            )
        values = np.array(column.to_pylist(), dtype=str) if text else column.to_numpy(zero_copy_only=False)
        if values.dtype.kind == "u" and values.dtype.itemsize == 8:
            raise InvalidQueryError(f"the table {name!r}: {field.name!r} has unsigned integers of 64 bits")
        described = field.metadata or {}
        table[field.name] = Column(
            values,
            unit=described.get(b"unit", b"").decode() or None,
            description=described.get(b"description", b"").decode() or None,
        )
    return table


def _is_float(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))
