"""`~astropy.nddata.CCDData` as a composite: image, mask, uncertainty and PSF, with the image's WCS and header."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData, NDData, NDUncertainty
from astropy.wcs import WCS, FITSFixedWarning

from pantry.client.composites.delegates import Look, Part
from pantry.client.formatters.fits_image import cut_header
from pantry.client.formatters.sky_boxes import BOX_PARAMETERS, SKY_PARAMETERS, pixel_box
from pantry.errors import FormatterError

_KNOWN = ("image", "mask", "uncertainty", "psf", "wcs", "header")
_CUT = ("image", "mask", "uncertainty")
_UNCERTAINTY_TYPE = "UTYPE"


class NDDataDelegate:
    """Takes a CCDData apart into FITS images; the WCS and the header are components of ``image``."""

    def disassemble(self, obj: Any) -> tuple[dict[str, Part], dict[str, tuple[str, str]]]:
        """Return ``image`` with unit, WCS and header; ``mask``, ``uncertainty`` and ``psf`` if there are."""
        if isinstance(obj, np.ndarray) and obj.dtype.kind in "iuf" and obj.ndim > 0:
            obj = CCDData(obj, unit="")
        if not isinstance(obj, NDData):
            raise FormatterError(
                f"a {type(obj).__name__} is no CCDData or NDData",
                hint="give one of these or an array of numbers, or the dataset type another storage class",
            )
        image = CCDData(obj.data, unit="" if obj.unit is None else obj.unit, wcs=obj.wcs, meta=obj.meta)
        has = {"image": image, "mask": obj.mask, "uncertainty": obj.uncertainty, "psf": getattr(obj, "psf", None)}
        if obj.mask is not None:
            has["mask"] = np.broadcast_to(np.asarray(obj.mask), obj.data.shape)
        parts = {name: self.store(name, one) for name, one in has.items() if one is not None}
        derived = {"header": ("image", "header")}
        if obj.wcs is not None:
            derived["wcs"] = ("image", "wcs")
        return parts, derived

    def store(self, component: str, obj: Any) -> Part:
        """Return pixels as FITS images; a WCS and a header as FITS headers without data."""
        if component in ("mask", "psf"):
            return Part(np.asarray(obj).astype(np.uint8) if component == "mask" else np.asarray(obj), "FitsArray")
        if component == "uncertainty":
            return Part(_as_image(obj), "CCDData")
        if component in ("wcs", "header"):
            header = _wcs(obj).to_header(relax=True) if component == "wcs" else _header(obj)
            return Part(fits.HDUList([fits.PrimaryHDU(header=header)]), "FitsHDUList")
        if component != "image":
            raise FormatterError(f"a CCDData has no place for {component}", hint=f"its components: {', '.join(_KNOWN)}")
        return Part(obj if isinstance(obj, NDData) else CCDData(obj, unit=""), "CCDData")

    def settled(self, name: str, given: Mapping[str, Any], look: Look) -> dict[str, Any]:
        """Return the box of pixels for a part of the sky, by the WCS that the image has when it is put together."""
        if all(given.get(one) is None for one in SKY_PARAMETERS):
            return {one: value for one, value in given.items() if one not in SKY_PARAMETERS}
        header = look("image", "header")
        if header is None or "NAXIS2" not in header:
            raise FormatterError(f"{name} does not say how large its image is", hint="give bbox, in pixels")

        def wcs() -> WCS | None:
            own = look("wcs", "")
            return look("image", "wcs") if own is None else _wcs(own)

        box = pixel_box(name, given, wcs, (header["NAXIS2"], header["NAXIS1"]))
        return {**{one: value for one, value in given.items() if one not in BOX_PARAMETERS}, "bbox": box}

    def parameters(self, component: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the box for what has pixels of the image."""
        unknown = sorted(set(given) - {"bbox"})
        if unknown:
            raise FormatterError(
                f"unknown read parameters {', '.join(unknown)}",
                hint=f"an image in parts takes {', '.join(BOX_PARAMETERS)} and components",
            )
        return dict(given) if component in _CUT else {}

    def restore(self, component: str, stored: Any, given: Mapping[str, Any]) -> Any:
        """Return a mask as booleans, an uncertainty as its class, a WCS and a header cut to the box."""
        if component == "mask":
            return stored.astype(bool)
        if component == "uncertainty":
            return _uncertainty(stored)
        box = given.get("bbox")
        if component == "wcs":
            return _cut_wcs(_wcs(stored), box)
        if component == "header":
            return cut_header(_header(stored), tuple(box) if box is not None else None)
        return stored

    def assemble(self, parts: Mapping[str, Any]) -> Any:
        """Return a CCDData of what is there; without the image, the parts by their names."""
        unknown = sorted(set(parts) - set(_KNOWN))
        if unknown:
            raise FormatterError(
                f"a CCDData has no place for {', '.join(unknown)}", hint=f"its components: {', '.join(_KNOWN)}"
            )
        if "image" not in parts:
            return dict(parts)
        image = parts["image"]
        if not isinstance(image, NDData):
            image = CCDData(image, unit="")
        return CCDData(
            image.data,
            unit="" if image.unit is None else image.unit,
            wcs=parts.get("wcs", image.wcs),
            meta=parts.get("header", image.meta),
            mask=parts.get("mask", image.mask),
            uncertainty=parts.get("uncertainty", image.uncertainty),
            psf=parts.get("psf", getattr(image, "psf", None)),
        )


def _as_image(uncertainty: NDUncertainty) -> CCDData:
    if not isinstance(uncertainty, NDUncertainty):
        raise FormatterError(f"a {type(uncertainty).__name__} is no uncertainty of astropy.nddata")
    return CCDData(
        uncertainty.array,
        unit="" if uncertainty.unit is None else uncertainty.unit,
        meta={_UNCERTAINTY_TYPE: type(uncertainty).__name__},
    )


def _uncertainty(stored: Any) -> NDUncertainty:
    if isinstance(stored, NDUncertainty):
        return stored
    from astropy import nddata

    known = {"StdDevUncertainty", "VarianceUncertainty", "InverseVariance"}
    kind = str(getattr(stored, "meta", {}).get(_UNCERTAINTY_TYPE, ""))
    if kind not in known:
        raise FormatterError(
            f"the component 'uncertainty' does not say what it is: {kind[:40]!r}",
            hint=f"its header has {_UNCERTAINTY_TYPE}, one of {', '.join(sorted(known))}",
        )
    dimensionless = not str(stored.unit)
    return getattr(nddata, kind)(stored.data, unit=None if dimensionless else stored.unit)


def _header(stored: Any) -> fits.Header:
    if isinstance(stored, fits.Header):
        return stored
    if isinstance(stored, fits.HDUList):
        return stored[0].header
    if isinstance(stored, NDData):
        return fits.Header(stored.meta)
    if isinstance(stored, Mapping):
        return fits.Header(dict(stored))
    raise FormatterError(f"a {type(stored).__name__} is no FITS header")


def _wcs(stored: Any) -> WCS:
    if isinstance(stored, WCS):
        return stored
    if isinstance(stored, NDData):
        if stored.wcs is None:
            raise FormatterError(
                "the dataset that the component 'wcs' comes from has none", hint="name a dataset that has a WCS"
            )
        return stored.wcs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        found = WCS(_header(stored))
    if not found.has_celestial:
        raise FormatterError("the dataset that the component 'wcs' comes from has no celestial WCS")
    return found


def _cut_wcs(wcs: WCS, box: Any) -> WCS:
    if box is None:
        return wcs
    if not isinstance(box, Sequence) or len(box) != 4:
        raise FormatterError(f"bbox={box!r} is not (x0, y0, x1, y1) in whole pixels")
    x0, y0, x1, y1 = box
    return wcs[y0:y1, x0:x1]
