"""From the columns of a streamed batch to Python objects.

Ten thousand references cross the wire as a few columns; making the objects is most of the time that
a query takes in the client, hence the care here (measured: 1.2 us for ``UUID(bytes=...)`` alone).
"""

from __future__ import annotations

from itertools import repeat
from typing import Any, cast
from uuid import UUID, SafeUUID

from pantry.errors import ProtocolError
from pantry.model.data_id import AttachedRecords, DataCoordinate, DataIdValue, RecordElements
from pantry.model.datasets import DatasetRef
from pantry.wire.operations import DataIdBatch, RefBatch
from pantry.wire.operations.registry import RecordTable

# The slots of a UUID, which has no constructor without checks; its own unpickling sets them likewise.
_set_int: Any = UUID.__dict__["int"].__set__
_set_is_safe: Any = UUID.__dict__["is_safe"].__set__


def uuids(packed: bytes) -> list[UUID]:
    """Unpack ids of 16 bytes each."""
    if len(packed) % 16:
        raise ProtocolError(f"{len(packed)} bytes are no whole number of dataset ids")
    made = []
    new, from_bytes, unknown = UUID.__new__, int.from_bytes, SafeUUID.unknown
    for offset in range(0, len(packed), 16):
        one = new(UUID)
        _set_int(one, from_bytes(packed[offset : offset + 16]))
        _set_is_safe(one, unknown)
        made.append(one)
    return made


def refs(batch: RefBatch) -> list[DatasetRef]:
    """Make the references of a batch."""
    ids = uuids(batch.ids)
    runs, dataset_type = batch.runs, batch.dataset_type
    data_ids = _data_ids(batch, len(ids))
    if len(batch.run_index) != len(ids) or any(not 0 <= index < len(runs) for index in set(batch.run_index)):
        raise ProtocolError("a batch of datasets has columns of different lengths")
    if batch.repositories:
        if len(batch.repositories) != len(runs):
            raise ProtocolError("a batch of datasets has runs without their repositories")
        return [
            DatasetRef(
                id=one,
                dataset_type=dataset_type,
                data_id=data_id,
                run=runs[index],
                repository=batch.repositories[index],
            )
            for one, data_id, index in zip(ids, data_ids, batch.run_index, strict=True)
        ]
    return [
        DatasetRef(id=one, dataset_type=dataset_type, data_id=data_id, run=runs[index])
        for one, data_id, index in zip(ids, data_ids, batch.run_index, strict=True)
    ]


def data_ids(batch: DataIdBatch) -> list[DataCoordinate]:
    """Make the data ids of a batch."""
    # No dimensions at all have one data id, the empty one; a batch without columns stands for that.
    n_rows = len(batch.columns[0]) if batch.columns else 1
    return _data_ids(batch, n_rows)


def _data_ids(batch: RefBatch | DataIdBatch, n_rows: int) -> list[DataCoordinate]:
    required, implied, columns = batch.required, batch.implied, batch.columns
    if len(columns) != len(required) + len(implied) or any(len(column) != n_rows for column in columns):
        raise ProtocolError("a batch has columns of different lengths")
    n_required = len(required)
    first = cast("list[tuple[DataIdValue, ...]]", _rows(columns[:n_required], n_rows))
    if not implied and not batch.records:
        return list(map(DataCoordinate, repeat(required, n_rows), first))
    rest = _rows(columns[n_required:], n_rows)
    if not batch.records:
        return list(map(DataCoordinate, repeat(required, n_rows), first, repeat(implied), rest))
    attached = _attached(batch.records, n_rows)
    return list(map(DataCoordinate, repeat(required, n_rows), first, repeat(implied), rest, attached))


def _attached(tables: list[RecordTable], n_rows: int) -> list[AttachedRecords]:
    """Make the records of each row; rows share them."""
    columns = []
    for table in tables:
        if len(table.rows) != n_rows or not all(-1 <= row < len(table.records) for row in set(table.rows)):
            raise ProtocolError("a batch has rows without their records")
        # -1, for none, finds the last.
        records = [*table.records, None]
        columns.append([records[row] for row in table.rows])
    elements = RecordElements(
        tuple(table.element for table in tables),
        tuple(table.element for table in tables if table.spatial),
        tuple(table.element for table in tables if table.temporal),
    )
    return list(map(AttachedRecords, repeat(elements, n_rows), zip(*columns, strict=True)))


def _rows(columns: list[list[DataIdValue | None]], n_rows: int) -> list[tuple[DataIdValue | None, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * n_rows
