"""All ancestors or descendants of a dataset, by one recursive query.

The query walks over quanta, each of which it expands once: a dataset has one producer, so that its
work is that of the edges it meets, also where the graph has circles. It gives bare edges; the shortest
distances, which SQL cannot bound without walking every path, are then found here in one pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import sqlalchemy as sa

from pantry.daemon.registry.definitions import Definitions, KnownType
from pantry.daemon.registry.engine import Database, Session, parameter
from pantry.daemon.registry.provenance_tables import ProvenanceTables
from pantry.daemon.registry.schema import Schema
from pantry.errors import LimitExceededError
from pantry.model.provenance import InputKind
from pantry.wire.operations.provenance import Direction, QueryRelatives, RelativeBatch
from pantry.wire.operations.registry import RefBatch

BATCH_ROWS = 5_000
MAX_EDGES = 5_000_000
"""Most edges of one walk, which are in memory: a few hundred MiB."""

# Up to so many steps the query itself counts them; a quantum is then expanded once for each step at which
# it is met, which for long ways would be more than all edges.
_COUNTED_DEPTH = 8


class Descent:
    """Walks over the graph of provenance.

    Parameters
    ----------
    database, schema
        Where the datasets are.
    tables : ProvenanceTables
        Where the graph is.
    """

    def __init__(self, database: Database, schema: Schema, tables: ProvenanceTables) -> None:
        self._database = database
        self._schema = schema
        self._tables = tables

    def relatives(
        self, session: Session, definitions: Definitions, starts: list[int], query: QueryRelatives
    ) -> Iterator[RelativeBatch]:
        """Find the relatives of the datasets with these primary keys; see `Provenance.relatives`."""
        kinds = None
        if query.dataset_types:
            kinds = {known.id for known in definitions.match_types(query.dataset_types)}
        distances = self._walk(session, starts, query)
        yield from self._describe(session, definitions, distances, kinds)

    # -- the walk ----------------------------------------------------------------------------------

    def _walk(self, session: Session, starts: list[int], query: QueryRelatives) -> dict[int, int]:
        """Distances of all relatives by primary key, the nearest first."""
        depth = query.max_depth
        counted = depth is not None and depth <= _COUNTED_DEPTH
        many = len(starts) > 1
        if many:
            self._tables.stage(session, self._tables.staged_starts, [(start,) for start in starts])
        statement = self._database.prepare(
            ("walk", query.direction, query.inputs, counted, many),
            lambda: self._build(query.direction, query.inputs, counted, many),
        )
        from_datasets: dict[int, list[int]] = {}
        from_quanta: dict[int, list[int]] = {}
        count = 0
        down = query.direction == "descendants"
        for rows in session.batches(statement, BATCH_ROWS, {"start": starts[0], "depth": depth}):
            count += len(rows)
            if count > MAX_EDGES:
                raise LimitExceededError(
                    f"the {query.direction} have more than {MAX_EDGES:,} links", hint="give a max_depth"
                )
            for is_output, quantum, dataset in rows:
                if bool(is_output) is down:
                    from_quanta.setdefault(quantum, []).append(dataset)
                else:
                    from_datasets.setdefault(dataset, []).append(quantum)
        return _distances(starts, from_datasets, from_quanta, depth)

    def _build(
        self, direction: Direction, inputs: InputKind, counted: bool, many: bool
    ) -> sa.Select[Any] | sa.CompoundSelect[Any]:
        into, out = self._tables.input, self._tables.output
        depth = parameter("depth", sa.BigInteger)

        def begins(dataset: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
            if many:
                return dataset.in_(sa.select(self._tables.staged_starts.c.dataset_id))
            return dataset == parameter("start", sa.BigInteger)

        if direction == "descendants":
            first = sa.select(into.c.quantum_id).where(begins(into.c.dataset_id), self._counts(into, inputs))
        else:
            first = sa.select(out.c.quantum_id).where(begins(out.c.dataset_id))
        if counted:
            first = first.add_columns(sa.literal(1).label("depth"))
        reached = first.cte("reached", recursive=True)
        if direction == "descendants":
            step = (
                sa.select(into.c.quantum_id)
                .join_from(reached, out, out.c.quantum_id == reached.c.quantum_id)
                .join(into, into.c.dataset_id == out.c.dataset_id)
            )
        else:
            step = (
                sa.select(out.c.quantum_id)
                .join_from(reached, into, into.c.quantum_id == reached.c.quantum_id)
                .join(out, out.c.dataset_id == into.c.dataset_id)
            )
        step = step.where(self._counts(into, inputs))
        if counted:
            step = step.add_columns(reached.c.depth + 1).where(reached.c.depth < depth)
        # UNION, not UNION ALL: a quantum that was reached before leads nowhere new.
        reached = reached.union(step)
        quanta = sa.select(reached.c.quantum_id).distinct().cte("quanta")
        return sa.union_all(
            sa.select(sa.literal(0), into.c.quantum_id, into.c.dataset_id)
            .join_from(quanta, into, into.c.quantum_id == quanta.c.quantum_id)
            .where(self._counts(into, inputs)),
            sa.select(sa.literal(1), out.c.quantum_id, out.c.dataset_id).join_from(
                quanta, out, out.c.quantum_id == quanta.c.quantum_id
            ),
        )

    def _counts(self, into: sa.Table, inputs: InputKind) -> sa.ColumnElement[bool]:
        """Whether an input counts; see `InputKind`."""
        if inputs == "any":
            return sa.true()
        if inputs == "predicted":
            return into.c.predicted.is_(True)
        quantum = self._tables.quantum
        silent = (
            sa.select(quantum.c.id).where(quantum.c.id == into.c.quantum_id, quantum.c.actual_known.is_(False)).exists()
        )
        return sa.or_(into.c.actual.is_(True), silent)

    # -- what they are -----------------------------------------------------------------------------

    def _describe(
        self, session: Session, definitions: Definitions, distances: dict[int, int], kinds: Collection[int] | None
    ) -> Iterator[RelativeBatch]:
        tables, dataset = self._tables, self._schema.dataset
        staged, node, found = tables.staged_relatives, tables.dataset, tables.found_relatives
        tables.stage(session, staged, [(key,) for key in distances])
        session.create_temporary(found)
        source = (
            sa.select(
                sa.func.coalesce(dataset.c.dataset_type_id, 0).label("dataset_type_id"),
                staged.c.position,
                node.c.uuid,
                dataset.c.run_id,
                dataset.c.data_id_id,
            )
            .join_from(staged, node, node.c.id == staged.c.dataset_id)
            .outerjoin(dataset, dataset.c.uuid == node.c.uuid)
        )
        session.run(
            self._database.prepare(
                "find relatives",
                lambda: sa.insert(found).from_select([column.name for column in found.c], source),
            )
        )
        present = session.rows(
            self._database.prepare("kinds of relatives", lambda: sa.select(found.c.dataset_type_id).distinct())
        )
        far = list(distances.values())
        # Those that the registry does not know come last.
        for (kind,) in sorted(present, key=lambda row: (row[0] == 0, row[0])):
            if kinds is None or kind in kinds:
                yield from self._of_type(session, definitions, definitions.types_by_id.get(kind), far)

    def _of_type(
        self, session: Session, definitions: Definitions, known: KnownType | None, far: list[int]
    ) -> Iterator[RelativeBatch]:
        found = self._tables.found_relatives

        def build() -> sa.Select[Any]:
            statement = sa.select(found.c.position, found.c.uuid, found.c.run_id).where(
                found.c.dataset_type_id == parameter("kind", sa.BigInteger)
            )
            if known is not None:
                table = self._schema.data_ids(known.group_id, known.group)
                statement = statement.join_from(found, table, table.c.id == found.c.data_id_id)
                statement = statement.add_columns(*[table.c[name] for name in known.group.required])
            return statement.order_by(found.c.position)

        key = None if known is None else self._schema.data_ids(known.group_id, known.group)
        statement = self._database.prepare(("relatives", key), build)
        for rows in session.batches(statement, BATCH_ROWS, {"kind": 0 if known is None else known.id}):
            positions, ids, runs, *values = zip(*rows, strict=True)
            packed = b"".join(map(bytes, ids))
            refs = None
            if known is not None:
                distinct = list(dict.fromkeys(runs))
                number = {run: place for place, run in enumerate(distinct)}
                refs = RefBatch(
                    dataset_type=known.definition,
                    required=known.group.required,
                    implied=(),
                    ids=packed,
                    columns=[list(column) for column in values],
                    runs=[definitions.collections_by_id[run].name for run in distinct],
                    run_index=[number[run] for run in runs],
                )
            yield RelativeBatch(packed, [far[position] for position in positions], refs)


def _distances(
    starts: list[int], from_datasets: dict[int, list[int]], from_quanta: dict[int, list[int]], max_depth: int | None
) -> dict[int, int]:
    """Shortest distances of all that can be reached from ``starts``, but not their own, in their order."""
    found: dict[int, int] = dict.fromkeys(starts, 0)
    met: set[int] = set()
    frontier = starts
    distance = 0
    while frontier and (max_depth is None or distance < max_depth):
        distance += 1
        following: list[int] = []
        for dataset in frontier:
            for quantum in from_datasets.get(dataset, ()):
                if quantum in met:
                    continue
                met.add(quantum)
                for other in from_quanta.get(quantum, ()):
                    if other not in found:
                        found[other] = distance
                        following.append(other)
        frontier = following
    return {dataset: far for dataset, far in found.items() if far}
