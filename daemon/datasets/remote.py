"""Datasets whose files stay in another archive (docs/decisions/0063-discovered-datasets.md)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import trio

from pantry.daemon.datasets.importing import Importer
from pantry.daemon.datasets.side_by_side import each
from pantry.daemon.datasets.sources import SourceFile
from pantry.daemon.prefixes.prefix import PlainPrefix
from pantry.daemon.registry import PreparedIngest
from pantry.daemon.repositories.repository import Repository
from pantry.model.datasets import StoredFile
from pantry.model.remote_files import RemoteFile, plain_url
from pantry.wire.operations import ImportDatasets

AtUrl = Callable[[str], tuple[PlainPrefix, str]]
"""Gives the prefix that holds a file, and its key there, if the asking user may read it."""

_ASKED_AT_ONCE = 8


class RemoteImporter(Importer):
    """Registers files by their URLs, in the version that they have; for one request.

    Parameters
    ----------
    importer : Importer
        Whose parts it works with.
    at_url : AtUrl
        Refuses what is below no root of the configuration.
    """

    def __init__(self, importer: Importer, at_url: AtUrl) -> None:
        super().__init__(importer._journal, importer._repositories, importer._puts, importer._transfers)
        self._at_url = at_url
        self._found: dict[str, RemoteFile] = {}

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
        sources = [SourceFile(places[number], None) for number in numbers]
        limit = trio.CapacityLimiter(_ASKED_AT_ONCE)

        async def measure(source: SourceFile) -> None:
            url = plain_url(source.path)
            prefix, key = self._at_url(url)
            async with limit:
                # Mostly known from a moment ago, when whoever asks looked what there is.
                current, _ = await prefix.current(key)
            source.size_bytes = current.stat.size_bytes
            self._found[source.path] = RemoteFile(url, current.stat.version)

        await each(measure, sources)
        return sources

    def _files(
        self,
        repository: Repository,
        request: ImportDatasets,
        prepared: PreparedIngest,
        wanted: list[int],
        sources: Mapping[str, SourceFile],
    ) -> list[StoredFile]:
        formatter = request.formatter or prepared.form.formatter
        now = time.time_ns()
        made = {
            path: StoredFile(
                path=self._found[path].path,
                size_bytes=source.size_bytes,
                hash="",
                formatter=formatter,
                ingest_ns=now,
            )
            for path, source in sources.items()
        }
        made[""] = StoredFile(path="", size_bytes=0, hash="", formatter="", ingest_ns=now)
        return [made[request.items[number].path] for number in wanted]
