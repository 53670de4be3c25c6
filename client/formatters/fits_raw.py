"""Raw exposures in FITS, with the header and visit metadata of today (DMS-MWBT-REQ-0049, 0050)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

from pantry.client.formatters.contract import AS_USUAL, ReadSource, WriteRequest, check_request, reading
from pantry.client.formatters.fits_hdus import (
    HDU_PREFIX,
    FitsHdusFormatter,
    detached,
    open_lazily,
    select_hdu,
)
from pantry.client.instruments.amending import AS_IN_THE_FILE
from pantry.client.instruments.raw_exposure import RawExposure

COMPONENTS = {
    "header": "header",
    "metadata": "metadata",
    "visitInfo": "visit_info",
    "wcs": "wcs",
    "detector": "detector",
    "filter": "filter",
    "amendments": "amendments",
}
"""By Gen3's names, and the attribute of `RawExposure` that each is."""
PARAMETERS = ("amend", "corrections", "as_of")
_OF_THE_BUTLER = ("plan", "translator")
"""What `Butler.get` makes of these, and of the repository."""


class FitsRawFormatter:
    """Whole raw files as `~pantry.client.instruments.RawExposure`, an HDU list that is read lazily.

    Components: ``header`` (primary `~astropy.io.fits.Header`), ``metadata`` (the same as a dict), ``visitInfo``
    (`~astro_metadata_translator.ObservationInfo`), ``wcs``, ``detector``, ``filter``, ``amendments`` (in what the
    header differs from the file), ``hdu.<number or name>``. Parameters: ``amend``, False for headers as in the file;
    ``corrections``, collections of those to apply; ``as_of``, only what was said before this time (UTC). The latter two
    `Butler.get` turns into a plan, since a formatter knows no repository.
    """

    extension: ClassVar[str] = ".fits"

    def read(self, source: ReadSource, *, component: str | None, parameters: Mapping[str, Any]) -> object:
        """Return a raw exposure that owns its open file, or a component."""
        is_hdu = component is not None and component.startswith(HDU_PREFIX)
        known = (*COMPONENTS, "hdu.<number or name>")
        asked = {name: value for name, value in parameters.items() if name not in _OF_THE_BUTLER}
        check_request(source, None if is_hdu else component, asked, components=known, known=PARAMETERS)
        with reading(source, "a raw exposure in FITS"):
            exposure: RawExposure = open_lazily(source, RawExposure)
            try:
                plan = parameters.get("plan", AS_IN_THE_FILE if parameters.get("amend", True) else None)
                # The WCS is made of cards too.
                with_cards = component is None or is_hdu or component in ("header", "wcs")
                exposure.amend(plan, source.name, parameters.get("translator"), write=with_cards)
                if component is None:
                    return exposure
                if is_hdu:
                    found = detached(select_hdu(source, exposure, component[len(HDU_PREFIX) :]))
                else:
                    found = getattr(exposure, COMPONENTS[component])
            except BaseException:
                exposure.close()
                raise
            exposure.close()
            return found

    def write(self, obj: object, file: BinaryIO, request: WriteRequest = AS_USUAL) -> None:
        """Write an HDU list, as it is."""
        FitsHdusFormatter().write(obj, file, request)
