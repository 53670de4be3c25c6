"""Dimensions: the axes along which datasets are organised.

The configuration has the form of Gen3's ``dimensions.yaml``: ``elements`` with ``keys``, ``requires``,
``implies`` and ``metadata``, and ``topology``. The universe orders all elements so that each comes
after those it requires or implies; every group of dimensions uses that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

import msgspec

from pantry.errors import ConfigError, DataIdValueError, DimensionNameError
from pantry.model.data_id import DataCoordinate, DataIdValue

ColumnType = Literal["string", "int", "float", "bool", "hash"]


class Column(msgspec.Struct, frozen=True):
    """A key or metadata column of a dimension element.

    Attributes
    ----------
    name : str
        Unique in its element.
    type : str
        ``string``, ``int``, ``float``, ``bool`` or ``hash``.
    length : int or None
        Most characters of a string.
    nbytes : int or None
        Most bytes of a hash.
    nullable : bool
        Whether the value may be absent.
    doc : str
        For people, with the unit.
    """

    name: str
    type: ColumnType
    length: int | None = None
    nbytes: int | None = None
    nullable: bool = True
    doc: str = ""


class DimensionElement(msgspec.Struct, frozen=True, kw_only=True):
    """A dimension, or a join of dimensions that has records of its own.

    Attributes
    ----------
    name : str
        Unique in the universe.
    keys : tuple of Column
        The first is the primary key, whose values appear in data ids; empty for a join element.
    requires, implies : tuple of str
        Direct dependencies as configured.
    metadata : tuple of Column
        Further columns of its records.
    spatial, temporal : bool
        Whether records have a ``region`` or a ``timespan``.
    governor : bool
        Whether the dimension stands above all others of its kind (instrument, skymap).
    always_join : bool
        Whether queries over its dimensions always go through it.
    doc : str
        For people.
    """

    name: str
    keys: tuple[Column, ...] = ()
    requires: tuple[str, ...] = ()
    implies: tuple[str, ...] = ()
    metadata: tuple[Column, ...] = ()
    spatial: bool = False
    temporal: bool = False
    governor: bool = False
    always_join: bool = False
    doc: str = ""

    @property
    def is_dimension(self) -> bool:
        """Whether the element can be part of a data id."""
        return bool(self.keys)


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
    """

    def __init__(self, config: Mapping[str, Any], *, source: str = "dimensions") -> None:
        self.config = config
        self.version = config.get("version", 0)
        self.namespace = config.get("namespace", "")
        elements = {name: _element(name, body, source) for name, body in config.get("elements", {}).items()}
        elements.update(_skypix(config.get("skypix", {}), source))
        spatial, temporal = _topology(config.get("topology", {}))
        graph: dict[str, tuple[str, ...]] = {}
        for element in elements.values():
            for other in element.requires + element.implies:
                if other not in elements:
                    raise ConfigError(f"{source}: element {element.name!r} refers to the unknown element {other!r}")
            graph[element.name] = element.requires + element.implies
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as exc:
            raise ConfigError(f"{source}: dimensions depend on one another in a circle: {exc.args[1]}") from None
        # Ties are broken by the place in the file, so that the order is that of the configuration.
        place = {name: number for number, name in enumerate(elements)}
        depth: dict[str, int] = {}
        for name in order:
            depth[name] = 1 + max((depth[other] for other in graph[name]), default=-1)
        self.elements: dict[str, DimensionElement] = {
            name: msgspec.structs.replace(elements[name], spatial=name in spatial, temporal=name in temporal)
            for name in sorted(order, key=lambda name: (depth[name], place[name]))
        }
        self._order = {name: number for number, name in enumerate(self.elements)}
        self._groups: dict[frozenset[str], DimensionGroup] = {}

    def __getitem__(self, name: str) -> DimensionElement:
        try:
            return self.elements[name]
        except KeyError:
            known = ", ".join(name for name, element in self.elements.items() if not _is_skypix(name))
            raise DimensionNameError(f"unknown dimension {name!r}", hint=f"known: {known}") from None

    def is_skypix(self, name: str) -> bool:
        """Whether a dimension's values are the pixels of a division of the whole sky."""
        return _is_skypix(name)

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
        implied = {other for name in everything for other in self.elements[name].implies}
        # A dimension that is implied by one member and required by another one is still implied
        # unless something that is itself required needs it.
        required = everything - implied
        grew = True
        while grew:
            more = {other for name in required for other in self.elements[name].requires} - required
            grew = bool(more)
            required |= more
        in_order = sorted(everything, key=self._order.__getitem__)
        return DimensionGroup(
            tuple(name for name in in_order if name in required),
            tuple(name for name in in_order if name not in required),
        )

    def element_group(self, name: str) -> DimensionGroup:
        """Return the group of the dimensions that identify one record of an element."""
        return self.group([name])

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


def _column(body: Mapping[str, Any], where: str) -> Column:
    try:
        return msgspec.convert(dict(body), Column)
    except msgspec.ValidationError as exc:
        raise ConfigError(f"{where}: bad column {dict(body)!r}: {exc}") from None


def _element(name: str, body: Mapping[str, Any], source: str) -> DimensionElement:
    where = f"{source}: elements.{name}"
    return DimensionElement(
        name=name,
        keys=tuple(_column(key, where) for key in body.get("keys", ())),
        requires=tuple(body.get("requires", ())),
        implies=tuple(body.get("implies", ())),
        metadata=tuple(_column(column, where) for column in body.get("metadata", ())),
        governor=bool(body.get("governor", False)),
        always_join=bool(body.get("always_join", False)),
        doc=" ".join(str(body.get("doc", "")).split()),
    )


def _is_skypix(name: str) -> bool:
    return name.rstrip("0123456789") in ("htm", "healpix") and name[-1].isdigit()


def _skypix(config: Mapping[str, Any], source: str) -> dict[str, DimensionElement]:
    made = {}
    for system, body in config.items():
        if system == "common":
            continue
        try:
            top = int(body["max_level"])
        except (KeyError, TypeError, ValueError):
            raise ConfigError(f"{source}: skypix.{system} needs an integer max_level") from None
        for level in range(top + 1):
            name = f"{system}{level}"
            made[name] = DimensionElement(
                name=name, keys=(Column("id", "int"),), doc=f"A {system} pixel of level {level}."
            )
    return made


def _topology(config: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    return tuple(
        {name for family in (config.get(kind) or {}).values() for name in family} for kind in ("spatial", "temporal")
    )  # type: ignore[return-value]
