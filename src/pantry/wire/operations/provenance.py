"""Operations on what was made of what."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from pantry.model.provenance import DatasetProvenance, InputKind, Quantum
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.registry import CountDone, RefBatch

MAX_QUANTA = 10_000
"""Most quanta of one request."""

MAX_STARTS = 100_000
"""Most datasets whose relatives one request finds."""

Direction = Literal["ancestors", "descendants"]


class RecordQuanta(Operation[CountDone], frozen=True, kw_only=True, tag="provenance.record"):
    """Record quanta, or more of them, all or none; gives how many are new.

    A quantum that is there may get more outputs and actual inputs, its predicted inputs if it had none, a
    status, times and more of its environment. What was said before can only be said again.
    """

    result_type = CountDone
    repository: str
    quanta: tuple[Quantum, ...]


class GetProvenance(Operation[DatasetProvenance], frozen=True, kw_only=True, tag="provenance.get"):
    """What made a dataset, of what, and what uses it."""

    result_type = DatasetProvenance
    repository: str
    id: UUID


class RelativeBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of relatives, by columns; nearer ones first among those of one type.

    Attributes
    ----------
    ids : bytes
        16 bytes each.
    distances : list of int
        Over how many quanta.
    refs : RefBatch or None
        The same datasets; None for those that the registry has only the ids of.
    """

    ids: bytes
    distances: list[int]
    refs: RefBatch | None


class QueryRelatives(
    StreamOperation[RelativeBatch], frozen=True, kw_only=True, omit_defaults=True, tag="provenance.query"
):
    """Find all ancestors or descendants of a dataset, or of several, over any number of steps.

    Attributes
    ----------
    repository : str
        In which repository.
    id : uuid.UUID or None
        The dataset's, which must be known; None for those of ``others`` alone.
    direction : str
        ``ancestors`` or ``descendants``.
    inputs : str
        Which inputs count; see `InputKind`.
    max_depth : int or None
        At most so many steps.
    dataset_types : tuple of str
        Report only these, names or globs; the way may lead over others. Empty for all.
    others : tuple of uuid.UUID
        Further datasets to begin with, at most `MAX_STARTS`; those that no quantum names have no relatives. None of
        them is reported.
    """

    result_type = RelativeBatch
    repository: str
    id: UUID | None = None
    direction: Direction
    inputs: InputKind = "used"
    max_depth: int | None = None
    dataset_types: tuple[str, ...] = ()
    others: tuple[UUID, ...] = ()


MAX_PRODUCED = 5_000
"""Most dataset ids of one `QueryQuanta`."""


class QuantumBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of quanta."""

    quanta: list[Quantum]


class QueryQuanta(StreamOperation[QuantumBatch], frozen=True, kw_only=True, tag="provenance.quanta"):
    """Give the quanta that made some datasets, each once, with all their inputs and outputs.

    Attributes
    ----------
    repository : str
        In which repository.
    ids : bytes
        16 bytes for each dataset, at most `MAX_PRODUCED`; those that no quantum made are passed over.
    """

    result_type = QuantumBatch
    repository: str
    ids: bytes
