"""Data ids: which piece of the data a dataset is about."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import Any

import msgspec

DataIdValue = int | str
"""What a dimension's value can be."""


class DataCoordinate(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """A frozen mapping from dimension names to values.

    Two data ids are equal when their required dimensions and values are; implied ones follow from
    these and do not count.

    Attributes
    ----------
    required_names : tuple of str
        Names of the required dimensions, in the order of the universe.
    required_values : tuple of int or str
        Their values.
    implied_names, implied_values : tuple
        Dimensions that follow from the required ones; empty unless the data id was expanded.
    """

    required_names: tuple[str, ...]
    required_values: tuple[DataIdValue, ...]
    implied_names: tuple[str, ...] = ()
    implied_values: tuple[DataIdValue | None, ...] = ()

    def __post_init__(self) -> None:
        if len(self.required_names) != len(self.required_values):
            raise ValueError("a data id has as many values as names")

    @classmethod
    def of(cls, **values: DataIdValue) -> DataCoordinate:
        """Make a data id of required dimensions from keywords, in the order given."""
        return cls(tuple(values), tuple(values.values()))

    @property
    def required(self) -> dict[str, DataIdValue]:
        """Only the required dimensions, as a new dict."""
        return dict(zip(self.required_names, self.required_values, strict=True))

    @property
    def mapping(self) -> dict[str, DataIdValue | None]:
        """All known dimensions, as a new dict."""
        return dict(
            zip(self.required_names + self.implied_names, self.required_values + self.implied_values, strict=True)
        )

    def __getitem__(self, name: str) -> DataIdValue | None:
        if name in self.required_names:
            return self.required_values[self.required_names.index(name)]
        if name in self.implied_names:
            return self.implied_values[self.implied_names.index(name)]
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Value of one dimension, or ``default``."""
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return name in self.required_names or name in self.implied_names

    def __iter__(self) -> Iterator[str]:
        return iter(self.required_names + self.implied_names)

    def __len__(self) -> int:
        return len(self.required_names) + len(self.implied_names)

    def keys(self) -> KeysView[str]:
        """Names of all known dimensions."""
        return self.mapping.keys()

    def values(self) -> ValuesView[DataIdValue | None]:
        """Values of all known dimensions."""
        return self.mapping.values()

    def items(self) -> ItemsView[str, DataIdValue | None]:
        """Names and values of all known dimensions."""
        return self.mapping.items()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, DataCoordinate):
            return self.required_names == other.required_names and self.required_values == other.required_values
        if isinstance(other, Mapping):
            return self.required == dict(other) or self.mapping == dict(other)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.required_names, self.required_values))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        return fields(self.mapping)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}: {value!r}" for name, value in self.items())
        return "{" + inside + "}"


Mapping.register(DataCoordinate)
