"""Formatters: between a dataset's file and the Python object that people work with.

Importing this package loads no format library; each is loaded when the first object of its format is
read or written.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import cast

from pantry.client.formatters.contract import Formatter, ReadSource, WriteRequest
from pantry.client.formatters.conversions import convert
from pantry.errors import FormatterError

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
    where = BUILTIN_FORMATTERS.get(name)
    if where is not None:
        module, _, attribute = where.partition(":")
        return cast(Formatter, getattr(import_module(f"{__name__}.{module}"), attribute)())
    return _plugin(name)


def formatter_is_known(name: str) -> bool:
    """Whether `formatter_by_name` knows a name; loads nothing."""
    if name in BUILTIN_FORMATTERS:
        return True
    from importlib.metadata import entry_points

    return name in entry_points(group=ENTRY_POINT_GROUP).names


def _plugin(name: str) -> Formatter:
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP)
    if name not in found.names:
        known = sorted(set(BUILTIN_FORMATTERS) | set(found.names))
        raise FormatterError(
            f"unknown formatter {name!r}",
            hint=f"known: {', '.join(known)}; others come with packages that offer {ENTRY_POINT_GROUP!r} entry points",
        )
    try:
        return cast(Formatter, found[name].load()())
    except Exception as exc:
        raise FormatterError(f"formatter {name!r} from {found[name].value} fails to load: {exc}") from exc
