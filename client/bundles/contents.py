"""What a bundle knows, in memory: dimensions, dataset types, collections, records."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from pantry.client.bundles.index import BundleIndex
from pantry.errors import MissingCollectionError, MissingDatasetTypeError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetType
from pantry.model.dimensions import DimensionGroup, DimensionUniverse
from pantry.model.patterns import matching, matching_types, similar
from pantry.model.records import DimensionRecord, RecordValue
from pantry.model.repository import RepositoryInfo

Key = tuple[Any, ...]
_SOME = 500
"""Records of an element that are read one by one, before all are."""


class KnownType(msgspec.Struct, frozen=True):
    """A dataset type with the dimensions of its data ids."""

    definition: DatasetType
    group: DimensionGroup


class Definitions(msgspec.Struct, frozen=True):
    """Dataset types and collections at one moment, in order of name."""

    revision: int
    types: dict[str, KnownType]
    collections: dict[str, CollectionInfo]

    def dataset_type(self, name: str) -> KnownType:
        """Return a dataset type, or raise `MissingDatasetTypeError`."""
        try:
            return self.types[name]
        except KeyError:
            raise MissingDatasetTypeError(
                f"the bundle has no dataset type {name!r}", hint=similar(name, self.types), name=name
            ) from None

    def collection(self, name: str) -> CollectionInfo:
        """Return a collection, or raise `MissingCollectionError`."""
        try:
            return self.collections[name]
        except KeyError:
            raise MissingCollectionError(
                f"the bundle has no collection {name!r}", hint=similar(name, self.collections), name=name
            ) from None

    def match_types(self, patterns: Sequence[str]) -> list[KnownType]:
        """Give dataset types by names or patterns; names must exist."""
        return matching_types(patterns, self.types, self.dataset_type)

    def match_collections(self, patterns: Sequence[str]) -> list[CollectionInfo]:
        """Give collections by names or patterns; names must exist."""
        return matching(patterns, self.collections, self.collection)

    def flatten(self, collections: Iterable[CollectionInfo]) -> list[CollectionInfo]:
        """Put their children in the place of chains, depth first, each collection once."""
        found: dict[str, CollectionInfo] = {}
        todo = list(collections)[::-1]
        seen: set[str] = set()
        while todo:
            one = todo.pop()
            if one.name in seen:
                continue
            seen.add(one.name)
            if one.type is CollectionType.CHAINED:
                todo += [self.collection(child) for child in reversed(one.children)]
            else:
                found[one.name] = one
        return list(found.values())

    def search(self, patterns: Sequence[str]) -> list[CollectionInfo]:
        """Give the collections that a search goes through, in order."""
        return self.flatten(self.match_collections(patterns))


class _Plan(NamedTuple):
    """How data ids of a group are completed: which elements imply what, whose records they have."""

    implying: tuple[tuple[str, tuple[str, ...]], ...]
    elements: tuple[str, ...]
    spatial: tuple[str, ...]
    temporal: tuple[str, ...]


class Contents:
    """Definitions and records of a bundle, read when they are needed and again when they have changed.

    Parameters
    ----------
    index : BundleIndex
        Where they are.

    Attributes
    ----------
    universe : DimensionUniverse
        Of the repository that it was made from.
    info : RepositoryInfo
        Of that repository, with the bundle as its root.
    """

    def __init__(self, index: BundleIndex) -> None:
        self._index = index
        self._lock = threading.RLock()
        self._definitions: Definitions | None = None
        self._records: dict[str, dict[Key, DimensionRecord]] = {}
        self._plans: dict[DimensionGroup, _Plan] = {}
        self._some_records: dict[str, dict[Key, DimensionRecord | None]] = {}
        self.universe = DimensionUniverse(json.loads(index.about("universe")))
        self.info = msgspec.structs.replace(
            msgspec.json.decode(index.about("repository"), type=RepositoryInfo),
            root=f"file://{index.directory}",
            registry="",
            writable=index.is_writable,
        )

    def definitions(self) -> Definitions:
        """Return the dataset types and collections of now."""
        with self._lock:
            revision = self._index.revision
            if self._definitions is None or self._definitions.revision != revision:
                self._records, self._some_records = {}, {}
                self._definitions = self._load(revision)
            return self._definitions

    def _load(self, revision: int) -> Definitions:
        types = {}
        decoder = msgspec.json.Decoder(DatasetType)
        for name, text in self._index.rows("SELECT name, definition FROM dataset_type ORDER BY name"):
            definition = decoder.decode(text)
            types[name] = KnownType(definition, self.universe.group(definition.dimensions))
        collections = {
            name: CollectionInfo(name=name, type=CollectionType(kind), doc=doc, children=tuple(json.loads(children)))
            for name, kind, doc, children in self._index.rows(
                "SELECT name, type, doc, children FROM collection ORDER BY name"
            )
        }
        return Definitions(revision, types, collections)

    # -- records -----------------------------------------------------------------------------------

    def records(self, element: str) -> dict[Key, DimensionRecord]:
        """Return all records of an element that the bundle has, by key.

        As of the last call of `definitions`, which every operation begins with.
        """
        with self._lock:
            found = self._records.get(element)
            if found is None:
                decoder = msgspec.msgpack.Decoder(DimensionRecord)
                rows = self._index.rows("SELECT key, body FROM record WHERE element = ? ORDER BY key", (element,))
                found = self._records[element] = {tuple(json.loads(key)): decoder.decode(body) for key, body in rows}
            return found

    def record(self, element: str, values: Mapping[str, Any]) -> DimensionRecord | None:
        """Return the record of an element for the values of dimensions; None if there is none."""
        if self.universe[element].implied_union_target is not None:
            # Those of filters give it, and it says no more than its name.
            value = values.get(element)
            own = self.universe[element].keys[0].name
            return None if value is None else DimensionRecord(element=element, values={own: value})
        key = tuple([values.get(name) for name in self.universe.required(element)])
        with self._lock:
            known = self._records.get(element)
            if known is not None:
                return known.get(key)
            # One of fifty thousand is not worth reading all of them; thousands are.
            some = self._some_records.setdefault(element, {})
            if key not in some:
                if len(some) >= _SOME:
                    return self.records(element).get(key)
                row = self._index.row(
                    "SELECT body FROM record WHERE element = ? AND key = ?", (element, encode_key(key))
                )
                some[key] = None if row is None else msgspec.msgpack.decode(row[0], type=DimensionRecord)
            return some[key]

    def has_records(self, element: str) -> bool:
        """Whether values of a dimension must have records: not pixels of the sky, nor bands, which filters give."""
        return element not in self.universe.skypix and self.universe[element].implied_union_target is None

    def implied(self, group: DimensionGroup, required: Sequence[DataIdValue]) -> DataCoordinate:
        """Complete a data id by what its records imply; absent where there is no record."""
        values: dict[str, Any] = dict(zip(group.required, required, strict=True))
        for name, implied in self._plan(group).implying:
            if (record := self.record(name, values)) is not None:
                for other in implied:
                    values.setdefault(other, record.values.get(other))
        return DataCoordinate(group.required, tuple(required), group.implied, tuple(map(values.get, group.implied)))

    def expanded(self, group: DimensionGroup, data_id: DataCoordinate) -> DataCoordinate:
        """Give a data id with its implied values the records of all elements."""
        plan, values = self._plan(group), data_id.mapping
        return data_id.expanded(
            {name: self.record(name, values) for name in plan.elements}, spatial=plan.spatial, temporal=plan.temporal
        )

    def _plan(self, group: DimensionGroup) -> _Plan:
        plan = self._plans.get(group)
        if plan is None:
            universe, names = self.universe, set(group.names)
            elements = [
                name
                for name in universe.elements
                if name not in universe.skypix and set(universe.required(name)) <= names
            ]
            spatial = {members[0] for members in universe.families(group.required, "spatial").values()}
            temporal = {members[0] for members in universe.families(group.required, "temporal").values()}
            plan = self._plans[group] = _Plan(
                # What implies comes behind what it implies.
                tuple(
                    (name, universe[name].implies)
                    for name in reversed(universe.dimensions)
                    if name in names and universe[name].implies
                ),
                tuple(elements),
                tuple(name for name in elements if name in spatial),
                tuple(name for name in elements if name in temporal),
            )
        return plan


def record_key(universe: DimensionUniverse, record: DimensionRecord) -> Key:
    """Give the values that identify a record, in the order of `DimensionUniverse.required`."""
    return tuple(own_value(universe, record, name) for name in universe.required(record.element))


def own_value(universe: DimensionUniverse, record: DimensionRecord, name: str) -> RecordValue:
    """Give a record's value of a dimension; its own goes by the name of its key, or by the dimension's."""
    if name == record.element:
        key = universe[name].keys[0].name
        return record.values[key] if key in record.values else record.values.get(name)
    return record.values.get(name)


def encode_key(key: Sequence[Any]) -> str:
    """Write values of dimensions so that equal ones are equal texts."""
    return msgspec.json.encode(list(key)).decode()
