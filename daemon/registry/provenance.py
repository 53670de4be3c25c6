"""What was made of what: the door to quanta, their inputs and outputs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.definitions import DefinitionsCache
from pantry.daemon.registry.descent import Descent
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.lookup import Lookup
from pantry.daemon.registry.producers import producers
from pantry.daemon.registry.provenance_tables import ProvenanceTables
from pantry.daemon.registry.recording import Recording
from pantry.daemon.registry.schema import Schema
from pantry.errors import DatasetNotFoundError, InvalidRequestError
from pantry.model.datasets import DatasetRef
from pantry.model.provenance import Consumer, DatasetProvenance, Quantum, QuantumStatus
from pantry.wire.operations.provenance import MAX_QUANTA, MAX_STARTS, QuantumBatch, QueryRelatives, RelativeBatch

MAX_CONSUMERS = 1_000


class Write(Protocol):
    """Runs a job in the registry's writer."""

    def __call__(self, work: Callable[..., int], *args: Any) -> int:
        """Run ``work(session, *args)`` and return its result once that is committed."""


class Provenance:
    """The graph of quanta and datasets of a registry; methods block, and may be called from any thread.

    Parameters
    ----------
    database, schema
        Where it is.
    definitions : DefinitionsCache
        Collections and dataset types, for readers.
    lookup : Lookup
        Finds datasets.
    write : callable
        The registry's writer.
    """

    def __init__(
        self, database: Database, schema: Schema, definitions: DefinitionsCache, lookup: Lookup, write: Write
    ) -> None:
        self._database = database
        self._definitions = definitions
        self._lookup = lookup
        self._write = write
        self._tables = ProvenanceTables()
        self._recording = Recording(database, self._tables, schema.universe)
        self._descent = Descent(database, schema, self._tables)

    def record(self, quanta: Sequence[Quantum]) -> int:
        """Record quanta, or more of quanta that are there, all or none; no query per row.

        Parameters
        ----------
        quanta : sequence of Quantum
            At most 10,000, each once.

        Returns
        -------
        int
            How many are new.

        Raises
        ------
        ConflictError
            If something contradicts what was recorded: another task, run, data id, time or status, a predicted
            input beyond those recorded, an output of another quantum.
        InvalidRequestError, DimensionNameError, DataIdValueError
            If a quantum makes no sense by itself.
        """
        if len(quanta) > MAX_QUANTA:
            raise InvalidRequestError(f"more than {MAX_QUANTA:,} quanta in one request", hint="record them in parts")
        return self._write(self._recording.record, self._recording.check(quanta))

    def of(self, id_: UUID) -> DatasetProvenance:
        """Tell what made a dataset, of what, and what uses it.

        Raises
        ------
        DatasetNotFoundError
            If neither the registry nor any quantum knows this id.
        """
        with self._database.reading() as session:
            ref = self._lookup.get(session, self._definitions.current(session), id_).ref
            key = self._key(session, id_, ref)
            if key is None:
                return DatasetProvenance(id=id_, ref=ref, producer=None, consumers=(), n_consumers=0)
            consumers, count = self._consumers(session, key)
            return DatasetProvenance(
                id=id_, ref=ref, producer=self._producer(session, key), consumers=consumers, n_consumers=count
            )

    def relatives(self, query: QueryRelatives) -> Iterator[RelativeBatch]:
        """Find all ancestors or descendants of a dataset, in batches of one dataset type each.

        Holds a transaction as `Registry.query_datasets`. The dataset itself is not among them, even if it is its
        own ancestor by mistake.

        Raises
        ------
        DatasetNotFoundError
            If neither the registry nor any quantum knows the id.
        LimitExceededError
            If there are too many to be kept in memory.
        """
        if query.max_depth is not None and query.max_depth < 1:
            raise InvalidRequestError(f"max_depth is at least 1, not {query.max_depth}")
        with self._database.reading() as session:
            definitions = self._definitions.current(session)
            keys = self._others(session, query.others)
            if query.id is not None:
                key = self._key(session, query.id, self._lookup.get(session, definitions, query.id).ref)
                keys += [] if key is None else [key]
            if keys:
                yield from self._descent.relatives(session, definitions, list(dict.fromkeys(keys)), query)

    def producers(self, ids: Sequence[bytes]) -> Iterator[QuantumBatch]:
        """Give the quanta that made datasets, in batches; holds a transaction as `Registry.query_datasets`."""
        with self._database.reading() as session:
            yield from producers(self._database, self._tables, session, ids)

    def _others(self, session: Session, ids: Sequence[UUID]) -> list[int]:
        """Primary keys of those of these datasets that quanta name."""
        if len(ids) > MAX_STARTS:
            raise InvalidRequestError(f"more than {MAX_STARTS:,} datasets in one request", hint="ask in parts")
        if not ids or not self._tables.exist(session):
            return []
        staged, node = self._tables.staged_datasets, self._tables.dataset
        self._tables.stage(session, staged, [(id_.bytes,) for id_ in ids])
        rows = session.rows(
            self._database.prepare(
                "provenance datasets",
                lambda: sa.select(node.c.id).join_from(staged, node, node.c.uuid == staged.c.uuid),
            )
        )
        return [int(row[0]) for row in rows]

    def _key(self, session: Session, id_: UUID, ref: DatasetRef | None) -> int | None:
        """Primary key of a dataset among those that quanta name; None if no quantum names it."""
        node = self._tables.dataset
        row = None
        if self._tables.exist(session):
            row = session.row(
                self._database.prepare(
                    "provenance dataset",
                    lambda: sa.select(node.c.id).where(node.c.uuid == parameter("id", sa.LargeBinary)),
                ),
                {"id": id_.bytes},
            )
        if row is None and ref is None:
            raise DatasetNotFoundError(
                f"there is no dataset with the id {id_}, and no quantum names it",
                hint="`pantry query-datasets` shows the ids",
            )
        return None if row is None else int(row[0])

    def _producer(self, session: Session, key: int) -> Quantum | None:
        tables, quantum = self._tables, self._tables.quantum
        row = session.row(
            self._database.prepare(
                "producer",
                lambda: (
                    sa.select(*quantum.c)
                    .join_from(tables.output, quantum, quantum.c.id == tables.output.c.quantum_id)
                    .where(tables.output.c.dataset_id == parameter("dataset", sa.BigInteger))
                ),
            ),
            {"dataset": key},
        )
        if row is None:
            return None
        said = dict(zip([column.name for column in quantum.c], row, strict=True))
        inputs = session.rows(self._edges("inputs", tables.input, ("predicted", "actual")), {"quantum": said["id"]})
        outputs = session.rows(self._edges("outputs", tables.output, ()), {"quantum": said["id"]})
        return Quantum(
            id=UUID(bytes=bytes(said["uuid"])),
            task=said["task"],
            run=said["run"],
            data_id=json.loads(said["data_id"]),
            predicted_inputs=_uuids(row for row in inputs if row[1]) if said["predicted_known"] else None,
            actual_inputs=_uuids(row for row in inputs if row[2]) if said["actual_known"] else None,
            outputs=_uuids(outputs),
            status=QuantumStatus(said["status"]),
            begin_ns=said["begin_ns"],
            end_ns=said["end_ns"],
            environment=json.loads(said["environment"]),
        )

    def _edges(self, name: str, table: sa.Table, columns: Sequence[str]) -> Any:
        node = self._tables.dataset
        return self._database.prepare(
            ("edges", name),
            lambda: (
                sa.select(node.c.uuid, *[table.c[column] for column in columns])
                .join_from(table, node, node.c.id == table.c.dataset_id)
                .where(table.c.quantum_id == parameter("quantum", sa.BigInteger))
                .order_by(table.c.dataset_id)
            ),
        )

    def _consumers(self, session: Session, key: int) -> tuple[tuple[Consumer, ...], int]:
        into, quantum = self._tables.input, self._tables.quantum
        count = session.rows(
            self._database.prepare(
                "count consumers",
                lambda: (
                    sa.select(sa.func.count())
                    .select_from(into)
                    .where(into.c.dataset_id == parameter("dataset", sa.BigInteger))
                ),
            ),
            {"dataset": key},
        )[0][0]
        rows = session.rows(
            self._database.prepare(
                "consumers",
                lambda: (
                    sa.select(
                        quantum.c.uuid,
                        quantum.c.task,
                        quantum.c.run,
                        quantum.c.data_id,
                        into.c.predicted,
                        into.c.actual,
                        quantum.c.actual_known,
                    )
                    .join_from(into, quantum, quantum.c.id == into.c.quantum_id)
                    .where(into.c.dataset_id == parameter("dataset", sa.BigInteger))
                    .order_by(into.c.quantum_id)
                    .limit(MAX_CONSUMERS)
                ),
            ),
            {"dataset": key},
        )
        return tuple(
            Consumer(
                id=UUID(bytes=bytes(id_)),
                task=task,
                run=run,
                data_id=json.loads(data_id),
                predicted=bool(predicted),
                actual=bool(actual) if known else None,
            )
            for id_, task, run, data_id, predicted, actual, known in rows
        ), int(count)


def _uuids(rows: Any) -> tuple[UUID, ...]:
    return tuple(UUID(bytes=bytes(row[0])) for row in rows)
