"""Provenance: what was made of what."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from pantry.client.butler.access import RepositoryAccess, names
from pantry.client.butler.batches import refs, uuids
from pantry.model.datasets import DatasetRef
from pantry.model.provenance import DatasetProvenance, InputKind, Quantum, Relative
from pantry.wire import operations as ops

if TYPE_CHECKING:
    from pantry.wire.operations.provenance import Direction


class Lineage(RepositoryAccess):
    """The methods of `Butler` that ask for and record provenance."""

    def record_quanta(self, quanta: Iterable[Quantum]) -> int:
        """Record what was run, with its predicted and actual inputs and its outputs (DMS-MWBT-REQ-0095).

        Parameters
        ----------
        quanta : iterable of Quantum
            One that is recorded already may get more outputs and actual inputs; what was said before can
            only be said again.

        Returns
        -------
        int
            How many are new. Each 10,000 are recorded together or not at all.
        """
        from pantry.wire.operations.provenance import MAX_QUANTA

        self._writing()
        given, count = iter(quanta), 0
        while batch := tuple(islice(given, MAX_QUANTA)):
            count += self.connection.call(ops.RecordQuanta(repository=self.repository, quanta=batch)).count
        return count

    def provenance(self, dataset: DatasetRef | UUID) -> DatasetProvenance:
        """Report what made a dataset, of which inputs, predicted and actual, and what uses it (DMS-MWBT-REQ-0095)."""
        return self.connection.call(ops.GetProvenance(repository=self.repository, id=_id(dataset)))

    def ancestors(
        self,
        dataset: DatasetRef | UUID,
        *,
        inputs: InputKind = "used",
        max_depth: int | None = None,
        dataset_types: str | Iterable[str] = (),
    ) -> list[Relative]:
        """Find everything that a dataset was made of, over any number of steps.

        Parameters
        ----------
        dataset : DatasetRef or UUID
            Also one that was deleted since.
        inputs : str
            ``used`` for the actual inputs, or the predicted ones where nobody said which were used;
            ``predicted``; ``any`` for both.
        max_depth : int, optional
            Over at most so many quanta.
        dataset_types : str or iterable of str
            Only these, by name or pattern.

        Returns
        -------
        list of Relative
            Nearest first.
        """
        return self._relatives(dataset, "ancestors", inputs, max_depth, dataset_types)

    def descendants(
        self,
        dataset: DatasetRef | UUID,
        *,
        inputs: InputKind = "used",
        max_depth: int | None = None,
        dataset_types: str | Iterable[str] = (),
    ) -> list[Relative]:
        """Find everything that was made of a dataset, over any number of steps (DMS-MWBT-REQ-0094).

        The arguments are those of `ancestors`.
        """
        return self._relatives(dataset, "descendants", inputs, max_depth, dataset_types)

    def _relatives(
        self,
        dataset: DatasetRef | UUID,
        direction: Direction,
        inputs: InputKind,
        max_depth: int | None,
        dataset_types: str | Iterable[str],
    ) -> list[Relative]:
        asked = ops.QueryRelatives(
            repository=self.repository,
            id=_id(dataset),
            direction=direction,
            inputs=inputs,
            max_depth=max_depth,
            dataset_types=names(dataset_types),
        )
        found: list[Relative] = []
        for batch in self.connection.stream(asked):
            known = refs(batch.refs) if batch.refs is not None else [None] * len(batch.distances)
            found += [
                Relative(id=id_, distance=distance, ref=ref)
                for id_, distance, ref in zip(uuids(batch.ids), batch.distances, known, strict=True)
            ]
        return sorted(found, key=lambda one: one.distance)


def _id(dataset: DatasetRef | UUID) -> UUID:
    return dataset.id if isinstance(dataset, DatasetRef) else dataset
