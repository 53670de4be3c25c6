"""One dataset of a bundle: by its id, or the first in the order of collections."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from pantry.client.bundles.contents import Contents, KnownType, encode_key
from pantry.client.bundles.data_ids import BundleDataIds
from pantry.client.bundles.index import BundleIndex
from pantry.errors import ConflictError, DatasetNotFoundError, InvalidRequestError
from pantry.model.collections import CollectionInfo, CollectionType
from pantry.model.datasets import DatasetRef, StoredFile
from pantry.model.metadata import MetadataValue
from pantry.model.timespan import Timespan
from pantry.wire.operations import FindDataset, FoundDataset

COLUMNS = (
    "d.id, d.dataset_type, d.run, d.data_id, d.path, d.size_bytes, d.hash, d.formatter, d.ingest_ns, d.modified_ns, "
    "d.metadata, d.output"
)
"""What `Row` is made of."""


class Row(NamedTuple):
    """A dataset as the index has it."""

    id: bytes
    dataset_type: str
    run: str
    data_id: str
    path: str
    size_bytes: int
    hash: str
    formatter: str
    ingest_ns: int
    modified_ns: int
    metadata: bytes | None
    output: int

    @property
    def file(self) -> StoredFile:
        """Its file; the path is relative to the bundle."""
        return StoredFile(
            path=self.path,
            size_bytes=self.size_bytes,
            hash=self.hash,
            formatter=self.formatter,
            ingest_ns=self.ingest_ns,
        )

    @property
    def declared(self) -> dict[str, MetadataValue]:
        """Its declared metadata."""
        return json.loads(self.metadata) if self.metadata else {}


class Lookup:
    """Finds single datasets of a bundle.

    Parameters
    ----------
    index : BundleIndex
        Where they are.
    contents : Contents
        What is known besides.
    """

    def __init__(self, index: BundleIndex, contents: Contents) -> None:
        self._index = index
        self._contents = contents
        self.data_ids = BundleDataIds(contents)

    # -- one ---------------------------------------------------------------------------------------

    def by_id(self, id_: UUID) -> Row | None:
        """Return a dataset by its id."""
        row = self._index.row(f"SELECT {COLUMNS} FROM dataset AS d WHERE d.id = ?", (id_.bytes,))  # noqa: S608
        return None if row is None else Row(*row)

    def find(self, asked: FindDataset) -> Row | None:
        """Return the first dataset in the order of collections."""
        definitions = self._contents.definitions()
        known = definitions.dataset_type(asked.dataset_type)
        if not asked.collections:
            raise InvalidRequestError("no collections to search", hint="name them: collections=...")
        order = definitions.search(asked.collections)
        data_id: Mapping[str, object] = asked.data_id
        timespan = asked.timespan
        timed = known.definition.is_calibration and any(one.type is CollectionType.CALIBRATION for one in order)
        if timed and timespan is None and asked.time_of_data_id:
            data_id, timespan = self.data_ids.time_of(known.group, data_id)
        key = encode_key(self.data_ids.search_values(known.group, data_id))
        for collection in order:
            rows = self._valued(known, collection, key, timespan)
            if len({row.id for row in rows}) > 1:
                raise ConflictError(
                    f"{collection.name!r} has {len(rows)} datasets {known.definition.name} valid in this time",
                    hint="give a shorter timespan",
                )
            if rows:
                return rows[0]
        return None

    def _valued(self, known: KnownType, collection: CollectionInfo, key: str, timespan: Timespan | None) -> list[Row]:
        values: list[Any] = [known.definition.name, key]
        statement = f"SELECT {COLUMNS} FROM dataset AS d "  # noqa: S608 - constant
        if collection.type is CollectionType.RUN:
            statement += "WHERE d.dataset_type = ? AND d.data_id = ? AND d.run = ?"
        else:
            statement += (
                "JOIN member AS m USING (number) WHERE d.dataset_type = ? AND d.data_id = ? AND m.collection = ?"
            )
        values.append(collection.name)
        if collection.type is CollectionType.CALIBRATION:
            if timespan is None:
                return []  # as in Gen3: without a time there is no answer to what is valid
            statement += " AND m.begin_ns < ? AND m.end_ns > ?"
            values += [timespan.end_ns, timespan.begin_ns]
        return [Row(*row) for row in self._index.rows(statement, values)]

    def ref(self, row: Row, *, records: bool = False) -> DatasetRef:
        """Make the reference of a row."""
        known = self._contents.definitions().dataset_type(row.dataset_type)
        data_id = self._contents.implied(known.group, json.loads(row.data_id))
        if records:
            data_id = self._contents.expanded(known.group, data_id)
        return DatasetRef(id=UUID(bytes=row.id), dataset_type=known.definition, data_id=data_id, run=row.run)

    def found(self, row: Row | None, *, records: bool = False) -> FoundDataset:
        """Make the answer of a row."""
        if row is None:
            return FoundDataset(None, None)
        return FoundDataset(self.ref(row, records=records), row.file, row.path.rpartition("/")[2])

    def known_row(self, id_: UUID) -> Row:
        """Return a dataset by its id, or raise `DatasetNotFoundError`."""
        row = self.by_id(id_)
        if row is None:
            raise DatasetNotFoundError(
                f"the bundle has no dataset with the id {id_}",
                hint="it has only what it was made with, and its outputs",
            )
        return row
