"""From a query or a graph to a bundle (DMS-MWBT-REQ-0011, 0052)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

import msgspec

from pantry.client.bundles.contents import Key, encode_key
from pantry.client.bundles.gathering import Gathering
from pantry.client.bundles.index import BundleIndex
from pantry.client.butler.access import DataId, RepositoryAccess, data_id_values
from pantry.client.butler.graph import DiscoveryGraph
from pantry.client.staging import Components, DescribedFile, Placer, Placing, StageTransfer, describe_files
from pantry.client.staging.placing import has_hash, hash_path, translate_errors
from pantry.client.staging.staging import StagingThreads
from pantry.errors import ConflictError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.datasets import DatasetRef
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.wire.operations import DescribeMembers, GetDimensions, ListDatasetTypes, QueryCollections
from pantry.wire.operations.files import MAX_DESCRIBED

Progress = Callable[[int, int], None]

_INSERT = (
    "INSERT INTO dataset (id, dataset_type, run, data_id, path, size_bytes, hash, formatter, ingest_ns, modified_ns, "
    "metadata, output) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)"
)


class Bundled(msgspec.Struct, frozen=True, kw_only=True):
    """What `Butler.create_bundle` did.

    Attributes
    ----------
    datasets : int
        How many datasets it was asked for.
    size_bytes : int
        Of their files.
    dimension_records : int
        How many the bundle has.
    hardlinks, reflinks, copies, present : int
        How many files were made in which way, and how many were there already.
    """

    datasets: int
    size_bytes: int
    dimension_records: int
    hardlinks: int
    reflinks: int
    copies: int
    present: int


def create_bundle(
    butler: RepositoryAccess,
    datasets: Iterable[DatasetRef],
    directory: str | os.PathLike[str],
    *,
    collections: Sequence[str] = (),
    run: str | None = None,
    data_ids: Iterable[DataId] = (),
    transfer: StageTransfer = "auto",
    progress: Progress | None = None,
) -> Bundled:
    """Make a bundle; see `Butler.create_bundle`."""
    refs = list(datasets)
    asked = len(refs)
    refs += butler._companions(refs)
    work = _Work(butler, os.path.abspath(os.path.expanduser(os.fspath(directory))), transfer, progress)
    try:
        rows = work.rows(refs)
        if isinstance(datasets, DiscoveryGraph):
            work.add_rows(rows, datasets.dimensions, datasets.data_ids(datasets.dimensions))
        for data_id in data_ids:
            values = data_id_values(data_id, {})
            work.add_rows(rows, values, [values])
        work.define(refs, collections, run)
        work.gather(rows)
        counts, size_bytes = work.place(refs)
        work.associate(refs, collections)
        records = work.finish()
    finally:
        work.close()
    return Bundled(
        datasets=asked,
        size_bytes=size_bytes,
        dimension_records=records,
        hardlinks=counts["hardlink"],
        reflinks=counts["reflink"],
        copies=counts["copy"],
        present=counts["present"],
    )


class _Work:
    """One creation, or its repetition."""

    def __init__(
        self, butler: RepositoryAccess, directory: str, transfer: StageTransfer, progress: Progress | None
    ) -> None:
        self._butler = butler
        self._progress = progress
        config = butler.connection.call(GetDimensions(repository=butler.repository)).config
        self._universe = DimensionUniverse(config)
        self._placer = Placer(directory, transfer=transfer)
        info = msgspec.structs.replace(butler.info, chain=())
        about = {
            "repository": msgspec.json.encode(info),
            "universe": json.dumps(config).encode(),
            "complete": b"0",
        }
        with translate_errors(directory):
            self._index = BundleIndex.create(directory, about)
        made_from = json.loads(self._index.about("repository"))
        if made_from["uuid"] != info.uuid or json.loads(self._index.about("universe")) != config:
            self.close()
            raise ConflictError(
                f"{directory} is a bundle of the repository {made_from['name']!r}", hint="choose another directory"
            )
        self._collections: dict[str, CollectionInfo] = {}

    def close(self) -> None:
        self._index.close()

    # -- what it knows -----------------------------------------------------------------------------

    def rows(self, refs: Iterable[DatasetRef]) -> dict[DimensionGroup, dict[Key, None]]:
        """Collect the values of the datasets' required dimensions, by their group."""
        found: dict[DimensionGroup, dict[Key, None]] = {}
        groups: dict[str, dict[Key, None]] = {}
        for ref in refs:
            kind = ref.dataset_type
            if kind.name not in groups:
                groups[kind.name] = found.setdefault(self._universe.group(kind.dimensions), {})
            groups[kind.name][ref.data_id.required_values] = None
        return found

    def add_rows(
        self,
        rows: dict[DimensionGroup, dict[Key, None]],
        dimensions: Iterable[str],
        data_ids: Iterable[DataId],
    ) -> None:
        """Add data ids of outputs."""
        group = self._universe.group(dimensions)
        own = rows.setdefault(group, {})
        for data_id in data_ids:
            values = data_id_values(data_id, {})
            own[self._universe.standardize(group, values).required_values] = None

    def define(self, refs: Iterable[DatasetRef], collections: Sequence[str], run: str | None) -> None:
        """Take over dataset types and collections, and what is searched and written to by default."""
        call, repository = self._butler.connection.call, self._butler.repository
        types = call(ListDatasetTypes(repository=repository)).dataset_types
        runs = dict.fromkeys(ref.run for ref in refs)
        wanted = searched(self._butler, collections)
        known = call(QueryCollections(repository=repository, patterns=tuple(runs))).collections if runs else ()
        self._collections = {one.name: one for one in (*wanted, *known)}
        with self._index.writing():
            self._index.run_many(
                "INSERT OR IGNORE INTO dataset_type VALUES (?, ?, 0)",
                [(one.name, msgspec.json.encode(one)) for one in types],
            )
            self._index.run_many(
                "INSERT INTO collection VALUES (?, ?, ?, ?, 0) "
                "ON CONFLICT (name) DO UPDATE SET children = excluded.children",
                [(one.name, str(one.type), one.doc, json.dumps(one.children)) for one in self._collections.values()],
            )
            defaults = {"collections": list(collections), "run": run}
            self._index.run("INSERT OR REPLACE INTO about VALUES ('defaults', ?)", (json.dumps(defaults).encode(),))
            self._index.revise()

    def gather(self, rows: Mapping[DimensionGroup, Mapping[Key, None]]) -> None:
        """Take over the dimension records that the data ids need."""
        gathering = Gathering(self._butler, self._universe)
        for group, keys in rows.items():
            gathering.gather(group, keys)
        encoder = msgspec.msgpack.Encoder()
        with self._index.writing():
            self._index.run_many(
                "INSERT OR IGNORE INTO record VALUES (?, ?, ?, 0)",
                (
                    (element, encode_key(key), encoder.encode(record))
                    for element, records in gathering.records.items()
                    for key, record in records.items()
                ),
            )
            self._index.revise()

    # -- files -------------------------------------------------------------------------------------

    def place(self, refs: Iterable[DatasetRef]) -> tuple[dict[Placing, int], int]:
        """Put the files in place that are missing or damaged, and record them; count what was done, and the bytes."""
        counts: dict[Placing, int] = {"hardlink": 0, "reflink": 0, "copy": 0, "present": 0}
        done = total = 0
        components = Components(self._butler)
        with StagingThreads(self._butler, self._placer) as threads:
            for asked in describe_files(self._butler, refs):
                todo = [asked]
                while todo:
                    batch, placed = todo.pop(0), []
                    total += total_of(batch)
                    wanted = self._lacking(batch)
                    counts["present"] += len(batch) - len(wanted)
                    done += total_of(batch) - total_of(wanted)
                    for one, (path, how) in zip(wanted, threads.place(wanted), strict=True):
                        counts[how] += 1
                        done += one.file.size_bytes
                        placed.append((one, os.stat(path).st_mtime_ns))
                        if self._progress is not None:
                            self._progress(done, total)
                    if batch is not asked:
                        self._define_components(batch)
                    self._record(placed)
                    todo += components.of((one, self._placer.path(one.name)) for one in batch)
        return counts, done

    def _define_components(self, batch: Iterable[DescribedFile]) -> None:
        """Take over types and runs of components, which may be of other repositories."""
        types = {one.ref.dataset_type.name: one.ref.dataset_type for one in batch}
        runs = dict.fromkeys(one.ref.run for one in batch)
        with self._index.writing():
            self._index.run_many(
                "INSERT OR IGNORE INTO dataset_type VALUES (?, ?, 0)",
                [(name, msgspec.json.encode(kind)) for name, kind in types.items()],
            )
            self._index.run_many(
                "INSERT OR IGNORE INTO collection VALUES (?, 'RUN', '', '[]', 0)", [(run,) for run in runs]
            )
            self._index.revise()

    def _lacking(self, batch: list[DescribedFile]) -> list[DescribedFile]:
        """Give those whose files are not as they were recorded; what is damaged is removed."""
        lacking = []
        for one in batch:
            row = self._index.row("SELECT size_bytes, modified_ns FROM dataset WHERE id = ?", (one.ref.id.bytes,))
            path = self._placer.path(one.name)
            if row is not None:
                try:
                    status = os.stat(path, follow_symlinks=False)
                except FileNotFoundError:
                    status = None
                if status is not None and (status.st_size, status.st_mtime_ns) == row:
                    continue
                if status is not None and not has_hash(path, one.file):
                    os.unlink(path)  # the bundle's own, and not what it was any more
            lacking.append(one)
        return lacking

    def _record(self, placed: Iterable[tuple[DescribedFile, int]]) -> None:
        with self._index.writing():
            for one, modified_ns in placed:
                ref, file = one.ref, one.file
                key = encode_key(ref.data_id.required_values)
                known = self._index.row(
                    "SELECT id FROM dataset WHERE dataset_type = ? AND run = ? AND data_id = ?",
                    (ref.dataset_type.name, ref.run, key),
                )
                if known is not None and known[0] != ref.id.bytes:
                    raise ConflictError(
                        f"the bundle has another {ref.dataset_type.name} for {ref.data_id.required!r} in {ref.run!r}",
                        hint="make a new bundle in another directory",
                    )
                if known is not None:
                    self._index.run("UPDATE dataset SET modified_ns = ? WHERE id = ?", (modified_ns, ref.id.bytes))
                    continue
                self._index.run(
                    _INSERT,
                    (
                        ref.id.bytes,
                        ref.dataset_type.name,
                        ref.run,
                        key,
                        one.name,
                        file.size_bytes,
                        # Of an attached repository's file nobody had computed it.
                        file.hash or hash_path(self._placer.path(one.name)),
                        file.formatter,
                        file.ingest_ns,
                        modified_ns,
                        json.dumps(one.metadata) if one.metadata else None,
                    ),
                )

    # -- members -----------------------------------------------------------------------------------

    def associate(self, refs: Iterable[DatasetRef], collections: Sequence[str]) -> None:
        """Take over which of the datasets are in which of the collections, calibrations with their validity."""
        holding = [
            one for one in self._collections.values() if one.type in (CollectionType.TAGGED, CollectionType.CALIBRATION)
        ]
        if not holding:
            return
        by_type: dict[tuple[str, str], list[DatasetRef]] = {}
        for ref in dict.fromkeys(refs):
            by_type.setdefault((self._butler._holder(ref), ref.dataset_type.name), []).append(ref)
        for (repository, dataset_type), members in by_type.items():
            names = [one.name for one in holding if one.repository in ("", repository)]
            given = iter(members)
            while names and (batch := list(islice(given, MAX_DESCRIBED))):
                operation = DescribeMembers(
                    repository=repository,
                    dataset_type=dataset_type,
                    ids=b"".join(ref.id.bytes for ref in batch),
                    collections=tuple(names),
                )
                table = self._butler.connection.call(operation)
                rows = [
                    (names[collection], begin or 0, end or 0, batch[number].id.bytes)
                    for number, collection, begin, end in zip(
                        table.datasets, table.collections, table.begin_ns, table.end_ns, strict=True
                    )
                ]
                with self._index.writing():
                    self._index.run_many(
                        "INSERT OR REPLACE INTO member SELECT ?, number, ?, ? FROM dataset WHERE id = ?", rows
                    )

    def finish(self) -> int:
        """Say that the bundle is complete; give the number of its records."""
        with self._index.writing():
            self._index.run("UPDATE about SET value = ? WHERE key = 'complete'", (b"1",))
        found = self._index.row("SELECT count(*) FROM record")
        return int(found[0]) if found is not None else 0


def searched(butler: RepositoryAccess, collections: Iterable[str]) -> list[CollectionInfo]:
    """Give collections with all that they chain."""
    found: dict[str, CollectionInfo] = {}
    todo = tuple(dict.fromkeys(collections))
    while todo:
        new = butler.connection.call(QueryCollections(repository=butler.repository, patterns=todo)).collections
        found.update((one.name, one) for one in new)
        todo = tuple(dict.fromkeys(child for one in new for child in one.children if child not in found))
    return list(found.values())


def total_of(files: Iterable[DescribedFile]) -> int:
    """Add up the sizes of files, in bytes."""
    return sum(one.file.size_bytes for one in files)
