"""Exports of older dimension universes, brought up to date as the Gen3 Butler's own import does.

Only what a repository's universe has is made; what an export of its own version says is left alone.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pantry.client.exports.contents import Contents
from pantry.client.exports.values import Block, Instant
from pantry.model.dimensions import DimensionUniverse

_NAMESPACE = "daf_butler"


def migrate(contents: Contents, universe: DimensionUniverse) -> None:
    """Change an export's records and dataset types to fit a repository's universe."""
    if contents.universe_namespace != _NAMESPACE or contents.universe_version >= 6:
        return
    version, elements = contents.universe_version, universe.elements
    # A block may stand in several places by an alias: what is changed is a copy.
    for element in ("visit", "exposure", "visit_definition"):
        if element in contents.records:
            contents.records[element] = [_copy(record) for record in contents.records[element]]
    if version < 2 and "visit_system_membership" in elements:
        _visit_systems(contents)
    if "visit" in elements and version < 1:
        visit = elements["visit"]
        if all(column.name != "seeing" for column in visit.metadata):
            for record in contents.records.get("visit", ()):
                record.pop("seeing", None)
        if "day_obs" in visit.implies or any(column.name == "day_obs" for column in visit.metadata):
            _days_of_visits(contents)
    if "exposure" in elements and "group" in elements["exposure"].implies:
        _groups(contents)
    _days(contents, universe)


def _copy(record: Block) -> Block:
    made = Block(record.line)
    made.update(record)
    return made


def _made(line: int, values: dict[str, Any]) -> Block:
    made = Block(line)
    made.update(values)
    return made


def _visit_systems(contents: Contents) -> None:
    """Make a visit's system, which was one of its columns, a membership."""
    members = contents.records.setdefault("visit_system_membership", [])
    for record in contents.records.get("visit", ()):
        if "visit_system" in record:
            values = {"instrument": record.get("instrument"), "visit": record.get("id")}
            members.append(_made(record.line, {**values, "visit_system": record.pop("visit_system")}))
    for record in contents.records.get("visit_definition", ()):
        record.pop("visit_system", None)
    for name, kind in contents.dataset_types.items():
        if {"visit", "visit_system"} <= set(kind.dimensions):
            kept = tuple(one for one in kind.dimensions if one != "visit_system")
            contents.dataset_types[name] = kind._replace(dimensions=kept)


def _days_of_visits(contents: Contents) -> None:
    """Give visits of the first exports the day of their begin, in TAI."""
    for record in contents.records.get("visit", ()):
        if "day_obs" not in record:
            begin = record.get("datetime_begin")
            if not isinstance(begin, Instant):
                raise contents.refuse(record.line, "a visit without 'datetime_begin', which tells its day")
            day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=begin.ns // 1000)
            record["day_obs"] = day.year * 10_000 + day.month * 100 + day.day


def _groups(contents: Contents) -> None:
    """Make the groups of exposures, which were columns, records."""
    groups: dict[tuple[Any, Any], Block] = {}
    for record in contents.records.get("exposure", ()):
        if "group_name" not in record:
            raise contents.refuse(record.line, "an exposure without 'group_name'")
        name, instrument = record.pop("group_name"), record.get("instrument")
        record.pop("group_id", None)
        record["group"] = name
        if (instrument, name) not in groups:
            groups[instrument, name] = _made(record.line, {"instrument": instrument, "name": name})
    if groups:
        contents.records.setdefault("group", []).extend(groups.values())


def _days(contents: Contents, universe: DimensionUniverse) -> None:
    """Make the days of exposures and visits, which were numbers, records.

    When a day begins is known to the instrument's class only, which is not here; so they have no time span, as those
    that the Gen3 Butler makes where it has not that class.
    """
    days: dict[tuple[Any, Any], Block] = {}
    for element in ("exposure", "visit"):
        if element in universe.elements and "day_obs" in universe.elements[element].implies:
            for record in contents.records.get(element, ()):
                key = record.get("instrument"), record.get("day_obs")
                if key not in days:
                    days[key] = _made(record.line, {"instrument": key[0], "id": key[1]})
    if days:
        contents.records.setdefault("day_obs", []).extend(days.values())
        contents.notes.append(f"{len(days)} days of observation have no time span: the export is older than they are")
