"""The quanta that made many datasets, in one question."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session
from pantry.daemon.registry.provenance_tables import ProvenanceTables
from pantry.model.provenance import Quantum, QuantumStatus
from pantry.wire.operations.provenance import QuantumBatch

_ROWS = 5_000
_BATCH_BYTES = 4 << 20
"""Most bytes of a batch, about; a quantum with more has a batch of its own."""
_BYTES_OF_ID = 24


def producers(
    database: Database, tables: ProvenanceTables, session: Session, ids: Sequence[bytes]
) -> Iterator[QuantumBatch]:
    """Give the quanta that made datasets, each once, in the order in which they were recorded.

    Rows stream: a quantum may have a hundred thousand inputs.
    """
    if not tables.exist(session):
        return
    tables.stage(session, tables.staged_datasets, [(id_,) for id_ in dict.fromkeys(ids)])
    quantum, into, out = tables.quantum, tables.input, tables.output
    inputs = _by_quantum(database, tables, session, into, [into.c.predicted, into.c.actual])
    outputs = _by_quantum(database, tables, session, out, [])
    statement = database.prepare(
        "producers",
        lambda: sa.select(*quantum.c).where(quantum.c.id.in_(_wanted(tables))).order_by(quantum.c.id),
    )
    names = [column.name for column in quantum.c]
    batch: list[Quantum] = []
    size = 0
    for row in chain.from_iterable(session.batches(statement, _ROWS)):
        said = dict(zip(names, row, strict=True))
        made = _quantum(said, inputs.of(said["id"]), outputs.of(said["id"]))
        n_ids = len(made.predicted_inputs or ()) + len(made.actual_inputs or ()) + len(made.outputs)
        n_bytes = 200 + len(said["environment"]) + _BYTES_OF_ID * n_ids
        if batch and size + n_bytes > _BATCH_BYTES:
            yield QuantumBatch(batch)
            batch, size = [], 0
        batch.append(made)
        size += n_bytes
    if batch:
        yield QuantumBatch(batch)


def _wanted(tables: ProvenanceTables) -> sa.Select[Any]:
    staged, node, out = tables.staged_datasets, tables.dataset, tables.output
    return (
        sa.select(out.c.quantum_id)
        .join_from(staged, node, node.c.uuid == staged.c.uuid)
        .join(out, out.c.dataset_id == node.c.id)
    )


class _Edges:
    """Rows of edges in the order of their quanta, taken as the quanta come."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._groups = groupby(rows, lambda row: row[0])
        self._next = next(self._groups, None)

    def of(self, quantum: int) -> list[tuple[Any, ...]]:
        """Give the rows of a quantum, each after all before it."""
        if self._next is None or self._next[0] != quantum:
            return []
        rows = list(self._next[1])
        self._next = next(self._groups, None)
        return rows


def _by_quantum(
    database: Database, tables: ProvenanceTables, session: Session, table: sa.Table, columns: Sequence[Any]
) -> _Edges:
    node = tables.dataset
    statement = database.prepare(
        ("producers", table.name),
        lambda: (
            sa.select(table.c.quantum_id, node.c.uuid, *columns)
            .join_from(table, node, node.c.id == table.c.dataset_id)
            .where(table.c.quantum_id.in_(_wanted(tables)))
            .order_by(table.c.quantum_id, table.c.dataset_id)
        ),
    )
    return _Edges(chain.from_iterable(session.batches(statement, _ROWS)))


def _quantum(said: dict[str, Any], inputs: list[tuple[Any, ...]], outputs: list[tuple[Any, ...]]) -> Quantum:
    return Quantum(
        id=UUID(bytes=bytes(said["uuid"])),
        task=said["task"],
        run=said["run"],
        data_id=json.loads(said["data_id"]),
        predicted_inputs=_uuids([row for row in inputs if row[2]]) if said["predicted_known"] else None,
        actual_inputs=_uuids([row for row in inputs if row[3]]) if said["actual_known"] else None,
        outputs=_uuids(outputs),
        status=QuantumStatus(said["status"]),
        begin_ns=said["begin_ns"],
        end_ns=said["end_ns"],
        environment=json.loads(said["environment"]),
    )


def _uuids(rows: list[tuple[Any, ...]]) -> tuple[UUID, ...]:
    return tuple(UUID(bytes=bytes(row[1])) for row in rows)
