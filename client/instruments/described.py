"""Translators made of a text: from an instrument's definition to a class of astro_metadata_translator."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar

import astropy.units as u
from astro_metadata_translator import FitsTranslator, StubTranslator, cache_translation
from astropy.coordinates import AltAz, Angle, EarthLocation, SkyCoord
from astropy.time import Time, TimeDelta

from pantry.client.instruments.definition import PROPERTIES, InstrumentDefinition, Property

_TRUE, _FALSE = {"t", "true", "yes", "1"}, {"f", "false", "no", "0"}
_SEXAGESIMAL = re.compile(r"[+-]?\d+[: hd]\d")


class DescribedTranslator(StubTranslator, FitsTranslator):
    """Translates headers as a definition says; subclasses are made by `translator_of`."""

    camera: ClassVar[InstrumentDefinition]

    @classmethod
    def can_translate(cls, header: Mapping[str, Any], filename: str | None = None) -> bool:
        """Tell whether the definition knows the header."""
        return cls.camera.recognises(header, filename)

    @classmethod
    def observing_date_to_offset(cls, observing_date: Time) -> TimeDelta:
        """Return when a day of observation begins, after midnight."""
        return TimeDelta(cls.camera.day_offset_h * u.hour)

    def value(self, name: str) -> Any:
        """Return a property as the definition says, None if the header does not tell."""
        rule, kind = self.camera.header[name], PROPERTIES[name]
        if kind in ("radec", "altaz"):
            return self._pair(rule, kind)
        raw = self._raw(rule)
        if raw is None:
            return None
        try:
            return self._converted(raw, rule, kind)
        except (ValueError, TypeError) as exc:
            said = f"{rule.keywords[0]} = " if rule.keywords else ""
            raise ValueError(f"{said}{raw!r} is no {name}: {exc}") from None

    def _raw(self, rule: Property) -> Any:
        if rule.constant is not None:
            return rule.constant
        if rule.template:
            values = {reference: self._referenced(reference) for reference in rule.references}
            if any(value is None for value in values.values()):
                return rule.default
            return rule.filled(values)
        for keyword in rule.keywords:
            found = self._card(keyword)
            if found is None:
                continue
            if rule.pattern:
                match = re.search(rule.pattern, str(found))
                if match is None:
                    raise ValueError(f"{keyword} = {found!r} does not match {rule.pattern!r}")
                found = match[1]
            return rule.map.get(str(found), found)
        return rule.default

    def _card(self, keyword: str) -> Any:
        if not self.is_key_ok(keyword):
            return None
        self._used_these_cards(keyword)
        value = self._header[keyword]
        if isinstance(value, str):
            value = value.strip()
        return None if value == "" or (isinstance(value, float) and not math.isfinite(value)) else value

    def _referenced(self, name: str) -> Any:
        if name in PROPERTIES:
            return getattr(self, f"to_{name}")()
        return self._card(name)

    def _converted(self, raw: Any, rule: Property, kind: str) -> Any:
        if kind == "text":
            return str(raw)
        if kind == "integer":
            number = float(raw)
            if number != int(number):
                raise ValueError("not an integer")
            return int(raw) if isinstance(raw, int | str) and "." not in str(raw) else int(number)
        if kind == "number":
            return float(raw)
        if kind == "boolean":
            return _boolean(raw)
        if kind == "time":
            return _time(raw, rule)
        if kind == "angle":
            return _angle(raw, _units(rule, 1)[0])
        return (float(raw) * u.Unit(_units(rule, 1)[0] or kind)).to(u.Unit(kind), equivalencies=u.temperature())

    def _pair(self, rule: Property, kind: str) -> SkyCoord | AltAz | None:
        found = [self._card(keyword) for keyword in rule.keywords]
        if None in found:
            return None
        try:
            first, second = (_angle(one, unit) for one, unit in zip(found, _units(rule, 2), strict=True))
            if kind == "radec":
                return SkyCoord(first, second, frame=rule.frame).icrs
            return AltAz(alt=first, az=second, obstime=self.to_datetime_begin(), location=self.to_location())
        except (ValueError, TypeError) as exc:
            said = ", ".join(f"{keyword} = {value!r}" for keyword, value in zip(rule.keywords, found, strict=True))
            raise ValueError(f"{said} is no direction: {str(exc).splitlines()[0]}") from None

    def to_instrument(self) -> str:
        """Return the name in data ids."""
        return self.camera.name

    def to_location(self) -> EarthLocation | None:
        """Return the site."""
        site = self.camera.site
        return (
            None if site is None else EarthLocation.from_geodetic(site.longitude_deg, site.latitude_deg, site.height_m)
        )


def _fallback(name: str, default: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a method that follows the definition, and where it says nothing the default."""

    def method(self: Any) -> Any:
        found = self.value(name) if name in self.camera.header else None
        return default(self) if found is None else found

    method.__name__ = f"to_{name}"
    method.__doc__ = f"Return {name.replace('_', ' ')}."
    return cache_translation(method)


def _required(keyword_of: str) -> Callable[[Any], Any]:
    def missing(self: Any) -> Any:
        rule = self.camera.header.get(keyword_of)
        raise KeyError(f"Could not find {' or '.join(rule.keywords) if rule else keyword_of.upper()} in header")

    return missing


def _number(self: Any) -> int:
    if "detector_unique_name" in self.camera.header:
        name = self.value("detector_unique_name")
        for one in self.camera.detectors:
            if one.full_name == name:
                return int(one.id)
        raise ValueError(f"{name!r} is no detector of {self.camera.name}")
    if len(self.camera.detectors) == 1:
        return int(self.camera.detectors[0].id)
    return int(_required("detector_num")(self))


def _day(self: Any) -> int:
    begin = self.to_datetime_begin()
    return int((begin.tai - self.observing_date_to_offset(begin)).strftime("%Y%m%d"))


def _end(self: Any) -> Any:
    begin = self.to_datetime_begin()
    return None if begin is None else begin + self.to_exposure_time()


def _sensor(self: Any) -> Any:
    try:
        return self.camera.detector_numbered(self.to_detector_num())
    except KeyError:
        raise ValueError(f"{self.camera.name} has no detector {self.to_detector_num()}") from None


_DEFAULTS: dict[str, Callable[[Any], Any]] = {
    "telescope": lambda self: "unknown",
    "exposure_id": lambda self: self.to_observing_day() * 100_000 + self.to_observation_counter(),
    "visit_id": lambda self: self.to_exposure_id(),
    "physical_filter": lambda self: "unknown",
    "datetime_begin": _required("datetime_begin"),
    "datetime_end": _end,
    "exposure_time": _required("exposure_time"),
    "exposure_time_requested": lambda self: self.to_exposure_time(),
    "dark_time": lambda self: self.to_exposure_time(),
    "boresight_rotation_coord": lambda self: "sky" if "boresight_rotation_angle" in self.camera.header else "unknown",
    "detector_num": _number,
    "detector_unique_name": lambda self: _sensor(self).full_name,
    "detector_name": lambda self: _sensor(self).name_in_raft,
    "detector_group": lambda self: _sensor(self).raft or "unknown",
    "detector_serial": lambda self: "unknown",
    "focus_z": lambda self: 0.0 * u.mm,
    "object": lambda self: "UNKNOWN",
    "science_program": lambda self: "unknown",
    "observation_type": lambda self: "unknown",
    "observation_id": lambda self: str(self.to_exposure_id()),
    "observation_reason": lambda self: "unknown",
    "exposure_group": lambda self: str(self.to_exposure_id()),
    "observing_day": _day,
    "observation_counter": lambda self: 0,
    "group_counter_start": lambda self: self.to_observation_counter() or self.to_exposure_id(),
    "group_counter_end": lambda self: self.to_observation_counter() or self.to_exposure_id(),
    "has_simulated_content": lambda self: False,
    "can_see_sky": lambda self: {"science": True, "object": True, "bias": False, "dark": False}.get(
        self.to_observation_type()
    ),
}
_NEVER = ("detector_exposure_id", "altaz_end")

for _name in {*PROPERTIES, *_DEFAULTS, *_NEVER}:
    setattr(DescribedTranslator, f"to_{_name}", _fallback(_name, _DEFAULTS.get(_name, lambda self: None)))


@lru_cache(maxsize=64)
def _made(definition_text: bytes) -> type[DescribedTranslator]:
    import msgspec

    definition = msgspec.json.decode(definition_text, type=InstrumentDefinition)
    return type(f"Translator_{definition.name}", (DescribedTranslator,), {"camera": definition})


def translator_of(definition: InstrumentDefinition) -> type[DescribedTranslator]:
    """Return the translator of a definition; the same class for the same definition."""
    import msgspec

    return _made(msgspec.json.encode(definition))


def _units(rule: Property, count: int) -> tuple[str, ...]:
    units = (rule.unit,) * count if isinstance(rule.unit, str) else rule.unit
    return units if len(units) == count else (units[0],) * count


def _angle(raw: Any, unit: str) -> Angle:
    if isinstance(raw, str) and _SEXAGESIMAL.match(raw):
        return Angle(raw, unit=unit or "deg")
    return Angle(float(raw) * u.Unit(unit or "deg"))


def _time(raw: Any, rule: Property) -> Time:
    if rule.format in ("mjd", "jd", "unix"):
        return Time(float(raw), format=rule.format, scale=rule.scale).tai
    if isinstance(raw, datetime.datetime | datetime.date):
        raw = raw.isoformat()
    return Time(str(raw), format="fits" if "T" in str(raw) else None, scale=rule.scale).tai


def _boolean(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError("neither true nor false")
    return word in _TRUE
