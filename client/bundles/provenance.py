"""Quanta that were run in a bundle: recorded, merged, walked; harvested into the repository later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

import msgspec

from pantry.client.bundles.contents import Contents
from pantry.client.bundles.index import BundleIndex
from pantry.client.bundles.lookup import Lookup, Row
from pantry.errors import ConflictError, DatasetNotFoundError, InvalidRequestError
from pantry.model.collections import check_collection_name
from pantry.model.provenance import Consumer, DatasetProvenance, Quantum, QuantumStatus
from pantry.wire.operations import QueryRelatives, RefBatch
from pantry.wire.operations.provenance import RelativeBatch

_OUTPUT, _PREDICTED, _ACTUAL = range(3)
_MAX_CONSUMERS = 1_000


class BundleProvenance:
    """The quanta of a bundle.

    Parameters
    ----------
    index : BundleIndex
        Where they are.
    contents : Contents
        Dimensions of their data ids.
    lookup : Lookup
        Finds datasets.
    """

    def __init__(self, index: BundleIndex, contents: Contents, lookup: Lookup) -> None:
        self._index = index
        self._contents = contents
        self._lookup = lookup

    def record(self, quanta: Iterable[Quantum]) -> int:
        """Record quanta, or more of those that are there, all or none; what was said before can only be said again."""
        given = list(quanta)
        for quantum in given:
            self._check(quantum)
        new = 0
        with self._index.writing():
            for quantum in given:
                known = self._quantum(quantum.id.bytes)
                new += known is None
                self._write(quantum if known is None else _merged(known, quantum))
        return new

    def _check(self, quantum: Quantum) -> None:
        where = f"quantum {quantum.id}"
        if not quantum.task.isprintable() or not quantum.task:
            raise InvalidRequestError(f"{where}: a task's label has printable characters")
        if quantum.begin_ns is not None and quantum.end_ns is not None and quantum.begin_ns > quantum.end_ns:
            raise InvalidRequestError(f"{where} ends before it begins")
        check_collection_name(quantum.run)
        universe = self._contents.universe
        universe.standardize(universe.group(quantum.data_id), quantum.data_id)
        inputs = {*(quantum.predicted_inputs or ()), *(quantum.actual_inputs or ())}
        if both := inputs & set(quantum.outputs):
            raise InvalidRequestError(f"{where} has {both.pop()} as input and as output")

    def _write(self, quantum: Quantum) -> None:
        id_ = quantum.id.bytes
        for output in quantum.outputs:
            other = self._index.row(
                "SELECT quantum FROM quantum_dataset WHERE dataset = ? AND kind = ? AND quantum != ?",
                (output.bytes, _OUTPUT, id_),
            )
            if other is not None:
                raise ConflictError(f"{output} is an output of the quantum {UUID(bytes=other[0])} already")
        self._index.run("INSERT OR REPLACE INTO quantum VALUES (?, ?)", (id_, msgspec.msgpack.encode(quantum)))
        kinds = (quantum.outputs, quantum.predicted_inputs or (), quantum.actual_inputs or ())
        self._index.run_many(
            "INSERT OR IGNORE INTO quantum_dataset VALUES (?, ?, ?)",
            [(dataset.bytes, id_, kind) for kind, datasets in enumerate(kinds) for dataset in datasets],
        )

    def _quantum(self, id_: bytes) -> Quantum | None:
        row = self._index.row("SELECT body FROM quantum WHERE id = ?", (id_,))
        return None if row is None else msgspec.msgpack.decode(row[0], type=Quantum)

    def all(self) -> Iterator[Quantum]:
        """Give all quanta."""
        decoder = msgspec.msgpack.Decoder(Quantum)
        for (body,) in self._index.rows("SELECT body FROM quantum ORDER BY id"):
            yield decoder.decode(body)

    # -- asking ------------------------------------------------------------------------------------

    def of(self, id_: UUID) -> DatasetProvenance:
        """Tell what made a dataset, of what, and what uses it, as far as it was run in this bundle."""
        row = self._lookup.by_id(id_)
        edges = self._index.rows("SELECT quantum, kind FROM quantum_dataset WHERE dataset = ?", (id_.bytes,))
        if row is None and not edges:
            raise DatasetNotFoundError(f"the bundle has no dataset with the id {id_}, and no quantum names it")
        producer = None
        uses: dict[bytes, set[int]] = {}
        for quantum, kind in edges:
            if kind == _OUTPUT:
                producer = self._quantum(quantum)
            else:
                uses.setdefault(quantum, set()).add(kind)
        consumers = []
        for quantum in list(uses)[:_MAX_CONSUMERS]:
            found = self._quantum(quantum)
            if found is not None:
                consumers.append(_consumer(found, uses[quantum]))
        return DatasetProvenance(
            id=id_,
            ref=self._lookup.ref(row) if row is not None else None,
            producer=producer,
            consumers=tuple(consumers),
            n_consumers=len(uses),
        )

    def relatives(self, query: QueryRelatives) -> Iterator[RelativeBatch]:
        """Find ancestors or descendants over the quanta of this bundle."""
        if query.id is not None:
            self.of(query.id)  # raises if it is unknown
        step = self._steps(query)
        distance = {one.bytes: 0 for one in (query.id, *query.others) if one is not None}
        front = list(distance)
        while front and (query.max_depth is None or distance[front[0]] < query.max_depth):
            following = []
            for one in front:
                for other in step.get(one, ()):
                    if other not in distance:
                        distance[other] = distance[one] + 1
                        following.append(other)
            front = following
        names = {one.definition.name for one in self._contents.definitions().match_types(query.dataset_types)}
        for id_, steps in distance.items():
            if not steps:
                continue
            row = self._lookup.by_id(UUID(bytes=id_))
            if query.dataset_types and (row is None or row.dataset_type not in names):
                continue
            yield RelativeBatch(id_, [steps], self._batch(row))

    def _batch(self, row: Row | None) -> RefBatch | None:
        if row is None:
            return None
        ref = self._lookup.ref(row)
        values = ref.data_id.required_values
        return RefBatch(
            dataset_type=ref.dataset_type,
            required=ref.data_id.required_names,
            implied=(),
            ids=row.id,
            columns=[[value] for value in values],
            runs=[ref.run],
            run_index=[0],
        )

    def _steps(self, query: QueryRelatives) -> dict[bytes, list[bytes]]:
        """For each dataset those that are one quantum away."""
        rows = self._index.rows("SELECT dataset, quantum, kind FROM quantum_dataset")
        said = {quantum for _, quantum, kind in rows if kind == _ACTUAL}
        said |= {one.id.bytes for one in self.all() if one.actual_inputs is not None}
        inputs: dict[bytes, list[bytes]] = {}
        outputs: dict[bytes, list[bytes]] = {}
        for dataset, quantum, kind in rows:
            if kind == _OUTPUT:
                outputs.setdefault(quantum, []).append(dataset)
            elif (
                query.inputs == "any"
                or (query.inputs == "predicted" and kind == _PREDICTED)
                or (query.inputs == "used" and kind == (_ACTUAL if quantum in said else _PREDICTED))
            ):
                inputs.setdefault(quantum, []).append(dataset)
        before, after = (outputs, inputs) if query.direction == "ancestors" else (inputs, outputs)
        found: dict[bytes, list[bytes]] = {}
        for quantum, datasets in before.items():
            for dataset in datasets:
                found.setdefault(dataset, []).extend(after.get(quantum, ()))
        return found


def _consumer(quantum: Quantum, kinds: set[int]) -> Consumer:
    return Consumer(
        id=quantum.id,
        task=quantum.task,
        run=quantum.run,
        data_id=quantum.data_id,
        predicted=_PREDICTED in kinds,
        actual=_ACTUAL in kinds if quantum.actual_inputs is not None else None,
    )


def _merged(known: Quantum, given: Quantum) -> Quantum:
    """Add what is said anew; what was said before can only be said again."""

    def refuse(name: str) -> ConflictError:
        return ConflictError(
            f"the quantum {known.id} was recorded with another {name}", hint="another run of it is another quantum"
        )

    for name in ("task", "run", "data_id"):
        if getattr(known, name) != getattr(given, name):
            raise refuse(name)
    if known.predicted_inputs is not None and not set(given.predicted_inputs or ()) <= set(known.predicted_inputs):
        raise refuse("list of predicted inputs")
    status = given.status if known.status is QuantumStatus.PREDICTED else known.status
    if given.status not in (QuantumStatus.PREDICTED, status):
        raise refuse("status")
    times = {}
    for name in ("begin_ns", "end_ns"):
        old, new = getattr(known, name), getattr(given, name)
        if old is not None and new not in (None, old):
            raise refuse(name)
        times[name] = new if old is None else old
    actual = known.actual_inputs
    if given.actual_inputs is not None:
        actual = tuple(dict.fromkeys((*(actual or ()), *given.actual_inputs)))
    changed = {key for key, value in given.environment.items() if known.environment.get(key, value) != value}
    if changed:
        raise refuse(f"environment ({', '.join(sorted(changed))})")
    return msgspec.structs.replace(
        known,
        predicted_inputs=given.predicted_inputs if known.predicted_inputs is None else known.predicted_inputs,
        actual_inputs=actual,
        outputs=tuple(dict.fromkeys((*known.outputs, *given.outputs))),
        status=status,
        environment={**known.environment, **given.environment},
        **times,
    )
