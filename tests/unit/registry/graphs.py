"""Small graphs of provenance by numbers, and a plain model of walks over them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from pantry.client.butler.batches import uuids
from pantry.daemon.registry import Registry
from pantry.model.provenance import Quantum
from pantry.wire.operations.provenance import QueryRelatives

Edges = dict[int, tuple[tuple[int, ...], tuple[int, ...]]]
"""Inputs and outputs of quanta, all by numbers."""


def dataset(number: int) -> UUID:
    return UUID(int=number)


def quantum(
    number: int, inputs: Iterable[UUID], outputs: Iterable[UUID], *, predicted: bool = False, **more: Any
) -> Quantum:
    known = {"predicted_inputs" if predicted else "actual_inputs": tuple(inputs)}
    return Quantum(
        **{
            "id": UUID(int=(1 << 100) + number),
            "task": "task",
            "run": "run",
            "outputs": tuple(outputs),
            **known,
            **more,
        }
    )


def quanta_of(edges: Edges, *, base: int = 0) -> list[Quantum]:
    return [
        quantum(base + key, [dataset(base + one) for one in inputs], [dataset(base + one) for one in outputs])
        for key, (inputs, outputs) in edges.items()
    ]


def found(registry: Registry, start: UUID, direction: str = "descendants", **options: Any) -> dict[UUID, int]:
    """Walk, and give the distance of each relative."""
    query = QueryRelatives(repository="r", id=start, direction=direction, **options)  # type: ignore[arg-type]
    relatives: dict[UUID, int] = {}
    for batch in registry.provenance.relatives(query):
        ids = uuids(batch.ids)
        assert batch.refs is None or batch.refs.ids == batch.ids
        assert batch.distances == sorted(batch.distances)
        assert not relatives.keys() & set(ids), "given twice"
        relatives.update(zip(ids, batch.distances, strict=True))
    return relatives


def distances(edges: Edges, start: int, direction: str) -> dict[int, int]:
    """Find shortest ways by trying longer and longer ones."""
    steps = {
        (one, other) if direction == "descendants" else (other, one)
        for inputs, outputs in edges.values()
        for one in inputs
        for other in outputs
    }
    near = {start: 0}
    for distance in range(1, len(steps) + 1):
        for one, other in steps:
            if near.get(one) == distance - 1:
                near.setdefault(other, distance)
    del near[start]
    return near
