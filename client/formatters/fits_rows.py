"""Rows of FITS binary tables, as they lie in the file: some of them read, all of them made of columns."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table

from pantry.client.formatters.contract import ReadSource
from pantry.client.formatters.fits_pieces import write_data, write_hdu
from pantry.client.formatters.fits_provenance import with_provenance
from pantry.model.file_provenance import FileProvenance

_BLOCK_BYTES = 512 * 1024
"""Rows are filled in blocks that stay in the processor's cache."""

_LEAST_ROWS = 1024
_PADDED_TO = 2880
"""Length of a FITS block, in bytes: all parts of a file are multiples of it (standard 4.0, section 3.1)."""


def rows_of(source: ReadSource, hdu: Any, runs: Iterable[tuple[int, int]]) -> fits.BinTableHDU:
    """Return a table HDU in memory with the rows of these half-open ranges, reading no others."""
    width = hdu.header["NAXIS1"]
    first = hdu.fileinfo()["datLoc"]
    runs = list(runs)
    header = hdu.header.copy()
    header["NAXIS2"], header["PCOUNT"] = sum(stop - start for start, stop in runs), 0
    content, place = _room(header)
    with source.open() as file:
        for start, stop in runs:
            file.seek(first + start * width)
            content[place : place + (stop - start) * width] = file.read((stop - start) * width)
            place += (stop - start) * width
    return fits.BinTableHDU.fromstring(content, uint=True)


def _room(header: fits.Header) -> tuple[mmap.mmap, int]:
    """Return memory with this header and zeros for its rows, and where these begin; astropy gets bytes of it."""
    head = header.tostring().encode("ascii")
    size = header["NAXIS1"] * header["NAXIS2"]
    content = mmap.mmap(-1, len(head) + size + -size % _PADDED_TO)
    content[: len(head)] = head
    return content, len(head)


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
    row = _row(empty)
    header = empty.header.copy()
    header["NAXIS2"] = len(table)
    content, place = _room(header)
    for block in _blocks(row, table):
        content[place : place + block.nbytes] = block.view(np.uint8).data
        place += block.nbytes
    return fits.BinTableHDU.fromstring(content, uint=True)


def write_rows(hdus: fits.HDUList, table: Table, file: BinaryIO, provenance: FileProvenance | None) -> None:
    """Write HDUs with checksums, of which the last has none of these rows yet; never more than a block in memory."""
    empty = hdus[-1]
    with with_provenance(hdus, provenance) as complete:
        complete.update_extend()
        complete.verify("exception")
        for hdu in complete:
            if hdu is empty:
                header = hdu.header.copy()
                header["NAXIS2"] = len(table)
                row = _row(empty)
                write_data(header, (block.view(np.uint8).data for block in _blocks(row, table)), file)
            else:
                write_hdu(hdu, file)


def _row(empty: fits.BinTableHDU) -> np.dtype[Any]:
    kinds = empty.columns.dtype
    return np.dtype([(f"f{number}", kinds[number].newbyteorder(">")) for number in range(len(kinds))])


def _blocks(row: np.dtype[Any], table: Table) -> Iterator[Any]:
    """Give the rows of a table as FITS has them, in arrays of some thousand each, the same one again and again."""
    # A multiple of the words of which the sums are made.
    step = max(_BLOCK_BYTES // max(row.itemsize, 1), _LEAST_ROWS) // 4 * 4
    columns = list(table.itercols()) if row.itemsize else []
    block = np.empty(min(step, len(table)), row)
    for start in range(0, len(table) if columns else 0, step):
        for name, column in zip(row.names or (), columns, strict=True):
            some = column[start : start + step]
            block[name][: len(some)] = _stored(np.asarray(some.filled() if hasattr(some, "mask") else some))
        yield block[: min(step, len(table) - start)]


def _stored(values: Any) -> Any:
    """Return elements as FITS has them, but for the order of bytes (standard 4.0, section 7.3.3)."""
    kind = values.dtype
    if kind.kind == "b":
        return np.where(values, np.uint8(ord("T")), np.uint8(ord("F"))).view("i1")
    if kind.kind == "u" and kind.itemsize > 1:  # as signed ones, less TZERO, which is half of their range
        native = values.astype(kind.newbyteorder("="))
        return (native ^ native.dtype.type(1 << (8 * kind.itemsize - 1))).view(f"i{kind.itemsize}")
    return np.char.encode(values, "ascii") if kind.kind == "U" else values
