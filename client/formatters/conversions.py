"""From what a formatter returns to the Python type that the storage class names."""

from __future__ import annotations

from typing import Any

from pantry.errors import FormatterError

_ALIASES = {
    "astropy.table.table.Table": "astropy.table.Table",
    "astropy.table.table.QTable": "astropy.table.QTable",
    "astropy.nddata.ccddata.CCDData": "astropy.nddata.CCDData",
    "astropy.nddata.nddata.NDData": "astropy.nddata.NDData",
    "astropy.io.fits.hdu.hdulist.HDUList": "astropy.io.fits.HDUList",
    "pantry.client.instruments.raw_exposure.RawExposure": "pantry.client.instruments.RawExposure",
    "pandas.core.frame.DataFrame": "pandas.DataFrame",
    "pyarrow.lib.Table": "pyarrow.Table",
    "pantry.client.skymaps.skymap.SkyMap": "pantry.client.skymaps.SkyMap",
}
_TABLES = ("astropy.table.Table", "astropy.table.QTable", "pandas.DataFrame", "pyarrow.Table", "numpy.ndarray")


def type_names(obj: object) -> list[str]:
    """Return the public qualified names of an object's class and its bases."""
    names: list[str] = []
    for kind in type(obj).__mro__:
        full = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        names.append(_ALIASES.get(full, full))
    return names


def convert(obj: object, python_type: str) -> Any:
    """Return ``obj`` as the type that a storage class names.

    Parameters
    ----------
    obj : object
        What a formatter read.
    python_type : str
        ``astropy.table.Table`` or ``QTable``, ``pandas.DataFrame``, ``pyarrow.Table``, ``numpy.ndarray``
        (a structured array for tables, the pixels for a CCDData), or any type that ``obj`` has already.

    Raises
    ------
    FormatterError
        If there is no conversion. The name is only compared, never imported.
    """
    names = type_names(obj)
    # A QTable is a Table, but who asks for a Table wants columns with a unit, not quantities.
    if python_type in names and not (python_type == "astropy.table.Table" and "astropy.table.QTable" in names):
        return obj
    if python_type in _TABLES and any(name in _TABLES[:4] for name in names):
        return _convert_table(obj, names, python_type)
    if python_type in _TABLES and "numpy.ndarray" in names and getattr(obj, "dtype").names:  # noqa: B009 (obj: object)
        return _convert_table(obj, names, python_type)
    if python_type == "numpy.ndarray" and "astropy.nddata.CCDData" in names:
        return obj.data  # type: ignore[attr-defined]
    if python_type == "astropy.nddata.CCDData" and "numpy.ndarray" in names:
        from astropy.nddata import CCDData

        return CCDData(obj, unit="")
    if python_type == "astropy.io.fits.HDUList" and "astropy.nddata.NDData" in names:
        from pantry.client.formatters.fits_image import image_hdus

        return image_hdus(obj)
    if python_type == "dict" and "astropy.io.fits.HDUList" in names:
        from pantry.client.formatters.fits_dicts import as_dict

        return as_dict(obj)
    if python_type == "dict" and "astropy.io.fits.header.Header" in names:
        from pantry.client.formatters.fits_hdus import header_dict

        return header_dict(obj)
    raise FormatterError(
        f"a {names[0]} cannot be converted to {python_type}",
        hint=f"tables convert to {', '.join(_TABLES)}; choose a storage class of one of these, or of {names[0]}",
    )


def _convert_table(obj: Any, names: list[str], python_type: str) -> Any:
    if python_type == "pandas.DataFrame" and "astropy.table.Table" in names:
        return obj.to_pandas()
    if python_type == "pyarrow.Table" or "pandas.DataFrame" in names:
        from pantry.client.formatters.arrow import to_arrow

        table = to_arrow(obj)
        return table if python_type == "pyarrow.Table" else _convert_table(table, ["pyarrow.Table"], python_type)
    if "pyarrow.Table" in names:
        from pantry.client.formatters.arrow import to_astropy, to_numpy

        if python_type == "pandas.DataFrame":
            return _to_frame(obj)
        if python_type == "numpy.ndarray":
            return to_numpy(obj)
        table = to_astropy(obj)
    else:
        from pantry.client.formatters.serialized_tables import as_table

        table = as_table(obj)
        if table is not None and python_type == "numpy.ndarray":
            return table.as_array()
    from astropy.table import Table

    from pantry.client.formatters.serialized_tables import as_qtable

    return as_qtable(table) if python_type == "astropy.table.QTable" else Table(table, copy=False)


def _to_frame(table: Any) -> Any:
    """Return an Arrow table as a DataFrame; where numbers are missing, integers stay integers."""
    frame = table.to_pandas()
    if b"pandas" in (table.schema.metadata or {}):  # it says itself which types its columns had
        return frame
    import pandas as pd
    import pyarrow as pa

    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_integer(column.type) and column.null_count:
            # As pandas calls them: Int64, UInt8.
            frame[name] = column.to_pandas(
                types_mapper=lambda kind: pd.api.types.pandas_dtype(str(kind).replace("int", "Int").replace("u", "U"))
            )
    return frame
