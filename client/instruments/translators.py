"""From the headers of the Rubin cameras to astro_metadata_translator's properties.

The classes have no ``name``, so they are not registered with astro_metadata_translator and do not stand in the way of
Rubin's own translators where those are installed. Facts are taken from headers and registries, see the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import FitsTranslator, StubTranslator, cache_translation
from astropy.coordinates import AltAz, Angle, SkyCoord
from astropy.time import Time, TimeDelta

from pantry.client.instruments.cameras import CAMERAS, Camera, exposure_id

_NOT_ON_SKY = frozenset({"bias", "dark", "flat"})
_OBSERVATION_TYPES = {"object": "science", "skyexp": "science", "science": "science"}
_DAY_OFFSET = TimeDelta(12 * u.hour)


class RubinTranslator(StubTranslator, FitsTranslator):
    """What the headers of all Rubin cameras have in common."""

    camera: ClassVar[Camera]
    instruments: ClassVar[frozenset[str]]
    """Values of INSTRUME, in lower case."""

    _trivial_map: dict[str, str | list[str] | tuple[Any, ...]] = {
        "telescope": ("TELESCOP", {"default": "unknown"}),
        "exposure_time": ("EXPTIME", {"unit": u.s}),
        "exposure_time_requested": ("EXPTIME", {"unit": u.s}),
        "dark_time": (["DARKTIME", "EXPTIME"], {"unit": u.s}),
        "object": ("OBJECT", {"default": "UNKNOWN"}),
    }

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:
        """Tell whether INSTRUME is this camera's."""
        return str(header.get("INSTRUME") or "").strip().lower() in cls.instruments

    def _text(self, *keywords: str, default: str) -> str:
        """Return the first of the keywords that has a value."""
        for keyword in keywords:
            if self.is_key_ok(keyword):
                self._used_these_cards(keyword)
                value = str(self._header[keyword]).strip()
                if value:
                    return value
        return default

    def _flag(self, keyword: str) -> bool:
        return self.is_key_ok(keyword) and bool(self._header[keyword])

    def to_instrument(self) -> str:
        """Return the camera's name in data ids."""
        return self.camera.name

    @cache_translation
    def to_observing_day(self) -> int:
        """Return DAYOBS, the local date at the start of the night, as YYYYMMDD."""
        return int(self._header["DAYOBS"])

    @cache_translation
    def to_observation_counter(self) -> int:
        """Return SEQNUM, which counts from 1 each day."""
        return int(self._header["SEQNUM"])

    @cache_translation
    def to_exposure_id(self) -> int:
        """Return the id made of day, counter and controller."""
        controller = str(self._header["CONTRLLR"]).strip()
        return exposure_id(self.to_observing_day(), self.to_observation_counter(), controller)

    @cache_translation
    def to_visit_id(self) -> int:
        """Return the exposure id: visits are defined later."""
        return self.to_exposure_id()

    @cache_translation
    def to_observation_id(self) -> str:
        """Return OBSID, ``MC_O_20250415_000228``."""
        return str(self._header["OBSID"])

    @cache_translation
    def to_detector_group(self) -> str:
        """Return the raft."""
        return str(self._header["RAFTBAY"]).strip()

    @cache_translation
    def to_detector_name(self) -> str:
        """Return the sensor within its raft."""
        return str(self._header["CCDSLOT"]).strip()

    @cache_translation
    def to_detector_unique_name(self) -> str:
        """Return raft and sensor."""
        return self.camera.detector(self.to_detector_group(), self.to_detector_name()).full_name

    @cache_translation
    def to_detector_num(self) -> int:
        """Return the detector's number in data ids."""
        return self.camera.detector(self.to_detector_group(), self.to_detector_name()).id

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return FILTER, or ``unknown``."""
        return self._text("FILTER", default="unknown")

    @cache_translation
    def to_datetime_begin(self) -> Time | None:
        """Return the start in TAI.

        Headers without TIMESYS (2018 and 2019) are taken as TAI, and without DATE-BEG as MJD-OBS rather than DATE-OBS,
        since that is what the Gen3 registries recorded for them.
        """
        if self.is_key_ok("DATE-BEG") or self.is_key_ok("MJD-BEG"):
            return self._from_fits_date("DATE-BEG", mjd_key="MJD-BEG", scale=self._scale())
        if self.is_key_ok("MJD-OBS"):
            return Time(float(self._header["MJD-OBS"]), format="mjd", scale=self._scale())
        return self._from_fits_date("DATE-OBS", scale=self._scale())

    @cache_translation
    def to_datetime_end(self) -> Time | None:
        """Return the end in TAI; without DATE-END the start and the exposure time."""
        end = self._from_fits_date("DATE-END", mjd_key="MJD-END", scale=self._scale())
        if end is None and (begin := self.to_datetime_begin()) is not None:
            return begin + self.to_exposure_time()
        return end

    def _scale(self) -> str:
        return str(self._header["TIMESYS"]).strip().lower() if self.is_key_ok("TIMESYS") else "tai"

    @cache_translation
    def to_observation_type(self) -> str:
        """Return IMGTYPE in lower case; an exposure of the sky for its own sake is ``science``."""
        written = self._text("IMGTYPE", "TESTTYPE", default="unknown").lower()
        return _OBSERVATION_TYPES.get(written, written)

    @cache_translation
    def to_observation_reason(self) -> str:
        """Return REASON or TESTTYPE in lower case."""
        return self._text("REASON", "TESTTYPE", default="unknown").lower()

    @cache_translation
    def to_science_program(self) -> str:
        """Return PROGRAM or RUNNUM."""
        return self._text("PROGRAM", "RUNNUM", default="unknown")

    @cache_translation
    def to_exposure_group(self) -> str:
        """Return GROUPID; an exposure without one is a group of its own."""
        return self._text("GROUPID", default=str(self.to_exposure_id()))

    @cache_translation
    def to_group_counter_start(self) -> int:
        """Return the counter of the first exposure of the sequence that CURINDEX counts."""
        index = int(self._header["CURINDEX"]) if self.is_key_ok("CURINDEX") else 1
        return self.to_observation_counter() - max(index, 1) + 1

    @cache_translation
    def to_group_counter_end(self) -> int:
        """Return the counter of the last exposure of the sequence that MAXINDEX ends."""
        count = int(self._header["MAXINDEX"]) if self.is_key_ok("MAXINDEX") else 1
        return max(self.to_group_counter_start() + max(count, 1) - 1, self.to_observation_counter())

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        """Return False behind a closed shutter or dome, None if the header does not tell."""
        if self.to_observation_type() in _NOT_ON_SKY:
            return False
        vignetted = self._text("VIGN_MIN", "VIGNETTE", default="").upper()
        return {"FULLY": False, "PARTIALLY": True, "NO": True}.get(vignetted)

    @cache_translation
    def to_has_simulated_content(self) -> bool:
        """Return True if any part says that it was simulated."""
        if self.is_key_ok("CONTRLLR") and str(self._header["CONTRLLR"]).strip() == "S":
            return True
        # "SIMULATE" alone, or for one subsystem: "SIMULATE MTDOME"; not "SIMULATED DATE-OBS".
        return any(self._flag(key) for key in self._header if key == "SIMULATE" or key.startswith("SIMULATE "))

    def _tracks_sky(self) -> bool:
        if self.to_observation_type() in _NOT_ON_SKY:
            return False
        return self._text("TRACKSYS", default="RADEC").upper() == "RADEC"

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return where the telescope was told to point, None if it did not follow the sky."""
        if not self._tracks_sky() or not self.are_keys_ok(("RA", "DEC")):
            return None
        frame = self._text("RADESYS", default="ICRS").lower()
        return SkyCoord(float(self._header["RA"]), float(self._header["DEC"]), unit=u.deg, frame=frame).icrs

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        """Return the position angle of the camera on the sky, None if it did not follow the sky."""
        if not self._tracks_sky() or not self.is_key_ok("ROTPA") or self.to_boresight_rotation_coord() != "sky":
            return None
        return Angle(float(self._header["ROTPA"]) * u.deg).wrap_at(360 * u.deg)

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        """Return ROTCOORD."""
        return self._text("ROTCOORD", default="unknown").lower()

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return elevation and azimuth at the start, from the telescope's encoders."""
        if not self.are_keys_ok(("ELSTART", "AZSTART")):
            return None
        elevation, azimuth = float(self._header["ELSTART"]), float(self._header["AZSTART"])
        return AltAz(az=azimuth % 360.0 * u.deg, alt=elevation * u.deg, obstime=self.to_datetime_begin())

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return twelve hours: days of observation change at noon TAI."""
        return _DAY_OFFSET


class LsstCamTranslator(RubinTranslator):
    """LSSTCam on the Simonyi Survey Telescope."""

    camera = CAMERAS["LSSTCam"]
    instruments = frozenset({"lsstcam"})


class LsstComCamTranslator(RubinTranslator):
    """The commissioning camera, in the laboratory (2019) and on sky (2024)."""

    camera = CAMERAS["LSSTComCam"]
    instruments = frozenset({"comcam", "lsstcomcam"})


class LatissTranslator(RubinTranslator):
    """The spectrograph of the auxiliary telescope: filter and grating, one detector."""

    camera = CAMERAS["LATISS"]
    instruments = frozenset({"latiss", "lsst_atiss"})

    def to_detector_group(self) -> str:
        """Return the raft that stands for none; headers since 2020 say R00."""
        return "RXX"

    def to_detector_name(self) -> str:
        """Return the only sensor."""
        return "S00"

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return filter and grating; numbered empty slots are all ``empty``."""
        names = [self._text(keyword, default="unknown") for keyword in ("FILTER", "GRATING")]
        return "~".join("empty" if re.fullmatch(r"empty(_\d+)?", name) else name for name in names)


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
        return int((begin.tai - _DAY_OFFSET).strftime("%Y%m%d"))

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
        return self.to_observation_type() not in _NOT_ON_SKY

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
        latitude = float(self.to_location().lat.rad)
        hour_angle, dec = math.radians(float(self._header["HASTART"])), math.radians(float(self._header["DECTEL"]))
        # Unit vector to the boresight: up, north, east.
        up = math.sin(latitude) * math.sin(dec) + math.cos(latitude) * math.cos(dec) * math.cos(hour_angle)
        north = math.cos(latitude) * math.sin(dec) - math.sin(latitude) * math.cos(dec) * math.cos(hour_angle)
        east = -math.cos(dec) * math.sin(hour_angle)
        azimuth = math.degrees(math.atan2(east, north)) % 360.0
        elevation = math.degrees(math.atan2(up, math.hypot(north, east)))
        return AltAz(az=azimuth * u.deg, alt=elevation * u.deg, obstime=self.to_datetime_begin())


TRANSLATORS: tuple[type[RubinTranslator], ...] = (
    LsstCamTranslator,
    LsstComCamTranslator,
    LatissTranslator,
    ImSimTranslator,
)
"""In the order in which they are asked."""
