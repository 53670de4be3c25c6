"""One raw file, as the data id and the dimension records that a repository needs of it."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from astro_metadata_translator import ObservationInfo
from astropy.time import Time

from pantry.client.instruments.headers import RawFile, file_name, normalise, read_raw_header
from pantry.client.instruments.translators import TRANSLATORS, RubinTranslator
from pantry.errors import FormatterError

_NS_PER_DAY = 86_400_000_000_000
_UNIX_EPOCH_JD = 2_440_587.5
_NOON_NS = _NS_PER_DAY // 2

RecordValue = int | float | str | bool | None

_PROPERTIES = {
    "exposure_id", "observation_id", "physical_filter", "datetime_begin", "datetime_end", "exposure_time", "dark_time",
    "observation_type", "observation_reason", "observing_day", "observation_counter", "group_counter_start",
    "group_counter_end", "object", "science_program", "tracking_radec", "boresight_rotation_angle", "altaz_begin",
    "has_simulated_content", "can_see_sky", "exposure_group", "detector_num", "detector_name", "detector_group",
    "detector_unique_name", "instrument",
}  # fmt: skip
_REQUIRED = {
    "exposure_id", "observation_id", "physical_filter", "datetime_begin", "datetime_end", "exposure_time",
    "observing_day", "observation_counter", "detector_num",
}  # fmt: skip
_KEYWORDS = {
    "datetime_begin": ("DATE-BEG", "MJD-BEG", "MJD-OBS", "DATE-OBS"),
    "datetime_end": ("DATE-END", "MJD-END", "DATE-BEG", "MJD-BEG", "MJD-OBS", "DATE-OBS"),
    "observing_day": ("DAYOBS",),
    "observation_counter": ("SEQNUM",),
    "exposure_id": ("DAYOBS", "SEQNUM", "CONTRLLR"),
    "exposure_time": ("EXPTIME",),
    "dark_time": ("DARKTIME", "EXPTIME"),
    "tracking_radec": ("RA", "DEC", "RADESYS"),
}
"""Which keywords to show when a property cannot be had from them."""


class RawObservation(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository needs to know of a raw file.

    Attributes
    ----------
    instrument : str
        The instrument's name in data ids.
    data_id : dict
        ``instrument``, ``exposure`` and ``detector``.
    records : dict
        Values of the dimension records by element, in an order in which they can be inserted: ``instrument``,
        ``detector``, ``band``, ``physical_filter``, ``group``, ``day_obs``, ``exposure``. Fields are those of Gen3's
        dimension universe 8; angles in degrees, times in seconds; temporal elements have ``timespan_begin`` and
        ``timespan_end``, nanoseconds since 1970-01-01 TAI.
    """

    instrument: str
    data_id: dict[str, str | int]
    records: dict[str, dict[str, RecordValue]]


def translate(header: Mapping[str, object] | RawFile, *, name: str | None = None) -> RawObservation:
    """Translate the header of a raw exposure.

    Parameters
    ----------
    header : mapping, str, path, binary file object or ReadSource
        Keywords and values, or the raw FITS file to read them from.
    name : str, optional
        What messages call the file; by default its name.

    Raises
    ------
    FormatterError
        If the instrument is unknown, or a keyword is missing or makes no sense; the message names it.
    """
    if isinstance(header, Mapping) or hasattr(header, "cards"):
        keywords, name = normalise(header), name or "the header"  # type: ignore[arg-type]
    else:
        keywords, name = read_raw_header(header), name or file_name(header)
    translator = _translator(keywords, name)
    info = _observation_info(translator, keywords, name)
    return _raw_observation(translator, info)


def _translator(keywords: Mapping[str, Any], name: str) -> type[RubinTranslator]:
    for translator in TRANSLATORS:
        if translator.can_translate(keywords):
            return translator
    instrument = keywords.get("INSTRUME")
    known = ", ".join(translator.camera.name for translator in TRANSLATORS)
    if instrument is None:
        raise FormatterError(f"{name}: keyword INSTRUME is missing", hint=f"raw files of {known} have it")
    raise FormatterError(f"{name}: no translator for INSTRUME = {instrument!r}", hint=f"instruments known: {known}")


def _observation_info(translator: type[RubinTranslator], keywords: dict[str, Any], name: str) -> Any:
    """Return the translated properties; Any, because astro_metadata_translator types each as perhaps None."""
    try:
        return ObservationInfo(
            keywords,
            translator_class=translator,
            pedantic=True,
            subset=_PROPERTIES,
            required=_REQUIRED,
            quiet=True,
        )
    except Exception as exc:
        raise FormatterError(
            f"{name}: {_reason(exc, keywords)}", hint="the file cannot be ingested as a raw exposure"
        ) from exc


def _reason(exc: BaseException, keywords: Mapping[str, Any]) -> str:
    """Return what is wrong in words: which keyword is missing, or what nonsense it holds."""
    cause: BaseException = exc
    while (deeper := cause.__cause__ or cause.__context__) is not None:
        cause = deeper
    if isinstance(cause, KeyError):
        missing = str(cause.args[0]) if cause.args else "?"
        if re.fullmatch(r"\w+_\w+", missing):
            return f"RAFTBAY and CCDSLOT name no detector of this camera: {missing}"
        if " " not in missing:
            return f"keyword {missing} is missing"
        # The library's own words: "Could not find EXPTIME in header", or a list of keywords.
        absent = re.findall(r"[A-Z][A-Z0-9_-]+", missing) if missing.startswith("Could not find") else []
        if absent:
            return f"keyword {' or '.join(absent)} is missing"
        cause = exc
    reason = str(cause.args[0] if isinstance(cause, KeyError) else cause).partition("\n")[0] or type(cause).__name__
    concerned = _concerned(exc)
    values = [f"{key} = {keywords[key]!r}" for key in concerned if keywords.get(key) is not None]
    if values:
        return f"{', '.join(values)} makes no sense: {reason}"
    return f"keyword {' or '.join(concerned)} is missing" if concerned else reason


def _concerned(exc: BaseException) -> tuple[str, ...]:
    return next((keys for name, keys in _KEYWORDS.items() if re.search(rf"\b{name}\b", str(exc))), ())


def _raw_observation(translator: type[RubinTranslator], info: Any) -> RawObservation:
    camera = translator.camera
    instrument = camera.name
    detector = camera.detector(info.detector_group, info.detector_name)
    day_obs = int(info.observing_day)
    records: dict[str, dict[str, RecordValue]] = {
        "instrument": {
            "name": instrument,
            "visit_max": camera.exposure_max,
            "visit_system": camera.visit_system,
            "exposure_max": camera.exposure_max,
            "detector_max": camera.detector_max,
            "class_name": camera.class_name,
        },
        "detector": {
            "instrument": instrument,
            "id": detector.id,
            "full_name": detector.full_name,
            "name_in_raft": detector.name_in_raft,
            "raft": detector.raft or None,
            "purpose": detector.purpose,
        },
        "band": {"name": camera.band(info.physical_filter)},
        "physical_filter": {
            "instrument": instrument,
            "name": info.physical_filter,
            "band": camera.band(info.physical_filter),
        },
        "group": {"instrument": instrument, "name": info.exposure_group},
        "day_obs": {"instrument": instrument, "id": day_obs, **_day_timespan(day_obs)},
        "exposure": _exposure_record(instrument, info),
    }
    data_id: dict[str, str | int] = {"instrument": instrument, "exposure": info.exposure_id, "detector": detector.id}
    return RawObservation(instrument=instrument, data_id=data_id, records=records)


def _exposure_record(instrument: str, info: Any) -> dict[str, RecordValue]:
    radec, altaz, angle = info.tracking_radec, info.altaz_begin, info.boresight_rotation_angle
    begin, end = tai_ns(info.datetime_begin), tai_ns(info.datetime_end)
    return {
        "instrument": instrument,
        "id": info.exposure_id,
        "obs_id": info.observation_id,
        "physical_filter": info.physical_filter,
        "group": info.exposure_group,
        "day_obs": int(info.observing_day),
        "exposure_time": float(info.exposure_time.to_value("s")),
        "dark_time": None if info.dark_time is None else float(info.dark_time.to_value("s")),
        "observation_type": info.observation_type,
        "observation_reason": info.observation_reason,
        "seq_num": info.observation_counter,
        "seq_start": info.group_counter_start,
        "seq_end": info.group_counter_end,
        "target_name": info.object,
        "science_program": info.science_program,
        "tracking_ra": None if radec is None else float(radec.ra.deg),
        "tracking_dec": None if radec is None else float(radec.dec.deg),
        "sky_angle": None if angle is None else float(angle.deg),
        "azimuth": None if altaz is None else float(altaz.az.deg),
        "zenith_angle": None if altaz is None else 90.0 - float(altaz.alt.deg),
        "has_simulated": info.has_simulated_content,
        "can_see_sky": info.can_see_sky,
        "timespan_begin": begin,
        # As in Gen3: a timespan is half-open and never empty, also for a bias of no length.
        "timespan_end": max(end, begin + 1),
    }


def tai_ns(time: Time) -> int:
    """Return nanoseconds since 1970-01-01T00:00:00 TAI; the two parts of the Julian date keep them exact."""
    tai = time.tai
    whole = (tai.jd1 - _UNIX_EPOCH_JD) * _NS_PER_DAY  # jd1 is a multiple of a half: exact
    return int(whole) + round(float(tai.jd2) * _NS_PER_DAY)


def _day_timespan(day_obs: int) -> dict[str, RecordValue]:
    """Return the day from noon TAI to noon TAI."""
    year, month, day = day_obs // 10_000, day_obs // 100 % 100, day_obs % 100
    begin = calendar.timegm((year, month, day, 0, 0, 0)) * 1_000_000_000 + _NOON_NS
    return {"timespan_begin": begin, "timespan_end": begin + _NS_PER_DAY}
