"""Operations on the metadata that dataset types declare."""

from __future__ import annotations

from uuid import UUID

import msgspec

from pantry.model.metadata import MetadataValue
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.registry import CountDone, QueryDatasets, RefBatch

MAX_RECORDED = 5_000
"""Most datasets of one `RecordMetadata`."""


class RecordMetadata(Operation[CountDone], frozen=True, kw_only=True, tag="metadata.record"):
    """Record declared metadata of datasets in place of what was there, all or none (DMS-MWBT-REQ-0091).

    Attributes
    ----------
    repository, dataset_type : str
        Where and of what.
    ids : bytes
        16 bytes of dataset id each, at most `MAX_RECORDED`.
    columns : dict of str to list
        For each entry a value for each dataset; entries that are not given become absent.
    """

    result_type = CountDone
    repository: str
    dataset_type: str
    ids: bytes
    columns: dict[str, list[MetadataValue]]


class DatasetMetadata(msgspec.Struct, frozen=True):
    """Values by entry; None where there is none."""

    values: dict[str, MetadataValue]


class GetMetadata(Operation[DatasetMetadata], frozen=True, kw_only=True, tag="metadata.get"):
    """Give what is recorded of a dataset's declared metadata; its file is not touched."""

    result_type = DatasetMetadata
    repository: str
    id: UUID


class MetadataBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of datasets of one type with their metadata, by columns.

    Attributes
    ----------
    refs : RefBatch
        The datasets.
    columns : dict of str to list
        For each entry a value for each of them.
    """

    refs: RefBatch
    columns: dict[str, list[MetadataValue]]


class QueryMetadata(
    StreamOperation[MetadataBatch], frozen=True, kw_only=True, omit_defaults=True, tag="metadata.query"
):
    """Find datasets as `QueryDatasets` does, with their declared metadata.

    Attributes
    ----------
    query : QueryDatasets
        Which datasets; types that declare nothing and that only a glob matches are passed over.
    entries : tuple of str
        Which entries; none for all.
    """

    result_type = MetadataBatch
    query: QueryDatasets
    entries: tuple[str, ...] = ()
