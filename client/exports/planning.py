"""What an export means for a repository: checked against its definitions before anything is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pantry.client.exports.contents import Contents, Files, NamedType
from pantry.errors import DatasetTypeError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.model.gen3_names import storage_class_of
from pantry.model.storage import STORAGE_CLASSES
from pantry.wire.operations import ImportedCollection, ImportedMembers

_IDS_AT_ONCE = 50_000
"""Most members that one part of a request names; an export may have a million of one collection."""


class Group(NamedTuple):
    """Datasets of one type and run, whose data ids give the same dimensions; ``files`` number them by file."""

    dataset_type: str
    run: str
    dimensions: tuple[str, ...]
    files: list[PlannedFile]


class PlannedFile(NamedTuple):
    """One file with its datasets, as in `FileRecord`; the values are of the group's dimensions."""

    line: int
    ids: tuple[bytes, ...]
    values: tuple[tuple[DataIdValue, ...], ...]
    path: str
    formatter: str


class Plan:
    """What is to be asked for.

    Parameters
    ----------
    contents : Contents
        The export, migrated.
    universe : DimensionUniverse
        The repository's.
    types : Mapping
        Its dataset types by name.
    collections : Mapping
        Its collections by name.
    storage_classes : Mapping
        Gen3's storage classes with ours, where the user says so.

    Raises
    ------
    ExportError
        If the export cannot go into this repository, with the line that is in the way.
    """

    def __init__(
        self,
        contents: Contents,
        universe: DimensionUniverse,
        types: Mapping[str, DatasetType],
        collections: Mapping[str, CollectionInfo],
        storage_classes: Mapping[str, str],
    ) -> None:
        self._contents = contents
        self._universe = universe
        self._existing = types
        self._there = collections
        self.mapped = dict(storage_classes)
        self.dataset_types = [self._dataset_type(one) for one in contents.dataset_types.values()]
        self.types = {**types, **{one.name: one for one in self.dataset_types}}
        self.collections = self._collections()
        self.chains = self._chains()
        self.groups = self._groups()
        self.members = self._members()

    # -- definitions -------------------------------------------------------------------------------

    def _dataset_type(self, given: NamedType) -> DatasetType:
        for name in given.dimensions:
            if name not in self._universe.elements:
                raise self._contents.refuse(
                    given.line, f"the dataset type {given.name!r} has the dimension {name!r}, unknown here"
                )
        ours = self.mapped.get(given.storage_class) or storage_class_of(given.storage_class)
        if ours not in STORAGE_CLASSES:
            raise self._contents.refuse(
                given.line,
                f"the dataset type {given.name!r} has the storage class {given.storage_class!r}, unknown here",
                f"say what is read in its place: storage_classes={{{given.storage_class!r}: 'Bytes'}} "
                f"(--storage-class {given.storage_class}=Bytes)",
            )
        group = set(self._universe.group(given.dimensions).names)
        try:
            made = DatasetType(
                name=given.name,
                dimensions=tuple(name for name in self._universe.elements if name in group),
                storage_class=ours,
                is_calibration=given.is_calibration,
            )
        except DatasetTypeError as exc:
            raise self._contents.refuse(given.line, exc.message, exc.hint) from None
        known = self._existing.get(given.name)
        for field in ("dimensions", "storage_class", "is_calibration"):
            if known is not None and getattr(known, field) != getattr(made, field):
                hint = ""
                if field == "storage_class":
                    hint = f"--storage-class {given.storage_class}={known.storage_class} takes it as that"
                raise self._contents.refuse(
                    given.line,
                    f"the repository's dataset type {given.name!r} has {field} {getattr(known, field)!r}, "
                    f"that of the export {getattr(made, field)!r}",
                    hint,
                )
        return made

    def _collections(self) -> list[ImportedCollection]:
        wanted = {one.name: ImportedCollection(name=one.name, type=one.type, doc=one.doc) for one in self._named()}
        for files in self._contents.files:
            made = ImportedCollection(name=files.run, type=CollectionType.RUN)
            if wanted.setdefault(files.run, made).type is not CollectionType.RUN:
                raise self._contents.refuse(files.line, f"{files.run!r} holds datasets and is no RUN collection")
            self._compare(files.line, files.run, CollectionType.RUN)
        return list(wanted.values())

    def _named(self) -> Iterator[ImportedCollection]:
        for one in self._contents.collections.values():
            self._compare(one.line, one.name, one.type)
            yield ImportedCollection(name=one.name, type=one.type, doc=one.doc)

    def _compare(self, line: int, name: str, kind: CollectionType) -> None:
        known = self._there.get(name)
        if known is not None and known.type != kind:
            raise self._contents.refuse(line, f"the collection {name!r} is {known.type} here and {kind} in the export")

    def _chains(self) -> dict[str, tuple[str, ...]]:
        names = {one.name for one in self.collections} | set(self._there)
        found = {}
        for one in self._contents.collections.values():
            if one.type is not CollectionType.CHAINED:
                continue
            lost = [child for child in one.children if child not in names]
            if lost:
                raise self._contents.refuse(
                    one.line, f"the chain {one.name!r} has {lost[0]!r}, which is neither in the export nor here"
                )
            children = tuple(dict.fromkeys(one.children))
            known = self._there.get(one.name)
            if known is not None and known.children and known.children != children:
                raise self._contents.refuse(
                    one.line,
                    f"the chain {one.name!r} is {', '.join(known.children)} here, in the export {', '.join(children)}",
                    "redefine it here, or take it out of the export",
                )
            found[one.name] = children
        return found

    # -- datasets ----------------------------------------------------------------------------------

    def _groups(self) -> list[Group]:
        found: dict[tuple[str, str, tuple[str, ...]], Group] = {}
        seen: set[bytes] = set()
        for files in self._contents.files:
            kind = self.types.get(files.dataset_type)
            if kind is None:
                raise self._contents.refuse(
                    files.line, f"the dataset type {files.dataset_type!r} is neither in the export nor here"
                )
            group = self._universe.group(kind.dimensions)
            orders: dict[tuple[str, ...], tuple[tuple[str, ...], list[int]]] = {}
            for record in files.records:
                for id_ in record.ids:
                    if id_ in seen:
                        raise self._contents.refuse(record.line, "a dataset id that stands before already")
                    seen.add(id_)
                names = record.data_ids[0][0]
                if any(other != names for other, _ in record.data_ids):
                    raise self._contents.refuse(record.line, "data ids of one file with different dimensions")
                if names not in orders:
                    orders[names] = self._order(files, record.line, group, names)
                dimensions, places = orders[names]
                key = (files.dataset_type, files.run, dimensions)
                values = tuple(tuple(given[place] for place in places) for _, given in record.data_ids)
                planned = PlannedFile(record.line, record.ids, values, record.path, record.formatter)
                found.setdefault(key, Group(*key, [])).files.append(planned)
        self.ids = seen
        return list(found.values())

    def _order(
        self, files: Files, line: int, group: DimensionGroup, names: tuple[str, ...]
    ) -> tuple[tuple[str, ...], list[int]]:
        for name in names:
            # Names of other dimensions are passed over, as by Gen3; old exports have visit_system.
            if name not in self._universe.elements:
                raise self._contents.refuse(line, f"a data id with the dimension {name!r}, unknown here")
        missing = [name for name in group.required if name not in names]
        if missing:
            raise self._contents.refuse(
                line, f"the data id of a {files.dataset_type} lacks {', '.join(missing)}: it has {', '.join(names)}"
            )
        kept = tuple(name for name in group.names if name in names)
        return kept, [names.index(name) for name in kept]

    # -- members -----------------------------------------------------------------------------------

    def _members(self) -> list[ImportedMembers]:
        kinds = {name: info.type for name, info in self._there.items()}
        kinds |= {one.name: one.type for one in self.collections}
        found = []
        for one in self._contents.members:
            kind = CollectionType.TAGGED if one.timespan is None else CollectionType.CALIBRATION
            if kinds.get(one.collection) != kind:
                what = kinds.get(one.collection, "neither in the export nor here")
                raise self._contents.refuse(one.line, f"{one.collection!r} is {what}, and gets members of a {kind}")
            if not all(id_ in self.ids for id_ in one.ids):
                raise self._contents.refuse(one.line, f"{one.collection!r} has a dataset that is not in the export")
            for start in range(0, len(one.ids), _IDS_AT_ONCE):
                ids = b"".join(one.ids[start : start + _IDS_AT_ONCE])
                found.append(ImportedMembers(collection=one.collection, ids=ids, timespan=one.timespan))
        return found
