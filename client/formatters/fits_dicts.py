"""FITS files of several HDUs from dicts of arrays and tables, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.io import fits

from pantry.client.formatters.contract import refuse_type
from pantry.errors import FormatterError

_ACCEPTED = "astropy.io.fits.HDUList or one of its HDUs, CCDData, NDData, or a dict of arrays, tables, headers"


def as_hdus(obj: object) -> fits.HDUList:
    """Return the HDUs of a dict, in its order, or of an image with what belongs to it.

    Raises
    ------
    FormatterError
        A name or a value has no place in FITS.
    """
    from astropy.nddata import NDData

    from pantry.client.formatters.fits_image import image_hdus

    if isinstance(obj, NDData):
        return image_hdus(obj)
    if not isinstance(obj, Mapping):
        raise refuse_type(obj, "FITS", _ACCEPTED)
    hdus = [fits.PrimaryHDU()]
    seen: set[str] = set()
    for name, value in obj.items():
        _check_name(name, seen)
        hdu = _hdu(name, value)
        hdu.name = name
        hdu.header["EXTNAME"] = name  # astropy makes it upper case
        hdus.append(hdu)
    return fits.HDUList(hdus)


def as_dict(hdus: fits.HDUList) -> dict[str, Any]:
    """Return the arrays and tables of HDUs that have data, or a header and a name, by their names."""
    from pantry.client.formatters.fits_provenance import is_provenance
    from pantry.client.formatters.fits_table import table_of

    found: dict[str, Any] = {}
    for number, hdu in enumerate(hdus):
        if is_provenance(hdu):
            continue
        name = str(hdu.header.get("EXTNAME") or ("PRIMARY" if number == 0 else number))
        if name in found:
            name = f"{name},{hdu.ver}"
        if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU):
            found[name] = table_of(hdu)
        elif hdu.data is not None:
            found[name] = hdu.data
        elif number:
            found[name] = hdu.header
    return found


def _hdu(name: str, value: Any) -> Any:
    from pantry.client.formatters.fits_image import image_hdus
    from pantry.client.formatters.fits_table import table_hdu
    from pantry.client.formatters.serialized_tables import as_table

    if isinstance(value, fits.Header):
        return fits.ImageHDU(header=value)
    if isinstance(value, np.ndarray) and not value.dtype.names:
        (image,) = image_hdus(value)
        return fits.ImageHDU(image.data)
    table = as_table(value)
    if table is None:
        raise refuse_type(value, f"the HDU {name!r} of a FITS file", "arrays of numbers, tables, FITS headers")
    return table_hdu(table)


def _check_name(name: object, seen: set[str]) -> None:
    if not isinstance(name, str) or not name.isascii() or not name.isprintable() or name.strip() != name or not name:
        raise FormatterError(f"{name!r} cannot be the name of an HDU", hint="use printable ASCII text")
    if len(name) > 60 or name.upper() in seen or name.upper() == "PRIMARY":
        raise FormatterError(
            f"{name[:80]!r} cannot be the name of an HDU here",
            hint="names are shorter than 60 characters, not PRIMARY, and the same in upper and lower case",
        )
    seen.add(name.upper())
