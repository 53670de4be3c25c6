"""From the headers of the Rubin cameras to astro_metadata_translator's properties: what is common to all.

The classes have no ``name``, so they are not registered with astro_metadata_translator and do not stand in the way of
Rubin's own translators where those are installed. Facts are taken from headers, from registries that Rubin's own
software wrote, and from what Rubin publishes of its conventions (lsst/obs_lsst); see the tests.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import FitsTranslator, StubTranslator, cache_translation
from astropy.coordinates import AltAz, Angle, EarthLocation, SkyCoord
from astropy.time import Time, TimeDelta

from pantry.client.instruments import rubin_faults
from pantry.client.instruments.cameras import SIMULATED_CONTROLLERS, Camera, exposure_id
from pantry.client.instruments.rubin_days import SUMMIT_OFFSET_S, pacific_offset_s

NOT_ON_SKY = frozenset({"bias", "dark", "flat"})
DAY_OFFSET = TimeDelta(SUMMIT_OFFSET_S * u.s)
"""Days of observation change at noon TAI."""
SIMONYI_SITE = EarthLocation.from_geodetic(-70.749417, -30.244639, 2663.0)

SKY_TYPES = {"object": "science", "skyexp": "science", "science": "science"}
_PASCAL_FROM = 10_000.0
"""Pressures above this are in Pa, others in hPa: headers have had both."""


class RubinTranslator(StubTranslator, FitsTranslator):
    """What the headers of all Rubin cameras have in common."""

    camera: ClassVar[Camera]
    instruments: ClassVar[frozenset[str]]
    """Values of INSTRUME, in lower case."""
    telescope: ClassVar[str] = "Simonyi Survey Telescope"
    site: ClassVar[EarthLocation] = SIMONYI_SITE
    on_mountain_from: ClassVar[Time] = Time("2025-03-01T00:00", scale="utc")
    """Before this the camera was in a laboratory: its pointing means nothing."""
    in_california_until: ClassVar[Time] = Time("2000-01-01T00:00", scale="tai")
    """Before this its days changed at midnight in California."""

    _trivial_map: dict[str, str | list[str] | tuple[Any, ...]] = {
        "exposure_time_requested": ("EXPTIME", {"unit": u.s}),
        "object": ("OBJECT", {"default": "UNKNOWN"}),
    }
    # Made later, of several exposures, or by Rubin's own packing of ids, which Pantry has not.
    _const_map: dict[str, Any] = {"detector_exposure_id": None, "altaz_end": None}

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:
        """Tell whether INSTRUME is this camera's."""
        return str(header.get("INSTRUME") or "").strip().lower() in cls.instruments

    @classmethod
    def fix_header(
        cls, header: MutableMapping[str, Any], instrument: str, obsid: str, filename: str | None = None
    ) -> bool:
        """Mend what is known to be wrong in all headers of some nights; called by astro_metadata_translator."""
        changes = rubin_faults.known_faults(cls.camera.name, header)
        header.update(changes)
        return bool(changes)

    def is_key_ok(self, keyword: str | None) -> bool:
        """Tell whether a keyword has a value; a number that is none (NaN) is not one."""
        if keyword is None or not super().is_key_ok(keyword):
            return False
        value = self._header[keyword]
        return not (isinstance(value, float) and not math.isfinite(value))

    def _text(self, *keywords: str, default: str) -> str:
        """Return the first of the keywords that has a value."""
        for keyword in keywords:
            if self.is_key_ok(keyword):
                self._used_these_cards(keyword)
                value = str(self._header[keyword]).strip()
                if value:
                    return value
        return default

    def _number(self, *keywords: str) -> float | None:
        """Return the first of the keywords that has a value; a value that is no number is a `ValueError`."""
        for keyword in keywords:
            if self.is_key_ok(keyword):
                self._used_these_cards(keyword)
                try:
                    return float(self._header[keyword])
                except (TypeError, ValueError):
                    raise ValueError(f"{keyword} = {self._header[keyword]!r} is not a number") from None
        return None

    def to_instrument(self) -> str:
        """Return the camera's name in data ids."""
        return self.camera.name

    def to_telescope(self) -> str:
        """Return the telescope's full name."""
        return self.telescope

    def to_location(self) -> EarthLocation | None:
        """Return where the telescope is, None in the laboratory.

        It does not move, and headers have been wrong: OBSGEO-Z at the auxiliary telescope, OBS-LAT in imSim.
        """
        return self.site if self.is_on_mountain() else None

    @cache_translation
    def is_on_mountain(self) -> bool:
        """Return whether the camera was on its telescope."""
        begin = self.to_datetime_begin()
        return begin is not None and bool(begin > self.on_mountain_from)

    @cache_translation
    def to_observing_day(self) -> int:
        """Return DAYOBS, the local date at the start of the night, as YYYYMMDD."""
        written = str(self._header["DAYOBS"]).strip().replace("-", "")
        try:
            datetime.datetime.strptime(written, "%Y%m%d")
        except ValueError:
            raise ValueError(f"DAYOBS = {written!r} is no date as YYYYMMDD") from None
        return int(written)

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
    def to_detector_serial(self) -> str:
        """Return the serial number of the sensor."""
        return self._text("LSST_NUM", "DETSER", default="unknown")

    @cache_translation
    def to_physical_filter(self) -> str:
        """Return what of FILTER, FILTER1 and FILTER2 is in the beam, or ``unknown``."""
        names = [self._text(keyword, default="") for keyword in ("FILTER", "FILTER1", "FILTER2")]
        joined = "~".join(name for name in names if name).replace("NONE", "none")
        while joined.endswith("~empty"):
            joined = joined.removesuffix("~empty")
        return joined or "unknown"

    @cache_translation
    def to_datetime_begin(self) -> Time | None:
        """Return the start in TAI, from the first of MJD-BEG, DATE-BEG, MJD-OBS and DATE-OBS.

        MJD before DATE, as Rubin's own translators do, so that times agree to the nanosecond with those of its
        registries. Headers without TIMESYS (2018 and 2019) are in TAI.
        """
        for keyword, form in (("MJD-BEG", "mjd"), ("DATE-BEG", "fits"), ("MJD-OBS", "mjd"), ("DATE-OBS", "fits")):
            if self.is_key_ok(keyword):
                self._used_these_cards(keyword)
                return Time(self._header[keyword], format=form, scale=self._scale()).tai
        return None

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
    def to_exposure_time(self) -> u.Quantity:
        """Return how long the shutter was open, SHUTTIME; EXPTIME if it stayed closed."""
        shutter = self.shutter_time()
        return shutter * u.s if shutter is not None and shutter > 0.0 else self.requested_time()

    def shutter_time(self) -> float | None:
        """Return SHUTTIME, in seconds."""
        return self._number("SHUTTIME")

    def requested_time(self) -> u.Quantity:
        """Return EXPTIME."""
        requested = self._number("EXPTIME")
        if requested is None:
            raise KeyError("Could not find EXPTIME in header")
        if requested < 0.0:
            raise ValueError(f"EXPTIME = {requested} is negative")
        return requested * u.s

    @cache_translation
    def to_dark_time(self) -> u.Quantity:
        """Return DARKTIME, or the exposure time."""
        dark = self._number("DARKTIME")
        return self.to_exposure_time() if dark is None else dark * u.s

    @cache_translation
    def to_observation_type(self) -> str:
        """Return IMGTYPE in lower case; an exposure of the sky for its own sake is ``science``."""
        written = self._text("IMGTYPE", "TESTTYPE", default="unknown").lower()
        return SKY_TYPES.get(written, written)

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
        counter = self.to_observation_counter()
        if self.is_key_ok("CURINDEX"):
            return counter - max(int(self._header["CURINDEX"]), 1) + 1
        return counter or self.to_exposure_id()

    @cache_translation
    def to_group_counter_end(self) -> int:
        """Return the counter of the last exposure of the sequence that MAXINDEX ends."""
        counter = self.to_observation_counter()
        if self.are_keys_ok(("CURINDEX", "MAXINDEX")):
            return counter + max(int(self._header["MAXINDEX"]) - int(self._header["CURINDEX"]), 0)
        return counter or self.to_exposure_id()

    @cache_translation
    def to_can_see_sky(self) -> bool | None:
        """Return False in the laboratory and behind a closed shutter or dome, None if the header does not tell."""
        if not self.is_on_mountain() or self.shutter_time() == 0.0:
            return False
        vignetted = self._text("VIGN_MIN", default="").upper()
        if vignetted:
            return vignetted != "FULLY"
        return False if self.to_observation_type() in NOT_ON_SKY else None

    @cache_translation
    def to_has_simulated_content(self) -> bool:
        """Return True if any part says that it was simulated, as ``SIMULATE MTDOME`` does."""
        if self.is_key_ok("CONTRLLR") and str(self._header["CONTRLLR"]).strip() in SIMULATED_CONTROLLERS:
            return True
        return any("SIMULATE" in key and self.is_key_ok(key) and bool(self._header[key]) for key in self._header)

    def _tracks_sky(self) -> bool:
        # Darks are sometimes taken while the telescope follows the sky, and TRACKSYS tells.
        if self.to_observation_type() in NOT_ON_SKY - {"dark"}:
            return False
        return self._text("TRACKSYS", default="RADEC").upper() == "RADEC"

    @cache_translation
    def to_tracking_radec(self) -> SkyCoord | None:
        """Return where the telescope pointed at the start, None if it did not follow the sky."""
        if not self._tracks_sky():
            return None
        frame = self._text("RADESYS", default="ICRS").lower()
        for keywords in (("RASTART", "DECSTART"), ("RA", "DEC")):
            ra, dec = (self._number(keyword) for keyword in keywords)
            if ra is not None and dec is not None:
                return SkyCoord(ra, dec, unit=u.deg, frame=frame).icrs
        return None

    @cache_translation
    def to_boresight_rotation_angle(self) -> Angle | None:
        """Return the position angle of the camera on the sky, None if it did not follow the sky."""
        angle = self._number("ROTPA", "ROTANGLE")
        if angle is None or not self._tracks_sky() or self.to_boresight_rotation_coord() != "sky":
            return None
        return Angle(angle * u.deg).wrap_at(360 * u.deg)

    @cache_translation
    def to_boresight_rotation_coord(self) -> str:
        """Return ROTCOORD."""
        return self._text("ROTCOORD", default="unknown").lower()

    @cache_translation
    def to_altaz_begin(self) -> AltAz | None:
        """Return elevation and azimuth at the start, from the telescope's encoders."""
        elevation, azimuth = self._number("ELSTART"), self._number("AZSTART")
        if elevation is None or azimuth is None or not self.is_on_mountain():
            return None
        return self._altaz(elevation, azimuth)

    def _altaz(self, elevation: float, azimuth: float) -> AltAz:
        # The telescope can lean back over the zenith by some degrees, which AltAz cannot say.
        return AltAz(
            az=azimuth % 360.0 * u.deg,
            alt=min(max(elevation, -90.0), 90.0) * u.deg,
            obstime=self.to_datetime_begin(),
            location=self.to_location(),
        )

    @cache_translation
    def to_boresight_airmass(self) -> float | None:
        """Return AMSTART, or what follows from the elevation; None if it did not look at the sky."""
        if self.to_observation_type() in NOT_ON_SKY or not self.is_on_mountain():
            return None
        written = self._number("AMSTART")
        if written:
            return written
        altaz = self.to_altaz_begin()
        return float(altaz.secz) if altaz is not None and altaz.alt.deg > 0 else None

    @cache_translation
    def to_temperature(self) -> u.Quantity | None:
        """Return the temperature of the air outside."""
        found = self._number("AIRTEMP")
        return None if found is None else found * u.deg_C

    @cache_translation
    def to_pressure(self) -> u.Quantity | None:
        """Return the atmospheric pressure."""
        found = self._number("PRESSURE")
        return None if found is None else found * (u.Pa if found > _PASCAL_FROM else u.hPa)

    @cache_translation
    def to_relative_humidity(self) -> float | None:  # type: ignore[override]
        """Return the relative humidity outside, in percent."""
        return self._number("HUMIDITY")

    @cache_translation
    def to_focus_z(self) -> u.Quantity:
        """Return the distance from focus."""
        return (self._number("FOCUSZ") or 0.0) * u.mm

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return when a day of observation begins, after midnight."""
        if observing_date < cls.in_california_until:
            return TimeDelta(pacific_offset_s(observing_date.utc.to_datetime()) * u.s)
        return DAY_OFFSET
