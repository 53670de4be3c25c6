"""FITS files as astropy HDU lists, and what all FITS formatters share."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, ClassVar, cast

from astropy.io import fits

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    writing,
)
from pantry.client.formatters.fits_dicts import as_hdus
from pantry.client.formatters.fits_provenance import read_provenance, with_provenance
from pantry.errors import FormatterError
from pantry.model.builtin_formats import WriteOptions
from pantry.model.file_provenance import FileProvenance

LONG_STRINGS = "LONGSTRN"
HDU_PREFIX = "hdu."
"""Of the component that is one HDU."""


def open_unpacked(source: ReadSource) -> BinaryIO:
    """Open a file that may be gzip whatever its name; astropy sees that by itself in real files only."""
    file = source.open()
    if source.path is None and file.read(2) == b"\x1f\x8b":
        file.seek(0)
        return cast(BinaryIO, _OwningGzipFile(file))
    file.seek(0)
    return file


class _OwningGzipFile(gzip.GzipFile):
    """Closes the packed file with itself."""

    def __init__(self, packed: BinaryIO) -> None:
        super().__init__(fileobj=packed, mode="rb")
        self._packed = packed

    def close(self) -> None:
        super().close()
        self._packed.close()


@contextmanager
def opened(source: ReadSource) -> Iterator[fits.HDUList]:
    """Open a FITS file for the length of a block; headers are read as they are asked for."""
    with open_unpacked(source) as file, fits.open(file, lazy_load_hdus=True, memmap=False) as hdus:
        yield hdus


def open_lazily(source: ReadSource, kind: type[Any] = fits.HDUList) -> Any:
    """Return an HDU list of this kind that owns its open file."""
    file = open_unpacked(source)
    try:
        hdus = kind.fromfile(file, lazy_load_hdus=True, uint=True)
        check_complete(source, hdus[0])
    except BaseException:
        file.close()
        raise
    return hdus


def select_hdu(source: ReadSource, hdus: fits.HDUList, which: object) -> Any:
    """Return the HDU of this number, name, or (name, version)."""
    key = int(which) if isinstance(which, str) and which.isdecimal() else which
    if isinstance(key, str) and "," in key:
        name, _, version = key.rpartition(",")
        key = (name, int(version))
    try:
        hdu = hdus[key]
    except (KeyError, IndexError, TypeError):
        names = [f"{i}:{other.name}" if other.name else str(i) for i, other in enumerate(hdus)]
        raise FormatterError(f"{source.name} has no HDU {which!r}", hint=f"its HDUs: {', '.join(names)}") from None
    check_complete(source, hdu)
    return hdu


def check_complete(source: ReadSource, hdu: Any) -> None:
    """Refuse an HDU whose data lie beyond the end of the file; astropy would return what is there."""
    info = hdu.fileinfo()
    if is_compressed(hdu):  # positions are those of the unpacked file; a cut stream fails by itself
        return
    if info is not None and info["datLoc"] + info["datSpan"] > source.size_bytes:
        raise FormatterError(
            f"{source.name} is truncated: HDU {hdu.name or 0} needs {info['datLoc'] + info['datSpan']} bytes, "
            f"the file has {source.size_bytes}",
            hint="look at it with another program, or fetch it again: `pantry cache evict`",
        )


def is_compressed(hdu: Any) -> bool:
    """Tell whether the whole file is gzip or bzip2; astropy unpacks those, by content, whatever their name."""
    info = hdu.fileinfo()
    return info is not None and getattr(info["file"], "compression", None) is not None


def header_dict(header: fits.Header) -> dict[str, object]:
    """Return a header as a plain dict: undefined values as None, COMMENT and HISTORY as lists of lines."""
    found: dict[str, object] = {}
    for keyword in dict.fromkeys(header):
        if keyword in ("COMMENT", "HISTORY", ""):
            lines = [str(line) for line in header[keyword]]
            if keyword and lines:
                found[keyword] = lines
        else:
            value = header[keyword]
            found[keyword] = None if isinstance(value, fits.card.Undefined) else value
    return found


def announce_long_strings(header: fits.Header) -> None:
    """Say that there are strings over several cards, as readers of before version 4 of the standard expect."""
    if any(len(card.image) > 80 for card in header.cards):
        header[LONG_STRINGS] = "OGIP 1.0"


def write_hdus(hdus: fits.HDUList, file: BinaryIO, provenance: FileProvenance | None = None) -> None:
    """Write with checksums, straight into the file, and leave it open."""
    with with_provenance(hdus, provenance) as complete:
        complete.writeto(file, checksum=True, output_verify="exception")


class FitsHdusFormatter:
    """Whole FITS files as `~astropy.io.fits.HDUList`, read lazily.

    Read parameter: ``hdus``, a list of numbers and names. Components: ``header`` (primary
    `~astropy.io.fits.Header`), ``metadata`` (the same as a dict), ``hdu.<number or name>`` (that HDU, detached from
    the file), ``provenance``.
    """

    extension: ClassVar[str] = ".fits"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return an HDU list that owns its open file, or a component."""
        is_hdu = component is not None and component.startswith(HDU_PREFIX)
        known = ("header", "metadata", "hdu.<number or name>", "provenance")
        check_request(source, None if is_hdu else component, parameters, components=known, known=("hdus",))
        with reading(source, "FITS"):
            if component is None and parameters.get("hdus") is not None:
                return _some(source, parameters["hdus"])
            if component is None:
                return open_lazily(source)
            with opened(source) as hdus:
                if component == "provenance":
                    return read_provenance(hdus, source.name)
                if is_hdu:
                    return detached(select_hdu(source, hdus, component[len(HDU_PREFIX) :]))
                header = hdus[0].header
                return header if component == "header" else header_dict(header)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an HDU list, a single HDU, an image with what belongs to it, or a dict of arrays and tables."""
        request.options(WriteOptions)
        if isinstance(obj, fits.HDUList):
            hdus = obj
        elif isinstance(obj, fits.PrimaryHDU):
            hdus = fits.HDUList([obj])
        elif isinstance(obj, fits.ImageHDU | fits.CompImageHDU | fits.BinTableHDU | fits.TableHDU):
            hdus = fits.HDUList([fits.PrimaryHDU(), obj])
        else:
            with writing(obj, "FITS"):
                hdus = as_hdus(obj)
        with writing(obj, "FITS"):
            write_hdus(hdus, file, request.provenance)


def _some(source: ReadSource, wanted: Any) -> fits.HDUList:
    """Return these HDUs, by number, name or (name, version), in this order, and read no others."""
    keys = list(wanted) if isinstance(wanted, list | set | range) else [wanted]
    with opened(source) as hdus:
        return fits.HDUList([detached(select_hdu(source, hdus, key)) for key in keys])


def detached(hdu: Any) -> Any:
    """Return an HDU that needs its file no more."""
    if isinstance(hdu, fits.BinTableHDU | fits.TableHDU) and not isinstance(hdu, fits.CompImageHDU):
        return hdu.copy()
    if isinstance(hdu, fits.PrimaryHDU):
        return fits.PrimaryHDU(data=hdu.data, header=hdu.header)
    return fits.ImageHDU(data=hdu.data, header=hdu.header)
