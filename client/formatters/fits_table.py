"""Tables in FITS binary tables, with units, descriptions, mixin columns and metadata."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np
from astropy.io import fits
from astropy.io.fits.connect import _encode_mixins
from astropy.table import Column, MaskedColumn, Table
from astropy.units import Unit

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.fits_hdus import (
    LONG_STRINGS,
    announce_long_strings,
    check_complete,
    is_compressed,
    opened,
    select_hdu,
    write_hdus,
)
from pantry.client.formatters.fits_provenance import read_provenance
from pantry.client.formatters.fits_rows import can_be_filled, filled, rows_of, write_rows
from pantry.client.formatters.serialized_tables import as_table, schema_of
from pantry.client.formatters.table_checks import (
    ACCEPTED_TABLES,
    Limits,
    check_columns,
    check_names,
    check_printable,
)
from pantry.client.formatters.table_parts import TABLE_COMPONENTS, TABLE_PARAMETERS, chosen_rows, part_of_table
from pantry.errors import FormatterError
from pantry.model.builtin_formats import WriteOptions

_META_KEYWORD = "PTRYMETA"
"""Long-string keyword with a JSON object: the table metadata that FITS keywords would change or lose."""

_BYTES_KEYWORD = "PTRYBYTE"
"""Long-string keyword with a JSON list: the columns of characters that are bytes in Python."""

_MASKS_KEYWORD = "PTRYMASK"
"""Long-string keyword with a JSON object: for columns with missing elements, the column that is true for those."""

_UNITS_KEYWORD = "PTRYUNIT"
"""Long-string keyword with a JSON object: for columns whose unit is none of the standard's, that unit."""

_SIGNED_BYTE_ZERO = -128
"""TZERO of unsigned bytes that are signed ones, by the standard (4.0, table 19)."""

_READ_IN = 16
"""A large table is read in so many blocks; astropy takes some 20 ms for each."""
_LEAST_IN_BLOCKS = 1 << 26

_LIMITS = Limits(
    "FITS", "biufcUS", without=frozenset({"float16", "float128", "longdouble", "clongdouble"}), text="printable"
)


class FitsTableFormatter:
    """One table as `~astropy.table.Table`, in the first table HDU.

    Read parameters: those of all tables, see `table_parts` (only the rows are read), ``hdu``. Components: ``header``,
    ``columns`` (names), ``rowcount``, ``schema``, ``provenance``.
    """

    extension: ClassVar[str] = ".fits"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the table, the selected part of it, or a component."""
        check_request(
            source,
            component,
            parameters,
            components=("header", *TABLE_COMPONENTS, "provenance"),
            known=(*TABLE_PARAMETERS, "hdu"),
        )
        with reading(source, "FITS table"), opened(source) as hdus:
            if component == "provenance":
                return read_provenance(hdus, source.name)
            hdu = _table_hdu(source, hdus, parameters.get("hdu"))
            if component == "header":
                return hdu.header.copy()
            if component == "rowcount":
                return int(hdu.header["NAXIS2"])
            if component in ("columns", "schema"):
                empty = table_of(rows_of(source, hdu, [(0, 0)]) if isinstance(hdu, fits.BinTableHDU) else hdu)
                return list(empty.colnames) if component == "columns" else schema_of(empty)
            return _read_table(source, hdu, parameters)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write any kind of table."""
        request.options(WriteOptions)
        with writing(obj, "FITS table"):
            table = as_table(obj)
            if table is None:
                raise refuse_type(obj, "a FITS table", ACCEPTED_TABLES)
            hdu, rows = _described_hdu(table)
            hdus = fits.HDUList([fits.PrimaryHDU(), hdu])
            if rows is None:
                write_hdus(hdus, file, request.provenance)
            else:
                write_rows(hdus, rows, file, request.provenance)


def table_hdu(table: Table) -> fits.BinTableHDU:
    """Return the HDU that a table is stored in; refuse what it would change."""
    hdu, rows = _described_hdu(table)
    return hdu if rows is None else filled(hdu, rows)


def _described_hdu(table: Table) -> tuple[fits.BinTableHDU, Table | None]:
    """Return the HDU that a table is stored in, and what its rows are filled with, if they are not in it yet."""
    native, other = _split_meta(table.meta)
    bare, masks = _with_masks(table)
    bare.meta.clear()
    bare.meta.update(native)
    # The encoding that astropy's own writer starts with; private, but its writer offers no checksums.
    encoded = _encode_mixins(bare)
    plain = [column for column in encoded.itercols() if isinstance(column, Column)]  # times are FITS's own
    check_columns(plain, _LIMITS)
    check_printable(encoded.colnames, "FITS")
    check_names(encoded.colnames, "FITS")
    encoded, signed = _with_unsigned_bytes(encoded)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The unit ")
        # Of a table without rows: those are filled in below, which takes a third of the time.
        fast = can_be_filled(encoded)
        hdu = fits.table_to_hdu(encoded[:0] if fast else encoded, character_as_bytes=True)
    for number, name in enumerate(encoded.colnames, 1):
        if name in signed:
            hdu.header.set(f"TZERO{number}", _SIGNED_BYTE_ZERO, "signed bytes", after=f"TFORM{number}")
    raw = [column.name for column in plain if column.dtype.kind == "S"]
    said = {
        _UNITS_KEYWORD: _add_units(hdu, encoded),
        _MASKS_KEYWORD: masks,
        _META_KEYWORD: other,
        _BYTES_KEYWORD: raw,
    }
    for keyword, value in said.items():
        if value:
            hdu.header[keyword] = json.dumps(value, allow_nan=False)
    announce_long_strings(hdu.header)
    return hdu, encoded if fast else None


def _with_unsigned_bytes(table: Table) -> tuple[Table, set[str]]:
    """Return a view with unsigned bytes, less TZERO, for signed ones, of which astropy makes logicals; and which."""
    signed = {column.name for column in table.itercols() if isinstance(column, Column) and column.dtype == np.int8}
    if not signed:
        return table, signed
    view = table.copy(copy_data=False)
    for name in signed:
        unsigned = np.asarray(table[name]).view(np.uint8) ^ np.uint8(0x80)
        view.replace_column(name, Column(unsigned, **_about(table[name])))
    return view, signed


def _add_units(hdu: fits.BinTableHDU, table: Table) -> dict[str, str]:
    """Write the units that the standard does not know as they are; return them."""
    found: dict[str, str] = {}
    for described, column in zip(hdu.columns, table.itercols(), strict=True):
        if not isinstance(column, Column) or column.unit is None or described.unit:
            continue
        text = column.unit.to_string()
        if Unit(text, parse_strict="silent") != column.unit:
            raise FormatterError(
                f"FITS cannot hold the unit {text!r} of the column {column.name!r}",
                hint="use a unit of astropy.units, or none",
            )
        if text:
            described.unit = text
        found[column.name] = text
    return found


def _with_masks(table: Table) -> tuple[Table, dict[str, str]]:
    """Return a view in which what is missing has a null, or a column of masks, whose name the dict has.

    Astropy calls such columns ``x.mask``, against the standard's advice on names.
    """
    view = table.copy(copy_data=False)
    masks: dict[str, str] = {}
    for column in list(view.itercols()):
        # Also where nothing is missing: astropy gives such columns a null, which must be none of their elements.
        if not isinstance(column, MaskedColumn) or _has_null(column):
            continue
        if not np.any(column.mask):
            view.replace_column(column.name, Column(column.data.data, **_about(column)))
            continue
        name = masks[column.name] = _free_name(f"{column.name}_mask", view.colnames)
        if column.dtype.kind in "fc":  # filled when it is written
            column.fill_value = np.nan
        else:
            view.replace_column(
                column.name, Column(column.data.filled(np.zeros((), column.dtype)[()]), **_about(column))
            )
        view[name] = Column(column.mask, copy=False)
    return view, masks


def _free_name(wanted: str, taken: Iterable[str]) -> str:
    lower = {name.lower() for name in taken}
    numbered = (f"{wanted}{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([wanted], numbered) if name.lower() not in lower)


def _has_null(column: Any) -> bool:
    """Choose TNULL, which FITS has for integers: the smallest value, unless another element has it."""
    # Of columns of arrays, astropy passes over the fill value.
    if column.dtype.name not in ("uint8", "int16", "int32", "int64") or column.ndim > 1:
        return False
    null = np.iinfo(column.dtype).min if column.dtype.kind == "i" else np.iinfo(column.dtype).max
    if np.any((column.data.data == null) & ~column.mask):
        return False
    column.fill_value = null
    return True


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
            if json.loads(json.dumps({key: value}, allow_nan=False)) != {key: value}:
                raise ValueError("tuples and keys that are no text would come back as something else")
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
    if type(value) is float:  # a card has 16 digits
        return math.isfinite(value) and fits.Card.fromstring(fits.Card("X", value).image).value == value
    return type(value) in (bool, int)


def _is_structural(key: str) -> bool:
    return key.rstrip("0123456789") in {
        "SIMPLE", "XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "TUNIT", "TNULL",
        "TSCAL", "TZERO", "TDISP", "TDIM", "THEAP", "TBCOL", "EXTEND", "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM",
        "END", "COMMENT", "HISTORY", "HIERARCH", "CONTINUE", _META_KEYWORD, _BYTES_KEYWORD,
        _UNITS_KEYWORD, _MASKS_KEYWORD, LONG_STRINGS, "TCOMM", "TCTYP", "TCUNI", "TCRPX", "TCRVL",
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
    rows = None
    if parameters.get("timespan") is None:  # or the times of all rows are needed, and with them the rows
        rows = chosen_rows(source, parameters, hdu.header["NAXIS2"])
    # Columns of variable length have a heap: rows alone are not enough.
    in_place = isinstance(hdu, fits.BinTableHDU) and not hdu.header.get("PCOUNT") and not is_compressed(hdu)
    if rows is None and in_place and parameters.get("columns") is None:
        return part_of_table(source, _all_rows(source, hdu), parameters)
    if rows is None or not in_place:
        return part_of_table(source, table_of(hdu), parameters)
    runs = rows.runs()
    table = rows.cut_runs(table_of(rows_of(source, hdu, runs)), runs)
    return part_of_table(source, table, {"columns": parameters.get("columns")})


def _all_rows(source: ReadSource, hdu: fits.BinTableHDU) -> Table:
    """Read a table in blocks of rows, so that its file and its columns are not in memory both."""
    length, width = hdu.header["NAXIS2"], hdu.header["NAXIS1"]
    step = -(-length // _READ_IN)
    if length * width < _LEAST_IN_BLOCKS:
        return table_of(hdu)
    first = table_of(rows_of(source, hdu, [(0, step)]))
    if not all(type(column) in (Column, MaskedColumn) for column in first.itercols()):
        return table_of(hdu)  # times and others are made of several columns
    # Texts are as wide as the longest of a block.
    kinds = {
        name: np.dtype(f"{column.dtype.kind}{hdu.columns.dtype[name].base.itemsize}")
        if column.dtype.kind in "US"
        else column.dtype
        for name, column in first.columns.items()
    }
    values = {name: np.empty((length, *column.shape[1:]), kinds[name]) for name, column in first.columns.items()}
    masks: dict[str, Any] = {}
    for start in range(0, length, step):
        stop = min(start + step, length)
        block = table_of(rows_of(source, hdu, [(start, stop)])) if start else first
        for name, column in block.columns.items():
            values[name][start:stop] = np.asarray(column)
            if isinstance(column, MaskedColumn):
                masks.setdefault(name, np.zeros(values[name].shape, bool))[start:stop] = column.mask
    whole = Table(meta=first.meta)
    for name, column in first.columns.items():
        about = _about(column)
        mask = masks.get(name)
        made = Column(values[name], **about) if mask is None else MaskedColumn(values[name], mask=mask, **about)
        whole.add_column(made, copy=False)
    return whole


def table_of(hdu: Any) -> Table:
    """Return the table that an HDU was made of."""
    raw = json.loads(hdu.header.get(_BYTES_KEYWORD, "[]"))
    # NaN is no missing value: those have a column of masks beside theirs.
    table = Table.read(hdu, format="fits", astropy_native=True, mask_invalid=False)
    for keyword in ("EXTNAME", "CHECKSUM", "DATASUM", LONG_STRINGS, _BYTES_KEYWORD):
        table.meta.pop(keyword, None)
    for name, unit in json.loads(table.meta.pop(_UNITS_KEYWORD, "{}")).items():
        if name in table.colnames and not hasattr(table[name], "to_value"):
            table[name].unit = Unit(unit, parse_strict="silent")
    table.meta.update(json.loads(table.meta.pop(_META_KEYWORD, "{}")))
    _as_signed(table, hdu)
    _as_bytes(table, raw)
    for name, mask in json.loads(table.meta.pop(_MASKS_KEYWORD, "{}")).items():
        if name in table.colnames and mask in table.colnames:
            _set_mask(table, name, mask)
    return table


def _set_mask(table: Table, name: str, mask: str) -> None:
    plain = table[name]
    table.replace_column(name, MaskedColumn(np.asarray(plain), mask=np.asarray(table[mask]), **_about(plain)))
    table.remove_column(mask)


def _as_signed(table: Table, hdu: Any) -> None:
    """Make signed bytes of those whose zero is that of such; astropy reads them as floats."""
    for described in hdu.columns:
        is_signed = described.bzero == _SIGNED_BYTE_ZERO and described.bscale in ("", None, 1)
        if is_signed and str(described.format).lstrip("0123456789") == "B" and described.name in table.colnames:
            read = table[described.name]
            kind = MaskedColumn if isinstance(read, MaskedColumn) else Column
            values = np.asarray(read).astype(np.int8)
            more = {"mask": read.mask} if kind is MaskedColumn else {}
            table.replace_column(described.name, kind(values, **_about(read), **more))


def _as_bytes(table: Table, names: Iterable[str]) -> None:
    for name in names:
        text = table[name] if name in table.colnames else None
        if text is None or text.dtype.kind != "U":
            continue
        table.replace_column(name, Column(np.char.encode(np.asarray(text), "ascii"), **_about(text)))


def _about(column: Column) -> dict[str, Any]:
    """Return what a column is besides its elements, for another one in its place."""
    said = {name: getattr(column, name) for name in ("name", "unit", "description", "format", "meta")}
    return {**said, "copy": False}
