"""What discovery services find becomes datasets, whose files stay where they are."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import msgspec

from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.forms import form_of, formatter_of_suffix
from pantry.errors import MissingDatasetTypeError
from pantry.model.naming import extension_of
from pantry.wire import operations as ops

if TYPE_CHECKING:
    from pantry.client.discovered.rows import Found
    from pantry.model.dimensions import DimensionGroup
    from pantry.model.records import DimensionRecord

T = TypeVar("T")

MAX_ITEMS = 5000
"""Most datasets of one request; one request is all or nothing."""
_MAX_RECORDS = 10_000
_MAX_BYTES = 4 * 1024 * 1024
"""About the most bytes of regions in one request, well below the longest frame."""


class DiscoveredIngest(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the rows of a discovery service.

    Attributes
    ----------
    ids : dict of str to uuid.UUID
        New datasets, by ``obs_publisher_did``.
    present : int
        How many were there already.
    refused : dict of str to str
        Why others became no datasets, by ``obs_publisher_did``, or ``row N`` of those without one.
    dimension_records : int
        How many are new.
    without_region : int
        Of so many of the records to be added, which should have a region, nobody said what it is.
    """

    ids: dict[str, UUID]
    present: int
    refused: dict[str, str]
    dimension_records: int = 0
    without_region: int = 0


class Discovered(RepositoryAccess):
    """The method of `Butler` about what discovery services find."""

    def ingest_discovered(
        self,
        rows: Any,
        mapping: str | os.PathLike[str] | Mapping[str, Any],
        *,
        run: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> DiscoveredIngest:
        """Register files that a discovery service found, with their dimension records; the files stay where they are.

        They are read from their ``access_url`` through the cache, in parts where the server has ranges, and always in
        the version that they have now. Asked again, it passes over what is there: an ``obs_publisher_did`` always
        means the dataset of the same id.

        Parameters
        ----------
        rows : table, or iterable of Mapping
            Rows of ObsCore or SIA 2, as `QueryService.ask` and pyvo give them.
        mapping : path or Mapping
            A YAML file, or its content, that says which columns are which dimension values; see
            `pantry.client.discovered.mapping`.
        run : str, optional
            The RUN collection, made if need be; by default the Butler's own.
        progress : callable, optional
            Called with what is done, how many are, and how many there will be.

        Returns
        -------
        DiscoveredIngest
            What is new, was there, and was refused and why.

        Raises
        ------
        ConfigError
            The mapping does not fit, with the place. Nothing was written.
        TransientBackendError
            A server that has the files cannot be asked. Nothing was written, unless it failed after it had been asked
            for all of them: then each 5,000 datasets are registered or not, and asked again, it goes on.
        ConflictError
            An identifier was registered for something else, or the run has another dataset of the same data id.

        Examples
        --------
        >>> found = QueryService("archive").ask("images", region=Circle(ra=53.1, dec=-28.1, radius=0.5))
        >>> butler.ingest_discovered(found, "archive.yaml", run="archive/images").present
        0
        """
        from pantry.client.discovered.mapping import check_mapping, load_mapping
        from pantry.client.discovered.rows import look_at, records_of, rows_of_answer
        from pantry.model.dimensions import DimensionUniverse

        self._writing()
        loaded = load_mapping(mapping)
        # What is written to a chain goes to its first repository.
        target = self.info.chain[0] if self.info.chain else self.repository
        told = progress or (lambda what, done, total: None)
        kinds = self.connection.call(ops.ListDatasetTypes(repository=target, patterns=(loaded.dataset_type,)))
        if not kinds.dataset_types:
            raise MissingDatasetTypeError(
                f"no dataset type {loaded.dataset_type!r} in {target!r}", hint="`pantry register-dataset-type` adds one"
            )
        kind = kinds.dataset_types[0]
        universe = DimensionUniverse(self.connection.call(ops.GetDimensions(repository=target)).config)
        group = universe.group(kind.dimensions)
        check_mapping(loaded, universe, group)
        found, refused = look_at(rows_of_answer(rows), loaded, universe, group)
        work = _Registering(self, target, kind.name, self._run(run), group)
        new = work.new(found, told)
        readable, problems = work.readable(new, told)
        records, without_region = records_of(readable, loaded, universe)
        # Up to here nothing was written.
        n_records = work.insert_records(records) if readable else 0
        usual = form_of(kind.name, kind.storage_class, (self.info.formats,))
        ids = work.register(readable, functools.cache(lambda suffix: formatter_of_suffix(suffix, usual)), told)
        return DiscoveredIngest(
            ids=ids,
            present=len(found) - len(problems) - len(ids),
            refused=refused | problems,
            dimension_records=n_records,
            without_region=without_region,
        )


class _Registering:
    """One call's conversation with the daemon."""

    def __init__(
        self, butler: RepositoryAccess, repository: str, dataset_type: str, run: str, group: DimensionGroup
    ) -> None:
        self._call = butler.connection.call
        self._repository = repository
        self._dataset_type = dataset_type
        self._run = run
        self._group = group

    def _operation(self, files: Sequence[Found], **more: Any) -> ops.ImportDatasets:
        from pantry.client.discovered.rows import ordered

        return ops.ImportDatasets(
            repository=self._repository,
            dataset_type=self._dataset_type,
            run=self._run,
            transfer="direct",
            dimensions=self._group.required,
            items=tuple(ops.ImportItem(one.url, ordered(one.values, self._group)) for one in files),
            ids=b"".join(one.id.bytes for one in files),
            **more,
        )

    def new(self, files: Sequence[Found], told: Callable[[str, int, int], None]) -> list[Found]:
        """Give those that are not there."""
        from pantry.wire.operations.importing import IS_STORED

        left: list[Found] = []
        done = 0
        for batch in _batches(files, MAX_ITEMS):
            stood = self._call(self._operation(batch, check=True)).found
            left += [one for one, standing in zip(batch, stood, strict=True) if standing != IS_STORED]
            done += len(batch)
            told("datasets compared", done, len(files))
        return left

    def readable(
        self, files: Sequence[Found], told: Callable[[str, int, int], None]
    ) -> tuple[list[Found], dict[str, str]]:
        """Ask the servers for each; give those that can be read, and why others cannot."""
        from pantry.wire.operations.objects import MAX_LOCATED

        good: list[Found] = []
        problems: dict[str, str] = {}
        for batch in _batches(files, MAX_LOCATED):
            located = self._call(ops.LocateObjects(urls=tuple(one.url for one in batch))).objects
            for one, answer in zip(batch, located, strict=True):
                if answer.problem:
                    problems[one.did] = answer.problem
                else:
                    good.append(one)
            told("files asked for", len(good) + len(problems), len(files))
        return good, problems

    def insert_records(self, records: Sequence[DimensionRecord]) -> int:
        """Add records; those that are there stay as they are."""
        return sum(
            self._call(
                ops.InsertDimensionRecords(repository=self._repository, records=tuple(batch), skip_existing=True)
            ).count
            for batch in _batches(records, _MAX_RECORDS, lambda one: len(one.region or b""))
        )

    def register(
        self, files: Sequence[Found], formatter_of: Callable[[str], str], told: Callable[[str, int, int], None]
    ) -> dict[str, UUID]:
        """Register files; give the ids of those that nobody else registered meanwhile."""
        from pantry.wire.operations.importing import IS_STORED

        ids: dict[str, UUID] = {}
        by_formatter: dict[str, list[Found]] = {}
        for one in files:
            by_formatter.setdefault(formatter_of(extension_of(one.url)), []).append(one)
        done = 0
        for formatter, some in by_formatter.items():
            for batch in _batches(some, MAX_ITEMS):
                stood = self._call(self._operation(batch, formatter=formatter)).found
                ids |= {one.did: one.id for one, was in zip(batch, stood, strict=True) if was != IS_STORED}
                done += len(batch)
                told("datasets", done, len(files))
        return ids


def _batches(things: Sequence[T], most: int, n_bytes: Callable[[T], int] = lambda _: 0) -> Iterator[list[T]]:
    """Cut into pieces of so many things, and of about `_MAX_BYTES`."""
    batch: list[T] = []
    size = 0
    for one in things:
        batch.append(one)
        size += n_bytes(one)
        if len(batch) == most or size >= _MAX_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
