"""What a file says of where it comes from: its parents, and the raw data among all its ancestors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.batches import refs
from pantry.errors import InvalidRequestError
from pantry.model.datasets import DatasetRef
from pantry.model.file_provenance import Contributor, FileProvenance
from pantry.wire import operations as ops

RAW_TYPES = ("[r]aw", "raw_*", "*_raw")
"""Names of dataset types that are raw data. As patterns, since a name must be registered."""


def file_provenance(access: RepositoryAccess, given: Iterable[DatasetRef] | FileProvenance) -> FileProvenance:
    """Complete what the caller says by the raw data that contributed (DMS-MWBT-REQ-0093)."""
    if isinstance(given, FileProvenance):
        return given
    from pantry.wire.operations.provenance import MAX_STARTS

    parents = list({ref.id: ref for ref in _checked(given)}.values())
    raws = {ref.id: Contributor.of(ref) for ref in parents if _is_raw(ref.dataset_type.name)}
    by_repository: dict[str, list[UUID]] = {}
    for ref in parents:
        by_repository.setdefault(ref.repository or _first(access), []).append(ref.id)
    for repository, ids in by_repository.items():
        for start in range(0, len(ids), MAX_STARTS):
            asked = ops.QueryRelatives(
                repository=repository,
                direction="ancestors",
                dataset_types=RAW_TYPES,
                others=tuple(ids[start : start + MAX_STARTS]),
            )
            for batch in access.connection.stream(asked):
                if batch.refs is not None:
                    raws |= {ref.id: Contributor.of(ref) for ref in refs(batch.refs)}
    return FileProvenance(inputs=tuple(map(Contributor.of, parents)), raws=tuple(sorted(raws.values(), key=_order)))


def _order(one: Contributor) -> tuple[Any, ...]:
    """Order by type, then by data id, numbers as numbers."""
    return one.dataset_type, [(isinstance(value, str), value) for value in one.data_id.values()], one.id


def _checked(given: Iterable[DatasetRef]) -> Iterable[DatasetRef]:
    if isinstance(given, DatasetRef):
        return [given]
    found = list(given) if isinstance(given, Iterable) else [given]
    for one in found:
        if not isinstance(one, DatasetRef):
            raise InvalidRequestError(
                f"provenance names its parents by DatasetRef, not by a {type(one).__name__}",
                hint="`find_dataset` and `query_datasets` give them",
            )
    return found


def _is_raw(dataset_type: str) -> bool:
    return dataset_type == "raw" or dataset_type.startswith("raw_") or dataset_type.endswith("_raw")


def _first(access: RepositoryAccess) -> str:
    return access.info.chain[0] if access.info.chain else access.repository
