"""Recording quanta: checked, merged with what is there, and written in bulk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa

from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.provenance_tables import MAX_TASK, ProvenanceTables, last_id
from pantry.errors import ConflictError, InvalidRequestError
from pantry.model.collections import check_collection_name
from pantry.model.dimensions import DimensionUniverse
from pantry.model.provenance import EnvironmentValue, Quantum, QuantumStatus

MAX_ENVIRONMENT_BYTES = 16 << 10
# From this many quanta on, the planner is told how many there are.
_STATISTICS_FROM = 256
_SAID = ("task", "run", "data_id")
_FILLED = ("begin_ns", "end_ns")

Row = dict[str, Any]
"""A row of the table of quanta by its columns, but with the environment parsed."""


class CheckedQuantum(NamedTuple):
    """A quantum that makes sense by itself.

    Attributes
    ----------
    row : dict
        What goes into the table of quanta, without its primary key.
    predicted, actual, outputs : list of bytes
        Ids of datasets, each once.
    """

    row: Row
    predicted: list[bytes]
    actual: list[bytes]
    outputs: list[bytes]


class Recording:
    """Writes quanta.

    Parameters
    ----------
    database : Database
        Where to.
    tables : ProvenanceTables
        Made if they are not there.
    universe : DimensionUniverse
        Of the data ids.
    """

    def __init__(self, database: Database, tables: ProvenanceTables, universe: DimensionUniverse) -> None:
        self._database = database
        self._tables = tables
        self._universe = universe

    # -- checking ----------------------------------------------------------------------------------

    def check(self, quanta: Iterable[Quantum]) -> list[CheckedQuantum]:
        """Check quanta by themselves; raises `InvalidRequestError` for what makes no sense."""
        checked = [self._check(quantum) for quantum in quanta]
        seen: set[bytes] = set()
        made: dict[bytes, bytes] = {}
        for one in checked:
            id_ = one.row["uuid"]
            if id_ in seen:
                raise InvalidRequestError(f"the quantum {UUID(bytes=id_)} is there twice")
            seen.add(id_)
            for output in one.outputs:
                if made.setdefault(output, id_) != id_:
                    raise InvalidRequestError(f"the dataset {UUID(bytes=output)} is an output of two quanta")
        return checked

    def _check(self, quantum: Quantum) -> CheckedQuantum:
        where = f"quantum {quantum.id}"
        if not quantum.task.isprintable() or not 0 < len(quantum.task) <= MAX_TASK:
            raise InvalidRequestError(f"{where}: a task's label has 1 to {MAX_TASK} printable characters")
        if quantum.begin_ns is not None and quantum.end_ns is not None and quantum.begin_ns > quantum.end_ns:
            raise InvalidRequestError(f"{where} ends before it begins")
        group = self._universe.group(quantum.data_id)
        required = self._universe.standardize(group, quantum.data_id).required
        row = {
            "uuid": quantum.id.bytes,
            "task": quantum.task,
            "run": check_collection_name(quantum.run),
            "data_id": json.dumps(required),
            "status": str(quantum.status),
            "begin_ns": quantum.begin_ns,
            "end_ns": quantum.end_ns,
            "environment": quantum.environment,
            "predicted_known": quantum.predicted_inputs is not None,
            "actual_known": quantum.actual_inputs is not None,
        }
        environment_text(row)
        found = CheckedQuantum(
            row,
            _ids(quantum.predicted_inputs or ()),
            _ids(quantum.actual_inputs or ()),
            _ids(quantum.outputs),
        )
        both = set(found.outputs).intersection(found.predicted + found.actual)
        if both:
            raise InvalidRequestError(f"{where} has {UUID(bytes=both.pop())} as input and as output")
        return found

    # -- writing -----------------------------------------------------------------------------------

    def record(self, session: Session, checked: Sequence[CheckedQuantum]) -> int:
        """Write checked quanta, all or none; see `Provenance.record`."""
        tables = self._tables
        if not checked:
            return 0
        if not tables.exist(session):
            session.create(*tables.all)
        keys, fixed, count = self._write_quanta(session, checked)
        datasets = self._write_datasets(
            session, [id_ for one in checked for ids in (one.predicted, one.actual, one.outputs) for id_ in ids]
        )
        outputs: list[tuple[object, ...]] = []
        inputs: list[tuple[object, ...]] = []
        for one in checked:
            key = keys[one.row["uuid"]]
            predicted, actual = set(one.predicted), set(one.actual)
            inputs += [
                (key, datasets[id_], id_ in predicted, id_ in actual, key in fixed)
                for id_ in dict.fromkeys(one.predicted + one.actual)
            ]
            outputs += [(datasets[id_], key) for id_ in one.outputs]
        tables.stage(session, tables.staged_inputs, inputs)
        tables.stage(session, tables.staged_outputs, outputs)
        names = _Names(keys, datasets)
        self._refuse_contradictions(session, names)
        self._write_edges(session)
        self._refuse_own_inputs(session, names)
        # Each time that there are twice as many.
        last = last_id(self._database, session, tables.quantum)
        if last >= _STATISTICS_FROM and (last - count).bit_length() < last.bit_length():
            session.analyze(*tables.all)
        return count

    def _write_quanta(
        self, session: Session, checked: Sequence[CheckedQuantum]
    ) -> tuple[dict[bytes, int], set[int], int]:
        """Insert and complete quanta.

        Give their primary keys by id, the keys of those whose predictions are there already, and how many
        are new.
        """
        tables, quantum = self._tables, self._tables.quantum
        tables.stage(session, tables.staged_quanta, [(one.row["uuid"],) for one in checked])
        staged = tables.staged_quanta
        columns = [column.name for column in quantum.c]
        rows = session.rows(
            self._database.prepare(
                "staged quanta",
                lambda: sa.select(*quantum.c).join_from(staged, quantum, quantum.c.uuid == staged.c.uuid),
            )
        )
        there = {bytes(row[1]): row for row in rows}
        keys: dict[bytes, int] = {}
        fixed: set[int] = set()
        new: list[list[Any]] = []
        changed: list[dict[str, Any]] = []
        first = last_id(self._database, session, quantum) + 1
        for one in checked:
            id_ = one.row["uuid"]
            if id_ not in there:
                keys[id_] = first + len(new)
                row = one.row | {"id": keys[id_], "environment": environment_text(one.row)}
                new.append([row[name] for name in columns])
                continue
            old = dict(zip(columns, there[id_], strict=True))
            keys[id_] = old["id"]
            if old["predicted_known"]:
                fixed.add(old["id"])
            merged = merge(old | {"environment": json.loads(old["environment"])}, one.row)
            merged["environment"] = environment_text(merged)
            if any(merged[name] != old[name] for name in columns[2:]):
                changed.append(merged | {"id": old["id"]})
        session.run_many(self._database.prepare_insert(quantum), new)
        self._update(session, changed)
        return keys, fixed, len(new)

    def _update(self, session: Session, changed: Sequence[dict[str, Any]]) -> None:
        quantum = self._tables.quantum
        may_change = ("status", "begin_ns", "end_ns", "environment", "predicted_known", "actual_known")
        statement = self._database.prepare(
            "update quanta",
            lambda: (
                sa.update(quantum)
                .where(quantum.c.id == parameter("p_id", sa.BigInteger))
                .values({quantum.c[name]: parameter(f"p_{name}", quantum.c[name].type) for name in may_change})
            ),
        )
        session.run_many(statement, [[row[name.removeprefix("p_")] for name in statement.names] for row in changed])

    def _write_datasets(self, session: Session, ids: Iterable[bytes]) -> dict[bytes, int]:
        """Give the primary keys of datasets by id; made if they are new."""
        tables, dataset, staged = self._tables, self._tables.dataset, self._tables.staged_datasets
        distinct = list(dict.fromkeys(ids))
        tables.stage(session, staged, [(id_,) for id_ in distinct])
        rows = session.rows(
            self._database.prepare(
                "staged provenance datasets",
                lambda: sa.select(dataset.c.uuid, dataset.c.id).join_from(
                    staged, dataset, dataset.c.uuid == staged.c.uuid
                ),
            )
        )
        keys = {bytes(id_): key for id_, key in rows}
        new = [id_ for id_ in distinct if id_ not in keys]
        first = last_id(self._database, session, dataset) + 1
        made = list(enumerate(new, first))
        session.run_many(self._database.prepare_insert(dataset), made)
        return keys | {id_: key for key, id_ in made}

    def _write_edges(self, session: Session) -> None:
        tables, database = self._tables, self._database
        into, out = tables.staged_inputs, tables.staged_outputs
        # Without WHERE, SQLite reads the ON of ON CONFLICT as a join's.
        session.run(
            database.prepare(
                "write inputs",
                lambda: database.insert_joining(
                    tables.input,
                    ["quantum_id", "dataset_id"],
                    ["predicted", "actual"],
                    sa.select(into.c.quantum_id, into.c.dataset_id, into.c.predicted, into.c.actual).where(
                        into.c.position >= 0
                    ),
                ),
            )
        )
        session.run(
            database.prepare(
                "write outputs",
                lambda: database.insert_ignoring(
                    tables.output,
                    ["dataset_id"],
                    sa.select(out.c.dataset_id, out.c.quantum_id).where(out.c.position >= 0),
                ),
            )
        )

    # -- what is refused ---------------------------------------------------------------------------

    def _refuse_contradictions(self, session: Session, names: _Names) -> None:
        tables = self._tables
        into, out = tables.staged_inputs, tables.staged_outputs
        there = sa.exists().where(
            tables.input.c.quantum_id == into.c.quantum_id,
            tables.input.c.dataset_id == into.c.dataset_id,
            tables.input.c.predicted.is_(True),
        )
        row = session.row(
            self._database.prepare(
                "new predictions",
                lambda: (
                    sa.select(into.c.quantum_id, into.c.dataset_id)
                    .where(into.c.fixed.is_(True), into.c.predicted.is_(True), ~there)
                    .limit(1)
                ),
            )
        )
        if row is not None:
            raise ConflictError(
                f"{names.quantum(row[0])} was recorded without {names.dataset(row[1])} among its predicted inputs",
                hint="what it used beyond its prediction is recorded as actual input",
            )
        row = session.row(
            self._database.prepare(
                "other producers",
                lambda: (
                    sa.select(tables.quantum.c.uuid, out.c.dataset_id)
                    .join_from(out, tables.output, tables.output.c.dataset_id == out.c.dataset_id)
                    .join(tables.quantum, tables.quantum.c.id == tables.output.c.quantum_id)
                    .where(tables.output.c.quantum_id != out.c.quantum_id)
                    .limit(1)
                ),
            )
        )
        if row is not None:
            raise ConflictError(
                f"the dataset {names.dataset(row[1])} is recorded as output of the quantum {UUID(bytes=bytes(row[0]))}",
                hint="a dataset comes out of one quantum only",
            )

    def _refuse_own_inputs(self, session: Session, names: _Names) -> None:
        """Refuse what only together with earlier records is its own input."""
        tables = self._tables
        for staged, other in ((tables.staged_inputs, tables.output), (tables.staged_outputs, tables.input)):
            same = sa.and_(staged.c.quantum_id == other.c.quantum_id, staged.c.dataset_id == other.c.dataset_id)
            statement = sa.select(staged.c.quantum_id, staged.c.dataset_id).join_from(staged, other, same).limit(1)
            row = session.row(self._database.prepare(("own inputs", staged), lambda statement=statement: statement))  # type: ignore[misc]
            if row is not None:
                raise ConflictError(
                    f"the dataset {names.dataset(row[1])} would be input and output of quantum {names.quantum(row[0])}"
                )


class _Names:
    """Ids for messages, by primary keys."""

    def __init__(self, quanta: Mapping[bytes, int], datasets: Mapping[bytes, int]) -> None:
        self._quanta = quanta
        self._datasets = datasets

    def quantum(self, key: int) -> UUID:
        """Return the id of a quantum."""
        return UUID(bytes=next(id_ for id_, known in self._quanta.items() if known == key))

    def dataset(self, key: int) -> UUID:
        """Return the id of a dataset."""
        return UUID(bytes=next(id_ for id_, known in self._datasets.items() if known == key))


def merge(old: Row, new: Row) -> Row:
    """Add what a new record of a quantum says to what was recorded; `ConflictError` if it contradicts."""
    merged = dict(old)
    for name in _SAID:
        if new[name] != old[name]:
            raise _contradiction(new, name, old[name], new[name])
    for name in _FILLED:
        if new[name] is not None:
            if old[name] not in (None, new[name]):
                raise _contradiction(new, name, old[name], new[name])
            merged[name] = new[name]
    if new["status"] != QuantumStatus.PREDICTED:
        if old["status"] not in (QuantumStatus.PREDICTED, new["status"]):
            raise _contradiction(new, "status", old["status"], new["status"])
        merged["status"] = new["status"]
    if None not in (merged["begin_ns"], merged["end_ns"]) and merged["begin_ns"] > merged["end_ns"]:
        raise _contradiction(new, "times", old["begin_ns"] or old["end_ns"], new["begin_ns"] or new["end_ns"])
    environment: dict[str, EnvironmentValue] = dict(old["environment"])
    for name, value in new["environment"].items():
        if environment.setdefault(name, value) != value:
            raise _contradiction(new, f"environment {name!r}", environment[name], value)
    merged["environment"] = environment
    for name in ("predicted_known", "actual_known"):
        merged[name] = bool(old[name]) or new[name]
    return merged


def environment_text(row: Row) -> str:
    """Write a quantum's environment as JSON; `InvalidRequestError` if it is too long or no JSON."""
    try:
        text = json.dumps(row["environment"], sort_keys=True, allow_nan=False)
    except ValueError:
        raise InvalidRequestError(
            f"the environment of quantum {UUID(bytes=row['uuid'])} has a number that is not finite"
        ) from None
    if len(text) > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequestError(
            f"the environment of quantum {UUID(bytes=bytes(row['uuid']))} has more than {MAX_ENVIRONMENT_BYTES} bytes",
            hint="store it as a dataset, which may be an output of the quantum",
        )
    return text


def _contradiction(row: Row, name: str, old: object, new: object) -> ConflictError:
    return ConflictError(
        f"quantum {UUID(bytes=row['uuid'])} is recorded with {name} {old!r}, not {new!r}",
        hint="record another try as a quantum of its own",
    )


def _ids(given: Iterable[UUID]) -> list[bytes]:
    return [id_.bytes for id_ in dict.fromkeys(given)]
