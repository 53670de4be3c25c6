"""Storage classes: how a Python type relates to a file format."""

from __future__ import annotations

import msgspec

from pantry.errors import DatasetTypeError


class StorageClass(msgspec.Struct, frozen=True, kw_only=True):
    """A named pair of a Python type and the way it is stored.

    Attributes
    ----------
    name : str
        Gen3's name where there is one of the same meaning.
    python_type : str
        Qualified name of what `Butler.get` returns.
    formatter : str
        Name of the formatter that writes new datasets.
    extension : str
        Suffix of new files, with the dot.
    """

    name: str
    python_type: str
    formatter: str
    extension: str


def _table(*rows: tuple[str, str, str, str]) -> dict[str, StorageClass]:
    return {
        name: StorageClass(name=name, python_type=kind, formatter=formatter, extension=extension)
        for name, kind, formatter, extension in rows
    }


STORAGE_CLASSES: dict[str, StorageClass] = _table(
    ("StructuredDataDict", "dict", "json", ".json"),
    ("StructuredDataList", "list", "json", ".json"),
    ("YamlDict", "dict", "yaml", ".yaml"),
    ("YamlList", "list", "yaml", ".yaml"),
    ("FitsHDUList", "astropy.io.fits.HDUList", "fits_hdus", ".fits"),
    ("RawExposure", "pantry.client.instruments.RawExposure", "fits_raw", ".fits"),
    ("CCDData", "astropy.nddata.CCDData", "fits_image", ".fits"),
    ("FitsArray", "numpy.ndarray", "fits_image", ".fits"),
    ("FitsTable", "astropy.table.Table", "fits_table", ".fits"),
    ("ArrowAstropy", "astropy.table.Table", "parquet", ".parq"),
    ("ArrowTable", "pyarrow.Table", "parquet", ".parq"),
    ("DataFrame", "pandas.DataFrame", "parquet", ".parq"),
    ("AstropyTable", "astropy.table.Table", "ecsv", ".ecsv"),
    ("VOTable", "astropy.table.Table", "votable", ".vot"),
    ("HDF5", "dict", "hdf5", ".h5"),
    ("NumpyArray", "numpy.ndarray", "hdf5", ".h5"),
    ("Plot", "bytes", "png", ".png"),
    ("SkyMap", "pantry.client.skymaps.SkyMap", "skymap", ".yaml"),
    ("Bytes", "bytes", "bytes", ".bin"),
)
"""The storage classes that every repository knows, by name."""


def storage_class(name: str) -> StorageClass:
    """Return the storage class called ``name``; `DatasetTypeError` lists the known ones."""
    try:
        return STORAGE_CLASSES[name]
    except KeyError:
        raise DatasetTypeError(
            f"unknown storage class {name!r}", hint=f"known: {', '.join(sorted(STORAGE_CLASSES))}"
        ) from None
