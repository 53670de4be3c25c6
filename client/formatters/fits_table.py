"""Tables in FITS binary tables, with units, descriptions, mixin columns and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

from astropy.io import fits
from astropy.io.fits.connect import _encode_mixins
from astropy.table import Table

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
from pantry.client.formatters.fits_hdus import check_complete, is_compressed, opened, select_hdu, write_hdus
from pantry.client.formatters.fits_provenance import read_provenance
from pantry.client.formatters.serialized_tables import as_table
from pantry.errors import FormatterError
from pantry.model.builtin_formats import WriteOptions

_META_KEYWORD = "PTRYMETA"
"""Long-string keyword with a JSON object: the table metadata that FITS keywords would change or lose."""


class FitsTableFormatter:
    """One table as `~astropy.table.Table`, in the first table HDU.

    Read parameters: ``columns`` (names), ``rows`` ((start, stop) or a slice; only those rows are read),
    ``hdu``. Components: ``header``, ``columns`` (names), ``rowcount``, ``provenance``.
    """

    extension: ClassVar[str] = ".fits"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table, the selected part of it, or a component."""
        check_request(
            source,
            component,
            parameters,
            components=("header", "columns", "rowcount", "provenance"),
            known=("columns", "rows", "hdu"),
        )
        with reading(source, "FITS table"), opened(source) as hdus:
            if component == "provenance":
                return read_provenance(hdus, source.name)
            hdu = _table_hdu(source, hdus, parameters.get("hdu"))
            if component == "header":
                return hdu.header.copy()
            if component == "columns":
                return list(hdu.columns.names)
            if component == "rowcount":
                return int(hdu.header["NAXIS2"])
            return _read_table(source, hdu, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an astropy Table or QTable, or a structured numpy array."""
        request.options(WriteOptions)
        table = as_table(obj)
        if table is None:
            raise refuse_type(obj, "a FITS table", "astropy Table and QTable, structured numpy arrays")
        with writing(obj, "FITS table"):
            native, other = _split_meta(table.meta)
            bare = table.copy(copy_data=False)
            bare.meta.clear()
            bare.meta.update(native)
            # The encoding that astropy's own writer starts with; private, but its writer offers no checksums.
            hdu = fits.table_to_hdu(_encode_mixins(bare), character_as_bytes=True)
            if other:
                hdu.header[_META_KEYWORD] = json.dumps(other, allow_nan=False)
            write_hdus(fits.HDUList([fits.PrimaryHDU(), hdu]), file, request.provenance)


def _split_meta(meta: Mapping[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    """Divide metadata into what FITS keywords keep as it is, and the rest."""
    native: dict[str, object] = {}
    other: dict[str, object] = {}
    for key, value in meta.items():
        fits_key = isinstance(key, str) and key.isascii() and key.isalnum() and key.isupper() and len(key) <= 8
        if fits_key and _is_simple(value) and not _is_structural(key):
            native[key] = value
            continue
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError) as exc:
            raise FormatterError(
                f"table metadata {key!r} cannot be kept in FITS: {exc}",
                hint="use plain values, or the ArrowAstropy or AstropyTable (ECSV) storage class",
            ) from exc
        other[str(key)] = value
    return native, other


def _is_simple(value: object) -> bool:
    if type(value) is str:
        return len(value) < 60 and value.isascii() and value.isprintable() and value == value.strip()
    return type(value) in (bool, int, float)


def _is_structural(key: str) -> bool:
    return key.rstrip("0123456789") in {
        "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "TUNIT", "TNULL",
        "TSCAL", "TZERO", "TDISP", "TDIM", "THEAP", "TBCOL", "EXTEND", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM",
        "END", "COMMENT", "HISTORY", "HIERARCH", "CONTINUE", _META_KEYWORD, "TCOMM", "TCTYP", "TCUNI", "TCRPX", "TCRVL",
        "TCDLT", "TRPOS", "MJDREF", "TIMESYS", "TREFPOS", "TREFDIR",
    }  # fmt: skip


def _table_hdu(source: ReadSource, hdus: fits.HDUList, which: object) -> Any:
    if which is not None:
        hdu = select_hdu(source, hdus, which)
        if not _is_table(hdu):
            raise FormatterError(f"{source.name}: HDU {which!r} is not a table")
        return hdu
    for hdu in hdus:
        if _is_table(hdu):
            check_complete(source, hdu)
            return hdu
    raise FormatterError(f"{source.name} has no table", hint="read it with an image or HDU list storage class")


def _is_table(hdu: Any) -> bool:
    return isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU)


def _read_table(source: ReadSource, hdu: Any, parameters: Mapping[str, object]) -> Table:
    start, stop = row_range(source, parameters.get("rows"), hdu.header["NAXIS2"])
    whole = stop - start == hdu.header["NAXIS2"]
    if not whole and isinstance(hdu, fits.BinTableHDU) and not hdu.header.get("PCOUNT") and not is_compressed(hdu):
        hdu, whole = _rows_of(source, hdu, start, stop), True
    table = Table.read(hdu, format="fits", astropy_native=True)
    if not whole:  # columns of variable length have a heap: rows alone are not enough
        table = table[start:stop]
    for keyword in ("EXTNAME", "CHECKSUM", "DATASUM"):
        table.meta.pop(keyword, None)
    table.meta.update(json.loads(table.meta.pop(_META_KEYWORD, "{}")))
    names = column_names(source, parameters.get("columns"), table.colnames)
    return table if names is None else table[names]


def _rows_of(source: ReadSource, hdu: Any, start: int, stop: int) -> fits.BinTableHDU:
    """Return a table HDU in memory with these rows, reading no others."""
    width = hdu.header["NAXIS1"]
    header = hdu.header.copy()
    header["NAXIS2"] = stop - start
    with source.open() as file:
        file.seek(hdu.fileinfo()["datLoc"] + start * width)
        rows = file.read((stop - start) * width)
    padding = b"\0" * (-len(rows) % 2880)
    return fits.BinTableHDU.fromstring(header.tostring().encode("ascii") + rows + padding)
