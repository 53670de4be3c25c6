"""Provenance: what was made of what, and how."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal
from uuid import UUID

import msgspec

from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetRef

EnvironmentValue = str | int | float | bool
InputKind = Literal["used", "predicted", "any"]
"""Which inputs make one dataset the ancestor of another one.

``used``: those that were used, and of a quantum that has not said what it used, those that were predicted.
``predicted``: those that were predicted. ``any``: both.
"""


class QuantumStatus(StrEnum):
    """How far a quantum is."""

    PREDICTED = "predicted"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    BLOCKED = "blocked"
    ABORTED = "aborted"


class Quantum(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One execution of a task on one data id, planned or done.

    Datasets are named by their ids: they may have been deleted since, lie in another repository, or be
    predicted and not made yet.

    Attributes
    ----------
    id : uuid.UUID
        The quantum's own, by which it can be recorded again with more.
    task : str
        Label of the task in its pipeline.
    run : str
        RUN collection of its outputs; it need not exist yet, or any more.
    data_id : dict
        What it is about: dimension names and values.
    predicted_inputs : tuple of uuid.UUID or None
        Datasets that it may use; None if that was never said.
    actual_inputs : tuple of uuid.UUID or None
        Datasets that it used; None if that is not known, or not yet.
    outputs : tuple of uuid.UUID
        Datasets that it makes or made.
    status : QuantumStatus
        How far it is.
    begin_ns, end_ns : int or None
        When it ran, TAI nanoseconds since 1970-01-01T00:00:00 TAI.
    environment : dict
        What else is worth knowing, such as ``host`` and versions of the code; at most 16 KiB as JSON.
    """

    id: UUID
    task: str
    run: str
    data_id: dict[str, DataIdValue] = {}
    predicted_inputs: tuple[UUID, ...] | None = None
    actual_inputs: tuple[UUID, ...] | None = None
    outputs: tuple[UUID, ...] = ()
    status: QuantumStatus = QuantumStatus.PREDICTED
    begin_ns: int | None = None
    end_ns: int | None = None
    environment: dict[str, EnvironmentValue] = {}


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """A quantum that has a dataset among its inputs.

    Attributes
    ----------
    id : uuid.UUID
        The quantum's.
    task, run : str
        As of `Quantum`.
    data_id : dict
        As of `Quantum`.
    predicted : bool
        Whether it was predicted to use the dataset.
    actual : bool or None
        Whether it used it; None if it has not said what it used.
    """

    id: UUID
    task: str
    run: str
    data_id: dict[str, DataIdValue]
    predicted: bool
    actual: bool | None


class DatasetProvenance(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of one dataset.

    Attributes
    ----------
    id : uuid.UUID
        The dataset's.
    ref : DatasetRef or None
        The dataset; None if the registry has only its id, because it was deleted, lies elsewhere or is
        not made yet.
    producer : Quantum or None
        What made it, with all that it may have used and used.
    consumers : tuple of Consumer
        Quanta that use it, at most 1,000.
    n_consumers : int
        How many there are.
    """

    id: UUID
    ref: DatasetRef | None
    producer: Quantum | None
    consumers: tuple[Consumer, ...]
    n_consumers: int


class Relative(msgspec.Struct, frozen=True, kw_only=True):
    """An ancestor or descendant of a dataset.

    Attributes
    ----------
    id : uuid.UUID
        The relative's.
    distance : int
        Over how many quanta, by the shortest way; 1 for what was made directly.
    ref : DatasetRef or None
        As of `DatasetProvenance`.
    """

    id: UUID
    distance: int
    ref: DatasetRef | None
