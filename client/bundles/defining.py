"""Definitions that are made in a bundle: dataset types, collections, dimension records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from pantry.client.bundles.contents import Contents, Definitions, encode_key, record_key
from pantry.client.bundles.index import BundleIndex
from pantry.errors import (
    CollectionTypeError,
    ConflictError,
    ConflictingDefinitionError,
    DataIdValueError,
    DatasetTypeError,
    DimensionNameError,
)
from pantry.model.collections import CollectionInfo, CollectionType, check_collection_name
from pantry.model.datasets import DatasetType
from pantry.model.formats import defined_storage_class
from pantry.model.interpretation import check_column, show
from pantry.model.records import DimensionRecord
from pantry.wire.operations import (
    CollectionList,
    CountDone,
    DatasetTypeList,
    Done,
    InsertDimensionRecords,
    ListDatasetTypes,
    QueryCollections,
    RedefineChain,
    RegisterCollection,
    RegisterDatasetType,
    RegisteredDatasetType,
)


class Defining:
    """Reads and writes the definitions of a bundle.

    Parameters
    ----------
    index : BundleIndex
        Where they are.
    contents : Contents
        What is there.
    """

    def __init__(self, index: BundleIndex, contents: Contents) -> None:
        self._index = index
        self._contents = contents

    # -- dataset types -----------------------------------------------------------------------------

    def list_types(self, asked: ListDatasetTypes) -> DatasetTypeList:
        """List dataset types by name or pattern."""
        known = self._contents.definitions().match_types(asked.patterns or ["*"])
        return DatasetTypeList(tuple(sorted((one.definition for one in known), key=lambda one: one.name)))

    def register_type(self, asked: RegisterDatasetType) -> RegisteredDatasetType:
        """Register a dataset type; no error if an equal one exists."""
        given = asked.dataset_type
        if "." in (given.component or ""):
            raise DatasetTypeError(
                f"{given.name!r} names a component of a component, and those are not stored",
                hint=f"register {given.parent_name!r}",
            )
        defined_storage_class(given.storage_class, (self._contents.info.formats,))
        universe = self._contents.universe
        members = set(universe.group(given.dimensions).names)
        complete = msgspec.structs.replace(given, dimensions=tuple(name for name in universe if name in members))
        with self._index.writing():
            row = self._index.row("SELECT definition FROM dataset_type WHERE name = ?", (given.name,))
            if row is not None:
                known = msgspec.json.decode(row[0], type=DatasetType)
                if known != complete:
                    raise ConflictingDefinitionError(
                        f"the dataset type {given.name!r} is already defined differently: {known!r}", name=given.name
                    )
                return RegisteredDatasetType(known, False)
            if complete.component is not None:
                self._check_parent(complete)
            self._index.run("INSERT INTO dataset_type VALUES (?, ?, 1)", (given.name, msgspec.json.encode(complete)))
            self._index.revise()
        return RegisteredDatasetType(complete, True)

    def _check_parent(self, complete: DatasetType) -> None:
        parent = self._contents.definitions().types.get(complete.parent_name)
        if parent is None or parent.definition.dimensions != complete.dimensions:
            raise DatasetTypeError(
                f"{complete.name!r} is a component of {complete.parent_name!r}, which "
                + ("is not registered" if parent is None else "has other dimensions"),
                hint=f"register {complete.parent_name!r} first, with the same dimensions",
            )

    # -- collections -------------------------------------------------------------------------------

    def query_collections(self, asked: QueryCollections) -> CollectionList:
        """Find collections by name or pattern."""
        definitions = self._contents.definitions()
        found = definitions.match_collections(asked.patterns or ["*"])
        found = definitions.flatten(found) if asked.flatten_chains else sorted(found, key=lambda one: one.name)
        found = [one for one in found if not asked.types or one.type in asked.types]
        if asked.with_dataset_types:
            held = self._held()
            found = [self._summarized(definitions, one, held) for one in found]
        return CollectionList(tuple(found))

    def _held(self) -> dict[str, set[str]]:
        rows = self._index.rows("SELECT DISTINCT run, dataset_type FROM dataset")
        rows += self._index.rows("SELECT DISTINCT collection, dataset_type FROM member JOIN dataset USING (number)")
        held: dict[str, set[str]] = {}
        for collection, dataset_type in rows:
            held.setdefault(collection, set()).add(dataset_type)
        return held

    def _summarized(
        self, definitions: Definitions, one: CollectionInfo, held: Mapping[str, set[str]]
    ) -> CollectionInfo:
        kinds = {kind for member in definitions.flatten([one]) for kind in held.get(member.name, ())}
        return msgspec.structs.replace(one, dataset_types=tuple(sorted(kinds)))

    def register_collection(self, asked: RegisterCollection) -> Done:
        """Make a collection; no error if it exists with the same type."""
        check_collection_name(asked.name)
        with self._index.writing():
            row = self._index.row("SELECT type FROM collection WHERE name = ?", (asked.name,))
            if row is not None and row[0] != asked.type:
                raise ConflictingDefinitionError(
                    f"the collection {asked.name!r} exists and is {row[0]}, not {asked.type}", name=asked.name
                )
            if row is None:
                values = (asked.name, str(asked.type), asked.doc, "[]", 1)
                self._index.run("INSERT INTO collection VALUES (?, ?, ?, ?, ?)", values)
                self._index.revise()
        return Done()

    def redefine_chain(self, asked: RedefineChain) -> Done:
        """Set the children of a CHAINED collection."""
        children = list(dict.fromkeys(asked.children))
        with self._index.writing():
            definitions = self._contents.definitions()
            parent = definitions.collection(asked.name)
            if parent.type is not CollectionType.CHAINED:
                raise CollectionTypeError(
                    f"{asked.name!r} is a {parent.type} collection; only a CHAINED one has children"
                )
            if asked.name in _reachable(definitions, children):
                raise CollectionTypeError(f"the chain {asked.name!r} would contain itself")
            self._index.run("UPDATE collection SET children = ? WHERE name = ?", (json.dumps(children), asked.name))
            self._index.revise()
        return Done()

    # -- dimension records -------------------------------------------------------------------------

    def insert_records(self, asked: InsertDimensionRecords) -> CountDone:
        """Insert records, all or none."""
        rows = [self._row(record) for record in asked.records]
        count = 0
        with self._index.writing():
            for record, (key, body) in zip(asked.records, rows, strict=True):
                known = self._index.row("SELECT body FROM record WHERE element = ? AND key = ?", (record.element, key))
                if known is None:
                    self._index.run("INSERT INTO record VALUES (?, ?, ?, 1)", (record.element, key, body))
                    count += 1
                elif not asked.skip_existing:
                    raise ConflictError(f"there is already a {record.element} record for {key}", element=record.element)
                elif asked.compare and (name := _difference(record, known[0])):
                    raise ConflictError(
                        f"the {record.element} record {key} is there and has another {name}", element=record.element
                    )
            if count:
                self._index.revise()
        return CountDone(count)

    def _row(self, record: DimensionRecord) -> tuple[str, bytes]:
        universe = self._contents.universe
        element = universe[record.element]
        if not self._contents.has_records(record.element) and record.element in universe.skypix:
            raise DimensionNameError(f"{record.element!r} has no records: its values need none")
        columns = {column.name: column for column in (*element.keys, *element.metadata)}
        required = universe.required(record.element)
        known = {*columns, *required, *element.implies}
        if unknown := [name for name in record.values if name not in known]:
            raise DimensionNameError(
                f"records of {record.element} have no {', '.join(unknown)}", hint=f"known: {', '.join(sorted(known))}"
            )
        values: dict[str, Any] = {}
        for name, value in record.values.items():
            if value is None:
                continue
            if name in columns and not (element.keys and name == element.keys[0].name):
                values[name] = check_column(columns[name], f"{record.element}.{name}", value)
            else:
                values[name] = universe.check_value(
                    name if name in universe and name not in columns else record.element, value
                )
        checked = msgspec.structs.replace(record, values=values)
        key = record_key(universe, checked)
        if None in key:
            lacking = [name for name, value in zip(required, key, strict=True) if value is None]
            raise DataIdValueError(f"a record of {record.element} lacks {', '.join(lacking)}: {show(record.values)}")
        return encode_key(key), msgspec.msgpack.encode(checked)


def _difference(record: DimensionRecord, body: bytes) -> str:
    """Name what a record says otherwise than the one that is there; absence says nothing."""
    known = msgspec.msgpack.decode(body, type=DimensionRecord)
    for name, value in record.values.items():
        if value is not None and known.values.get(name) != value:
            return name
    if record.timespan is not None and record.timespan != known.timespan:
        return "timespan"
    return "region" if record.region is not None and record.region != known.region else ""


def _reachable(definitions: Definitions, names: list[str]) -> set[str]:
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += definitions.collection(name).children
    return found
