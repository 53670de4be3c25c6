"""Images in FITS: CCDData with unit, WCS, mask and uncertainty, or plain arrays; cut-outs read only their rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np
from astropy.io import fits

from pantry.client.formatters.contract import (
    AS_USUAL,
    ReadSource,
    WriteRequest,
    check_request,
    reading,
    refuse_type,
    writing,
)
from pantry.client.formatters.fits_hdus import (
    HDU_PREFIX,
    announce_long_strings,
    check_complete,
    detached,
    header_dict,
    opened,
    select_hdu,
    write_hdus,
)
from pantry.client.formatters.fits_pieces import write_images
from pantry.client.formatters.fits_pixels import read_pixels
from pantry.client.formatters.fits_provenance import read_provenance, without_provenance
from pantry.client.formatters.sky_boxes import BOX_PARAMETERS, Box, pixel_box
from pantry.client.formatters.table_checks import PLAIN_ARRAYS
from pantry.errors import FormatterError
from pantry.model.builtin_formats import FitsImageOptions

if TYPE_CHECKING:
    from astropy.wcs import WCS

_COMPONENTS = (
    "image",
    "mask",
    "uncertainty",
    "variance",
    "psf",
    "wcs",
    "header",
    "metadata",
    "hdu.<number or name>",
    "provenance",
)
_STALE_IN_CUTOUT = re.compile(r"(DATA|DET|BIAS|TRIM|CCD|AMP)SEC|CHECKSUM|DATASUM|ZHECKSUM|ZDATASUM")
_IMAGE_ORIGIN = re.compile(r"(CRPIX[12][A-Z]?|LTV[12])")
_WCS_MATRIX = re.compile(r"(PC|CD)[0-9]_[0-9]|CROTA[0-9]")
_PIXELS = ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")
_UNCERTAINTIES = {"std": "StdDevUncertainty", "var": "VarianceUncertainty", "ivar": "InverseVariance"}


class FitsImageFormatter:
    """One image as `~astropy.nddata.CCDData`, written from that or from a numpy array.

    Read parameters: ``bbox=(x0, y0, x1, y1)``, pixels counted from 0, half-open; ``circle`` or ``sky_box``, see
    `sky_boxes`; ``hdu``, number or name, by default the first HDU with an image. Components: ``image`` (without those
    that follow), ``mask``, ``uncertainty``, ``variance``, ``psf``, ``wcs``, ``header``, ``metadata`` (the header as a
    dict), ``hdu.<number or name>``, ``provenance``. Mask, uncertainty and PSF are in the HDUs ``MASK``, ``UNCERT``
    or ``VARIANCE``, and ``PSFIMAGE`` or ``PSF``.
    """

    extension: ClassVar[str] = ".fits"
    keeps_provenance: ClassVar[bool] = True

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, object]) -> object:
        """Return the image, its part within the box, or a component of it (cut to the same box)."""
        is_hdu = component is not None and component.startswith(HDU_PREFIX)
        known = (*BOX_PARAMETERS, "hdu")
        check_request(source, None if is_hdu else component, parameters, components=_COMPONENTS, known=known)
        with reading(source, "FITS image"), opened(source) as hdus:
            if component == "provenance":
                return read_provenance(hdus, source.name)
            if component is not None and is_hdu:
                return detached(select_hdu(source, hdus, component[len(HDU_PREFIX) :]))
            hdu = _image_hdu(source, hdus, parameters.get("hdu"))
            box = pixel_box(source.name, parameters, lambda: _wcs(hdu.header, hdus), hdu.shape)
            header = without_provenance(cut_header(hdu.header, box))
            if component is None:
                return _ccd_data(source, hdus, hdu, header, box)
            return _component(source, hdus, hdu, header, box, component)

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write a CCDData or NDData, or an array of numbers."""
        options = request.options(FitsImageOptions)
        with writing(obj, "FITS image"):
            hdus = image_hdus(obj)
            if options.compression == "none":
                write_images(hdus, file, request.provenance)
            else:
                write_hdus(_packed(hdus, options), file, request.provenance)


def image_hdus(obj: object) -> fits.HDUList:
    """Return an image as the HDUs that it is stored in; refuse what they would change."""
    from astropy.nddata import CCDData, NDData

    if isinstance(obj, NDData):
        ccd = obj if isinstance(obj, CCDData) and isinstance(obj.meta, fits.Header) else _as_ccd(obj)
        if ccd.uncertainty is not None and ccd.uncertainty.uncertainty_type not in _UNCERTAINTIES:
            raise FormatterError(
                f"a {type(ccd.uncertainty).__name__} cannot be stored as FITS",
                hint=f"use one of {', '.join(_UNCERTAINTIES.values())}",
            )
        if obj.mask is not None and np.asarray(obj.mask).dtype.kind != "b":
            raise FormatterError(
                f"a mask of {np.asarray(obj.mask).dtype} would come back as yes or no",
                hint="astropy's CCDData has no bits in its mask: store it as a FITS image of its own, or an HDU list",
            )
        _check_pixels(ccd.data)
        return _to_hdus(ccd)
    if isinstance(obj, np.ndarray) and type(obj) not in PLAIN_ARRAYS:
        raise FormatterError(
            f"FITS images of arrays cannot hold what a {type(obj).__name__} has besides its pixels",
            hint="make it a CCDData with its unit and mask, and use a storage class of that",
        )
    if not isinstance(obj, np.ndarray) or obj.dtype.names or obj.ndim == 0:
        raise refuse_type(obj, "a FITS image", "astropy.nddata.CCDData and NDData, numpy arrays of numbers")
    _check_pixels(obj)
    return fits.HDUList([fits.PrimaryHDU(np.asarray(obj))])


def _check_pixels(pixels: Any) -> None:
    if pixels.dtype.name not in _PIXELS:
        raise FormatterError(
            f"FITS has no pixels of {pixels.dtype}", hint=f"convert them to one of {', '.join(_PIXELS)}"
        )


def _as_ccd(image: Any) -> Any:
    from astropy.nddata import CCDData

    return CCDData(
        image.data,
        unit="" if image.unit is None else image.unit,
        wcs=image.wcs,
        meta=_as_header(image.meta),
        mask=image.mask,
        uncertainty=image.uncertainty,
        psf=getattr(image, "psf", None),
    )


def _as_header(meta: Mapping[str, object]) -> fits.Header:
    if isinstance(meta, fits.Header):
        return meta
    header = fits.Header()
    for key, value in meta.items():
        header[key if len(key) <= 8 else f"HIERARCH {key}"] = value
    return header


def _to_hdus(image: Any) -> fits.HDUList:
    hdus = image.to_hdu()
    if image.mask is not None:
        hdus["MASK"].data = np.broadcast_to(np.asarray(image.mask), image.data.shape).astype(np.uint8)
    if image.wcs is not None:
        # astropy adds the WCS as PCi_j to metadata that may have CDi_j, which the standard forbids side by side.
        for keyword in [key for key in hdus[0].header if _WCS_MATRIX.fullmatch(key)]:
            del hdus[0].header[keyword]
        hdus[0].header.update(image.wcs.to_header(relax=True))
    for hdu in hdus:
        _check_quotes(hdu.header)
        announce_long_strings(hdu.header)
    return hdus


def _check_quotes(header: fits.Header) -> None:
    """Refuse strings that astropy would not read as it wrote them."""
    for card in header.cards:
        if isinstance(card.value, str) and "'" in card.value and fits.Card.fromstring(card.image).value != card.value:
            raise FormatterError(
                f"the header cannot hold {card.keyword} = {card.value[:80]!r}",
                hint="a quote and a slash in a string end it: change the text",
            )


_ALGORITHMS = {
    "rice": "RICE_1",
    "gzip": "GZIP_1",
    "gzip_2": "GZIP_2",
    "hcompress": "HCOMPRESS_1",
    "plio": "PLIO_1",
}
_DITHERS = {"none": -1, "subtractive_1": 1, "subtractive_2": 2}


def _packed(hdus: fits.HDUList, options: FitsImageOptions) -> fits.HDUList:
    """Compress the tiles of each image, which are then behind an empty primary HDU."""
    packed = (
        fits.CompImageHDU(
            hdu.data,
            hdu.header,
            name=hdu.name if hdu.name != "PRIMARY" else "IMAGE",
            compression_type=_ALGORITHMS[options.compression],
            tile_shape=options.tile_shape or None,
            quantize_level=options.quantize_level,
            quantize_method=_DITHERS[options.dither],
            dither_seed=options.dither_seed,
        )
        for hdu in hdus
    )
    return fits.HDUList([fits.PrimaryHDU(), *packed])


def cut_header(header: fits.Header, box: Box | None) -> fits.Header:
    """Return the header of a cut-out: every WCS shifted, what described the whole image left out."""
    cut = header.copy()
    if box is None:
        return cut
    for keyword in list(dict.fromkeys(cut)):
        if _STALE_IN_CUTOUT.fullmatch(keyword):
            del cut[keyword]
        elif (match := _IMAGE_ORIGIN.fullmatch(keyword)) and isinstance(cut[keyword], int | float):
            axis = int(re.sub(r"\D", "", match[0]))
            cut[keyword] -= box[axis - 1]
    cut["NAXIS1"], cut["NAXIS2"] = box[2] - box[0], box[3] - box[1]
    return cut


def _image_hdu(source: ReadSource, hdus: fits.HDUList, which: object) -> Any:
    if which is not None:
        hdu = select_hdu(source, hdus, which)
        if not getattr(hdu, "is_image", False) or len(hdu.shape) < 2:
            raise FormatterError(f"{source.name}: HDU {which!r} is not an image of two dimensions")
        return hdu
    for least in (2, 1):
        for hdu in hdus:
            if hdu.is_image and len(hdu.shape) >= least:
                check_complete(source, hdu)
                return hdu
    raise FormatterError(f"{source.name} has no image", hint="read it with a table or HDU list storage class")


def _component(
    source: ReadSource, hdus: fits.HDUList, hdu: Any, header: fits.Header, box: Box | None, component: str
) -> object:
    if component == "image":
        return _image(source, hdus, hdu, header, box)
    if component in ("header", "metadata"):
        return header if component == "header" else header_dict(header)
    if component == "wcs":
        return _wcs(header, hdus)
    if component == "mask":
        return _mask(source, hdus, box)
    if component == "psf":
        return _psf(source, hdus)
    uncertainty = _uncertainty(source, hdus, box)
    if component == "uncertainty" or uncertainty is None:
        return uncertainty
    from astropy.nddata import VarianceUncertainty

    return uncertainty.represent_as(VarianceUncertainty).array


def _wcs(header: fits.Header, hdus: fits.HDUList) -> WCS | None:
    from astropy.wcs import WCS, FITSFixedWarning

    if not str(header.get("CTYPE1", "")).strip():
        return None
    # Only lookup-table distortions need the other HDUs, and reading those costs bytes.
    distorted = any(keyword.startswith(("CPDIS", "D2IMDIS")) for keyword in header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header, fobj=hdus if distorted else None)


def _has(hdus: fits.HDUList, name: str) -> bool:
    return name in hdus


def _mask(source: ReadSource, hdus: fits.HDUList, box: Box | None) -> Any:
    if not _has(hdus, "MASK"):
        return None
    hdu = select_hdu(source, hdus, "MASK")
    pixels = read_pixels(source, hdu, box)
    return pixels.astype(bool) if pixels.dtype == np.uint8 else pixels


def _psf(source: ReadSource, hdus: fits.HDUList) -> Any:
    name = next((name for name in ("PSFIMAGE", "PSF") if _has(hdus, name) and hdus[name].is_image), None)
    return None if name is None else select_hdu(source, hdus, name).data


def _uncertainty(source: ReadSource, hdus: fits.HDUList, box: Box | None) -> Any:
    from astropy import nddata, units

    if not _has(hdus, "UNCERT"):
        if not _has(hdus, "VARIANCE"):  # as the images of LSST's pipelines have it
            return None
        return nddata.VarianceUncertainty(read_pixels(source, select_hdu(source, hdus, "VARIANCE"), box))
    hdu = select_hdu(source, hdus, "UNCERT")
    stored = str(hdu.header.get("UTYPE", "StdDevUncertainty"))
    if stored not in _UNCERTAINTIES.values():
        raise FormatterError(f"{source.name}: unknown uncertainty type {stored!r}")
    unit = units.Unit(hdu.header["BUNIT"]) if hdu.header.get("BUNIT") else None
    return getattr(nddata, stored)(read_pixels(source, hdu, box), unit=unit)


def _image(source: ReadSource, hdus: fits.HDUList, hdu: Any, header: fits.Header, box: Box | None, **more: Any) -> Any:
    from astropy import units
    from astropy.nddata import CCDData

    written = str(header.get("BUNIT", "") or "").strip()
    unit = units.Unit(written, parse_strict="silent") if written else units.dimensionless_unscaled
    return CCDData(read_pixels(source, hdu, box), unit=unit, wcs=_wcs(header, hdus), meta=header, **more)


def _ccd_data(source: ReadSource, hdus: fits.HDUList, hdu: Any, header: fits.Header, box: Box | None) -> Any:
    parts = {"mask": _mask(source, hdus, box), "uncertainty": _uncertainty(source, hdus, box)}
    return _image(source, hdus, hdu, header, box, psf=_psf(source, hdus), **parts)
