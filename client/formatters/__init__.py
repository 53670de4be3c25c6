"""Formatters: between a dataset's file and the Python object that people work with.

Importing this package loads no format library; each is loaded when the first object of its format is
read or written.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from pantry.client.formatters.contract import Formatter, ReadSource, WriteRequest
from pantry.client.formatters.conversions import convert
from pantry.client.plugins import made_by_name

__all__ = [
    "BUILTIN_FORMATTERS",
    "Formatter",
    "ReadSource",
    "WriteRequest",
    "convert",
    "formatter_by_name",
    "formatter_is_known",
]

ENTRY_POINT_GROUP = "pantry.formatters"
"""Entry points by which other packages add formatters: name = "module:Class"."""

BUILTIN_FORMATTERS: dict[str, str] = {
    "bytes": "plain:BytesFormatter",
    "composite": "composite:CompositeFormatter",
    "csv": "csv:CsvFormatter",
    "ecsv": "ecsv:EcsvFormatter",
    "fits_hdus": "fits_hdus:FitsHdusFormatter",
    "fits_raw": "fits_raw:FitsRawFormatter",
    "fits_image": "fits_image:FitsImageFormatter",
    "fits_table": "fits_table:FitsTableFormatter",
    "hdf5": "hdf5:Hdf5Formatter",
    "json": "plain:JsonFormatter",
    "parquet": "parquet:ParquetFormatter",
    "pdf": "figures:PdfFormatter",
    "png": "figures:PngFormatter",
    "skymap": "skymap:SkyMapFormatter",
    "votable": "votable:VoTableFormatter",
    "yaml": "plain:YamlFormatter",
}
"""Formatter names as repositories store them, never renamed, and where each is."""


@cache
def formatter_by_name(name: str) -> Formatter:
    """Return the formatter that repositories call ``name``.

    Parameters
    ----------
    name : str
        A key of `BUILTIN_FORMATTERS`, or the name of an entry point in the group ``pantry.formatters``.

    Raises
    ------
    FormatterError
        If there is none, or its package fails to import.
    """
    made = made_by_name("formatter", name, builtin=BUILTIN_FORMATTERS, package=__name__, group=ENTRY_POINT_GROUP)
    return cast(Formatter, made)


def formatter_is_known(name: str) -> bool:
    """Whether `formatter_by_name` knows a name; loads nothing."""
    if name in BUILTIN_FORMATTERS:
        return True
    from importlib.metadata import entry_points

    return name in entry_points(group=ENTRY_POINT_GROUP).names
