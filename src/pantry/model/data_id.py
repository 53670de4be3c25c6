"""Data ids: which piece of the data a dataset is about."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, Any

import msgspec

from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan

if TYPE_CHECKING:
    from lsst.sphgeom import Region

DataIdValue = int | str
"""What a dimension's value can be."""


class RecordElements(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which records the data ids of a group have.

    Attributes
    ----------
    names : tuple of str
        The elements that a data id identifies.
    spatial, temporal : tuple of str
        Those whose region and timespan are the data id's: of each family the most precise one.
    """

    names: tuple[str, ...]
    spatial: tuple[str, ...] = ()
    temporal: tuple[str, ...] = ()


class AttachedRecords(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The dimension records of one data id.

    Attributes
    ----------
    elements : RecordElements
        Whose they are; shared by many data ids.
    values : tuple of DimensionRecord
        For each of the elements; None where there is no record.
    """

    # Without the garbage collector: there are many, and frozen values make no cycles.
    elements: RecordElements
    values: tuple[DimensionRecord | None, ...]

    def __getitem__(self, name: str) -> DimensionRecord | None:
        try:
            return self.values[self.elements.names.index(name)]
        except ValueError:
            raise KeyError(name) from None


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
    attached : AttachedRecords or None
        What a query gives ``with_dimension_records``; see `records`.
    """

    required_names: tuple[str, ...]
    required_values: tuple[DataIdValue, ...]
    implied_names: tuple[str, ...] = ()
    implied_values: tuple[DataIdValue | None, ...] = ()
    attached: AttachedRecords | None = None

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

    # -- records -----------------------------------------------------------------------------------

    def has_records(self) -> bool:
        """Tell whether this data id was expanded with its dimension records."""
        return self.attached is not None

    @property
    def records(self) -> Mapping[str, DimensionRecord | None]:
        """Record of each element that this data id identifies; None where there is none.

        Raises
        ------
        AttributeError
            Unless `has_records`.
        """
        attached = self._attached("records")
        return dict(zip(attached.elements.names, attached.values, strict=True))

    @property
    def region(self) -> Region | None:
        """Where this is on the sky, a `lsst.sphgeom.Region`; None if no dimension says so.

        Of observations and sky maps together it is where they overlap. Raises as `records` does.
        """
        attached = self._attached("region")
        found = [attached[name] for name in attached.elements.spatial]
        encoded = [record.region for record in found if record is not None and record.region is not None]
        if not encoded or len(encoded) < len(found):
            return None
        from lsst.sphgeom import IntersectionRegion, Region

        regions = [Region.decode(one) for one in encoded]
        result = regions[0]
        for other in regions[1:]:
            result = IntersectionRegion(result, other)
        return result

    @property
    def timespan(self) -> Timespan | None:
        """When this was observed; None if no dimension says so. Raises as `records` does."""
        attached = self._attached("timespan")
        found = [attached[name] for name in attached.elements.temporal]
        spans = [record.timespan for record in found if record is not None and record.timespan is not None]
        if not spans or len(spans) < len(found):
            return None
        begin = max(span.begin_ns for span in spans)
        return Timespan(begin, max(begin, min(span.end_ns for span in spans)))

    def expanded(
        self,
        records: Mapping[str, DimensionRecord | None],
        *,
        spatial: tuple[str, ...] = (),
        temporal: tuple[str, ...] = (),
    ) -> DataCoordinate:
        """Make the same data id with these records; ``spatial`` and ``temporal`` as of `RecordElements`."""
        elements = RecordElements(tuple(records), spatial, temporal)
        return msgspec.structs.replace(self, attached=AttachedRecords(elements, tuple(records.values())))

    def _attached(self, name: str) -> AttachedRecords:
        if self.attached is None:
            raise AttributeError(
                f"{self!r} has no {name}: ask with with_dimension_records=True (find_dataset: dimension_records=True)"
            )
        return self.attached

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not a field: Gen3's `data_id.visit`, a record.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._attached(name)[name]
        except KeyError:
            raise AttributeError(f"{self!r} has no record of {name!r}") from None

    # -- as a mapping ------------------------------------------------------------------------------

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
