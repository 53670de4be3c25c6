"""LSSTCam as imSim simulated it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import astropy.units as u
from astro_metadata_translator import cache_translation
from astropy.coordinates import AltAz, Angle, SkyCoord

from pantry.client.instruments.cameras import CAMERAS
from pantry.client.instruments.rubin import DAY_OFFSET, NOT_ON_SKY, RubinTranslator


class ImSimTranslator(RubinTranslator):
    """LSSTCam as imSim simulated it: exposures are numbered by OpSim visit, not by day."""

    camera = CAMERAS["LSSTCam-imSim"]
    instruments = frozenset({"camera"})

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:
        """Tell whether imSim wrote the header."""
        return super().can_translate(header, filename) and str(header.get("TESTTYPE") or "").upper() == "IMSIM"

    @cache_translation
    def to_exposure_id(self) -> int:
        """Return OBSID, a number here."""
        return int(self._header["OBSID"])

    @cache_translation
    def to_observing_day(self) -> int:
        """Return the day that began at noon TAI before the exposure."""
        begin = self.to_datetime_begin()
        if begin is None:
            raise KeyError("MJD-OBS")
        return int((begin.tai - DAY_OFFSET).strftime("%Y%m%d"))

    def is_on_mountain(self) -> bool:
        """Return True."""
        return True

    def to_observation_counter(self) -> int:
        """Return 0: imSim does not count."""
        return 0

    @cache_translation
    def to_detector_group(self) -> str:
        """Return the raft's part of CHIPID."""
        return str(self._header["CHIPID"]).partition("_")[0]

    @cache_translation
    def to_detector_name(self) -> str:
        """Return the sensor's part of CHIPID."""
        return str(self._header["CHIPID"]).partition("_")[2]

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return the filter with the version of its throughput: ``i_sim_1.4``."""
        version = next(
            (
                str(self._header[f"VER{key[3:]}"])
                for key, value in self._header.items()
                if key.startswith("PKG") and value == "throughputs" and f"VER{key[3:]}" in self._header
            ),
            "1.4",
        )
        return f"{str(self._header['FILTER']).strip()}_sim_{version}"

    def to_observation_reason(self) -> str:
        """Return ``imsim``."""
        return "imsim"

    def to_can_see_sky(self) -> bool:
        """Return whether it simulated the sky."""
        return self.to_observation_type() not in NOT_ON_SKY

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return the simulated boresight."""
        if not self._tracks_sky() or not self.are_keys_ok(("RATEL", "DECTEL")):
            return None
        return SkyCoord(float(self._header["RATEL"]), float(self._header["DECTEL"]), unit=u.deg, frame="icrs")

    def to_boresight_rotation_coord(self) -> str:
        """Return ``sky``."""
        return "sky"

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        """Return the sky angle, which imSim counts the other way round and from another axis."""
        if not self._tracks_sky() or not self.is_key_ok("ROTANGLE"):
            return None
        return Angle((90.0 - float(self._header["ROTANGLE"])) * u.deg).wrap_at(360 * u.deg)

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return elevation and azimuth from HASTART (degrees here) and DECTEL; imSim writes no others."""
        if not self.are_keys_ok(("HASTART", "DECTEL")):
            return None
        latitude = float(self.site.lat.rad)
        hour_angle, dec = math.radians(float(self._header["HASTART"])), math.radians(float(self._header["DECTEL"]))
        # Unit vector to the boresight: up, north, east.
        up = math.sin(latitude) * math.sin(dec) + math.cos(latitude) * math.cos(dec) * math.cos(hour_angle)
        north = math.cos(latitude) * math.sin(dec) - math.sin(latitude) * math.cos(dec) * math.cos(hour_angle)
        east = -math.cos(dec) * math.sin(hour_angle)
        azimuth = math.degrees(math.atan2(east, north)) % 360.0
        elevation = math.degrees(math.atan2(up, math.hypot(north, east)))
        return self._altaz(elevation, azimuth)
