"""Dimension records: what is known of one instrument, detector, exposure, tract."""

from __future__ import annotations

from typing import Any

import msgspec

from pantry.model.timespan import Timespan

RecordValue = int | float | str | bool | None
"""What a column can hold; hashes are hex text."""


class DimensionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a dimension element.

    Attributes
    ----------
    element : str
        Name of the element.
    values : dict
        Required dimensions by name, then the element's own keys, implied dimensions and metadata
        under the column names of the universe.
    timespan : Timespan or None
        For temporal elements.
    region : bytes or None
        For spatial elements: ``lsst.sphgeom.Region.encode()``.
    """

    element: str
    values: dict[str, RecordValue]
    timespan: Timespan | None = None
    region: bytes | None = None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.values]

    def _repr_html_(self) -> str:
        from pantry.model.html import fields

        span = {} if self.timespan is None else {"timespan": self.timespan}
        region = {} if self.region is None else {"region": f"{len(self.region)} bytes"}
        return fields({**self.values, **span, **region}, self.element)

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not a field: Gen3's `record.exposure_time`.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"{self.element} records have no {name!r}; known: {', '.join(self.values)}") from None
