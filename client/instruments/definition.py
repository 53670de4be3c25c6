"""Instruments that a text file defines, without any code (DMS-MWBT-REQ-0046; decision 0036)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import msgspec

from pantry.client.instruments.cameras import Detector
from pantry.errors import ConfigError
from pantry.model.loading import load_yaml, load_yaml_file

MAX_DETECTORS = 100_000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,63}")
_PLACE = re.compile(r"\{([A-Za-z][A-Za-z0-9_-]*)(?::0?(\d{1,2})d)?\}")
_MAX_TEXT = 300
PROPERTIES: dict[str, str] = {
    "telescope": "text", "exposure_id": "integer", "visit_id": "integer", "physical_filter": "text",
    "datetime_begin": "time", "datetime_end": "time", "exposure_time": "s", "exposure_time_requested": "s",
    "dark_time": "s", "boresight_airmass": "number", "boresight_rotation_angle": "angle",
    "boresight_rotation_coord": "text", "detector_num": "integer", "detector_unique_name": "text",
    "detector_serial": "text", "focus_z": "mm", "object": "text", "temperature": "deg_C", "pressure": "hPa",
    "relative_humidity": "number", "tracking_radec": "radec", "altaz_begin": "altaz", "science_program": "text",
    "observation_type": "text", "observation_id": "text", "observation_reason": "text", "exposure_group": "text",
    "observing_day": "integer", "observation_counter": "integer", "group_counter_start": "integer",
    "group_counter_end": "integer", "has_simulated_content": "boolean", "can_see_sky": "boolean",
}  # fmt: skip
"""What a header can be translated to, by astro_metadata_translator's names, and of which kind it is; of quantities the
unit."""


class Property(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where one property comes from: exactly one of ``keyword``, ``constant`` and ``template``.

    Attributes
    ----------
    keyword : str or tuple of str
        Of the header; of several the first that has a value. Of ``tracking_radec`` and ``altaz_begin`` it is two: right
        ascension and declination, altitude and azimuth.
    constant : str, int, float or bool
        For all exposures.
    template : str
        Of other properties and keywords, as ``"{observing_day}{observation_counter:05d}"``.
    unit : str or tuple of str
        That the header has; by default that of the property. Of angles ``deg``, ``rad`` or ``hourangle``.
    pattern : str
        A regular expression; what its only group matches in the text of the header is taken.
    map : dict of str to str
        Other words for those of the header.
    default : str, int, float or bool
        If the header has no value.
    scale, format : str
        Of times: ``utc`` or ``tai``; and of numbers ``mjd``, ``jd`` or ``unix``.
    frame : str
        Of ``tracking_radec``: ``icrs``, ``fk5``, ``fk4``.
    """

    keyword: str | tuple[str, ...] = ()
    constant: str | int | float | bool | None = None
    template: str = ""
    unit: str | tuple[str, ...] = ""
    pattern: str = ""
    map: dict[str, str] = {}
    default: str | int | float | bool | None = None
    scale: Literal["utc", "tai", "tt", "tdb", "ut1"] = "utc"
    format: Literal["", "mjd", "jd", "unix", "isot"] = ""
    frame: Literal["icrs", "fk5", "fk4"] = "icrs"

    @property
    def keywords(self) -> tuple[str, ...]:
        """The keywords, none or more."""
        return (self.keyword,) if isinstance(self.keyword, str) else self.keyword

    @property
    def references(self) -> list[str]:
        """What the template names."""
        return [match[1] for match in _PLACE.finditer(self.template)]

    def filled(self, values: Mapping[str, Any]) -> str:
        """Return the template with values in the place of names."""
        return _PLACE.sub(
            lambda match: f"{int(values[match[1]]):0{match[2]}d}" if match[2] else str(values[match[1]]), self.template
        )

    def check(self, kind: str, place: str) -> None:
        """Raise `ConfigError` if it cannot be followed."""
        said = [name for name in ("keyword", "template") if getattr(self, name)]
        said += ["constant"] if self.constant is not None else []
        if len(said) != 1:
            raise ConfigError(f"{place}: one of keyword, constant and template, not {' and '.join(said) or 'none'}")
        if kind in ("radec", "altaz") and len(self.keywords) != 2:
            raise ConfigError(f"{place}: two keywords, one for each angle")
        if max(len(self.template), len(self.pattern)) > _MAX_TEXT:
            raise ConfigError(f"{place}: longer than {_MAX_TEXT} characters")
        if re.sub(r"[{}]", "", _PLACE.sub("", self.template)) != _PLACE.sub("", self.template):
            raise ConfigError(f"{place}.template: write {{name}} or {{name:05d}}, not {self.template!r}")
        if self.pattern:
            try:
                groups = re.compile(self.pattern).groups
            except re.error as exc:
                raise ConfigError(f"{place}.pattern: {exc}") from None
            if groups != 1:
                raise ConfigError(f"{place}.pattern: it has {groups} groups in place of one")
        self._check_unit(kind, place)

    def _check_unit(self, kind: str, place: str) -> None:
        units = (self.unit,) if isinstance(self.unit, str) else self.unit
        if not any(units):
            return
        import astropy.units as u

        angles = {"angle", "radec", "altaz"}
        target = "deg" if kind in angles else kind
        if kind in ("text", "integer", "number", "boolean", "time") or len(units) > (2 if kind in angles else 1):
            raise ConfigError(f"{place}.unit: it has none")
        for unit in units:
            try:
                u.Unit(unit).to(u.Unit(target), equivalencies=u.temperature())
            except (ValueError, u.UnitConversionError) as exc:
                raise ConfigError(f"{place}.unit: {str(exc).splitlines()[0]}") from None


class DetectorEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One sensor; fields as of Gen3's records."""

    id: int
    full_name: str
    name_in_raft: str = ""
    raft: str = ""
    purpose: str = "SCIENCE"


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the telescope is; degrees east and north, metres above the ellipsoid."""

    longitude_deg: float
    latitude_deg: float
    height_m: float = 0.0


class InstrumentDefinition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """An instrument, and how its headers are translated.

    Attributes
    ----------
    name : str
        In data ids.
    header : dict of str to Property
        By the names in `PROPERTIES`.
    detectors : tuple of DetectorEntry
        Its sensors.
    filters : dict of str to str
        Bands by physical filter; others are of the band ``unknown``.
    matches : dict of str to str
        Keywords and shell-style patterns of their values by which its headers are known.
    files : tuple of str
        Shell-style patterns of file names; with no ``matches`` the raws are known by these alone.
    class_name : str
        Gen3's class for it, if there is one.
    site : Site or None
        Where it is.
    day_offset_h : float
        Hours after midnight TAI at which a day of observation begins.
    exposure_max : int
        Exclusive limit of the ids.
    visit_system : int
        Gen3's number of how exposures make visits.
    """

    name: str
    header: dict[str, Property]
    detectors: tuple[DetectorEntry, ...]
    filters: dict[str, str] = {}
    matches: dict[str, str] = {}
    files: tuple[str, ...] = ("*.fits", "*.fits.fz", "*.fits.gz")
    class_name: str = ""
    site: Site | None = None
    day_offset_h: float = 12.0
    exposure_max: int = 1 << 53
    visit_system: int = 0

    def check(self, source: str) -> None:
        """Raise `ConfigError` with the place that is wrong."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{source}: name: {self.name[:80]!r} cannot be that of an instrument")
        if not 1 <= len(self.detectors) <= MAX_DETECTORS:
            raise ConfigError(f"{source}: detectors: 1 to {MAX_DETECTORS} of them")
        for what, values in (("id", [d.id for d in self.detectors]), ("name", [d.full_name for d in self.detectors])):
            if len(set(values)) < len(values):
                raise ConfigError(f"{source}: detectors: two have the same {what}")
        if min(d.id for d in self.detectors) < 0 or not -24 < self.day_offset_h < 24:
            raise ConfigError(f"{source}: ids are not negative, and day_offset_h is less than a day")
        for name, rule in self.header.items():
            if name not in PROPERTIES:
                raise ConfigError(
                    f"{source}: header.{name}: unknown property", hint=f"known: {', '.join(sorted(PROPERTIES))}"
                )
            rule.check(PROPERTIES[name], f"{source}: header.{name}")
        missing = [name for name in ("datetime_begin", "exposure_time") if name not in self.header]
        if "exposure_id" not in self.header and "observation_counter" not in self.header:
            missing.append("exposure_id")
        if missing:
            raise ConfigError(f"{source}: header: it does not say where {', '.join(missing)} comes from")
        if len(self.detectors) > 1 and not {"detector_num", "detector_unique_name"} & self.header.keys():
            raise ConfigError(f"{source}: header: which detector? say detector_num or detector_unique_name")
        for name in self.header:
            self._refuse_circle(name, (), source)

    def _refuse_circle(self, name: str, above: tuple[str, ...], source: str) -> None:
        if name in above:
            raise ConfigError(f"{source}: header: templates go in a circle: {' > '.join((*above, name))}")
        for reference in self.header[name].references if name in self.header else ():
            self._refuse_circle(reference, (*above, name), source)

    @cached_property
    def detector_max(self) -> int:
        """Exclusive limit of detectors' ids."""
        return max(one.id for one in self.detectors) + 1

    @cached_property
    def sensors(self) -> dict[int, Detector]:
        """Detectors by id."""
        return {
            one.id: Detector(one.id, one.raft, one.name_in_raft or one.full_name, one.purpose, one.full_name)
            for one in self.detectors
        }

    def detector_numbered(self, number: int) -> Detector:
        """Return a detector by its id; KeyError if there is none."""
        return self.sensors[number]

    def band(self, physical_filter: str) -> str:
        """Return the band of a physical filter."""
        return self.filters.get(physical_filter, "unknown")

    def recognises(self, keywords: Mapping[str, Any], filename: str | None) -> bool:
        """Tell whether a header, or a file if no keywords are named, is this instrument's."""
        if not self.matches:
            return filename is not None and self.has_name(filename)
        return all(
            keywords.get(keyword) is not None and fnmatchcase(str(keywords[keyword]).strip(), pattern)
            for keyword, pattern in self.matches.items()
        )

    def has_name(self, path: str) -> bool:
        """Tell whether a file has a name as this instrument's have."""
        return any(fnmatchcase(os.path.basename(path), pattern) for pattern in self.files)

    def records(self) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Give the records of the instrument, its detectors, bands and filters, in the order of their dependence."""
        yield "instrument", [{
            "name": self.name, "visit_max": self.exposure_max, "visit_system": self.visit_system,
            "exposure_max": self.exposure_max, "detector_max": self.detector_max,
            "class_name": self.class_name or None,
        }]  # fmt: skip
        yield "detector", [
            {"instrument": self.name, "id": one.id, "full_name": one.full_name, "raft": one.raft or None,
             "name_in_raft": one.name_in_raft or one.full_name, "purpose": one.purpose}
            for one in self.detectors
        ]  # fmt: skip
        yield "band", [{"name": band} for band in sorted(set(self.filters.values()))]
        yield (
            "physical_filter",
            [{"instrument": self.name, "name": name, "band": band} for name, band in self.filters.items()],
        )


def load_definition(given: str | os.PathLike[str] | Mapping[str, Any], source: str = "") -> InstrumentDefinition:
    """Read an instrument's definition from a YAML file, or from its content.

    Raises
    ------
    ConfigError
        With the place that is wrong.
    """
    if isinstance(given, Mapping):
        import yaml

        source = source or "the definition"
        definition = load_yaml(yaml.safe_dump(dict(given)), InstrumentDefinition, source=source)
    else:
        source = source or os.fspath(given)
        definition = load_yaml_file(os.fspath(given), InstrumentDefinition)
    definition.check(source)
    return definition
