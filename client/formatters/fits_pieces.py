"""FITS images written piece by piece: their pixels are neither copied as a whole nor turned round where they are.

Astropy turns the pixels of the caller's own array to the order of bytes that FITS has and back again, several times
if there are checksums, and whoever looks at them meanwhile sees others. Here each piece is turned, summed and written
while the processor has it at hand.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits

from pantry.client.formatters.fits_provenance import with_provenance
from pantry.model.file_provenance import FileProvenance

_BLOCK_BYTES = 2880
_PIECE_BYTES = 1 << 20
_NO_CHECKSUM = "0" * 16
_PUNCTUATION = frozenset(b":;<=>?@[\\]^_`")
"""What lies between digits and letters in ASCII."""


def write_images(hdus: fits.HDUList, file: BinaryIO, provenance: FileProvenance | None = None) -> None:
    """Write images with checksums, the first of them as the primary HDU, into an empty file, and leave it open."""
    with with_provenance(hdus, provenance) as complete:
        complete.update_extend()
        complete.verify("exception")
        for hdu in complete:
            write_hdu(hdu, file)


def write_hdu(hdu: Any, file: BinaryIO) -> None:
    """Write an HDU with checksums after others, an image piece by piece."""
    if type(hdu) not in (fits.PrimaryHDU, fits.ImageHDU):
        file.write(_extension(hdu))
        return
    hdu.update_header()
    write_data(hdu.header.copy(), () if hdu.data is None else map(_turned, _pieces(np.asarray(hdu.data))), file)


def _extension(hdu: Any) -> bytes:
    """Return an HDU as astropy writes it, without the empty primary one that comes before."""
    written = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(written, checksum=True, output_verify="exception")
    return written.getvalue()[_BLOCK_BYTES:]


def write_data(header: fits.Header, pieces: Iterable[memoryview], file: BinaryIO) -> None:
    """Write a header and, as they lie in the file, its data, filled up to whole blocks, with the sums of both.

    Parameters
    ----------
    header : Header
        All of it but the sums, which are added.
    pieces : iterable of memoryview
        The data; all but the last have whole words of 32 bits.
    """
    # The cards of the sums take their place before the data are written, their values after it.
    header["CHECKSUM"], header["DATASUM"] = (_NO_CHECKSUM, "ASCII sum of the HDU"), ("0" * 10, "sum of the data")
    start = file.tell()
    file.seek(start + len(header.tostring()))
    total = size = 0
    for piece in pieces:
        total += _sum(piece)
        size += file.write(piece)
    file.write(bytes(-size % _BLOCK_BYTES))
    end, datasum = file.tell(), _folded(total)
    header["DATASUM"] = str(datasum)
    header["CHECKSUM"] = _encoded(_folded(datasum + _sum(header.tostring().encode("ascii"))))
    file.seek(start)
    file.write(header.tostring().encode("ascii"))
    file.seek(end)


def _pieces(pixels: Any) -> Iterator[Any]:
    flat = pixels.reshape(-1) if pixels.flags.c_contiguous else pixels.flat
    length = _PIECE_BYTES // pixels.itemsize
    for start in range(0, pixels.size, length):
        yield flat[start : start + length]


def _turned(piece: Any) -> memoryview:
    """Return pixels as FITS has them: the highest byte first, and signed from two bytes on, unsigned if of one."""
    kind, size = piece.dtype.kind, piece.dtype.itemsize
    if kind == "u" and size > 1:
        flipped = piece ^ np.array(1 << 8 * size - 1, piece.dtype)  # in the order of this machine
        piece = flipped.view(flipped.dtype.str.replace("u", "i"))
    elif kind == "i" and size == 1:
        piece = piece.view(np.uint8) ^ np.uint8(0x80)
    return np.ascontiguousarray(piece, piece.dtype.newbyteorder(">")).view(np.uint8).data


def _sum(data: Any) -> int:
    """Return the sum of 32-bit words, not yet folded into one; at the end they are filled up with zeros."""
    whole = len(data) // 4 * 4
    words = np.frombuffer(data[:whole], np.dtype(">u4"))
    return int(words.sum(dtype=np.uint64)) + int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), "big")


def _folded(total: int) -> int:
    """Add what is above 32 bits to what is below, as sums in ones' complement do."""
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encoded(total: int) -> str:
    """Return the checksum that makes the sum of an HDU vanish, in 16 letters and digits.

    Source: FITS standard 4.0, appendix J. Each byte of the complement is shared out to four characters, none of them
    punctuation, and all are shifted by one place, as the value of a card does not begin at a word.
    """
    letters = bytearray(16)
    for place, byte in enumerate((0xFFFFFFFF - total).to_bytes(4, "big")):
        quotient, rest = divmod(byte, 4)
        four = [quotient + rest + 0x30, *[quotient + 0x30] * 3]
        while any(letter in _PUNCTUATION for letter in four):
            for first in (0, 2):
                if four[first] in _PUNCTUATION or four[first + 1] in _PUNCTUATION:
                    four[first] += 1
                    four[first + 1] -= 1
        letters[place::4] = bytes(four)
    return (letters[-1:] + letters[:-1]).decode("ascii")
