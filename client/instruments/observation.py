"""One raw file, as the data id and the dimension records that a repository needs of it."""

from __future__ import annotations

import calendar
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pantry.client.instruments.amending import AS_IN_THE_FILE, Plan, amend
from pantry.client.instruments.cameras import Detector, Instrument
from pantry.client.instruments.headers import RawFile, file_name, normalise, read_raw_header
from pantry.client.instruments.times import tai_ns
from pantry.client.instruments.translators import RawTranslator
from pantry.client.instruments.visit_info import find_translator, observation_info

_NS_PER_DAY = 86_400_000_000_000
_NS_PER_S = 1_000_000_000
_NOON_NS = _NS_PER_DAY // 2

RecordValue = int | float | str | bool | None

_PROPERTIES = {
    "exposure_id", "observation_id", "physical_filter", "datetime_begin", "datetime_end", "exposure_time", "dark_time",
    "observation_type", "observation_reason", "observing_day", "observation_counter", "group_counter_start",
    "group_counter_end", "object", "science_program", "tracking_radec", "boresight_rotation_angle", "altaz_begin",
    "has_simulated_content", "can_see_sky", "exposure_group", "detector_num", "detector_name", "detector_group",
    "detector_unique_name", "instrument", "observing_day_offset",
}  # fmt: skip
"""What the dimension records are made of; each must make sense."""


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


def translate(
    header: Mapping[str, object] | RawFile,
    *,
    name: str | None = None,
    translators: Sequence[type[RawTranslator]] = (),
    plans: Callable[[str], Plan] | None = None,
) -> RawObservation:
    """Translate the header of a raw exposure.

    Parameters
    ----------
    header : mapping, str, path, binary file object or ReadSource
        Keywords and values, or the raw FITS file to read them from.
    name : str, optional
        What messages call the file; by default its name.
    translators : sequence of type, optional
        Of instruments that Pantry does not know by itself.
    plans : callable, optional
        Gives for an instrument's name how headers are amended; by default only known faults of cameras are mended.

    Raises
    ------
    FormatterError
        If the instrument is unknown, or a keyword is missing or makes no sense; the message names it.
    """
    if isinstance(header, Mapping) or hasattr(header, "cards"):
        keywords, name = normalise(header), name or "the header"  # type: ignore[arg-type]
    else:
        keywords, name = read_raw_header(header), name or file_name(header)
    translator = find_translator(keywords, name, translators)
    plan = AS_IN_THE_FILE if plans is None else plans(translator.camera.name)
    return observe(keywords, name, translator=translator, plan=plan)


def observe(
    keywords: Mapping[str, Any],
    name: str,
    *,
    translator: type[RawTranslator] | None = None,
    plan: Plan = AS_IN_THE_FILE,
) -> RawObservation:
    """Translate keywords and values of a header; see `translate`.

    Parameters
    ----------
    keywords : Mapping
        As in the file.
    name : str
        What messages call the file.
    translator : type, optional
        By default that of Pantry's own which knows the header.
    plan : Plan
        How the header is amended.
    """
    translator = translator or find_translator(keywords, name)
    amended = amend(keywords, translator, plan)
    info = observation_info(translator, amended.keywords, name, subset=_PROPERTIES)
    return _raw_observation(translator, info)


def _raw_observation(translator: type[RawTranslator], info: Any) -> RawObservation:
    camera: Instrument = translator.camera
    instrument = camera.name
    detector = camera.detector_numbered(info.detector_num)
    day_obs = int(info.observing_day)
    offset = info.observing_day_offset
    offset_ns = _NOON_NS if offset is None else round(offset.to_value("s")) * _NS_PER_S
    records: dict[str, dict[str, RecordValue]] = {
        "instrument": instrument_record(camera),
        "detector": detector_record(instrument, detector),
        "band": {"name": camera.band(info.physical_filter)},
        "physical_filter": {
            "instrument": instrument,
            "name": info.physical_filter,
            "band": camera.band(info.physical_filter),
        },
        "group": {"instrument": instrument, "name": info.exposure_group},
        "day_obs": {"instrument": instrument, "id": day_obs, **_day_timespan(day_obs, offset_ns)},
        "exposure": _exposure_record(instrument, info),
    }
    data_id: dict[str, str | int] = {"instrument": instrument, "exposure": info.exposure_id, "detector": detector.id}
    return RawObservation(instrument=instrument, data_id=data_id, records=records)


def instrument_record(camera: Instrument) -> dict[str, RecordValue]:
    """Return the record of an instrument."""
    return {
        "name": camera.name,
        "visit_max": camera.exposure_max,
        "visit_system": camera.visit_system,
        "exposure_max": camera.exposure_max,
        "detector_max": camera.detector_max,
        "class_name": camera.class_name or None,
    }


def detector_record(instrument: str, detector: Detector) -> dict[str, RecordValue]:
    """Return the record of a detector."""
    return {
        "instrument": instrument,
        "id": detector.id,
        "full_name": detector.full_name,
        "name_in_raft": detector.name_in_raft,
        "raft": detector.raft or None,
        "purpose": detector.purpose,
    }


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


def _day_timespan(day_obs: int, offset_ns: int) -> dict[str, RecordValue]:
    """Return the day, in TAI; ``offset_ns`` after midnight it begins."""
    year, month, day = day_obs // 10_000, day_obs // 100 % 100, day_obs % 100
    begin = calendar.timegm((year, month, day, 0, 0, 0)) * _NS_PER_S + offset_ns
    return {"timespan_begin": begin, "timespan_end": begin + _NS_PER_DAY}
