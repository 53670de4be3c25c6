"""Rows of FITS binary tables, as they lie in the file: some of them read, all of them made of columns."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table

from pantry.client.formatters.contract import ReadSource

_BLOCK_BYTES = 512 * 1024
"""Rows are filled in blocks that stay in the processor's cache."""

_LEAST_ROWS = 1024
_PADDED_TO = 2880
"""Length of a FITS block, in bytes: all parts of a file are multiples of it (standard 4.0, section 3.1)."""


def rows_of(source: ReadSource, hdu: Any, runs: Iterable[tuple[int, int]]) -> fits.BinTableHDU:
    """Return a table HDU in memory with the rows of these half-open ranges, reading no others."""
    width = hdu.header["NAXIS1"]
    first = hdu.fileinfo()["datLoc"]
    rows = bytearray()
    with source.open() as file:
        for start, stop in runs:
            file.seek(first + start * width)
            rows += file.read((stop - start) * width)
    header = hdu.header.copy()
    header["NAXIS2"], header["PCOUNT"] = len(rows) // width if width else 0, 0
    rows += bytes(-len(rows) % _PADDED_TO)
    return fits.BinTableHDU.fromstring(header.tostring().encode("ascii") + bytes(rows))


def can_be_filled(table: Table) -> bool:
    """Whether `filled` knows how FITS stores each of the columns: all but times."""
    return all(isinstance(column, Column) for column in table.itercols())


def filled(empty: fits.BinTableHDU, table: Table) -> fits.BinTableHDU:
    """Return a table HDU with these rows, each element copied once.

    Astropy's own way makes four copies of the whole table on the way to the file.

    Parameters
    ----------
    empty : BinTableHDU
        What astropy makes of the table without its rows.
    table : Table
        With plain columns.
    """
    kinds = empty.columns.dtype
    fields = [(f"f{number}", kinds[number].newbyteorder(">")) for number in range(len(kinds))]
    row = np.dtype(fields)
    header = empty.header.copy()
    header["NAXIS2"] = len(table)
    head = header.tostring().encode("ascii")
    size = len(table) * row.itemsize
    # Zeros, of which astropy gets slices that are bytes, as it insists on.
    content = mmap.mmap(-1, len(head) + size + -size % _PADDED_TO)
    content[: len(head)] = head
    rows = np.frombuffer(content, dtype=row, count=len(table), offset=len(head)) if size else np.empty(0, row)
    columns = [np.asarray(column.filled() if hasattr(column, "mask") else column) for column in table.itercols()]
    step = max(_BLOCK_BYTES // max(row.itemsize, 1), _LEAST_ROWS)
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        for (name, _), column in zip(fields, columns, strict=True):
            block[name] = _stored(column[start : start + step])
    return fits.BinTableHDU.fromstring(content)


def _stored(values: Any) -> Any:
    """Return elements as FITS has them, but for the order of bytes (standard 4.0, section 7.3.3)."""
    kind = values.dtype
    if kind.kind == "b":
        return np.where(values, np.uint8(ord("T")), np.uint8(ord("F"))).view("i1")
    if kind.kind == "u" and kind.itemsize > 1:  # as signed ones, less TZERO, which is half of their range
        native = values.astype(kind.newbyteorder("="))
        return (native ^ native.dtype.type(1 << (8 * kind.itemsize - 1))).view(f"i{kind.itemsize}")
    return np.char.encode(values, "ascii") if kind.kind == "U" else values
