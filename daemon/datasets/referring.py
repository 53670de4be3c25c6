"""Datasets of one repository, registered in another while their files stay (docs/decisions/0062-views.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from pantry.daemon.datasets.copying import dataset_ids, standings_of
from pantry.daemon.datasets.importing import Importer
from pantry.daemon.datasets.sources import SourceFile
from pantry.daemon.registry import PreparedIngest
from pantry.daemon.registry.references import Reference, reference_in
from pantry.daemon.repositories.repository import Repository
from pantry.errors import DatasetNotFoundError, InvalidRequestError
from pantry.model.datasets import StoredFile
from pantry.wire.operations import CopyDatasets, FileTable, ImportDatasets, ImportItem
from pantry.wire.operations.importing import IS_STORED


class Referrer(Importer):
    """Registers datasets in a view; for one request.

    Parameters
    ----------
    importer : Importer
        Whose parts it works with.
    source : Repository
        Where the datasets are; the asking user may read it.
    """

    def __init__(self, importer: Importer, source: Repository) -> None:
        super().__init__(importer._journal, importer._repositories, importer._puts, importer._transfers)
        self._source = source
        self._registered: dict[str, StoredFile] = {}

    async def refer(self, target: Repository, asked: CopyDatasets) -> bytes:
        """Register what is not there yet; give how each dataset stood before, see `Standings`.

        Raises
        ------
        InvalidRequestError
            The target is no view.
        DatasetNotFoundError
            The source has not one of them, or not its file.
        ConflictError
            As of `Importer.load`.
        """
        if not target.description.view:
            raise InvalidRequestError(f"{target.name!r} is no view: files of others must be copied into it")
        ids = dataset_ids(asked)
        standings = await self.load(target, standings_of(target, asked), (), same_user=True)
        wanted = [number for number, stood in enumerate(standings) if stood != IS_STORED]
        if not wanted:
            return standings
        queries = self._repositories.queries
        describe = self._source.registry.describe_files
        table = await queries.call(partial(describe, asked.dataset_type, [ids[number] for number in wanted]))
        holders = {self._source.uuid: self._source.name, **self._source.registry.holders}
        references = [self._reference(path, ids[number]) for path, number in zip(table.paths, wanted, strict=True)]
        needed = dict.fromkeys(one.holder for one in references)
        await queries.call(partial(target.registry.add_holders, {uuid: holders.get(uuid, "") for uuid in needed}))
        for formatter in dict.fromkeys(table.formatters):
            places = [place for place, one in enumerate(table.formatters) if one == formatter]
            await self._register_some(target, asked, ids, wanted, table, references, places)
        return standings

    def _reference(self, path: str, id_: bytes) -> Reference:
        """Say where a file is: not in a view that refers to it, but where that view says."""
        if not path:
            raise DatasetNotFoundError(
                f"the dataset {id_.hex()} is registered in {self._source.name!r} without a file",
                hint="import it again from where its file is, or leave it out",
            )
        return reference_in(path) or Reference(self._source.uuid, path)

    async def _register_some(
        self,
        target: Repository,
        asked: CopyDatasets,
        ids: list[bytes],
        wanted: list[int],
        table: FileTable,
        references: list[Reference],
        places: list[int],
    ) -> None:
        """Register datasets of one format; ``places`` of ``wanted``, of ``table`` and of ``references``."""
        items = []
        for place in places:
            path = str(references[place])
            items.append(ImportItem(path, asked.values[wanted[place]]))
            self._registered[path] = StoredFile(
                path=path,
                size_bytes=table.sizes[place],
                hash=table.hashes[place],
                formatter=table.formatters[place],
                ingest_ns=table.ingest_ns[place],
            )
        request = ImportDatasets(
            repository=target.name,
            dataset_type=asked.dataset_type,
            run=asked.run,
            # As of all files that are not ours, nothing is stored, and nothing deleted.
            transfer="in_place",
            dimensions=asked.dimensions,
            items=tuple(items),
            ids=b"".join(ids[wanted[place]] for place in places),
            formatter=table.formatters[places[0]],
            metadata={name: [column[place] for place in places] for name, column in table.metadata.items()},
        )
        await self.load(target, request, (), same_user=True)

    async def _measure(
        self,
        repository: Repository,
        request: ImportDatasets,
        places: list[str],
        numbers: list[int],
        fds: Sequence[int],
        *,
        same_user: bool,
    ) -> list[SourceFile]:
        # Nothing is read: what the source has registered is believed, and compared when the file is.
        return [SourceFile(places[number], None) for number in numbers]

    def _files(
        self,
        repository: Repository,
        request: ImportDatasets,
        prepared: PreparedIngest,
        wanted: list[int],
        sources: Mapping[str, SourceFile],
    ) -> list[StoredFile]:
        return [self._registered[request.items[number].path] for number in wanted]
