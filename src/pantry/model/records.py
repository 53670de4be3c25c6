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

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not a field: Gen3's `record.exposure_time`.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"{self.element} records have no {name!r}; known: {', '.join(self.values)}") from None
