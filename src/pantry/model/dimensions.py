"""Dimensions: the axes along which datasets are organised.

The configuration has the form of Gen3's ``dimensions.yaml`` (`pantry.model.universe_config`). The universe
orders all elements as Gen3 does: by the length of the longest way down what they require or imply, then by
name; every group of dimensions uses that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

import msgspec

from pantry.errors import ConfigError, DataIdValueError, DimensionNameError
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.universe_config import Column, ColumnType, DimensionElement, SkyPixSystem, parse_universe

__all__ = ["Column", "ColumnType", "DimensionElement", "DimensionGroup", "DimensionUniverse", "SkyPixSystem"]


class DimensionGroup(msgspec.Struct, frozen=True):
    """A complete set of dimensions: with every one it requires or implies.

    Attributes
    ----------
    required : tuple of str
        Those whose values identify a data id, in the order of the universe.
    implied : tuple of str
        Those that follow from the required ones, in the order of the universe.
    """

    required: tuple[str, ...]
    implied: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All dimensions: the required ones, then the implied ones."""
        return self.required + self.implied


class DimensionUniverse:
    """All dimensions of a repository.

    Parameters
    ----------
    config : Mapping
        Parsed configuration in the form of Gen3's ``dimensions.yaml``.
    source : str
        Where it came from, for messages.

    Attributes
    ----------
    version : int
        With the ``namespace``, what the universe is known by.
    elements : dict of str to DimensionElement
        All, in order.
    skypix : frozenset of str
        The dimensions that are pixels of the sky.
    skypix_systems : dict of str to SkyPixSystem
        The pixelisations by name.
    common_skypix : str
        The dimension by which the others' regions are related.
    spatial_families, temporal_families : dict of str to tuple of str
        Elements with regions or time spans that are of one kind, the finest first.
    """

    def __init__(self, config: Mapping[str, Any], *, source: str = "dimensions") -> None:
        parsed = parse_universe(config, source)
        self.config = config
        self.version = parsed.version
        self.namespace = parsed.namespace
        self.skypix_systems = parsed.skypix
        self.common_skypix = parsed.common_skypix
        self.spatial_families = parsed.spatial
        self.temporal_families = parsed.temporal
        depth = _depths(parsed.elements, source)
        spatial = {name for family in parsed.spatial.values() for name in family}
        temporal = {name for family in parsed.temporal.values() for name in family}
        places: list[tuple[int, str, int, DimensionElement]] = [
            (
                depth[name],
                name,
                0,
                msgspec.structs.replace(element, spatial=name in spatial, temporal=name in temporal),
            )
            for name, element in parsed.elements.items()
        ]
        for system in parsed.skypix.values():
            places += [(0, system.name, level, _pixels(system, level)) for level in system.levels]
        self.elements: dict[str, DimensionElement] = {
            element.name: element for *_, element in sorted(places, key=lambda place: place[:3])
        }
        self.skypix: frozenset[str] = frozenset(
            f"{system.name}{level}" for system in parsed.skypix.values() for level in system.levels
        )
        self._order = {name: number for number, name in enumerate(self.elements)}
        self._required: dict[str, tuple[str, ...]] = {}
        for name, element in self.elements.items():
            needed = {other for direct in element.requires for other in self._required[direct]}
            needed |= {name} if element.is_dimension else set()
            self._required[name] = tuple(sorted(needed, key=self._order.__getitem__))
        self._groups: dict[frozenset[str], DimensionGroup] = {}

    def __getitem__(self, name: str) -> DimensionElement:
        try:
            return self.elements[name]
        except KeyError:
            known = ", ".join(name for name in self.elements if name not in self.skypix)
            raise DimensionNameError(f"unknown dimension {name!r}", hint=f"known: {known}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.elements)

    def __contains__(self, name: object) -> bool:
        return name in self.elements

    def __len__(self) -> int:
        return len(self.elements)

    def __repr__(self) -> str:
        shown = ", ".join(name for name in self.elements if name not in self.skypix)
        return f"DimensionUniverse({self.namespace} {self.version}: {shown})"

    def _repr_html_(self) -> str:
        from pantry.model.html import table

        rows = (
            (
                element.name,
                ", ".join(element.requires),
                ", ".join(element.implies),
                ", ".join(column.name for column in (*element.keys, *element.metadata)),
                " ".join(word for word, has in (("region", element.spatial), ("timespan", element.temporal)) if has),
                element.doc,
            )
            for element in self.elements.values()
            if element.name not in self.skypix
        )
        return table(("element", "requires", "implies", "fields", "", "doc"), rows, f"{self.namespace} {self.version}")

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.elements)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of all dimensions, in order."""
        return tuple(name for name, element in self.elements.items() if element.is_dimension)

    def group(self, names: Iterable[str]) -> DimensionGroup:
        """Return the smallest complete group with ``names``; elements count for their dimensions."""
        asked = frozenset(names)
        if asked not in self._groups:
            self._groups[asked] = self._conform(asked)
        return self._groups[asked]

    def _conform(self, asked: frozenset[str]) -> DimensionGroup:
        everything: set[str] = set()
        todo = [self[name].name for name in sorted(asked)]
        while todo:
            element = self[todo.pop()]
            if element.name not in everything:
                everything.add(element.name)
                todo += element.requires + element.implies
        everything = {name for name in everything if self.elements[name].is_dimension}
        # As in Gen3: what any member implies is implied, also where another one requires it.
        implied = {other for name in everything for other in self.elements[name].implies}
        required = everything - implied
        in_order = sorted(everything, key=self._order.__getitem__)
        return DimensionGroup(
            tuple(name for name in in_order if name in required),
            tuple(name for name in in_order if name not in required),
        )

    def required(self, name: str) -> tuple[str, ...]:
        """Return the dimensions that identify one record of an element, in the order of the universe.

        They may be more than the required dimensions of its group: of which one may imply another.
        """
        self[name]
        return self._required[name]

    def element_group(self, name: str) -> DimensionGroup:
        """Return the group of the dimensions of an element."""
        return self.group([name])

    def families(self, names: Iterable[str], kind: Literal["spatial", "temporal"]) -> dict[str, tuple[str, ...]]:
        """Give the topological families that dimensions belong to, each with those of its elements that they identify.

        Parameters
        ----------
        names : iterable of str
            Required dimensions.
        kind : str
            ``spatial`` or ``temporal``.
        """
        there = set(names)
        configured = self.spatial_families if kind == "spatial" else self.temporal_families
        found = {
            family: tuple(name for name in members if set(self.required(name)) <= there)
            for family, members in configured.items()
        }
        if kind == "spatial":
            found |= {name: (name,) for name in self.elements if name in there and name in self.skypix}
        return {family: members for family, members in found.items() if members}

    def path_order(self, group: DimensionGroup) -> tuple[str, ...]:
        """Give the required dimensions in the order of directories: governors, then times, then the rest.

        So a directory holds one exposure's detectors, not one detector's exposures.
        """
        rank = {name: (not self[name].governor, not self[name].temporal) for name in group.required}
        return tuple(sorted(group.required, key=rank.__getitem__))

    def standardize(self, group: DimensionGroup, values: Mapping[str, object]) -> DataCoordinate:
        """Check ``values`` for ``group`` and make them a data id.

        Values are converted between int and decimal text where the dimension's key asks for it. Names
        outside the group raise `DimensionNameError`, missing required ones too, wrong types
        `DataIdValueError`.
        """
        unknown = [name for name in values if name not in group.names and name not in self.elements]
        if unknown:
            raise DimensionNameError(
                f"unknown dimensions {unknown} in data id", hint=f"expected: {', '.join(group.required)}"
            )
        missing = [name for name in group.required if values.get(name) is None]
        if missing:
            raise DimensionNameError(
                f"the data id {dict(values)!r} lacks {', '.join(missing)}", hint=f"needed: {', '.join(group.required)}"
            )
        required = tuple(self.check_value(name, values[name]) for name in group.required)
        implied = tuple(name for name in group.implied if values.get(name) is not None)
        return DataCoordinate(
            group.required, required, implied, tuple(self.check_value(name, values[name]) for name in implied)
        )

    def check_value(self, name: str, value: object) -> DataIdValue:
        """Return ``value`` in the type of the dimension's primary key, or raise `DataIdValueError`."""
        key = self[name].keys[0]
        if key.type == "int":
            if isinstance(value, str) and value.lstrip("-").isdigit():
                value = int(value)
            if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
                return value
            raise DataIdValueError(f"the dimension {name!r} takes an integer, not {value!r}")
        if isinstance(value, str) and (key.length is None or len(value) <= key.length) and "\0" not in value:
            return value
        raise DataIdValueError(f"the dimension {name!r} takes text of at most {key.length} characters, not {value!r}")


# Registries are opened in several threads, and msgspec 0.22 crashes when several of them are the first
# to learn what a struct looks like: here it learns that, and `convert` finds it known.
msgspec.json.Decoder(Column)


def _depths(elements: Mapping[str, DimensionElement], source: str) -> dict[str, int]:
    """Length of the longest way from each element down what it requires or implies."""
    graph = {name: element.requires + element.implies for name, element in elements.items()}
    for name, others in graph.items():
        for other in others:
            if other not in elements:
                raise ConfigError(f"{source}: element {name!r} refers to the unknown element {other!r}")
            if not elements[other].is_dimension:
                raise ConfigError(f"{source}: element {name!r} refers to {other!r}, which has no keys")
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as exc:
        raise ConfigError(f"{source}: dimensions depend on one another in a circle: {exc.args[1]}") from None
    depth: dict[str, int] = {}
    for name in order:
        depth[name] = 1 + max((depth[other] for other in graph[name]), default=-1)
    return depth


def _pixels(system: SkyPixSystem, level: int) -> DimensionElement:
    doc = f"A {system.name} pixel of level {level}."
    return DimensionElement(name=f"{system.name}{level}", keys=(Column("id", "int"),), doc=doc)
