"""Operations on dataset types, dimension records and datasets as the registry knows them."""

from __future__ import annotations

from uuid import UUID

import msgspec

from pantry.model.data_id import DataCoordinate, DataIdValue
from pantry.model.datasets import DatasetRef, DatasetType, StoredFile
from pantry.model.records import DimensionRecord
from pantry.model.timespan import Timespan
from pantry.wire.operations.base import Operation, StreamOperation
from pantry.wire.operations.exclusions import ExcludedDatasets


class EncodedRegion(msgspec.Struct, frozen=True, tag="region"):
    """A region on the sky as a value; ``encoded`` is of ``lsst.sphgeom.Region.encode``."""

    encoded: bytes


class EncodedTimespan(msgspec.Struct, frozen=True, tag="timespan"):
    """A time span as a value; TAI nanoseconds as in `Timespan`."""

    begin_ns: int
    end_ns: int


BindValue = DataIdValue | float | bool | EncodedRegion | EncodedTimespan | tuple[DataIdValue | float | bool, ...]
"""What a name in an expression can stand for."""


class RegisteredDatasetType(msgspec.Struct, frozen=True):
    """A dataset type with its complete dimensions, and whether it was new."""

    dataset_type: DatasetType
    new: bool


class RegisterDatasetType(Operation[RegisteredDatasetType], frozen=True, kw_only=True, tag="dataset_type.register"):
    """Register a dataset type (DMS-MWBT-REQ-0059); no error if an equal one exists."""

    result_type = RegisteredDatasetType
    repository: str
    dataset_type: DatasetType


class DatasetTypeList(msgspec.Struct, frozen=True):
    """Dataset types in order of name."""

    dataset_types: tuple[DatasetType, ...]


class ListDatasetTypes(
    Operation[DatasetTypeList], frozen=True, kw_only=True, omit_defaults=True, tag="dataset_type.list"
):
    """List registered dataset types whose names match any of the globs; none given for all."""

    result_type = DatasetTypeList
    repository: str
    patterns: tuple[str, ...] = ()


class ExpandedDataId(msgspec.Struct, frozen=True):
    """A dataset type with its complete dimensions, and a data id with implied values."""

    dataset_type: DatasetType
    data_id: DataCoordinate


class ExpandDataId(Operation[ExpandedDataId], frozen=True, kw_only=True, omit_defaults=True, tag="data_id.expand"):
    """Complete a data id of a dataset type; each of its values must have a dimension record.

    Attributes
    ----------
    repository : str
        In which repository; of several the first.
    dataset_type : str
        Name of the dataset type.
    data_id : dict
        As of `Butler.get`.
    run : str
        If given, check as a put would that it can be a run and has no such dataset.
    """

    result_type = ExpandedDataId
    repository: str
    dataset_type: str
    data_id: dict[str, DataIdValue]
    run: str = ""


class CountDone(msgspec.Struct, frozen=True):
    """How many things were done."""

    count: int


class InsertDimensionRecords(
    Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="dimension_record.insert"
):
    """Insert records of one element, all or none.

    Attributes
    ----------
    repository : str
        In which repository.
    records : tuple of DimensionRecord
        Of any elements; inserted in the order of the universe.
    skip_existing : bool
        Leave equal keys alone; otherwise they are a `ConflictError`.
    compare : bool
        With ``skip_existing``: a record that is there must say the same, as far as the given one says anything;
        otherwise `ConflictError`.
    replace : bool
        Put the given records in the place of those with equal keys; not with ``skip_existing``.
    """

    result_type = CountDone
    repository: str
    records: tuple[DimensionRecord, ...]
    skip_existing: bool = False
    compare: bool = False
    replace: bool = False


class Associate(Operation[CountDone], frozen=True, kw_only=True, tag="dataset.associate"):
    """Put datasets into a TAGGED collection; replaces members with the same type and data id."""

    result_type = CountDone
    repository: str
    collection: str
    ids: tuple[UUID, ...]


class Disassociate(Operation[CountDone], frozen=True, kw_only=True, tag="dataset.disassociate"):
    """Take datasets out of a TAGGED collection."""

    result_type = CountDone
    repository: str
    collection: str
    ids: tuple[UUID, ...]


class Certify(Operation[CountDone], frozen=True, kw_only=True, tag="dataset.certify"):
    """Make datasets valid for a time in a CALIBRATION collection, all or none."""

    result_type = CountDone
    repository: str
    collection: str
    ids: tuple[UUID, ...]
    timespan: Timespan


class Decertify(Operation[CountDone], frozen=True, kw_only=True, omit_defaults=True, tag="dataset.decertify"):
    """Make a type's datasets invalid for a time; validity before and after it stays.

    Attributes
    ----------
    repository, collection, dataset_type : str
        Where and what.
    timespan : Timespan
        The time to clear.
    data_ids : tuple of dict or None
        Only these data ids.
    """

    result_type = CountDone
    repository: str
    collection: str
    dataset_type: str
    timespan: Timespan
    data_ids: tuple[dict[str, DataIdValue], ...] | None = None


class FoundDataset(msgspec.Struct, frozen=True):
    """A dataset and what is recorded of its file, or None.

    ``name`` is the last component of `Opened.name`: the file's name in the mount, a stage directory and
    an export; empty without a file.
    """

    ref: DatasetRef | None
    file: StoredFile | None
    name: str = ""


class FindDataset(Operation[FoundDataset], frozen=True, kw_only=True, omit_defaults=True, tag="dataset.find"):
    """Find the first dataset of this type and data id in the collections, in their order.

    Attributes
    ----------
    repository, dataset_type : str
        Where and what.
    data_id : dict
        Dimension names and values; may also give alternate keys or record fields of the
        dimensions ("detector.full_name", "exposure.obs_id").
    collections : tuple of str
        To search, in this order; empty for the repository's default.
    timespan : Timespan or None
        For CALIBRATION collections.
    time_of_data_id : bool
        Without a timespan, take that of the exposure, visit or day that the data id names beside the type's
        own dimensions, or all times if it names none. Otherwise CALIBRATION collections are not searched.
    dimension_records : bool
        Give the reference's data id its records.
    """

    result_type = FoundDataset
    repository: str
    dataset_type: str
    data_id: dict[str, DataIdValue]
    collections: tuple[str, ...]
    timespan: Timespan | None = None
    time_of_data_id: bool = False
    dimension_records: bool = False


class GetDataset(Operation[FoundDataset], frozen=True, kw_only=True, omit_defaults=True, tag="dataset.get"):
    """Look a dataset up by its id; with the records of its data id for ``dimension_records``."""

    result_type = FoundDataset
    repository: str
    id: UUID
    dimension_records: bool = False


class RecordTable(msgspec.Struct, frozen=True, array_like=True):
    """The records of one element that the data ids of a batch share.

    Attributes
    ----------
    element : str
        Whose they are.
    records : list of DimensionRecord
        Each once.
    rows : list of int
        For each row of the batch, which of ``records``; -1 for none.
    spatial, temporal : bool
        Whether the regions and timespans of the data ids are those of this element.
    """

    element: str
    records: list[DimensionRecord]
    rows: list[int]
    spatial: bool = False
    temporal: bool = False


class RefBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of datasets of one type, by columns.

    Attributes
    ----------
    dataset_type : DatasetType
        Of all of them.
    required, implied : tuple of str
        Dimension names; ``implied`` only where values are given.
    ids : bytes
        16 bytes each.
    columns : list of list
        One list of values for each dimension in ``required`` then ``implied``.
    runs : list of str
        Distinct run names.
    run_index : list of int
        For each dataset, which of ``runs``.
    repositories : list of str
        Of a chain of repositories, in which each of ``runs`` is; else empty.
    records : list of RecordTable
        Of every element that the data ids identify, if asked for.
    """

    dataset_type: DatasetType
    required: tuple[str, ...]
    implied: tuple[str, ...]
    ids: bytes
    columns: list[list[DataIdValue | None]]
    runs: list[str]
    run_index: list[int]
    repositories: list[str] = []
    records: list[RecordTable] = []


class QueryDatasets(StreamOperation[RefBatch], frozen=True, kw_only=True, omit_defaults=True, tag="dataset.query"):
    """Find datasets; arguments as of Gen3's ``Butler.query_datasets``.

    Attributes
    ----------
    repository : str
        In which repository.
    dataset_types : tuple of str
        Names or globs.
    collections : tuple of str
        Names or globs, in search order.
    find_first : bool
        Of datasets with one type and data id, only the one in the first collection.
    data_id : dict
        Dimension values that all must have.
    where : str
        Query expression.
    bind : dict
        Values for names in ``where``.
    order_by : tuple of str
        Dimension or metadata names, with ``-`` in front for descending.
    limit : int or None
        At most so many.
    with_dimension_records : bool
        Give the values of implied dimensions too, and the records of all elements.
    exclude : ExcludedDatasets or None
        Datasets that are as if they were not there.
    """

    result_type = RefBatch
    repository: str
    dataset_types: tuple[str, ...]
    collections: tuple[str, ...]
    find_first: bool = True
    data_id: dict[str, DataIdValue] = {}
    where: str = ""
    bind: dict[str, BindValue] = {}
    order_by: tuple[str, ...] = ()
    limit: int | None = None
    with_dimension_records: bool = False
    exclude: ExcludedDatasets | None = None


class DataIdBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of data ids by columns, as in `RefBatch`."""

    required: tuple[str, ...]
    implied: tuple[str, ...]
    columns: list[list[DataIdValue | None]]
    records: list[RecordTable] = []


class QueryDataIds(StreamOperation[DataIdBatch], frozen=True, kw_only=True, omit_defaults=True, tag="data_id.query"):
    """Find data ids over the dimension records; arguments as of `QueryDatasets`.

    With ``dataset_types`` and ``collections``, only those for which such datasets exist.
    """

    result_type = DataIdBatch
    repository: str
    dimensions: tuple[str, ...]
    dataset_types: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    data_id: dict[str, DataIdValue] = {}
    where: str = ""
    bind: dict[str, BindValue] = {}
    order_by: tuple[str, ...] = ()
    limit: int | None = None
    with_dimension_records: bool = False


class RecordBatch(msgspec.Struct, frozen=True, array_like=True):
    """A batch of dimension records."""

    records: list[DimensionRecord]


class QueryDimensionRecords(
    StreamOperation[RecordBatch], frozen=True, kw_only=True, omit_defaults=True, tag="dimension_record.query"
):
    """Find the records of one element; arguments as of `QueryDatasets`."""

    result_type = RecordBatch
    repository: str
    element: str
    data_id: dict[str, DataIdValue] = {}
    where: str = ""
    bind: dict[str, BindValue] = {}
    order_by: tuple[str, ...] = ()
    limit: int | None = None
