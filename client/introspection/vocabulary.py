"""The names that an expression may have, of one repository."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionElement, DimensionUniverse

TIMESPAN = "timespan"
REGION = "region"


class Field(NamedTuple):
    """What ``element.field`` is.

    Attributes
    ----------
    owner : str
        The dimension element or dataset type.
    name : str
        The field, as after the dot; of a dimension itself its own name.
    kind : str
        Type of its values: that of a column, ``timespan``, ``region`` or ``instant``.
    doc : str
        For people.
    """

    owner: str
    name: str
    kind: str
    doc: str = ""


class Vocabulary:
    """Dimensions, their fields, and what dataset types declare.

    Parameters
    ----------
    universe : DimensionUniverse
        Of the repository, with an operator's tables.
    dataset_types : iterable of DatasetType
        The registered ones.
    """

    def __init__(self, universe: DimensionUniverse, dataset_types: Iterable[DatasetType]) -> None:
        self.universe = universe
        self.dataset_types: Mapping[str, DatasetType] = {one.name: one for one in dataset_types}
        self._fields: dict[str, dict[str, Field]] = {}
        for name, element in universe.elements.items():
            if name not in universe.skypix:
                self._fields[name] = {field.name: field for field in _fields_of(universe, element)}
        for kind in self.dataset_types.values():
            # An element of this name wins in expressions (decision 0024).
            if kind.metadata and kind.name not in universe.elements:
                self._fields[kind.name] = {
                    one.name: Field(kind.name, one.name, one.type, one.doc or one.key) for one in kind.metadata
                }

    @property
    def owners(self) -> tuple[str, ...]:
        """Elements and dataset types that have fields, elements first."""
        return tuple(name for name, fields in self._fields.items() if fields)

    def fields(self, owner: str) -> Mapping[str, Field]:
        """Fields of an element or dataset type by name; none of what there is not."""
        return self._fields.get(owner, {})

    def dimensions(self, about: Collection[str] = (), *, pixels: bool = False) -> list[str]:
        """Names of the dimensions, those of the dataset types or dimensions ``about`` first.

        Pixels of the sky, of which there are dozens, only if asked for.
        """
        names = [name for name in self.universe.dimensions if pixels or name not in self.universe.skypix]
        near = self._near(about)
        return sorted(names, key=lambda name: name not in near)

    def names(self, prefix: str, about: Collection[str] = ()) -> list[str]:
        """Give the names that begin with ``prefix``, as an expression writes them; what is nearest first.

        Before a dot these are dimensions and owners of fields, these with a dot; after it fields.
        """
        owner, dot, part = prefix.partition(".")
        if dot:
            found = []
            for name, field in self.fields(owner).items():
                found.append(name)
                if field.kind == TIMESPAN and part.startswith(TIMESPAN):
                    found += [f"{name}.begin", f"{name}.end"]
            return [f"{owner}.{name}" for name in found if name.startswith(part)]
        near = self._near(about)
        owners = sorted(self.owners, key=lambda name: name not in near)
        found = [name for name in self.dimensions(about, pixels=bool(prefix)) if self._joins(name, near)]
        found += [f"{name}." for name in owners if self._joins(name, near)]
        # A field alone may be written where one element has it.
        bare: dict[str, int] = {}
        for name in near if prefix else ():
            for column in self.fields(name):
                bare[column] = bare.get(column, 0) + 1
        found += [column for column, owned in bare.items() if owned == 1]
        return [name for name in dict.fromkeys(found) if name.startswith(prefix)]

    def meaning(self, text: str, about: Collection[str] = ()) -> Field | None:
        """Tell what a name of an expression means; None if it means nothing, or several things."""
        owner, dot, part = text.partition(".")
        if not dot:
            if text in self.universe.elements and self.universe[text].is_dimension:
                return Field(text, text, self.universe[text].keys[0].type)
            having = [fields[text] for name in self._near(about) if text in (fields := self.fields(name))]
            return having[0] if len(having) == 1 else None
        if part in (f"{TIMESPAN}.begin", f"{TIMESPAN}.end") and TIMESPAN in self.fields(owner):
            return Field(owner, part, "instant")
        return self.fields(owner).get(part)

    def _joins(self, name: str, near: Collection[str]) -> bool:
        """Whether a condition on ``name`` can be joined with these, by what they share or by where and when."""
        elements = self.universe.elements
        if name in near or name in self.universe.skypix or name not in elements:
            return name in near or name in elements
        placed = [element.name for element in elements.values() if element.spatial or element.temporal]
        return any(name in (place, *self.universe.required(place)) for place in placed) or bool(
            set(near) & set(self.universe.required(name))
        )

    def _near(self, about: Collection[str]) -> set[str]:
        """Elements and dataset types whose names a query about these surely knows; all if it says nothing."""
        types = [self.dataset_types[name] for name in about if name in self.dataset_types]
        asked = {dimension for kind in types for dimension in kind.dimensions}
        asked |= {name for name in about if name in self.universe.elements}
        if not asked:
            return set(self._fields)
        group = set(self.universe.group(asked).names)
        beside = {name for name in self._fields if name in self.universe.elements and name not in group}
        return {
            *group,
            *(kind.name for kind in types),
            *(
                name
                for name in beside
                if not self.universe[name].is_dimension and set(self.universe.required(name)) <= group
            ),
        }


def _fields_of(universe: DimensionUniverse, element: DimensionElement) -> Iterable[Field]:
    columns = (*element.keys, *element.metadata)
    # What has no records of its own has no columns that could be asked for.
    if element.implied_union_target is not None:
        return
    for column in columns:
        yield Field(element.name, column.name, column.type, column.doc)
    for name in element.implies:
        if name not in {column.name for column in columns}:
            yield Field(element.name, name, universe[name].keys[0].type)
    if element.temporal:
        yield Field(element.name, TIMESPAN, TIMESPAN)
    if element.spatial:
        yield Field(element.name, REGION, REGION)
