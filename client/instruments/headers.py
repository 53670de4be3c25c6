"""Raw headers, read without the pixels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, BinaryIO

from astropy.io import fits

from pantry.client.formatters.contract import ReadSource
from pantry.client.formatters.fits_hdus import header_dict
from pantry.errors import FormatterError

RawFile = str | os.PathLike[str] | BinaryIO | ReadSource


def file_name(file: RawFile) -> str:
    """Return what messages call the file."""
    if isinstance(file, ReadSource):
        return file.name
    if isinstance(file, str | os.PathLike):
        return os.fspath(file)
    return str(getattr(file, "name", "the raw file"))


def read_raw_header(file: RawFile) -> dict[str, object]:
    """Read the primary header of a raw FITS file, and no pixels.

    Parameters
    ----------
    file : str, path, binary file object or ReadSource
        The raw file. A file object is left open, behind the header.

    Returns
    -------
    dict
        Keywords and values; undefined values are None. Where the primary header does not name the
        instrument (primary HDUs that only carry compression), the first extension's header is added.

    Raises
    ------
    FormatterError
        If the file is not FITS.
    """
    if isinstance(file, ReadSource):
        with file.open() as opened:
            return _read(opened, file.name)
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            return _read(opened, os.fspath(file))
    return _read(file, file_name(file))


def _read(file: BinaryIO, name: str) -> dict[str, object]:
    try:
        # Not Header.fromfile: fits.open unpacks gzip, and raw files named .fits may be gzip (those of LATISS 2018 are).
        hdus = fits.open(file, lazy_load_hdus=True, memmap=False)
        header = header_of(hdus)
        hdus.close(closed=False)
    except (OSError, ValueError, IndexError, EOFError, fits.VerifyError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise FormatterError(
            f"{name} is not a FITS file: {str(exc) or 'it is empty'}",
            hint="raw exposures are FITS files with one header per HDU",
        ) from exc
    return header


def header_of(hdus: fits.HDUList) -> dict[str, object]:
    """Return the header of an open file, as of `read_raw_header`."""
    header = header_dict(hdus[0].header)
    if not header.get("INSTRUME") and header.get("NAXIS") == 0 and (second := second_hdu(hdus)) is not None:
        primary = {key: value for key, value in header.items() if value is not None}
        header = {**header_dict(second.header), **primary}
    return header


def second_hdu(hdus: fits.HDUList) -> Any:
    """Return the first extension, None if there is none; ``len`` would read all of them."""
    try:
        return hdus[1]
    except IndexError:
        return None


def normalise(header: Mapping[str, object]) -> dict[str, object]:
    """Return any mapping of keywords as `read_raw_header` would."""
    if isinstance(header, fits.Header):
        return header_dict(header)
    return {key: None if isinstance(value, fits.card.Undefined) else value for key, value in header.items()}
