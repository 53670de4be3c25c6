"""From sixteen amplifier segments to the image of the sensor."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.wcs import WCS, FITSFixedWarning

from pantry.errors import FormatterError

_SECTION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]")


def assemble(hdus: fits.HDUList) -> CCDData:
    """Assemble a raw exposure of a Rubin sensor.

    Parameters
    ----------
    hdus : `~astropy.io.fits.HDUList`
        A raw file: image extensions with DATASEC and DETSEC.

    Returns
    -------
    `~astropy.nddata.CCDData`
        float32 pixels in adu, the bias of each row subtracted (median of its overscan), segments placed and flipped by
        DETSEC; ``wcs`` and ``meta`` are those of the sensor, if the segments have a celestial WCS.

    Raises
    ------
    FormatterError
        If no segment, or one without its sections, is found.
    """
    segments = [hdu for hdu in hdus[1:] if hdu.is_image and "DETSEC" in hdu.header]
    if not segments:
        raise FormatterError("no amplifier segments to assemble: no image extension has DETSEC")
    boxes = [_section(hdu, "DETSEC") for hdu in segments]
    width = max(max(x0, x1) for x0, x1, _, _ in boxes)
    height = max(max(y0, y1) for _, _, y0, y1 in boxes)
    image = np.zeros((height, width), dtype=np.float32)
    for hdu, (x0, x1, y0, y1) in zip(segments, boxes, strict=True):
        pixels = _bias_subtracted(hdu)[:: -1 if y1 < y0 else 1, :: -1 if x1 < x0 else 1]
        image[min(y0, y1) - 1 : max(y0, y1), min(x0, x1) - 1 : max(x0, x1)] = pixels
    header = _sensor_header(hdus[0].header, segments[0], boxes[0])
    wcs = None
    if "CTYPE1" in header:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)  # it tells of OBSGEO in every file
            wcs = WCS(header)
    return CCDData(image, unit="adu", wcs=wcs, meta=header)


def _section(hdu: Any, keyword: str) -> tuple[int, int, int, int]:
    match = _SECTION.fullmatch(str(hdu.header.get(keyword, "")).replace(" ", ""))
    if match is None:
        raise FormatterError(f"{hdu.name}: keyword {keyword} is missing or not a section: {hdu.header.get(keyword)!r}")
    x0, x1, y0, y1 = (int(bound) for bound in match.groups())
    return x0, x1, y0, y1


def _bias_subtracted(hdu: Any) -> Any:
    x0, x1, y0, y1 = _section(hdu, "DATASEC")
    rows = hdu.data[y0 - 1 : y1]
    # Without BIASSEC (real raw files) the overscan is what follows the data; its first pixels hold trailed charge.
    overscan = rows[:, x1 + min(3, (rows.shape[1] - x1) // 2) :]
    pixels = rows[:, x0 - 1 : x1].astype(np.float32)
    if overscan.shape[1]:
        pixels -= np.median(overscan, axis=1).astype(np.float32)[:, np.newaxis]
    return pixels


def _sensor_header(primary: fits.Header, segment: Any, box: tuple[int, int, int, int]) -> fits.Header:
    header = primary.copy(strip=True)
    for keyword in ("CHECKSUM", "DATASUM"):
        header.remove(keyword, ignore_missing=True)
    cards = segment.header
    if str(cards.get("CTYPE1", "")).endswith("-TAN") and "CD1_1" in cards:
        x0, x1, y0, y1 = box
        data_x0, _, data_y0, _ = _section(segment, "DATASEC")
        ax, ay = (1 if x1 > x0 else -1), (1 if y1 > y0 else -1)
        for keyword in ("WCSAXES", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "RADESYS", "CRVAL1", "CRVAL2"):
            if keyword in cards:
                header[keyword] = cards[keyword]
        header["CRPIX1"] = (cards["CRPIX1"] - data_x0) * ax + x0
        header["CRPIX2"] = (cards["CRPIX2"] - data_y0) * ay + y0
        header["CD1_1"], header["CD2_1"] = cards["CD1_1"] * ax, cards["CD2_1"] * ax
        header["CD1_2"], header["CD2_2"] = cards["CD1_2"] * ay, cards["CD2_2"] * ay
    return header
