"""What the Gen3 Butler exported becomes part of a repository."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

import msgspec

from pantry.client.butler.access import RepositoryAccess, names
from pantry.client.butler.ingesting import MAX_ITEMS, MAX_ITEMS_WITH_DESCRIPTORS, open_for_daemon, read_metadata
from pantry.client.connection import Link
from pantry.errors import InvalidRequestError, NotFoundError, PermissionDeniedError
from pantry.model.datasets import DatasetType
from pantry.model.records import DimensionRecord
from pantry.model.storage import STORAGE_CLASSES
from pantry.wire import operations as ops
from pantry.wire.operations.data import Transfer

if TYPE_CHECKING:
    from pantry.client.exports.files import ExportedFiles
    from pantry.client.exports.planning import Group, Plan, PlannedFile

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Told what is done, how many of it are, and how many there will be."""

_MAX_RECORDS = 10_000
_MAX_BYTES = 4 * 1024 * 1024
"""Most bytes of one request, as far as they can be told; well below the longest frame."""
_MAX_MEMBERS = 100_000
"""Most dataset ids of one request that puts them into collections."""


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import did.

    Attributes
    ----------
    dimension_records, definitions, datasets, members : int
        How many are new: records, dataset types and collections, datasets, members of collections.
    files : int
        Files taken over; one may hold several datasets.
    without_file : int
        Datasets that are registered without a file, since it was not there or not asked for.
    present : int
        Datasets that were there, with their files.
    notes : tuple of str
        What else people should know.
    """

    dimension_records: int
    definitions: int
    datasets: int
    members: int
    files: int
    without_file: int
    present: int
    notes: tuple[str, ...] = ()


class Importing(RepositoryAccess):
    """The import method of `Butler`."""

    def import_(
        self,
        *,
        directory: str | os.PathLike[str] | None = None,
        filename: str | os.PathLike[str] | IO[Any] | None = None,
        format: str | None = None,  # noqa: A002 - Gen3's name
        transfer: Transfer = "copy",
        skip_dimensions: str | Iterable[str] | None = None,
        without_datastore: bool = False,
        allow_missing: bool = False,
        storage_classes: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Imported:
        """Import what the Gen3 Butler exported: records, dataset types, collections, and datasets with their ids.

        Asked again, it goes on where it was cut off: what is there and equal is passed over.

        Parameters
        ----------
        directory : path, optional
            Where the files are, which the export names relative to it; by default the directory of the export. Files
            outside of it are refused.
        filename : path or file, optional
            The export, by default ``export.yaml``; looked for in ``directory``, then in the working directory.
        format : str, optional
            ``yaml``, the only one.
        transfer : str
            How files are taken over, as of `ingest`. With ``in_place`` and no directory, the export's paths are keys of
            the repository's storage.
        skip_dimensions : str or iterable of str, optional
            Elements whose records are passed over.
        without_datastore : bool
            Take over no files. The datasets are found by queries, and `get` says that they have none, until another
            import brings it.
        allow_missing : bool
            Register the datasets whose files are not there without them, in place of refusing the export.
        storage_classes : Mapping, optional
            For storage classes of Gen3 which of ours to read them as, where there is no equal or another one is wanted.
        progress : callable, optional
            Called with what is done, how many are, and how many there will be.

        Returns
        -------
        Imported
            What is new.

        Raises
        ------
        InvalidRequestError
            If it is no export, or does not fit the repository, with the line of the file. Nothing was written.
        NotFoundError
            If files are missing. Nothing was written.
        ConflictError
            If something is there that contradicts it. What was written before stays, and is right.
        """
        self._writing()
        if not self.info.writable:
            raise PermissionDeniedError(
                f"you may not write to {self.repository!r}",
                hint="ask its owner to name you among its writers; attached repositories are only read",
            )
        if transfer not in get_args(Transfer):
            raise InvalidRequestError(f"unknown transfer {transfer!r}", hint=f"one of {', '.join(get_args(Transfer))}")
        if (format or "yaml").lstrip(".") not in ("yaml", "yml"):
            raise InvalidRequestError(f"exports of the format {format!r} are not read", hint="write it as YAML")
        mapped = dict(storage_classes or {})
        for ours in mapped.values():
            if ours not in STORAGE_CLASSES:
                raise InvalidRequestError(
                    f"unknown storage class {ours!r}", hint=f"one of {', '.join(STORAGE_CLASSES)}"
                )
        work = _Work(
            self.connection.link(),
            # What is written to a chain goes to its first repository, whose definitions alone count.
            self.info.chain[0] if self.info.chain else self.repository,
            _Options(transfer, frozenset(names(skip_dimensions or ())), without_datastore, allow_missing, mapped),
            progress or (lambda what, done, total: None),
        )
        if transfer == "in_place" and allow_missing:
            raise InvalidRequestError("allow_missing looks for files in a directory, and in_place has none")
        with ExitStack() as opened:
            source, name, place = _open(opened, directory, filename)
            return work.run(source, name, directory, place)


class _Options(NamedTuple):
    transfer: Transfer
    skip_dimensions: frozenset[str]
    without_datastore: bool
    allow_missing: bool
    storage_classes: dict[str, str]


class _Batch(NamedTuple):
    """Files of one request."""

    group: Group
    files: list[PlannedFile]
    paths: list[str]
    formatter: str


class _Work:
    """One import."""

    def __init__(self, link: Link, repository: str, options: _Options, progress: Progress) -> None:
        self._link = link
        self._repository = repository
        self._options = options
        self._progress = progress
        self._in_place = options.transfer == "in_place"
        # The daemon reads nothing that this user could not.
        self._with_descriptors = link.welcome.uid != os.geteuid() and not self._in_place

    def run(self, source: IO[Any], name: str, directory: str | os.PathLike[str] | None, place: str | None) -> Imported:
        from pantry.client.exports.contents import read_contents
        from pantry.client.exports.files import ExportedFiles, export_directory
        from pantry.client.exports.migrations import migrate
        from pantry.client.exports.planning import Plan
        from pantry.client.exports.records import make_records
        from pantry.model.dimensions import DimensionUniverse

        contents = read_contents(source, name)
        link, repository = self._link, self._repository
        universe = DimensionUniverse(link.call(ops.GetDimensions(repository=repository)).config)
        migrate(contents, universe)
        types = {one.name: one for one in link.call(ops.ListDatasetTypes(repository=repository)).dataset_types}
        there = {one.name: one for one in link.call(ops.QueryCollections(repository=repository)).collections}
        plan = Plan(contents, universe, types, there, self._options.storage_classes)
        records = list(make_records(contents, universe, self._options.skip_dimensions))
        finder = ExportedFiles(
            contents, export_directory(directory, place, in_place=self._in_place), self._options.storage_classes
        )
        batches, present = self._choose(plan, finder)
        # Up to here nothing was written.
        definitions = ops.ImportDefinitions(
            repository=repository, dataset_types=tuple(plan.dataset_types), collections=tuple(plan.collections)
        )
        new_records = self._insert_records(records)
        new_definitions = link.call(definitions).count
        datasets, files, without_file = self._insert_datasets(batches, plan.types)
        return Imported(
            dimension_records=new_records,
            definitions=new_definitions,
            datasets=datasets,
            members=self._insert_members(plan),
            files=files,
            without_file=without_file,
            present=present,
            notes=tuple(contents.notes),
        )

    # -- records -----------------------------------------------------------------------------------

    def _insert_records(self, records: list[DimensionRecord]) -> int:
        count = done = 0
        for batch in _chunks(records, lambda one: len(one.region or b"") + 40 * len(one.values), _MAX_RECORDS):
            operation = ops.InsertDimensionRecords(
                repository=self._repository, records=tuple(batch), skip_existing=True, compare=True
            )
            count += self._link.call(operation).count
            done += len(batch)
            self._progress("dimension records", done, len(records))
        return count

    # -- datasets ----------------------------------------------------------------------------------

    def _choose(self, plan: Plan, finder: ExportedFiles) -> tuple[list[_Batch], int]:
        """Ask how the datasets stand, look for the files of those that lack them, and put them into batches."""
        from pantry.wire.operations.importing import IS_STORED

        total = sum(len(file.ids) for group in plan.groups for file in group.files)
        done = present = 0
        missing: list[PlannedFile] = []
        batches: list[_Batch] = []
        for group in plan.groups:
            chosen: dict[tuple[str, bool], list[tuple[PlannedFile, str]]] = {}
            for files in _chunks(group.files, _n_bytes, MAX_ITEMS, _n_datasets):
                standings = self._link.call(self._operation(group, files, None, check=True)).found
                position = 0
                for file in files:
                    stood = standings[position : position + len(file.ids)]
                    position += len(file.ids)
                    present += stood.count(IS_STORED)
                    if all(one == IS_STORED for one in stood):
                        continue
                    path = self._find(file, finder, missing)
                    formatter = finder.formatter(file, plan.types[group.dataset_type]) if path else ""
                    chosen.setdefault((formatter, bool(path)), []).append((file, path))
                done += position
                self._progress("datasets compared", done, total)
            batches += self._batches(group, chosen)
        if missing and not self._options.allow_missing:
            raise NotFoundError(
                f"{len(missing)} files of the export are missing, the first in line {missing[0].line}: "
                f"{finder.path(missing[0]) if missing[0].path else 'no path'}",
                hint="name their directory (--directory), or register the datasets without them: allow_missing=True "
                "(--allow-missing) for these, without_datastore=True (--without-datastore) for all",
            )
        return batches, present

    def _find(self, file: PlannedFile, finder: ExportedFiles, missing: list[PlannedFile]) -> str:
        if self._options.without_datastore:
            return ""
        path = finder.path(file) if file.path else ""
        if path and (self._in_place or finder.is_there(path)):
            return path
        missing.append(file)
        return ""

    def _batches(self, group: Group, chosen: dict[tuple[str, bool], list[tuple[PlannedFile, str]]]) -> Iterator[_Batch]:
        for (formatter, _), files in chosen.items():
            most = MAX_ITEMS_WITH_DESCRIPTORS if self._with_descriptors else MAX_ITEMS
            for some in _chunks(files, lambda one: _n_bytes(one[0]) + len(one[1]), MAX_ITEMS, _n_of_pair, most):
                yield _Batch(group, [file for file, _ in some], [path for _, path in some], formatter)

    def _operation(
        self, group: Group, files: list[PlannedFile], paths: list[str] | None, *, check: bool = False, **more: Any
    ) -> ops.ImportDatasets:
        return ops.ImportDatasets(
            repository=self._repository,
            dataset_type=group.dataset_type,
            run=group.run,
            transfer=self._options.transfer,
            dimensions=group.dimensions,
            items=tuple(
                ops.ImportItem(path, values)
                for file, path in zip(files, paths or [""] * len(files), strict=True)
                for values in file.values
            ),
            ids=b"".join(id_ for file in files for id_ in file.ids),
            check=check,
            **more,
        )

    def _insert_datasets(self, batches: list[_Batch], types: Mapping[str, DatasetType]) -> tuple[int, int, int]:
        from pantry.wire.operations.importing import IS_NEW

        total = sum(len(file.ids) for batch in batches for file in batch.files)
        done = new = taken = without = 0
        for batch in batches:
            kind = types[batch.group.dataset_type]
            read_by = batch.formatter or STORAGE_CLASSES[kind.storage_class].formatter
            each = [path for file, path in zip(batch.files, batch.paths, strict=True) for _ in file.ids]
            metadata = read_metadata(read_by, [path if os.path.isabs(path) else "" for path in each], kind.metadata)
            operation = self._operation(
                batch.group, batch.files, batch.paths, formatter=batch.formatter, metadata=metadata
            )
            distinct = [path for path in dict.fromkeys(batch.paths) if path]
            with ExitStack() as opened:
                fds = [open_for_daemon(opened, path) for path in distinct] if self._with_descriptors else []
                standings = self._link.call(operation, fds).found
            new += standings.count(IS_NEW)
            taken += len(distinct)
            without += 0 if distinct else len(standings)
            done += len(standings)
            self._progress("datasets", done, total)
        return new, taken, without

    # -- members -----------------------------------------------------------------------------------

    def _insert_members(self, plan: Plan) -> int:
        count = 0
        batches = list(
            _chunks(plan.members, lambda one: len(one.ids) + 100, _MAX_MEMBERS, lambda one: len(one.ids) // 16)
        ) or [[]]
        for number, batch in enumerate(batches, 1):
            # Chains come last, and so show nothing that is only half there.
            chains = plan.chains if number == len(batches) else {}
            operation = ops.ImportMembers(repository=self._repository, members=tuple(batch), chains=chains)
            count += self._link.call(operation).count
            self._progress("members", number, len(batches))
        return count


def _open(
    stack: ExitStack, directory: str | os.PathLike[str] | None, filename: str | os.PathLike[str] | IO[Any] | None
) -> tuple[IO[Any], str, str | None]:
    """Open the export; also give its name for messages, and its path if it has one."""
    if filename is not None and not isinstance(filename, str | os.PathLike):
        return filename, str(getattr(filename, "name", "export")), None
    given = os.path.expanduser(os.fspath(filename or "export.yaml"))
    tried = [given]
    if directory is not None and not os.path.isabs(given):
        tried.insert(0, os.path.join(os.path.expanduser(os.fspath(directory)), given))
    for path in tried:
        try:
            return stack.enter_context(open(path, "rb")), path, path
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise PermissionDeniedError(f"{path}: {exc.strerror}") from None
    raise NotFoundError(f"there is no export {' or '.join(tried)}", hint="name it: filename=...")


def _n_bytes(file: PlannedFile) -> int:
    return len(file.path) + 100 * len(file.ids)


def _n_datasets(file: PlannedFile) -> int:
    return len(file.ids)


def _n_of_pair(pair: tuple[PlannedFile, str]) -> int:
    return len(pair[0].ids)


def _one(item: object) -> int:
    return 1


def _chunks(
    items: Iterable[T],
    n_bytes: Callable[[T], int],
    most: int,
    count: Callable[[T], int] = _one,
    most_items: int = 1 << 30,
) -> Iterator[list[T]]:
    """Cut a list so that each part has at most ``most`` things, ``most_items`` items and `_MAX_BYTES`."""
    part: list[T] = []
    n = size = 0
    for item in items:
        if part and (n + count(item) > most or size + n_bytes(item) > _MAX_BYTES or len(part) >= most_items):
            yield part
            part, n, size = [], 0, 0
        part.append(item)
        n += count(item)
        size += n_bytes(item)
    if part:
        yield part
