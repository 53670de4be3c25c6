"""What queries give: lists, which a notebook shows as tables."""

from __future__ import annotations

from typing import TypeVar

from pantry.model.collections import CollectionInfo
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef, DatasetType
from pantry.model.html import MAX_ROWS, table
from pantry.model.records import DimensionRecord

T = TypeVar("T")


class Results(list[T]):
    """A list of what a query found, in all else as any list."""

    def _repr_html_(self) -> str:
        columns, rows = _shown(self[:MAX_ROWS])
        return table(columns, rows, f"{len(self)} found", len(self))


def _shown(items: list[T]) -> tuple[list[str], list[list[object]]]:
    """Columns and rows for the items; what has not the columns of others leaves them empty."""
    rows = [_row(item) for item in items]
    # What none of them has is no column.
    columns = list(dict.fromkeys(name for row in rows for name, value in row.items() if value not in (None, "")))
    return columns, [[row.get(name) for name in columns] for row in rows]


def _row(item: object) -> dict[str, object]:
    match item:
        case DatasetRef():
            place = {"repository": item.repository} if item.repository else {}
            return {
                "dataset type": item.dataset_type.name,
                **place,
                **item.data_id.mapping,
                "run": item.run,
                "id": item.id,
            }
        case DataCoordinate():
            return dict(item.mapping)
        case DimensionRecord():
            span = {} if item.timespan is None else {"timespan": item.timespan}
            return {**item.values, **span}
        case DatasetType():
            return {
                "name": item.name,
                "dimensions": ", ".join(item.dimensions),
                "storage class": item.storage_class,
                "calibration": "yes" if item.is_calibration else "",
                "metadata": ", ".join(entry.name for entry in item.metadata),
            }
        case CollectionInfo():
            return {
                "name": item.name,
                "repository": item.repository,
                "type": item.type.value,
                "children": ", ".join(item.children),
                "dataset types": ", ".join(item.dataset_types),
                "doc": item.doc,
            }
    return {"": item}
