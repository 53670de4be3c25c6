"""What belongs to a dataset and is one itself: the components of composites, and provenance beside a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from uuid import UUID

import msgspec

from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.batches import refs as refs_of
from pantry.client.staging.describing import DescribedFile, describe_held
from pantry.errors import DatasetNotFoundError, FormatterError
from pantry.model.composites import COMPOSITE, MAX_MANIFEST_BYTES, Manifest
from pantry.model.data_id import DataCoordinate
from pantry.model.datasets import DatasetRef
from pantry.model.file_provenance import PROVENANCE
from pantry.wire.operations import GetDataset, ListDatasetTypes, QueryDatasets

_FEW = 64
"""Components that are asked for one by one; of more, all of a run are listed."""


class Components:
    """Finds what goes along with datasets whose files are there, each once.

    Parameters
    ----------
    butler : RepositoryAccess
        Of the composites.
    """

    def __init__(self, butler: RepositoryAccess) -> None:
        self._butler = butler
        self._seen: set[UUID] = set()
        self._beside_types: dict[str, frozenset[str]] = {}

    def of(self, placed: Iterable[tuple[DescribedFile, str]]) -> Iterator[list[DescribedFile]]:
        """Describe the components of composites, and the provenance that lies beside files.

        Parameters
        ----------
        placed : iterable of (DescribedFile, str)
            Datasets, and the paths of their files.

        Raises
        ------
        DatasetNotFoundError
            A component is not there any more.
        """
        wanted: dict[UUID, tuple[str, DescribedFile]] = {}
        known = []
        for one, path in placed:
            known.append(one)
            self._seen.add(one.ref.id)
            if one.file.formatter == COMPOSITE:
                manifest = _read(path)
                sources = [*manifest.components.values(), *([manifest.base] if manifest.base is not None else [])]
                for source in sources:
                    if source.id is not None and source.id not in self._seen:
                        wanted[source.id] = (source.repository or one.repository, one)
        self._seen.update(wanted)
        return describe_held(self._butler, chain(self._held(wanted), self._beside(known)))

    def _held(self, wanted: dict[UUID, tuple[str, DescribedFile]]) -> Iterator[tuple[DatasetRef, str]]:
        found = self._listed(wanted) if len(wanted) > _FEW else {}
        for id_, (repository, parent) in wanted.items():
            ref = found.get(id_) or self._butler.connection.call(GetDataset(repository=repository, id=id_)).ref
            if ref is None:
                raise DatasetNotFoundError(
                    f"{parent.ref} has a component {id_}, which is not in {repository!r} any more"
                )
            yield ref, repository

    def _beside(self, placed: Iterable[DescribedFile]) -> Iterator[tuple[DatasetRef, str]]:
        """Find what says beside datasets, whose formats have no room for it, where they come from."""
        groups: dict[tuple[str, str], dict[tuple[str, DataCoordinate], None]] = {}
        for one in placed:
            name = f"{one.ref.dataset_type.name}.{PROVENANCE}"
            if name in self._types_beside(one.repository):
                groups.setdefault((one.repository, name), {})[one.ref.run, one.ref.data_id] = None
        for (repository, name), those in groups.items():
            query = QueryDatasets(
                repository=repository,
                dataset_types=(name,),
                collections=tuple(dict.fromkeys(run for run, _ in those)),
                find_first=False,
            )
            for batch in self._butler.connection.stream(query):
                for ref in refs_of(batch):
                    if (ref.run, ref.data_id) in those and ref.id not in self._seen:
                        self._seen.add(ref.id)
                        yield ref, repository

    def _types_beside(self, repository: str) -> frozenset[str]:
        known = self._beside_types.get(repository)
        if known is None:
            asked = ListDatasetTypes(repository=repository, patterns=(f"*.{PROVENANCE}",))
            found = self._butler.connection.call(asked).dataset_types
            known = self._beside_types[repository] = frozenset(kind.name for kind in found)
        return known

    def _listed(self, wanted: dict[UUID, tuple[str, DescribedFile]]) -> dict[UUID, DatasetRef]:
        """List the components that were stored with their composites."""
        runs: dict[tuple[str, str], dict[str, None]] = {}
        for repository, parent in wanted.values():
            if repository == parent.repository:
                runs.setdefault((repository, parent.ref.dataset_type.name), {})[parent.ref.run] = None
        found: dict[UUID, DatasetRef] = {}
        for (repository, name), those in runs.items():
            query = QueryDatasets(
                repository=repository, dataset_types=(f"{name}.*",), collections=tuple(those), find_first=False
            )
            for batch in self._butler.connection.stream(query):
                found.update((ref.id, ref) for ref in refs_of(batch) if ref.id in wanted)
        return found


def _read(path: str) -> Manifest:
    with open(path, "rb") as file:
        text = file.read(MAX_MANIFEST_BYTES + 1)
    try:
        return msgspec.json.decode(text, type=Manifest)
    except msgspec.DecodeError as exc:
        raise FormatterError(f"{path} is no manifest of a composite: {exc}") from None
