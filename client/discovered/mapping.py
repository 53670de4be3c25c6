"""Which columns of a discovery service are which dimension values: a text (docs/queries.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Literal

import msgspec

from pantry.errors import ConfigError, InvalidRequestError
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.model.loading import convert_plain, load_yaml_file

COLUMNS = (
    "obs_publisher_did", "access_url", "access_format", "t_min", "t_max", "s_region", "s_ra", "s_dec", "s_fov",
)  # fmt: skip
"""Columns of ObsCore that are read if a mapping says nothing else."""

_IN_BRACES = re.compile(r"\{(\w+)\}")
_EPOCH = date(1970, 1, 1)
_NS_PER_DAY = 86_400_000_000_000
_NS_PER_HOUR = 3_600_000_000_000


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a value comes from; one of the first four.

    Attributes
    ----------
    column : str
        A column.
    constant : int, float, str or bool
        The same for all.
    template : str
        A text with columns in braces.
    day_of : str
        A column of times (MJD): the day of observation, as 20260315.
    pattern : str
        A regular expression, of which the first group is taken.
    map : dict
        Other words for what was found.
    """

    column: str = ""
    constant: int | float | str | bool | None = None
    template: str = ""
    day_of: str = ""
    pattern: str = ""
    map: dict[str, int | float | str] = {}

    @property
    def ways(self) -> int:
        """How many ways are given; must be one."""
        return sum((bool(self.column), self.constant is not None, bool(self.template), bool(self.day_of)))


class DiscoveryMapping(msgspec.Struct, frozen=True, kw_only=True):
    """What rows become.

    Attributes
    ----------
    dataset_type : str
        What the files are; registered already.
    data_id : dict of str to Source
        For each dimension, also of those that follow from others, where its value is.
    records : dict of str to dict
        For each dimension element whose records are to be added, its fields. Keys are of the data id; time span and
        region, where it has such, of ``t_min``, ``t_max``, and ``s_region`` or position and field.
    columns : dict of str to str
        What this service calls columns of `COLUMNS`.
    formats : tuple of str
        Only rows of such an ``access_format``; by default all.
    time_scale : str
        Of times in the answer.
    day_offset_h : float
        How many hours after midnight TAI a day of observation begins.
    """

    dataset_type: str
    data_id: dict[str, Source]
    records: dict[str, dict[str, Source]] = {}
    columns: dict[str, str] = {}
    formats: tuple[str, ...] = ()
    time_scale: Literal["utc", "tai"] = "utc"
    day_offset_h: float = 12.0

    def called(self, name: str) -> str:
        """Return what the service calls a column of `COLUMNS`."""
        return self.columns.get(name, name)

    @property
    def time_columns(self) -> set[str]:
        """Every column with times."""
        sources = [*self.data_id.values(), *(one for fields in self.records.values() for one in fields.values())]
        return {self.called("t_min"), self.called("t_max")} | {one.day_of for one in sources if one.day_of}

    def value(self, source: Source, row: Mapping[str, Any], times: Mapping[str, int | None]) -> Any:
        """Return a value of a row; None if the row does not have it.

        Parameters
        ----------
        source : Source
            Where it is.
        row : Mapping
            Values by column.
        times : Mapping
            TAI nanoseconds since 1970 by column.

        Raises
        ------
        InvalidRequestError
            The row has something else there.
        """
        if source.constant is not None:
            return source.constant
        if source.day_of:
            ns = times.get(source.day_of)
            return None if ns is None else _day(ns - round(self.day_offset_h * _NS_PER_HOUR))
        if source.template:
            parts = {name: row.get(name) for name in _IN_BRACES.findall(source.template)}
            if any(part is None for part in parts.values()):
                return None
            found: Any = _IN_BRACES.sub(lambda match: str(parts[match[1]]), source.template)
        else:
            found = row.get(source.column)
        if found is None:
            return None
        if source.pattern:
            match = re.search(source.pattern, str(found))
            if match is None:
                what = source.column or "the template"
                raise InvalidRequestError(f"{what} is {str(found)[:80]!r}, without the pattern")
            found = match[1]
        return source.map.get(str(found), found)


def load_mapping(given: str | os.PathLike[str] | Mapping[str, Any]) -> DiscoveryMapping:
    """Read a mapping from a YAML file or from what such a file holds.

    Raises
    ------
    ConfigError
        With the place that is wrong.
    """
    if isinstance(given, Mapping):
        where, loaded = "mapping", convert_plain(_plain(given), DiscoveryMapping, source="mapping")
    else:
        where = os.fspath(given)
        loaded = load_yaml_file(where, DiscoveryMapping)
    places = {f"data_id.{name}": one for name, one in loaded.data_id.items()}
    places |= {f"records.{name}.{key}": one for name, fields in loaded.records.items() for key, one in fields.items()}
    for place, source in places.items():
        if source.ways != 1:
            raise ConfigError(f"{where}: {place}: needs one of column, constant, template, day_of")
        if source.pattern:
            try:
                groups = re.compile(source.pattern).groups
            except re.error as exc:
                raise ConfigError(f"{where}: {place}.pattern: {exc}") from None
            if not groups or not (source.column or source.template):
                raise ConfigError(f"{where}: {place}.pattern: needs a group in brackets, and a column or template")
    if unknown := [name for name in loaded.columns if name not in COLUMNS]:
        raise ConfigError(f"{where}: columns.{unknown[0]}: is none of {', '.join(COLUMNS)}")
    return loaded


def check_mapping(mapping: DiscoveryMapping, universe: DimensionUniverse, group: DimensionGroup) -> None:
    """Refuse a mapping that does not fit a repository's dimensions and the dataset type's.

    Raises
    ------
    ConfigError
        With what is missing or unknown.
    """
    for name in mapping.data_id:
        if name not in universe.elements or not universe[name].is_dimension:
            raise ConfigError(f"data_id.{name}: there is no such dimension")
    if missing := [name for name in group.required if name not in mapping.data_id]:
        raise ConfigError(f"data_id: {mapping.dataset_type} needs {', '.join(missing)}")
    for name, fields in mapping.records.items():
        if name not in universe.elements or name in universe.skypix:
            raise ConfigError(f"records.{name}: there is no such dimension element with records")
        element = universe[name]
        if missing := [one for one in universe.required(name) if one not in mapping.data_id]:
            raise ConfigError(f"records.{name}: needs data_id.{missing[0]}")
        known = {one.name for one in (*element.keys[1:], *element.metadata)} | set(element.implies)
        if unknown := sorted(fields.keys() - known):
            there = ", ".join(sorted(known))
            raise ConfigError(f"records.{name}.{unknown[0]}: no such field", hint=f"there are {there}")


def _day(ns: int) -> int:
    return int((_EPOCH + timedelta(days=ns // _NS_PER_DAY)).strftime("%Y%m%d"))


def _plain(given: Any) -> Any:
    return {key: _plain(value) for key, value in given.items()} if isinstance(given, Mapping) else given
