"""Rows of a batch, whatever it is of: taken out, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from pantry.daemon.registry.record_tables import chosen, kept_records, restored_records
from pantry.model.records import DimensionRecord
from pantry.wire.operations.registry import (
    DataIdBatch,
    RecordBatch,
    RefBatch,
)

Batch = TypeVar("Batch", RefBatch, DataIdBatch, RecordBatch)


def count_rows(batch: Batch) -> int:
    """Count the rows of a batch."""
    if isinstance(batch, RefBatch):
        return len(batch.run_index)
    if isinstance(batch, DataIdBatch):
        return len(batch.columns[0])
    return len(batch.records)


def take_rows(batch: Batch, rows: Sequence[int] | None, repository: str = "") -> Batch:
    """Take some rows of a batch, all for None; with the repository's name where a batch has place for it."""
    if isinstance(batch, RefBatch):
        named = [repository] * len(batch.runs) if repository else batch.repositories
        if rows is None or len(rows) == len(batch.run_index):
            return msgspec.structs.replace(batch, repositories=named)
        return msgspec.structs.replace(
            batch,
            ids=b"".join(batch.ids[16 * row : 16 * row + 16] for row in rows),
            columns=[[column[row] for row in rows] for column in batch.columns],
            run_index=[batch.run_index[row] for row in rows],
            repositories=named,
            records=chosen(batch.records, rows),
        )
    if rows is None:
        return batch
    if isinstance(batch, DataIdBatch):
        columns = [[column[row] for row in rows] for column in batch.columns]
        return msgspec.structs.replace(batch, columns=columns, records=chosen(batch.records, rows))
    return RecordBatch([batch.records[row] for row in rows])


def split_rows(batch: Batch, keep: Callable[[bytes], bytes]) -> Iterable[Any]:
    """Give the rows of a batch as plain values; records are kept apart, each once."""
    if isinstance(batch, RecordBatch):
        return batch.records
    digests = kept_records(batch.records, keep)
    if isinstance(batch, RefBatch):
        ids = [batch.ids[start : start + 16] for start in range(0, len(batch.ids), 16)]
        runs = list(zip(batch.runs, batch.repositories, strict=True))
        return zip(ids, [runs[index] for index in batch.run_index], *batch.columns, *digests, strict=True)
    return zip(*batch.columns, *digests, strict=True)


def join_rows(shape: Batch, rows: Sequence[Any], kept: Callable[[bytes], bytes]) -> Batch:
    """Make a batch like ``shape`` of what `split_rows` gave."""
    if isinstance(shape, RecordBatch):
        return RecordBatch([msgspec.convert(row, DimensionRecord) for row in rows])
    values = [list(column) for column in zip(*rows, strict=True)]
    first = 2 if isinstance(shape, RefBatch) else 0
    columns, digests = values[first : first + len(shape.columns)], values[first + len(shape.columns) :]
    records = restored_records(shape.records, digests, kept)
    if isinstance(shape, DataIdBatch):
        return msgspec.structs.replace(shape, columns=columns, records=records)
    runs = values[1]
    distinct = {tuple(run): None for run in runs}
    number = {run: position for position, run in enumerate(distinct)}
    return msgspec.structs.replace(
        shape,
        ids=b"".join(values[0]),
        columns=columns,
        runs=[run for run, _ in distinct],
        repositories=[repository for _, repository in distinct],
        run_index=[number[tuple(run)] for run in runs],
        records=records,
    )
