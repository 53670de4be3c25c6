"""The outputs of a bundle, taken into a repository (DMS-MWBT-REQ-0079)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import groupby
from typing import TypeVar, get_args

import msgspec

from pantry.client.bundles.contents import Contents
from pantry.client.bundles.index import BundleIndex
from pantry.client.bundles.lookup import COLUMNS, Row
from pantry.client.butler.access import RepositoryAccess
from pantry.client.butler.ingesting import MAX_ITEMS, MAX_ITEMS_WITH_DESCRIPTORS, open_for_daemon
from pantry.client.staging.placing import hash_path
from pantry.errors import IntegrityError, InvalidRequestError, NotFoundError, PermissionDeniedError
from pantry.model.collections import CollectionType
from pantry.model.datasets import DatasetType
from pantry.model.metadata import MetadataValue
from pantry.model.provenance import Quantum
from pantry.model.records import DimensionRecord
from pantry.wire.operations import (
    ImportDatasets,
    ImportDefinitions,
    ImportedCollection,
    ImportItem,
    ImportMembers,
    InsertDimensionRecords,
    RecordQuanta,
)
from pantry.wire.operations.data import Transfer
from pantry.wire.operations.importing import IS_STORED

T = TypeVar("T")
Progress = Callable[[str, int, int], None]

_MAX_BYTES = 8 << 20
"""Most bytes of records or quanta in one request, well below the longest frame."""
MAX_RECORDS = 5_000
MAX_QUANTA = 2_000
_THREADS = 4


class Harvested(msgspec.Struct, frozen=True, kw_only=True):
    """What `Butler.harvest` took over.

    Attributes
    ----------
    datasets, size_bytes : int
        Outputs that are new in the repository, and the bytes of their files.
    present : int
        Outputs that it had already.
    quanta, dimension_records, definitions : int
        What else is new: quanta, records, and dataset types and collections.
    """

    datasets: int = 0
    size_bytes: int = 0
    present: int = 0
    quanta: int = 0
    dimension_records: int = 0
    definitions: int = 0


def harvest(
    butler: RepositoryAccess,
    directory: str | os.PathLike[str],
    *,
    transfer: Transfer = "copy",
    progress: Progress | None = None,
) -> Harvested:
    """Take the outputs of a bundle into a repository; see `Butler.harvest`."""
    butler._writing()
    if transfer not in get_args(Transfer) or transfer == "in_place":
        raise InvalidRequestError(
            f"a bundle's outputs cannot be harvested by {transfer!r}", hint="copy, move, hardlink, ..."
        )
    if not butler.info.writable:
        raise PermissionDeniedError(
            f"you may not write to {butler.repository!r}", hint="ask its owner to name you among its writers"
        )
    index = BundleIndex(os.path.expanduser(os.fspath(directory)))
    try:
        if butler.repository == index.directory:
            raise InvalidRequestError("a bundle is harvested into a repository, not into itself")
        return _Work(butler, index, transfer, progress or (lambda what, done, total: None)).run()
    finally:
        index.close()


class _Batch(msgspec.Struct, frozen=True):
    """Outputs of one request: of one type, run and formatter."""

    dataset_type: DatasetType
    dimensions: tuple[str, ...]
    rows: list[Row]


class _Work:
    """One harvest."""

    def __init__(self, butler: RepositoryAccess, index: BundleIndex, transfer: Transfer, progress: Progress) -> None:
        self._link = butler.connection.link()
        self._index = index
        self._contents = Contents(index)
        self._transfer = transfer
        self._progress = progress
        # What is written to a chain goes to its first repository.
        self._repository = butler.info.chain[0] if butler.info.chain else butler.repository
        self._is_origin = butler.info.uuid == self._contents.info.uuid
        # The daemon reads nothing that this user could not.
        self._with_descriptors = self._link.welcome.uid != os.geteuid()

    def run(self) -> Harvested:
        batches = list(self._batches())
        wanted, present = self._missing(batches)
        self._verify([row for batch in wanted for row in batch.rows])
        # Up to here nothing was written.
        definitions = self._define(batches)
        records = self._insert_records()
        size_bytes = self._insert(wanted)
        quanta = self._record_quanta()
        self._chain()
        return Harvested(
            datasets=sum(len(batch.rows) for batch in wanted),
            size_bytes=size_bytes,
            present=present,
            quanta=quanta,
            dimension_records=records,
            definitions=definitions,
        )

    # -- what there is -----------------------------------------------------------------------------

    def _batches(self) -> Iterator[_Batch]:
        definitions = self._contents.definitions()
        rows = self._index.rows(
            f"SELECT {COLUMNS} FROM dataset AS d WHERE d.output = 1 "  # noqa: S608 - a constant
            "ORDER BY d.dataset_type, d.run, d.formatter, d.number"
        )
        most = MAX_ITEMS_WITH_DESCRIPTORS if self._with_descriptors else MAX_ITEMS
        for (name, _, _), group in groupby(
            map(Row._make, rows), lambda row: (row.dataset_type, row.run, row.formatter)
        ):
            known = definitions.dataset_type(name)
            for some in chunks(group, most, lambda row: 200 + 2 * len(row.path)):
                yield _Batch(known.definition, known.group.required, some)

    def _missing(self, batches: Sequence[_Batch]) -> tuple[list[_Batch], int]:
        """Ask what the repository has already; what contradicts is an error."""
        wanted = []
        present = done = 0
        total = sum(len(batch.rows) for batch in batches)
        for batch in batches:
            found = self._link.call(self._operation(batch, check=True)).found
            lacking = [row for row, stood in zip(batch.rows, found, strict=True) if stood != IS_STORED]
            present += len(batch.rows) - len(lacking)
            if lacking:
                wanted.append(msgspec.structs.replace(batch, rows=lacking))
            done += len(batch.rows)
            self._progress("datasets compared", done, total)
        return wanted, present

    def _path(self, row: Row) -> str:
        return self._index.path(row.path)

    def _verify(self, rows: Sequence[Row]) -> None:
        """Compare each output with the hash that it was put with."""

        def check(row: Row) -> None:
            path = self._path(row)
            try:
                digest = hash_path(path)
            except FileNotFoundError:
                raise NotFoundError(
                    f"the output {path} is not there any more, and {self._repository!r} does not have it",
                    hint="nothing was harvested; make the output again, or look for who removed it",
                ) from None
            except OSError as exc:
                raise PermissionDeniedError(f"{path}: {exc.strerror}") from None
            if digest != row.hash:
                raise IntegrityError(
                    f"the output {path} is not what was put: its hash is {digest}, not {row.hash}",
                    hint="nothing was harvested; make the output again",
                )

        with ThreadPoolExecutor(_THREADS, thread_name_prefix="pantry-harvest") as threads:
            for done, _ in enumerate(threads.map(check, rows), 1):
                self._progress("files compared", done, len(rows))

    # -- writing -----------------------------------------------------------------------------------

    def _define(self, batches: Sequence[_Batch]) -> int:
        known = self._contents.definitions()
        # In order of name, by which a composite comes before its components.
        types = {batch.dataset_type.name: batch.dataset_type for batch in batches}
        for (name,) in self._index.rows("SELECT name FROM dataset_type WHERE new = 1"):
            types.setdefault(name, known.dataset_type(name).definition)
        names = dict.fromkeys(row.run for batch in batches for row in batch.rows[:1])
        names.update(dict.fromkeys(name for (name,) in self._index.rows("SELECT name FROM collection WHERE new = 1")))
        collections = [known.collection(name) for name in names]
        operation = ImportDefinitions(
            repository=self._repository,
            dataset_types=tuple(types[name] for name in sorted(types)),
            collections=tuple(ImportedCollection(name=one.name, type=one.type, doc=one.doc) for one in collections),
        )
        return self._link.call(operation).count

    def _insert_records(self) -> int:
        """Insert records that were made in the bundle; into another repository than its own, all."""
        condition = "WHERE new = 1" if self._is_origin else ""
        decoder = msgspec.msgpack.Decoder(DimensionRecord)
        records = [decoder.decode(body) for (body,) in self._index.rows(f"SELECT body FROM record {condition}")]  # noqa: S608
        count = done = 0
        for batch in chunks(records, MAX_RECORDS, record_bytes):
            operation = InsertDimensionRecords(
                repository=self._repository, records=tuple(batch), skip_existing=True, compare=True
            )
            count += self._link.call(operation).count
            done += len(batch)
            self._progress("dimension records", done, len(records))
        return count

    def _operation(self, batch: _Batch, *, check: bool = False) -> ImportDatasets:
        rows = batch.rows
        declared = [row.declared for row in rows] if batch.dataset_type.metadata and not check else []
        metadata: dict[str, list[MetadataValue]] = {
            entry.name: [values.get(entry.name) for values in declared]
            for entry in batch.dataset_type.metadata
            if declared
        }
        return ImportDatasets(
            repository=self._repository,
            dataset_type=batch.dataset_type.name,
            run=rows[0].run,
            transfer=self._transfer,
            dimensions=batch.dimensions,
            items=tuple(ImportItem("" if check else self._path(row), tuple(json.loads(row.data_id))) for row in rows),
            ids=b"".join(row.id for row in rows),
            formatter=rows[0].formatter,
            check=check,
            metadata=metadata,
        )

    def _insert(self, batches: Sequence[_Batch]) -> int:
        total = sum(len(batch.rows) for batch in batches)
        done = size_bytes = 0
        for batch in batches:
            with ExitStack() as opened:
                paths = [self._path(row) for row in batch.rows] if self._with_descriptors else []
                self._link.call(self._operation(batch), [open_for_daemon(opened, path) for path in paths])
            size_bytes += sum(row.size_bytes for row in batch.rows)
            done += len(batch.rows)
            self._progress("datasets", done, total)
        return size_bytes

    def _record_quanta(self) -> int:
        decoder = msgspec.msgpack.Decoder(Quantum)
        quanta = [decoder.decode(body) for (body,) in self._index.rows("SELECT body FROM quantum ORDER BY id")]
        count = done = 0
        for batch in chunks(quanta, MAX_QUANTA, quantum_bytes):
            count += self._link.call(RecordQuanta(repository=self._repository, quanta=tuple(batch))).count
            done += len(batch)
            self._progress("quanta", done, len(quanta))
        return count

    def _chain(self) -> None:
        """Fill chains that were made in the bundle; last, so that they show no half harvest."""
        known = self._contents.definitions()
        new = [known.collection(name) for (name,) in self._index.rows("SELECT name FROM collection WHERE new = 1")]
        chains = {one.name: one.children for one in new if one.type is CollectionType.CHAINED and one.children}
        if chains:
            self._link.call(ImportMembers(repository=self._repository, chains=chains))


def record_bytes(record: DimensionRecord) -> int:
    """Estimate the bytes of a dimension record in a request."""
    return len(record.region or b"") + 40 * len(record.values)


def quantum_bytes(quantum: Quantum) -> int:
    """Estimate the bytes of a quantum in a request."""
    ids = len(quantum.outputs) + len(quantum.predicted_inputs or ()) + len(quantum.actual_inputs or ())
    return 200 + 40 * ids + sum(len(key) + len(str(value)) for key, value in quantum.environment.items())


def chunks(
    items: Iterable[T], most: int, n_bytes: Callable[[T], int], *, most_bytes: int = _MAX_BYTES
) -> Iterator[list[T]]:
    """Cut into parts of at most ``most`` things and ``most_bytes``, unless one thing has more."""
    part: list[T] = []
    size = 0
    for item in items:
        if part and (len(part) >= most or size + n_bytes(item) > most_bytes):
            yield part
            part, size = [], 0
        part.append(item)
        size += n_bytes(item)
    if part:
        yield part
