"""What users write as a data id, sorted into dimensions and other columns, each in its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from pantry.errors import DataIdValueError, DimensionNameError, InconsistentDataIdError
from pantry.model.data_id import DataIdValue
from pantry.model.dimensions import Column, DimensionGroup, DimensionUniverse

Values = tuple[DataIdValue, ...]


class Given(msgspec.Struct, frozen=True):
    """What a user's data id says of a group.

    Attributes
    ----------
    dimensions : dict
        Values of dimensions of the group, by name.
    fields : dict
        Values of other columns, by element and column.
    """

    dimensions: dict[str, DataIdValue]
    fields: dict[tuple[str, str], object]


class Interpretation:
    """Reads data ids by the names and types of a universe.

    Parameters
    ----------
    universe : DimensionUniverse
        Of the repository.
    """

    def __init__(self, universe: DimensionUniverse) -> None:
        self._universe = universe
        self._range = {
            f"{system.name}{level}": _pixel_range(system.scheme, level)
            for system in universe.skypix_systems.values()
            for level in system.levels
        }

    def interpret(self, group: DimensionGroup, data_id: Mapping[str, object]) -> Given:
        """Sort a user's data id into dimensions and other columns of their records.

        Names are dimensions, ``element.column``, or a column that only one element of the group has.
        Text for a dimension that is numbered means its alternate key, as in Gen3. Dimensions of
        the universe that the group does not have are passed over.
        """
        dimensions: dict[str, DataIdValue] = {}
        fields: dict[tuple[str, str], object] = {}
        for name, value in data_id.items():
            if value is None:
                continue
            element, column = self.locate(group, name)
            if element == "":
                continue
            key = self._universe[element].keys[0].name if self._universe[element].is_dimension else ""
            if column == key:
                alternate = self._alternate(element, value)
                if alternate is None:
                    dimensions[element] = self.check_value(element, value)
                    continue
                column = alternate
            fields[element, column] = check_column(self.column(element, column), f"{element}.{column}", value)
        return Given(dimensions, fields)

    def locate(self, group: DimensionGroup, name: str) -> tuple[str, str]:
        """Give element and column that a name means; empty ones for what a group does not have."""
        universe = self._universe
        if name in universe.elements:
            element = universe[name]
            return (name, element.keys[0].name) if name in group.names and element.is_dimension else ("", "")
        before, dot, column = name.partition(".")
        if dot:
            if before not in group.names:
                raise DimensionNameError(
                    f"{name!r} in a data id: {before!r} is not one of its dimensions",
                    hint=f"dimensions: {', '.join(group.names)}",
                )
            self.column(before, column)
            return before, column
        having = [other for other in group.names if column_of(universe[other], name) is not None]
        # An observation's own column is meant before one of what it was made with.
        having = [other for other in having if universe[other].temporal] or having
        if len(having) != 1:
            raise DimensionNameError(
                f"{name!r} in a data id is "
                + (f"ambiguous: {', '.join(f'{other}.{name}' for other in having)}" if having else "unknown"),
                hint=f"needed: {', '.join(group.required)}",
            )
        return having[0], name

    def column(self, element: str, name: str) -> Column:
        """Give a column of an element, or raise `DimensionNameError`."""
        found = column_of(self._universe[element], name)
        if found is None:
            known = [column.name for column in (*self._universe[element].keys, *self._universe[element].metadata)]
            raise DimensionNameError(f"{element!r} has no column {name!r}", hint=f"known: {', '.join(known)}")
        return found

    def _alternate(self, name: str, value: object) -> str | None:
        keys = self._universe[name].keys
        if keys[0].type == "int" and isinstance(value, str) and not value.lstrip("-").isdigit():
            return next((key.name for key in keys[1:] if key.type == "string"), None)
        return None

    def check_value(self, name: str, value: object) -> DataIdValue:
        """Return a value in the type of its dimension; sky pixels must exist too."""
        checked = self._universe.check_value(name, value)
        if name in self._range and checked not in self._range[name]:
            raise DataIdValueError(f"{name} has no pixel {checked}")
        return checked

    def required(self, group: DimensionGroup, values: Sequence[object]) -> Values:
        """Check values given in the order of ``group.required``."""
        if len(values) != len(group.required):
            raise DimensionNameError(
                f"{len(values)} values for {len(group.required)} dimensions",
                hint=f"needed: {', '.join(group.required)}",
            )
        return tuple(self.check_value(name, value) for name, value in zip(group.required, values, strict=True))


def column_of(element: Any, name: str) -> Column | None:
    """Key or metadata column of an element by name."""
    return next((column for column in (*element.keys, *element.metadata) if column.name == name), None)


def check_column(column: Column, name: str, value: object) -> Any:
    """Return a value in the type of a column, or raise `DataIdValueError`."""
    kind = column.type
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "int":
        if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
            return value
    elif kind == "float":
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, str) and "\0" not in value:
        length = 2 * column.nbytes if kind == "hash" and column.nbytes else column.length
        if length is None or len(value) <= length:
            return value
        raise DataIdValueError(f"{name} takes text of at most {length} characters, not {value[:80]!r}")
    raise DataIdValueError(f"{name} takes {KIND_NAMES[kind]}, not {value!r}")


KIND_NAMES = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "text", "hash": "hex text"}


def refuse_contradiction(
    group: DimensionGroup, required: Values, known: Mapping[str, object], said: Mapping[str, object]
) -> None:
    """Raise `InconsistentDataIdError` if something said is not what the records say."""
    for name, value in said.items():
        if known[name] != value:
            raise InconsistentDataIdError(
                f"the data id {show(dict(zip(group.required, required, strict=True)))} has {name} {known[name]!r}, "
                f"not {value!r}"
            )


def show(values: Mapping[str, object]) -> str:
    """Write values for a message."""
    return "{" + ", ".join(f"{name}: {value!r}" for name, value in values.items()) + "}"


def _pixel_range(scheme: str, level: int) -> range:
    # HTM numbers carry a leading 1 bit; HEALPix in the nested scheme begins at 0.
    return range(8 << 2 * level, 16 << 2 * level) if scheme == "htm" else range(12 << 2 * level)
