"""The formats that Pantry itself reads and writes: their names, suffixes, Python types and write options.

Plain facts without any format library, so that a configuration can be checked where it is loaded, in the
daemon too. The formatters themselves are in `pantry.client.formatters`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]

_TABLES = ("astropy.table.Table", "astropy.table.QTable", "numpy.ndarray")


class WriteOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a formatter writes; each format has a class of its own. This one is of formats without options."""


class JsonOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `json`.

    Attributes
    ----------
    indent : int
        Spaces for each level of nesting; 0 for one line without any.
    """

    indent: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0


class FitsImageOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `fits_image`, those of the FITS standard 4.0, section 10.

    Attributes
    ----------
    compression : str
        ``none``, or the algorithm by which tiles are compressed.
    tile_shape : tuple of int
        Height and width of a tile in pixels; empty for single rows, or 16 rows with ``hcompress``.
    quantize_level : float
        Of floating-point pixels: levels in one standard deviation of the noise of a tile; the more, the
        better and the larger. 0 keeps them exactly, which needs ``gzip`` or ``gzip_2``.
    dither : str
        How quantised pixels are dithered: ``subtractive_2`` keeps exact zeros.
    dither_seed : int
        1 to 10000, so that the same pixels always give the same file.
    """

    compression: Literal["none", "rice", "gzip", "gzip_2", "hcompress", "plio"] = "none"
    tile_shape: tuple[Positive, ...] = ()
    quantize_level: Annotated[float, msgspec.Meta(ge=0)] = 16.0
    dither: Literal["none", "subtractive_1", "subtractive_2"] = "subtractive_2"
    dither_seed: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1

    def __post_init__(self) -> None:
        """Refuse what the algorithms cannot do."""
        if self.quantize_level == 0 and self.compression not in ("none", "gzip", "gzip_2"):
            raise ValueError("quantize_level 0 keeps floating-point pixels exactly, which needs gzip or gzip_2")
        if self.compression == "hcompress" and self.tile_shape and min(self.tile_shape) < 4:
            raise ValueError("tiles of hcompress have at least 4 by 4 pixels")
        if len(self.tile_shape) not in (0, 2):
            raise ValueError("tile_shape is height and width")


class ParquetOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `parquet`.

    Attributes
    ----------
    compression : str
        Codec of the pages.
    compression_level : int or None
        Of codecs that have levels; None for the codec's own.
    row_group_rows : int
        Rows of a row group: what a read of few rows costs at least.
    checksums : bool
        Write a CRC-32 with each page, for readers that look at it.
    """

    compression: Literal["none", "snappy", "gzip", "lz4", "zstd", "brotli"] = "lz4"
    compression_level: Annotated[int, msgspec.Meta(ge=-7, le=22)] | None = None
    row_group_rows: Positive = 1 << 17
    checksums: bool = False


class Hdf5Options(WriteOptions, frozen=True, kw_only=True):
    """Options of `hdf5`.

    Attributes
    ----------
    compression : str
        Filter of datasets with more than 65,536 elements.
    compression_level : int
        Of ``gzip``.
    shuffle : bool
        Put bytes of equal significance together before they are compressed.
    checksums : bool
        Write datasets with more than 65,536 elements in chunks, each with a Fletcher-32 that readers check.
    """

    compression: Literal["none", "gzip", "lzf"] = "none"
    compression_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 4
    shuffle: bool = True
    checksums: bool = False


class EcsvOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `ecsv`.

    Attributes
    ----------
    delimiter : str
        Between columns: a space or a comma.
    """

    delimiter: Literal[" ", ","] = " "


class VoTableOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `votable`.

    Attributes
    ----------
    serialization : str
        How the rows are written: as elements of XML, or as a binary stream within it.
    """

    serialization: Literal["tabledata", "binary2"] = "binary2"


class FigureOptions(WriteOptions, frozen=True, kw_only=True):
    """Options of `png` and `pdf`.

    Attributes
    ----------
    dpi : int or None
        Pixels in an inch of the figure; None for the figure's own.
    """

    dpi: Annotated[int, msgspec.Meta(ge=10, le=2400)] | None = None


class BuiltinFormat(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be known of a formatter without loading it.

    Attributes
    ----------
    formatter : str
        Its name, as repositories store it; never changed.
    extensions : tuple of str
        Suffixes that its files may have, the usual one first. Empty: any.
    python_types : tuple of str
        What it writes, and what `Butler.get` makes of its files, by qualified name.
    options : type
        What its write options may be.
    """

    formatter: str
    extensions: tuple[str, ...]
    python_types: tuple[str, ...]
    options: type[WriteOptions] = WriteOptions


_FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.fz")

BUILTIN_FORMATS: dict[str, BuiltinFormat] = {
    one.formatter: one
    for one in (
        BuiltinFormat(formatter="bytes", extensions=(), python_types=("bytes",)),
        BuiltinFormat(formatter="composite", extensions=(".json",), python_types=("pantry.model.composites.Manifest",)),
        BuiltinFormat(
            formatter="json", extensions=(".json",), python_types=("dict", "list", "str"), options=JsonOptions
        ),
        BuiltinFormat(formatter="yaml", extensions=(".yaml", ".yml"), python_types=("dict", "list", "str")),
        BuiltinFormat(
            formatter="ecsv",
            extensions=(".ecsv",),
            python_types=(*_TABLES, "pandas.DataFrame", "pyarrow.Table"),
            options=EcsvOptions,
        ),
        BuiltinFormat(
            formatter="csv",
            extensions=(".csv", ".tsv"),
            python_types=(*_TABLES, "pandas.DataFrame", "pyarrow.Table"),
        ),
        BuiltinFormat(
            formatter="parquet",
            extensions=(".parq", ".parquet"),
            python_types=(*_TABLES, "pandas.DataFrame", "pyarrow.Table"),
            options=ParquetOptions,
        ),
        BuiltinFormat(
            formatter="hdf5",
            extensions=(".h5", ".hdf5"),
            python_types=("dict", *_TABLES, "pandas.DataFrame", "pyarrow.Table"),
            options=Hdf5Options,
        ),
        BuiltinFormat(
            formatter="votable",
            extensions=(".vot", ".xml", ".votable"),
            python_types=(*_TABLES, "pandas.DataFrame", "pyarrow.Table"),
            options=VoTableOptions,
        ),
        BuiltinFormat(formatter="pdf", extensions=(".pdf",), python_types=("bytes",), options=FigureOptions),
        BuiltinFormat(formatter="png", extensions=(".png",), python_types=("bytes",), options=FigureOptions),
        BuiltinFormat(formatter="skymap", extensions=(".yaml",), python_types=("pantry.client.skymaps.SkyMap",)),
        BuiltinFormat(
            formatter="fits_table",
            extensions=_FITS_SUFFIXES,
            python_types=(*_TABLES, "pandas.DataFrame", "pyarrow.Table"),
        ),
        BuiltinFormat(
            formatter="fits_image",
            extensions=_FITS_SUFFIXES,
            python_types=(
                "astropy.nddata.CCDData",
                "astropy.nddata.NDData",
                "astropy.io.fits.HDUList",
                "numpy.ndarray",
            ),
            options=FitsImageOptions,
        ),
        BuiltinFormat(
            formatter="fits_hdus", extensions=_FITS_SUFFIXES, python_types=("astropy.io.fits.HDUList", "dict")
        ),
        BuiltinFormat(
            formatter="fits_raw",
            extensions=_FITS_SUFFIXES,
            python_types=("pantry.client.instruments.RawExposure", "astropy.io.fits.HDUList"),
        ),
    )
}
"""The formats, by the name of the formatter."""
