"""The Rubin cameras: in what the headers of each differ."""

from __future__ import annotations

import re

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.coordinates import EarthLocation
from astropy.time import Time

from pantry.client.instruments.cameras import CAMERAS
from pantry.client.instruments.rubin import SKY_TYPES, RubinTranslator

_AUXTEL_SITE = EarthLocation.from_geodetic(-70.747698, -30.244728, 2663.0)


class LsstCamTranslator(RubinTranslator):
    """LSSTCam on the Simonyi Survey Telescope."""

    camera = CAMERAS["LSSTCam"]
    instruments = frozenset({"lsstcam"})
    in_california_until = Time("2024-05-01T00:00", scale="tai")


class LsstComCamTranslator(RubinTranslator):
    """The commissioning camera, in the laboratory (2019) and on sky (2024)."""

    camera = CAMERAS["LSSTComCam"]
    instruments = frozenset({"comcam", "lsstcomcam"})
    in_california_until = Time("2020-03-01T00:00", scale="tai")
    on_mountain_from = Time("2024-08-24T00:00", scale="utc")


class LatissTranslator(RubinTranslator):
    """The spectrograph of the auxiliary telescope: filter and grating, one detector."""

    camera = CAMERAS["LATISS"]
    instruments = frozenset({"latiss", "lsst_atiss"})
    telescope = "Rubin Auxiliary Telescope"
    site = _AUXTEL_SITE
    on_mountain_from = Time("2020-01-01T00:00", scale="utc")

    def to_detector_group(self) -> str:
        """Return the raft that stands for none; headers since 2020 say R00."""
        return "RXX"

    def to_detector_name(self) -> str:
        """Return the only sensor."""
        return "S00"

    def shutter_time(self) -> None:
        """Return None: SHUTTIME is not to be trusted here."""

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        """Return DARKTIME, but no less than the exposure time."""
        return max(super().to_dark_time(), self.to_exposure_time())

    @cache_translation
    def to_observation_type(self) -> str:
        """Return OBSTYPE or IMGTYPE; an object of the laboratory is none of the sky."""
        written = self._text("OBSTYPE", "IMGTYPE", "TESTTYPE", default="unknown").lower()
        if written == "object" and not self.is_on_mountain():
            return "labobject"
        return SKY_TYPES.get(written, written)

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return filter and grating; numbered empty slots are all ``empty``."""
        names = [self._text(keyword, default="unknown") for keyword in ("FILTER", "GRATING")]
        return "~".join("empty" if re.fullmatch(r"empty(_?\d+)?", name.lower()) else name for name in names)
